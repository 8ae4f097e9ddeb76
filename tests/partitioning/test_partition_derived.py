"""What is made of a graph in a file is what is made of it in memory, and lies in a file as well."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import PartitionError
from gnnscale.graph import Adjacency, Graph, open_stored_graph
from gnnscale.graph.build.external import build_graph
from gnnscale.graph.induced import subgraph
from gnnscale.partitioning import (
    derived,
    inductive,
    partition,
    undirected,
)
from gnnscale.partitioning.native import launch
from gnnscale.partitioning.rows import RowBlocks
from gnnscale.storage.mapped import is_mapped
from tests.partitioning.partition_cases import SEEING, graphs, planted
from tests.partitioning.test_partition_mapped import in_file


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few entries, and a sort with hardly any memory."""
    monkeypatch.setattr(derived, "RowBlocks", partial(RowBlocks, entries=5))
    monkeypatch.setattr(derived, "_SORT", 1)
    monkeypatch.setattr("os.fsync", lambda _: None)


def stored(adj, folder):
    """The same adjacency, its indices in a file."""
    return Adjacency(adj.indptr, torch.from_numpy(in_file(adj.indices.numpy(), folder / "indices")))


@pytest.mark.usefixtures("small_blocks")
@settings(deadline=None, max_examples=15)
@given(graph=graphs(min_nodes=1), seed=st.integers(0, 99))
def test_structures_made_in_files_are_those_made_in_memory(graph, seed, tmp_path_factory):
    if not graph.num_edges:
        return
    adj = stored(graph.adj, tmp_path_factory.mktemp("derived"))
    given_rows = adj.indptr.numpy(), adj.indices.numpy()
    kept = torch.from_numpy(np.random.default_rng(seed).random(graph.num_nodes) < 0.6)
    among = subgraph(Graph(adj=graph.adj), kept).adj
    wanted = {
        "symmetrised": undirected(graph.adj.indptr.numpy(), graph.adj.indices.numpy()),
        "induced": (among.indptr.numpy(), among.indices.numpy()),
    }
    made = {
        "symmetrised": derived.symmetrised(*given_rows),
        "induced": derived.induced(*given_rows, kept.numpy()),
    }
    for name, rows in made.items():
        for array, expected in zip(rows, wanted[name], strict=True):
            assert array.dtype == expected.dtype and np.array_equal(array, expected), name
        assert is_mapped(torch.from_numpy(rows[1])) or not len(rows[1]), name


def directed(tmp_path):
    """A directed, weighted graph in memory and in files, most of its nodes for training."""
    edges = planted(600, 12).edge_index
    source, target = edges[:, edges[0] < edges[1]]
    train = torch.arange(600) % 5 < 3
    splits = {"default": {"train": train, "val": ~train, "test": torch.zeros_like(train)}}
    weight = torch.rand(len(source)).numpy()
    in_files = build_graph(
        tmp_path / "graph", 600, [(source.numpy(), target.numpy(), weight)],
        undirected=False, splits=splits,
    )  # fmt: skip
    adj = in_files.adj
    loaded = Adjacency(adj.indptr.clone(), adj.indices.clone(), adj.values.clone())
    return Graph(adj=loaded, splits=in_files.splits), in_files


@pytest.mark.parametrize("method", SEEING)
def test_the_training_nodes_of_a_graph_in_files_are_cut_as_in_memory(tmp_path, method, monkeypatch):
    in_memory, in_files = directed(tmp_path)
    seen = []
    monkeypatch.setattr(
        inductive, "undirected", lambda *rows: seen.append(undirected(*rows)) or seen[-1]
    )
    monkeypatch.setattr(
        inductive, "induced", lambda *rows: seen.append(derived.induced(*rows)) or seen[-1]
    )
    options = {"view": "train", "deterministic": True, "cache": tmp_path / "cache"}
    made = partition(in_files, 8, method, **options)
    assert len(seen) == 2
    assert all(is_mapped(torch.from_numpy(array)) for rows in seen for array in rows)
    entries = list((tmp_path / "cache").iterdir())
    again = partition(in_memory, 8, method, **options)  # known: it is the same graph to cut
    assert again.seconds < made.seconds and list((tmp_path / "cache").iterdir()) == entries
    assert torch.equal(again.assignment, made.assignment)
    anew = partition(in_memory, 8, method, **{**options, "cache": False})
    assert torch.equal(anew.assignment, made.assignment)


@settings(deadline=None, max_examples=40)
@given(graph=graphs(), data=st.data(), entries=st.integers(1, 1 << 15))
def test_attaching_goes_on_where_it_stopped(graph, data, entries):
    structure = undirected(graph.adj.indptr.numpy(), graph.adj.indices.numpy())
    n = graph.num_nodes
    part = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n)), np.int32)
    whole, pieces = part.copy(), part.copy()
    for filled, most in ((whole, 1 << 30), (pieces, entries)):
        sizes = np.bincount(part[part >= 0], minlength=3)
        inductive.attach(structure, filled, sizes, most)
        assert np.array_equal(sizes, np.bincount(filled[filled >= 0], minlength=3))
    assert np.array_equal(whole, pieces)


def test_nothing_is_left_of_it(tmp_path, monkeypatch):
    _, in_files = directed(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    rows = in_files.adj.indptr.numpy(), in_files.adj.indices.numpy()
    made = undirected(*rows)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert np.array_equal(made.indices, undirected(*rows).indices)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    _, in_files = directed(tmp_path)
    monkeypatch.setattr(derived, "write_edges", no_space)
    with pytest.raises(PartitionError, match="No space left on device; set TMPDIR"):
        partition(in_files, 10, "metis", cache=False)
    monkeypatch.setattr("tempfile.mkdtemp", no_space)
    with (
        pytest.raises(PartitionError, match=r"no temporary folder.*set TMPDIR"),
        launch.work_folder(),
    ):
        pass


def test_a_stored_graph_without_edges(tmp_path):
    build_graph(tmp_path / "g", 4, [], splits={"default": {"train": [0, 1, 2]}})
    made = partition(open_stored_graph(tmp_path / "g"), 2, "streaming", view="train", cache=False)
    assert int(made.sizes.min()) > 0
