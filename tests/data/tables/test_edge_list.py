"""Graphs from a user's own files: any ids, in a stream, equal to what is built by hand."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

import gnnscale as gs
from gnnscale.data.tables import node_ids
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph, NodeNames, open_graph
from tests.helpers.graphs import assert_same_graph

EDGES = np.array([[0, 1, 2, 2, 4], [1, 2, 0, 2, 1]])


def write(path: Path, columns: dict[str, object], header: bool = True) -> Path:
    """Write a table in the format that its name says."""
    table = pyarrow.table(columns)
    kinds = {".csv": ",", ".tsv": "\t", ".txt": " "}
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
        return path
    sign = kinds[next(s for s in reversed(path.suffixes) if s in kinds)]
    options = csv.WriteOptions(include_header=header, delimiter=sign, quoting_style="needed")
    with pyarrow.output_stream(str(path), compression="detect") as file:
        csv.write_csv(table, file, options)
    return path


def expected(names: list, **more) -> Graph:
    """The graph of EDGES whose node i is called `names[i]`, built in memory, nodes by name."""
    order = sorted(range(len(names)), key=lambda node: names[node])
    place = np.argsort(order)
    return Graph.from_arrays(place[EDGES], num_nodes=len(names), undirected=True, **more)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("e.parquet", "gaps"),
        ("e.parquet", "text"),
        ("e.csv", "text"),
        ("e.csv.gz", "large"),
        ("e.csv.zst", "gaps"),
        ("e.tsv.bz2", "text"),
        ("e.txt", "gaps"),
        ("plain.csv", "text"),
        ("plain.txt", "large"),
    ],
)
def test_ids_of_any_kind_are_numbered_in_their_order(tmp_path, monkeypatch, name, kind):
    monkeypatch.setattr("gnnscale.data.tables.text.lines.BYTES_AT_ONCE", 1 << 6)
    names = {
        "gaps": [70, -3, 12, 9, 1_000],
        "text": ["zoë", "Bob", "x1", "ann", "7"],
        "large": [2**62, 5, -(2**62), 8, 2**40],
    }[kind]
    used = sorted({names[i] for i in EDGES.ravel()})
    columns = {"from": [names[i] for i in EDGES[0]], "to": [names[i] for i in EDGES[1]]}
    path = write(tmp_path / name, columns, header="plain" not in name)
    graph = gs.from_edge_list(path)
    place = {called: i for i, called in enumerate(used)}
    edges = np.array([[place[names[i]] for i in row] for row in EDGES])
    by_hand = Graph.from_arrays(
        edges, num_nodes=len(used), undirected=True, name=name.split(".")[0]
    )
    assert_same_graph(graph, by_hand)
    assert graph.names[:].tolist() == used and graph.names[1] == used[1]
    assert graph.names.find(used[::-1]).tolist() == list(range(len(used)))[::-1]
    assert graph.names[torch.tensor([True, False, False, True])].tolist() == [used[0], used[3]]
    with pytest.raises(InputError, match="for a mask give booleans"):
        graph.names[[1, 0, 0, 1]]
    with pytest.raises(InputError, match="1 of 1 names are of no node"):
        graph.names.find(["nobody"] if kind == "text" else [4])


def test_numbers_without_gaps_are_kept(tmp_path):
    np.save(tmp_path / "e.npy", EDGES.clip(max=3))
    graph = gs.from_edge_list(tmp_path / "e.npy", undirected=False)
    assert graph.names is None and graph.source is None
    given = Graph.from_arrays(EDGES.clip(max=3), name="e")
    assert_same_graph(graph, given)
    assert gs.from_edge_list(tmp_path / "e.npy", num_nodes=9).num_nodes == 9
    with pytest.raises(InputError, match=r"source 3 is not from 0 to 2, which num_nodes=3 says"):
        gs.from_edge_list(tmp_path / "e.npy", num_nodes=3)


def test_columns_are_found_or_named(tmp_path):
    columns = {"when": [1, 2], "dst": [5, 6], "w": [0.5, 2.0], "src": [6, 7]}
    for name in ("e.csv", "e.parquet"):
        graph = gs.from_edge_list(write(tmp_path / name, columns), undirected=False)
        assert graph.names[:].tolist() == [5, 6, 7]
        assert graph.edge_index.tolist() == [[1, 2], [0, 1]]
        assert graph.edge_weight.tolist() == [0.5, 2.0]
    graph = gs.from_edge_list(tmp_path / "e.csv", source="dst", target="src", weight="when")
    assert graph.edge_weight.tolist() == [1, 1, 2, 2]
    with pytest.raises(
        InputError, match="has no column who; there are 0: when, 1: dst, 2: w, 3: src"
    ):
        gs.from_edge_list(tmp_path / "e.csv", source="who")
    write(tmp_path / "bare.csv", columns, header=False)
    with pytest.raises(InputError, match=r"columns 2 .*, 3 .* may be weights"):
        gs.from_edge_list(tmp_path / "bare.csv")
    (tmp_path / "snap.txt").write_text("# Nodes: 3\n# From To\n 1\t 5\n5   9 \n")
    assert gs.from_edge_list(tmp_path / "snap.txt").names[:].tolist() == [1, 5, 9]


@pytest.mark.parametrize(
    ("text", "names", "weights"),
    [
        ("\n\n1,2\n2,5\n", [1, 2, 5], None),
        ("\nsource,target\n1,2\n2,5\n", [1, 2, 5], None),
        ("\ufeffsource,target\r\n1,2\r\n2,5\r\n", [1, 2, 5], None),
        ("src, dst, weight\n1,2,0.5\n2,5,3\n", [1, 2, 5], [0.5, 3]),
        ("weight,source,target\n0.5,ann,bob\n3,bob,cid\n", ["ann", "bob", "cid"], [0.5, 3]),
        (f"{'é' * 40_000},b\nb,c\n", ["b", "c", "é" * 40_000], None),
    ],
    ids=["blank", "blank-header", "bom-crlf", "spaces", "header-of-text", "long"],
)
def test_text_as_it_is_found(tmp_path, text, names, weights):
    (tmp_path / "e.csv").write_text(text, newline="")
    graph = gs.from_edge_list(tmp_path / "e.csv", undirected=False)
    assert graph.names[:].tolist() == names and graph.num_edges == 2
    assert (None if graph.edge_weight is None else graph.edge_weight.tolist()) == weights


def test_text_after_integers_makes_all_of_them_text(tmp_path, monkeypatch):
    monkeypatch.setattr("gnnscale.data.tables.text.lines.BYTES_AT_ONCE", 1 << 6)
    lines = [f"{i},{i + 1}\n" for i in range(90)] + ["90,nine\n"]
    (tmp_path / "e.csv").write_text("".join(lines))
    graph = gs.from_edge_list(tmp_path / "e.csv")
    assert graph.names[:].tolist() == sorted([*map(str, range(91)), "nine"])


@pytest.mark.parametrize("name", ["x.parquet", "x.csv"])
@pytest.mark.parametrize("ids", [[70, -3, 12, 9, 1_000], ["d", "bob", "x1", "ann", "7"]])
def test_features_with_ids_say_which_nodes_there_are(tmp_path, name, ids):
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    nodes = {"node_id": ids, "a": x[:, 0], "b": x[:, 1], "label": [0, 1, 0, None, 2]}
    write(tmp_path / name, nodes)
    edges = {"u": [ids[i] for i in EDGES[0]], "v": [ids[i] for i in EDGES[1]]}
    write(tmp_path / "e.csv", edges)
    splits = {"default": {"train": ids[:2], "val": np.eye(5, dtype=bool)[2], "test": []}}
    graph = gs.from_edge_list(
        tmp_path / "e.csv",
        features=tmp_path / name,
        labels="label",
        splits=splits,
        path=tmp_path / "g",
    )
    by_hand = Graph.from_arrays(
        EDGES,
        x,
        [0, 1, 0, -1, 2],
        undirected=True,
        splits={"default": {"train": [0, 1], "val": [2]}},
        name="e",
        source=str(tmp_path / "g"),
    )
    assert_same_graph(graph, by_hand)
    again = gs.load(tmp_path / "g")
    assert again.names[:].tolist() == ids
    assert again.fingerprint() == graph.fingerprint()
    labels = write(tmp_path / "y.parquet", {"id": ids[2:4], "y": [4, 3]})
    del nodes["label"]
    write(tmp_path / name, nodes)
    graph = gs.from_edge_list(tmp_path / "e.csv", features=tmp_path / name, labels=labels)
    assert graph.y.tolist() == [-1, -1, 4, 3, -1]
    write(
        tmp_path / "f.csv", {"u": ["who", *map(str, edges["u"])], "v": ["7", *map(str, edges["v"])]}
    )
    with pytest.raises(InputError, match=r"1 of 6 edges name . nodes that have no row"):
        gs.from_edge_list(tmp_path / "f.csv", features=tmp_path / name)


def test_features_in_order(tmp_path):
    write(tmp_path / "e.csv", {"source": EDGES[0], "target": EDGES[1]})
    x = np.arange(1, 13, dtype=np.float16).reshape(6, 2)
    np.save(tmp_path / "x.npy", x)
    write(tmp_path / "x.csv", {"a": x[:, 0], "b": x[:, 1]}, header=False)
    lists = pyarrow.array(x.astype(np.float32).tolist(), pyarrow.list_(pyarrow.float32(), 2))
    write(tmp_path / "x.parquet", {"embedding": lists})
    y = [0, 1, 1, 0, 2, -1]
    for features in (x, tmp_path / "x.npy", tmp_path / "x.csv", tmp_path / "x.parquet"):
        graph = gs.from_edge_list(tmp_path / "e.csv", features, y, num_nodes=6)
        assert graph.x.tolist() == x.tolist() and graph.names is None
        assert graph.y.tolist() == y
        half = features is x or features.suffix == ".npy"
        assert graph.x.dtype == (torch.float16 if half else torch.float32)
    with pytest.raises(InputError, match="4 is not from 0 to 2, which the order of features"):
        gs.from_edge_list(tmp_path / "e.csv", features=x[:3])
    with pytest.raises(InputError, match="labels has 5 rows for 6 nodes"):
        gs.from_edge_list(tmp_path / "e.csv", labels=y[:5], num_nodes=6)


def test_a_large_graph_stays_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "e.csv", {"a": ["x", "y"], "b": ["y", "z"]})
    small = gs.from_edge_list(path, source="a")
    assert not list((tmp_path / "cache" / "graphs").iterdir())
    monkeypatch.setattr("gnnscale.data.kept.IN_MEMORY", 10)
    large = gs.from_edge_list(path, source="a")
    assert Path(large.source).parent == tmp_path / "cache" / "graphs"
    assert large.fingerprint() == small.fingerprint()
    assert gs.load(large.source).names[:].tolist() == ["x", "y", "z"]
    with monkeypatch.context() as patch:
        patch.setattr("gnnscale.data.tables.edge_list.build_graph", None)
        assert gs.from_edge_list(path, source="a", memory="1GB").source == large.source
    np.save(tmp_path / "o.npy", EDGES.clip(max=3))
    labels = [np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])]
    apart = {gs.from_edge_list(tmp_path / "o.npy", labels=y).source for y in labels}
    assert len({*apart, gs.from_edge_list(path, source="a", undirected=False).source}) == 3
    assert len(list((tmp_path / "cache" / "graphs").iterdir())) == 4  # and no scratch
    part = gs.partition(large, 2, method="contiguous")
    stored = gs.cluster(large, part, path=tmp_path / "c")
    again = open_graph(stored.path)
    assert again.graph.names[:].tolist() == ["xyz"[i] for i in again.node_id]
    (Path(large.source) / "indices.npy").write_bytes(b"cut")
    with pytest.warns(RuntimeWarning, match="made again"):
        assert gs.from_edge_list(path, source="a").fingerprint() == small.fingerprint()
    write(path, {"a": ["x", "y"], "b": ["y", "w"]})
    assert gs.from_edge_list(path, source="a").names[:].tolist() == ["w", "x", "y"]


def test_faults_say_what_to_do(tmp_path):
    good = write(tmp_path / "e.csv", {"source": [10, 20], "target": [20, 30]})
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(good.read_bytes() * 99)[:40])
    write(tmp_path / "gap.parquet", {"source": [1, None], "target": [2, 3]})
    write(tmp_path / "float.parquet", {"source": [1.5], "target": [2.5]})
    write(tmp_path / "one.csv", {"source": [1, 2]})
    write(tmp_path / "twice.csv", {"id": [10, 10, 20], "a": [1, 2, 3]})
    write(tmp_path / "less.csv", {"id": [10, 20], "a": [1, 2]})
    write(tmp_path / "y.csv", {"id": [10, 40], "y": [1, 2]})
    write(tmp_path / "y2.csv", {"id": [10, 20, 10], "y": [1, 2, 3]})
    write(tmp_path / "void.csv", {"source": ["ann", ""], "target": ["bob", "cid"]})
    for name, options, kind, message in (
        ("none.csv", {}, StoreError, "is missing"),
        ("cut.csv.gz", {}, StoreError, "cannot be read"),
        ("gap.parquet", {}, InputError, "1 cells of .*: source are empty"),
        (
            "float.parquet",
            {},
            InputError,
            "source is numbers from 1.5 to 1.5; ids are integers or text",
        ),
        ("one.csv", {}, InputError, "has one column, source"),
        ("e.csv", {"features": "twice.csv"}, InputError, "1 ids that are there before"),
        (
            "e.csv",
            {"features": "less.csv"},
            InputError,
            "edges name 1 nodes that have no row in features .*30",
        ),
        ("e.csv", {"features": "absent.csv"}, StoreError, "is missing"),
        ("e.csv", {"labels": "y.csv"}, InputError, "id is of no node, first .*40"),
        ("e.csv", {"labels": "y2.csv"}, InputError, "10 has several rows; give it one"),
        ("void.csv", {}, InputError, "1 cells of .*: source are empty"),
        ("e.csv", {"splits": {"a": {"train": [1]}}}, InputError, "split a/train: id is of no node"),
    ):
        for key in ("features", "labels"):
            if key in options:
                options[key] = tmp_path / options[key]
        with pytest.raises(kind, match=message):
            gs.from_edge_list(tmp_path / name, path=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40), max_size=12), st.data())
def test_the_external_set_of_ids_is_the_set(tmp_path, monkeypatch, chunks, data):
    """By runs in files and merged, or in memory: the same."""
    monkeypatch.setattr(node_ids, "_AT_ONCE", data.draw(st.integers(1, 9)))
    monkeypatch.setattr(node_ids, "_LEAST_RUN", 4)
    arrays = [np.array(chunk, dtype=np.int64) for chunk in chunks]
    found = node_ids.all_integers(iter(arrays), 96, tmp_path)
    wanted = np.unique(np.concatenate([np.empty(0, np.int64), *arrays]))
    assert np.array_equal(found, wanted)
    if wanted.size:
        shuffled = data.draw(st.permutations(wanted.tolist()))
        for memory in (0, 1 << 12):
            ids = node_ids.Integers(np.array(shuffled), memory)
            assert ids.find(wanted, "id").tolist() == [shuffled.index(i) for i in wanted.tolist()]
            asked = [*wanted.tolist(), *data.draw(st.lists(st.integers(-(2**63), 2**63 - 1)))]
            places = [shuffled.index(i) if i in shuffled else -1 for i in asked]
            assert ids.look_up(np.array(asked)).tolist() == places


def test_names_of_a_sliced_column():
    column = pyarrow.array(["a", "bb", "", "dddd", "ß"])
    names = NodeNames.from_arrow(column[1:])
    assert names[:].tolist() == ["bb", "", "dddd", "ß"] and len(names) == 4
    assert names[np.int64(3)] == "ß"
