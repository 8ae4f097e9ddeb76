"""Lists of neighbours, and lists of edges that look like them at their beginning."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import GnnscaleError, InputError

quick = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def edges_of(graph: gs.Graph) -> list[tuple[str, str]]:
    names = range(graph.num_nodes) if graph.names is None else graph.names[:].tolist()
    return sorted((str(names[s]), str(names[t])) for s, t in graph.edge_index.T.tolist())


def lines_of(graph: nx.Graph) -> list[str]:
    """As METIS has them, the first with the numbers of nodes and edges."""
    rows = [" ".join(str(j + 1) for j in graph[i]) for i in range(len(graph))]
    return [f"{len(graph)} {graph.number_of_edges()}", *rows]


@quick
@given(
    st.integers(3, 40), st.integers(0, 2**32), st.booleans(), st.integers(40, 400), st.booleans()
)
def test_a_large_text_is_of_metis_where_its_lines_name_each_other(
    tmp_path, monkeypatch, n, seed, tree, head, blank
):
    """By the head alone, of which a list of edges under its sizes is none."""
    monkeypatch.setattr("gnnscale.data.tables.neighbours._HEAD", head)
    make = (
        nx.random_labeled_tree if tree else lambda n, seed: nx.gnm_random_graph(n, 2 * n, seed=seed)
    )
    graph = make(n, seed=seed % 10_000)
    assume(graph.number_of_edges())
    path = tmp_path / "g.txt"
    lines = lines_of(graph)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"format='metis'|may be weights|source=|header=|cells"):
        gs.from_edge_list(path)
    assert gs.load(path, format="metis").num_edges == 2 * graph.number_of_edges()
    pairs = [f"{i + 1} {j + 1}" for i, j in graph.edges]
    path.write_text("\n".join([lines[0], *[""] * blank, *pairs]) + "\n")
    read = gs.from_edge_list(path, undirected=False, header=False)
    assert edges_of(read) == sorted(tuple(line.split()) for line in [lines[0], *pairs])


@quick
@given(
    st.integers(0, 2**32), st.sampled_from(["metis", "adjlist"]), st.sampled_from("%#"), st.data()
)
def test_comments_of_lists_are_no_nodes(tmp_path, seed, form, mark, data):
    graph = nx.gnp_random_graph(7, 0.5, seed=seed % 10_000)
    assume(graph.number_of_edges())
    lines = (
        lines_of(graph)
        if form == "metis"
        else [f"{i}: {' '.join(map(str, graph[i]))}" for i in graph]
    )
    for _ in range(3):
        at = data.draw(st.integers(0, len(lines)))
        lines.insert(at, data.draw(st.sampled_from(["", " "])) + f"{mark} a comment of 3 words")
    path = tmp_path / "g.txt"
    path.write_text("\n".join(lines) + "\n")
    begin = form == "metis"
    both = [*graph.edges, *((j, i) for i, j in graph.edges)]
    for said in ({}, {"format": form}):
        read = gs.load(path, **said)
        assert edges_of(read) == sorted((str(i + begin), str(j + begin)) for i, j in both)


@quick
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 2), min_size=2, max_size=9), st.booleans())
def test_a_list_of_edges_that_is_called_graph(tmp_path, pairs, weighted):
    path = tmp_path / "e.graph"
    path.write_text("".join(f"{i} {j}{' 0.5' * weighted}\n" for i, j in pairs))
    try:
        gs.load(path)
    except GnnscaleError as error:
        assert "format='edges'" in str(error)
    read = gs.load(path, format="edges", header=False, source=0, target=1, undirected=False)
    assert edges_of(read) == sorted((str(i), str(j)) for i, j in pairs)


@quick
@given(st.integers(4, 9), st.integers(0, 2**32), st.sampled_from([".graph", ".metis"]))
def test_what_is_wrong_in_a_graph_of_metis(tmp_path, n, seed, suffix):
    rng = np.random.default_rng(seed)
    graph = nx.gnm_random_graph(n, n, seed=seed % 10_000)
    lines = lines_of(graph)
    path = tmp_path / f"g{suffix}"
    (i, j), *_ = rng.permutation([*graph.edges])
    row = lines[i + 1].split()
    at = row.index(str(j + 1))
    for odd, message in ((f"{j + 1}.7", rf"{j + 1}\.7 is none of its nodes"), ("0", "none of its")):
        lines[i + 1] = " ".join([*row[:at], odd, *row[at + 1 :]])
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(GnnscaleError, match=message):
            gs.load(path, format="metis")
    others = [k for k in range(n) if k not in graph[i] and k != i]
    if others:
        lines[i + 1] = " ".join([*row[:at], str(others[0] + 1), *row[at + 1 :]])
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(InputError, match="in the line of one of its nodes alone"):
            gs.load(path, format="metis")


@quick
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(2, 99)), min_size=3, max_size=9
    ),
    st.sampled_from([" ", ",", "\t"]),
)
def test_numbers_of_nodes_and_edges_above_edges_with_weights(tmp_path, rows, sep):
    most = max(max(row[:2]) for row in rows)
    path = tmp_path / "e.txt"
    path.write_text("\n".join(sep.join(map(str, row)) for row in [(most + 1, len(rows)), *rows]))
    for said in ({}, {"weight": 2}):
        with pytest.raises(InputError) as caught:
            gs.from_edge_list(path, **said)
        assert "header=True" in str(caught.value) and "adjlist" not in str(caught.value)
    graph = gs.from_edge_list(path, header=True, weight=2, undirected=False)
    assert edges_of(graph) == sorted((str(i), str(j)) for i, j, _ in rows)


def test_blanks_around_separators(tmp_path):
    for text in (
        "1 , 2 , 0.5\n2 , 3 , 1.5\n",
        "1 | 2\n2 | 3\n",
        "1 :: 2\n2 :: 3\n",
        "1, 2\n2, 3\n",
    ):
        (tmp_path / "e.edges").write_text(text)
        assert gs.load(tmp_path / "e.edges").num_nodes == 3
