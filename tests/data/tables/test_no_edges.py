"""Tables that end with a total, or are matrices or lists of neighbours: never rows in silence."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.tables.roles.totals import is_total
from gnnscale.data.tables.table import Table
from gnnscale.errors import GnnscaleError, InputError

quick = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = ["Total", "TOTAL", "Sum", "Grand total", "Average", "Totals:", "Sub-total", "Mean"]
EDGES = pd.DataFrame({"source": [1, 2, 3, 4], "target": [2, 3, 4, 1]})


def read_says(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def edges_of(graph):
    names = range(graph.num_nodes) if graph.names is None else graph.names[:].tolist()
    return sorted((str(names[s]), str(names[t])) for s, t in graph.edge_index.T.tolist())


def test_words_for_totals():
    assert all(map(is_total, WORDS)) and is_total("Total (12 rows)")
    assert not any(map(is_total, ["Totalfina", "total recall", "Anna", "", "12", "a sum of money"]))


@quick
@given(
    st.sampled_from(WORDS),
    st.lists(st.integers(1, 99), min_size=3, max_size=12),
    st.booleans(),
    st.sampled_from(["edges", "nodes"]),
    st.sampled_from(["csv", "memory"]),
)
def test_a_total_is_no_row(tmp_path, word, weights, text, of, kind):
    n = len(weights)
    ids = [f"p{i}" if text else i for i in range(1, n + 1)]
    average = word in ("Average", "Mean")
    last = round(sum(weights) / n, 2) if average else sum(weights)
    edges = pd.DataFrame({"source": ids, "target": ids[1:] + ids[:1], "weight": weights})
    nodes = pd.DataFrame({"id": ids, "age": weights})
    table = edges if of == "edges" else nodes
    row = [*[word] * (len(table.columns) - 1), last]
    with_total = pd.concat([table, pd.DataFrame([row], columns=table.columns)], ignore_index=True)

    def given_(frame, name):
        if kind == "memory":
            return frame
        frame.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    def call(odd, **options):
        tables = {"edges": edges, "nodes": nodes} | {of: odd}
        files = [given_(tables[key], f"{key}.csv") for key in ("edges", "nodes")]
        return gs.from_edge_list(*files, undirected=False, **options)

    if len(set(weights)) == 1 and text and average:
        return  # as every other row
    said = {"source": "source", "target": "target"} if of == "edges" else {"id": "id"}
    shown = ", ".join(f"{key}={name!r}" for key, name in said.items())
    read_says(lambda: call(with_total), "its last row", f"to read it, say {shown}")
    kept = call(with_total, **said, absent="drop")
    assert kept.num_nodes == n + (of == "nodes") and kept.num_edges == n
    assert edges_of(call(with_total[:-1].convert_dtypes())) == edges_of(call(table))


@quick
@given(st.lists(st.integers(-9, 40), min_size=2, max_size=20), st.booleans())
def test_weights_alone_are_no_total(weights, sums_up):
    n = len(weights)
    weights = [*weights[:-1], sum(weights[:-1])] if sums_up else weights
    ids = [f"p{i}" for i in range(n)]
    edges = pd.DataFrame({"source": ids, "target": ids[1:] + ids[:1], "weight": weights})
    assert gs.from_edge_list(edges, undirected=False).num_edges == n


@quick
@given(
    st.lists(st.integers(1, 40), min_size=5, max_size=12),
    st.sampled_from(["Итого", "Σ", "n"]),
    st.booleans(),
)
def test_nodes_of_which_the_last_sums_up_all_others(ages, word, text):
    n = len(ages)
    ids = [f"p{i}" if text else i for i in range(n)]
    edges = pd.DataFrame({"source": ids, "target": ids[1:] + ids[:1]})
    nodes = pd.DataFrame({"id": [*map(str, ids), word], "age": [*ages, sum(ages)]})
    if len(set(ages)) > 2 and sum(ages) > 2 * max(ages):
        read_says(lambda: gs.from_edge_list(edges, nodes), "its last row", "say id='id'")
    assert gs.from_edge_list(edges, nodes, id="id").num_nodes == n + 1
    label = nodes.rename(columns={"age": "label"})
    assert gs.from_edge_list(edges, label).num_nodes == n + 1


def test_a_total_below_a_file_with_comments(tmp_path):
    """SNAP's lists have comments of their own: what reads the row leaves these out."""
    path = tmp_path / "e.txt"
    path.write_text("# Directed graph: e.txt\n# FromNodeId\tToNodeId\n1\t2\n2\t3\nTotal\tTotal\n")
    read_says(lambda: gs.from_edge_list(path), "to read it, say source=0, target=1")
    for graph in (gs.from_edge_list(path, source=0, target=1, undirected=False), gs.load(path)):
        assert edges_of(graph) == [("1", "2"), ("2", "3"), ("Total", "Total")]


