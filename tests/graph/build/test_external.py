"""Building on disk: what building in memory gives, from chunks in any order, in bounded memory."""

import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import (
    Graph,
    Partition,
    build_graph,
    cluster,
    edge_chunks,
    is_store,
    is_stored_graph,
    open_stored_graph,
    verify_stored_graph,
)
from gnnscale.graph.store import graph_folder
from tests.helpers.graphs import assert_same_graph
from tests.helpers.memory import linux, resident_file_pages
from tests.helpers.strategies import dense_adjacency

EDGES = np.array([[0, 1, 2, 2], [1, 2, 0, 2]])


def cut(array: np.ndarray, places: list[int]) -> list[np.ndarray]:
    return np.split(array, sorted(places), axis=-1)


@st.composite
def pieces(draw, weighted: bool):
    """Edges of a graph, in chunks: `(num_nodes, chunks, all edges, all weights)`."""
    nodes, count = draw(st.integers(1, 40)), draw(st.integers(0, 300))
    numbers = np.random.default_rng(draw(st.integers(0, 2**20)))
    edges = numbers.integers(0, draw(st.integers(1, nodes)), (2, count))
    weight = numbers.integers(1, 9, count).astype(np.float32) if weighted else None
    places = draw(st.lists(st.integers(0, count), max_size=4))
    parts = [edges] if weight is None else [edges, weight[None]]
    chunks = [
        tuple(row for part in chunk for row in part)
        for chunk in zip(*(cut(part, places) for part in parts), strict=True)
    ]
    return nodes, chunks, edges, weight