def test_a_company_called_total_is_a_node():
    firms = pd.DataFrame({"from": ["Shell", "BP", "Total"], "to": ["BP", "Total", "Shell"]})
    assert gs.from_edge_list(firms.assign(weight=[3, 4, 5])).num_nodes == 3


@quick
@given(
    st.integers(2, 7),
    st.sampled_from(["binary", "symmetric", "directed", "weighted", "hollow"]),
    st.sampled_from(["bare", "index", "names", "memory", "memory names"]),
    st.sampled_from([" ", ",", "\t"]),
    st.integers(0, 99),
)
def test_a_matrix_is_no_list_of_edges(tmp_path, n, kind, form, sep, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 2, (n, n)) if kind != "symmetric" else rng.integers(0, 9, (n, n))
    if kind in ("binary", "symmetric"):
        matrix = np.triu(matrix, 1) + np.triu(matrix, 1).T
    if kind == "weighted":
        matrix = rng.integers(1, 99, (n, n)) / 4 + 0.125
    if kind == "hollow":
        matrix = rng.integers(2, 99, (n, n)) * (1 - np.eye(n, dtype=int))
    if kind in ("symmetric", "hollow") and n == 2:
        return  # two edges
    names = [f"n{i}" for i in range(n)]
    frame = pd.DataFrame(matrix, index=names, columns=names)
    plain = pd.DataFrame(matrix)
    path = tmp_path / ("m.txt" if sep != "," else "m.csv")
    if sep == " " and form in ("index", "names"):
        return  # a row of names that begins with nothing
    if form == "bare":
        np.savetxt(path, matrix, fmt="%d" if kind != "weighted" else "%.3f", delimiter=sep)
    elif form == "index":
        plain.to_csv(path, sep=sep)
    elif form == "names":
        frame.to_csv(path, sep=sep)
    given_ = {"memory": plain, "memory names": frame}.get(form, path)
    read_says(lambda: gs.from_edge_list(given_), "adjacency matrix", "source=")


@quick
@given(st.integers(0, 2**32), st.booleans(), st.booleans(), st.sampled_from(["graph", "txt"]))
def test_metis_against_networkx(tmp_path, seed, weighted, sized, suffix):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    graph = nx.gnm_random_graph(n, int(rng.integers(1, 2 * n)), seed=seed % 1000)
    m = graph.number_of_edges()
    for _, _, data in graph.edges(data=True):
        data["w"] = int(rng.integers(1, 9))
    kind = f" 0{sized:d}{weighted:d}" if weighted or sized else ""
    rows = [
        [*[7] * sized, *(x for j in graph[i] for x in [j + 1, graph[i][j]["w"]][: 1 + weighted])]
        for i in range(n)
    ]
    text = "% a graph\n" + f"{n} {m}{kind}\n" + "".join(" ".join(map(str, r)) + "\n" for r in rows)
    path = tmp_path / f"g.{suffix}"
    path.write_text(text)
    read_says(lambda: gs.from_edge_list(path), "format='metis'")
    for read in (gs.load(path), gs.load(path, format="metis")):
        both = [*graph.edges(data="w"), *((j, i, w) for i, j, w in graph.edges(data="w"))]
        weights = read.edge_weight.tolist() if weighted else [None] * read.num_edges
        found = [(i, j, w) for (i, j), w in zip(read.edge_index.T.tolist(), weights, strict=True)]
        assert sorted(found) == sorted((i, j, w if weighted else None) for i, j, w in both)
        assert read.names[:].tolist() == list(range(1, n + 1))
    path.write_text(text.rstrip("\n") + " 1\n")
    with pytest.raises(GnnscaleError, match=f"g.{suffix}"):
        gs.load(path, format="metis")


@quick
@given(st.integers(0, 2**32), st.sampled_from(["colon", "plain"]), st.sampled_from("ab"))
def test_lists_of_neighbours_against_networkx(tmp_path, seed, form, stem):
    graph = nx.gnp_random_graph(7, 0.4, seed=seed % 10_000)
    graph = nx.relabel_nodes(graph, {i: f"{stem}{i}" for i in range(7)})
    mark = ":" if form == "colon" else ""
    path = tmp_path / "l.txt"
    path.write_text("".join(f"{i}{mark} {' '.join(graph[i])}\n" for i in graph))
    wanted = sorted([*graph.edges, *((j, i) for i, j in graph.edges)])
    if form == "colon":
        read_says(lambda: gs.from_edge_list(path), "format='adjlist'")
        assert edges_of(gs.load(path)) == wanted
    elif max(dict(graph.degree).values()) > 1:
        try:  # a graph, or a hint where rows are of several lengths
            gs.from_edge_list(path)
            raise AssertionError
        except InputError as error:
            assert "format='adjlist'" in str(error) or "say" in str(error) or "cells" in str(error)
    assert edges_of(gs.load(path, format="adjlist")) == wanted