@settings(max_examples=30)
@given(data=st.data(), undirected=st.booleans(), weighted=st.booleans())
def test_building_on_disk_equals_building_in_memory(tmp_path_factory, data, undirected, weighted):
    nodes, chunks, edges, weight = data.draw(pieces(weighted))
    memory = data.draw(st.integers(1, 4_000))
    x = np.random.default_rng(nodes).random((nodes, 3), np.float32)
    labels = {
        "y": np.arange(nodes) % 3,
        "splits": {"default": {"train_idx": [0], "test": np.arange(nodes) == nodes}},
    }
    path = tmp_path_factory.mktemp("build") / "graph"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        built = build_graph(path, nodes, chunks, x=[x[: nodes // 2], x[nodes // 2 :]],
                            undirected=undirected, memory=memory, source="s", **labels)  # fmt: skip
        merged = build_graph(path.parent / "merged", nodes, chunks, undirected=undirected,
                             coalesce=True, memory=memory)  # fmt: skip
    given_ = Graph.from_arrays(edges, x, edge_weight=weight, undirected=undirected, source="s",
                               num_nodes=nodes, **labels)  # fmt: skip
    if weight is not None:  # parallel edges ascend by weight, in whatever order they came
        order = np.lexsort((given_.edge_weight, given_.adj.indices, given_.adj.row_index))
        given_.adj.values = given_.edge_weight[torch.from_numpy(order)]
    assert_same_graph(built, given_)
    assert built.fingerprint() == given_.fingerprint()
    dense = dense_adjacency(given_)
    assert built.adj.symmetric == torch.equal(dense, dense.T)
    assert torch.equal(dense_adjacency(merged), dense if weighted else (dense > 0).double())
    assert merged.num_edges == int((dense > 0).sum())
    for folder in (path, path.parent / "merged"):
        verify_stored_graph(folder)
    assert sorted(p.name for p in path.parent.iterdir()) == ["graph", "merged"]


def test_a_stored_graph_is_loaded_by_its_path(tmp_path):
    built = build_graph(tmp_path / "g", 3, [EDGES], x=np.ones((3, 2), np.float16), name="tiny")
    assert built.x.dtype == torch.float16
    assert is_stored_graph(tmp_path / "g") and not is_store(tmp_path / "g")
    loaded = gs.load(str(tmp_path / "g"))
    assert_same_graph(loaded, built)
    assert loaded.source == str(tmp_path / "g") and loaded.name == "tiny"
    with pytest.raises(InputError, match="undirected"):
        gs.load(str(tmp_path / "g"), undirected=True)
    with pytest.raises(InputError, match="seed= is of a random split"):
        gs.load(str(tmp_path / "g"), seed=1)
    stored = cluster(loaded, Partition([1, 0, 1], 2), tmp_path / "c")
    assert_same_graph(stored.original(), loaded)


def test_names_and_folders(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="exists and is no gnnscale graph"):
        build_graph(tmp_path / "mine", 3, [EDGES])
    for _ in range(2):  # what is a stored graph may be replaced
        build_graph(tmp_path / "g", 3, [EDGES])
    cluster(Graph.from_arrays(EDGES), Partition([0, 0, 0], 1), tmp_path / "c")
    with pytest.raises(StoreError, match="is no gnnscale graph"):
        build_graph(tmp_path / "c", 3, [EDGES])
    with pytest.raises(StoreError, match="is not a gnnscale graph"):
        open_stored_graph(tmp_path / "c")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edges": [EDGES, ([0], [3])]}, "chunk 1 of edges holds target id 3; with 3 nodes"),
        ({"edges": [([-1], [0])]}, "source id -1; with 3 nodes ids go from 0 to 2"),
        ({"edges": [([0.5], [0])]}, "source ids are float64; they must be integers"),
        ({"edges": [([0, 1], [0])]}, "has shapes"),
        ({"edges": [([0],)]}, "chunk 0 of edges is no"),
        ({"edges": EDGES.T}, "is no .*: it has 4 rows"),
        ({"edges": [([0], [1], [np.nan])]}, "NaN or infinite weights"),
        ({"edges": [([0], [1], [1e39])]}, "NaN or infinite weights"),
        ({"edges": [([0], [1], ["a"])]}, "weights are .*; they must be numbers"),
        ({"edges": [([0], [1], [1.0]), ([0], [1])]}, "some chunks of edges have weights"),
        ({"x": []}, "x has no chunks for 3 nodes"),
        ({"x": [np.ones((2, 2))]}, "x has 2 rows for 3 nodes"),
        ({"x": [np.ones((2, 2)), np.ones((2, 2))]}, "x has more than 3 rows for 3 nodes"),
        ({"x": [np.ones((2, 2)), np.ones((1, 3))]}, "at row 2 is float64 with 3 features"),
        ({"x": [np.ones((2, 2)), np.full((1, 2), np.inf)]}, "the first of them 2; clean"),
        ({"x": [np.ones((3, 2), int)]}, "must be floats"),
        ({"x": [np.ones((3, 2), np.longdouble)]}, "must be floats .* of 16, 32 or 64 bits"),
        ({"x": [torch.ones(3, 2, dtype=torch.bfloat16)]}, "chunk of x at row 0 is no array"),
        ({"y": [0, 1]}, "y has 2 rows for 3 nodes"),
        ({"num_nodes": -1}, "num_nodes=-1 must be a whole number"),
        ({"memory": "much"}, "must be a number of bytes"),
    ],
)
def test_faults_are_named_and_leave_nothing(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        build_graph(tmp_path / "g", **{"num_nodes": 3, "edges": [EDGES], **arguments})
    assert not list(tmp_path.iterdir())


def test_one_array_is_one_chunk(tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    expected = Graph.from_arrays(EDGES, x, undirected=True, source="s")
    for edges, features in (
        (EDGES, x.astype(">f4")),
        (torch.from_numpy(EDGES), torch.from_numpy(x)),
    ):
        built = build_graph(tmp_path / "g", 3, edges, x=features, source="s")
        assert_same_graph(built, expected)


def test_features_in_a_file_are_taken_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr("gnnscale.graph.build.external._ROWS_AT_ONCE", 10)
    finite, sizes = np.isfinite, []
    monkeypatch.setattr(np, "isfinite", lambda a: sizes.append(len(a)) or finite(a))
    x = np.random.default_rng(0).random((35, 2))
    np.save(tmp_path / "x.npy", x)
    built = build_graph(tmp_path / "g", 35, [EDGES], x=np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert max(sizes) == 10 and built.x.numpy().tolist() == x.tolist()


@pytest.mark.parametrize("what", ["edges", "x"])
def test_an_error_of_the_caller_s_files_is_not_one_of_writing(tmp_path, what):
    def chunks():
        yield {"edges": EDGES, "x": np.ones((3, 1))}[what]
        raise FileNotFoundError(2, "No such file", "part-1.npy")

    with pytest.raises(StoreError, match=f"^{what} cannot be read: .*part-1.npy"):
        build_graph(tmp_path / "g", 3, **{"edges": [EDGES], what: chunks()})
    assert not list(tmp_path.iterdir())


def test_a_graph_that_is_replaced_while_it_is_opened(tmp_path, monkeypatch):
    build_graph(tmp_path / "a", 3, [EDGES])
    build_graph(tmp_path / "b", 3, [EDGES[::-1]], undirected=False)
    open_arrays = graph_folder.open_arrays

    def replaced(path, meta, bounds):
        (tmp_path / "b" / "meta.json").replace(tmp_path / "a" / "meta.json")
        return open_arrays(path, {**meta, "arrays": {}}, bounds)

    monkeypatch.setattr(graph_folder, "open_arrays", replaced)
    with pytest.raises(StoreError, match="was replaced while it was opened; open it again"):
        open_stored_graph(tmp_path / "a")


def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    build_graph(tmp_path / "a", 3, [EDGES])

    def refused(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(np, "memmap", refused)
    with pytest.raises(StoreError, match="unreadable: Too many open files"):
        open_stored_graph(tmp_path / "a")


def test_space_is_looked_at_before_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 50, 50))
    with pytest.raises(StoreError, match=r"takes 800,024 more bytes; the disk has 50 left"):
        build_graph(tmp_path / "g", 3, [([0] * 200_006, [0] * 200_006)], undirected=False)
    assert not list(tmp_path.iterdir())


@linux
def test_looking_at_all_of_a_stored_graph_leaves_nothing_resident(tmp_path):
    numbers = np.random.default_rng(0)
    built = build_graph(
        tmp_path / "g",
        20_000,
        [numbers.integers(0, 20_000, (2, 2_000_000))],  # 16 MB of columns, 3,900 pages
        x=[numbers.random((20_000, 200), np.float32)],  # 16 MB of features
        undirected=False,
    )
    part = Partition(torch.arange(20_000) % 9, 9)
    built.adj._symmetric = None
    built.check()
    assert not built.adj.symmetric
    built.fingerprint()
    part.quality(built)
    cluster(built, part, tmp_path / "c", memory="1MB")
    assert resident_file_pages(tmp_path / "g") < 1_500


# --- edge lists in files --------------------------------------------------------------------


def all_edges(path: Path) -> np.ndarray:
    return np.concatenate([np.stack(chunk) for chunk in edge_chunks(path)], axis=1)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_edges(tmp_path, monkeypatch, dtype, order):
    monkeypatch.setattr("gnnscale.graph.build.edge_arrays._EDGES_AT_ONCE", 3)
    edges = np.arange(14).reshape(2, 7).astype(dtype)
    for name, array in (("a", edges), ("b", edges.T)):
        np.save(tmp_path / f"{name}.npy", np.asarray(array, order=order))
        assert np.array_equal(all_edges(tmp_path / f"{name}.npy"), edges)
    graph = build_graph(tmp_path / "g", 14, tmp_path / "a.npy")
    assert_same_graph(graph, Graph.from_arrays(edges, num_nodes=14, undirected=True,
                                               source=graph.source))  # fmt: skip


def test_files_that_are_no_edge_lists(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4), int))
    np.save(tmp_path / "b.npy", np.zeros((2, 4_000), int))
    os.truncate(tmp_path / "b.npy", 1_000)
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY")
    for name, kind, message in (
        ("a.npy", InputError, r"is int64 \(3, 4\); an edge list is integers \[2, num_edges\]"),
        ("b.npy", StoreError, "has 1,000 bytes; its header says 64,128"),
        ("c.npy", StoreError, "cannot be read"),
        ("d.npy", StoreError, "is missing"),
        ("d.csv", InputError, r"is no .npy; gs.from_edge_list\('.*d.csv'\) reads tables"),
    ):
        with pytest.raises(kind, match=message):
            build_graph(tmp_path / "out", 9, tmp_path / name)
    assert not (tmp_path / "out").exists()


# --- interruptions --------------------------------------------------------------------------

BUILD = """
import numpy as np
from gnnscale.graph import build_graph

def build(path):
    numbers = np.random.default_rng(0)
    def edges():
        print("started", flush=True)
        for _ in range(40):
            yield numbers.integers(0, 5_000, (2, 10_000))
    def features():
        for _ in range(50):
            yield numbers.random((100, 40), np.float32)
    return build_graph(path, 5_000, edges(), x=features(), memory="1MB", source="s")
"""


def build(path: Path) -> Graph:
    names: dict = {}
    exec(BUILD, names)
    return names["build"](path)


def test_a_build_killed_at_any_moment_starts_anew(tmp_path, forks):
    """Whatever is left is no graph; the next build removes it and gives the same bytes."""
    begun = time.monotonic()
    build(tmp_path / "whole")
    seconds = time.monotonic() - begun
    process = forks.start(f"{BUILD}\nbuild({str(tmp_path / 'g')!r})")
    while "started" not in process.output.read_text():
        time.sleep(0.001)
    time.sleep(random.uniform(0, seconds))
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() in (0, -signal.SIGKILL), process.errors.read_text()
    assert not (tmp_path / "g").exists() or is_stored_graph(tmp_path / "g")
    build(tmp_path / "g")
    whole, again = (
        {f.name: f.read_bytes() for f in (tmp_path / p).iterdir()} for p in ("whole", "g")
    )
    assert again == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g", "whole"]


@pytest.mark.parametrize("limit", [500_000, 3_500_000])
def test_a_disk_that_is_full(tmp_path, limit):
    """A limit on file sizes, from the kernel: while edges are spread, while they are written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # Python ignores the signal
    try:
        with pytest.raises(StoreError, match=r"could not write the graph .* bytes left"):
            build(tmp_path / "g")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