@quick
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=3, max_size=30))
def test_lists_of_edges_are_nothing_else(tmp_path, pairs):
    """A METIS graph whose nodes all have two neighbours is as good as never an edge list."""
    path = tmp_path / "e.txt"
    path.write_text("".join(f"{i} {j}\n" for i, j in pairs))
    graph = gs.from_edge_list(path, undirected=False, header=False)
    assert edges_of(graph) == sorted((str(i), str(j)) for i, j in pairs)


@quick
@given(
    st.integers(0, 2**32), st.sampled_from([",", ";", " ", "|", ", "]), st.sampled_from(["", "[]"])
)
def test_neighbours_in_one_cell_are_asked_about(tmp_path, seed, sep, around):
    graph = nx.gnp_random_graph(6, 0.5, seed=seed % 10_000)
    rows = {i: sorted(graph[i]) for i in graph if graph[i]}
    frame = pd.DataFrame(
        {
            "node": [f"n{i}" for i in rows],
            "friends": [
                sep.join(f"n{j}" for j in js).join(around or ["", ""]) for js in rows.values()
            ],
        }
    )
    frame.to_csv(tmp_path / "e.csv", index=False, sep="\t")
    if max(map(len, rows.values()), default=0) > 1:
        for given_ in (frame, tmp_path / "e.csv"):
            read_says(lambda given_=given_: gs.from_edge_list(given_), "several ids", "explode")
    names = pd.DataFrame(
        {"node": ["Ann Lee", "Bo Li", "Lee"], "friend": ["Bo Li", "Lee", "Ann Lee"]}
    )
    assert gs.from_edge_list(names).num_nodes == 3


@quick
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=9))
def test_numbers_of_nodes_and_edges_above_them(tmp_path, pairs):
    most = max(max(pair) for pair in pairs)
    path = tmp_path / "e.txt"
    path.write_text("".join(f"{i} {j}\n" for i, j in [(most + 1, len(pairs)), *pairs]))
    if most > 1:
        read_says(lambda: gs.from_edge_list(path), "header=True")
    graph = gs.from_edge_list(path, header=True, undirected=False)
    assert edges_of(graph) == sorted((str(i), str(j)) for i, j in pairs)
    assert gs.from_edge_list(path, header=False, undirected=False).num_edges == len(pairs) + 1


@pytest.mark.parametrize("of", ["edges", "features"])
def test_a_total_below_a_large_table(tmp_path, of):
    n = 70_000
    ids = np.arange(n)
    texts = {
        "edges": "source,target\n" + "".join(f"{i},{(i + 1) % n}\n" for i in ids),
        "features": "id,a\n" + "".join(f"{i},0.5\n" for i in ids[::-1]),
    }
    texts[of] += "Total,70000\n" if of == "features" else "Total,Total\n"
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
    files = [tmp_path / "edges.csv"] + [tmp_path / "features.csv"] * (of == "features")
    said = {"source": "source", "target": "target"} if of == "edges" else {"id": "id"}
    read_says(lambda: gs.from_edge_list(*files), "may be a total", f"say {next(iter(said))}=")
    assert gs.from_edge_list(*files, **said).num_nodes == n + 1


@pytest.mark.parametrize("of", ["edges", "nodes"])
def test_the_last_of_many_ids_is_seen_without_a_pass_of_its_own(monkeypatch, of):
    n = 70_000
    ids = pd.Series(range(n)).astype(str)
    edges = pd.DataFrame({"source": ids, "target": np.roll(ids, 1)})
    nodes = pd.DataFrame({"person": ids, "a": 0.5})
    if of == "edges":
        edges.loc[n] = "Total"
    else:
        nodes.loc[n] = "Total", 0.5
    tables = [edges] if of == "edges" else [edges, nodes]
    read_says(lambda: gs.from_edge_list(*tables), "ends with 'Total'")
    said = {"source": "source", "target": "target"} if of == "edges" else {"id": "person"}
    assert gs.from_edge_list(*tables, **said).num_nodes == n + 1
    read, batches = Counter(), Table.batches

    def counted(table, columns=None, types=None):
        for batch in batches(table, columns, types):
            read[(table.what, *batch.schema.names)] += batch.num_rows
            yield batch

    monkeypatch.setattr(Table, "batches", counted)
    tables[-1] = tables[-1][:n]
    assert gs.from_edge_list(*tables).num_nodes == n
    alone = {names: rows for names, rows in read.items() if len(names) == 2 and names[1] != "a"}
    assert alone == ({} if of == "edges" else {("features", "person"): 3 * n})
