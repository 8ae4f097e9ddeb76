"""Partitions: what they accept, their quality against brute force, their file."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph, Partition
from tests.helpers.strategies import graphs, partitions


@given(graphs(unlabelled=True), st.data())
def test_quality_equals_brute_force(graph, data):
    part = data.draw(partitions(graph))
    of, k = part.assignment.tolist(), part.num_parts
    edges = list(zip(*graph.edge_index.tolist(), strict=True))
    kept = Counter(of[u] for u, v in edges if of[u] == of[v])
    train = Counter(of[i] for i in range(len(of)) if graph.train_mask[i])
    labels = [Counter(int(graph.y[i]) for i in range(len(of)) if of[i] == p) for p in range(k)]
    for counts in labels:
        counts.pop(-1, None)
    entropy = sum(-n * math.log2(n / c.total()) for c in labels for n in c.values())
    labelled = sum(c.total() for c in labels)

    quality = part.quality(graph)
    assert part.sizes.tolist() == [of.count(p) for p in range(k)]
    cut = sum(of[u] != of[v] for u, v in edges) / len(edges) if edges else 0
    assert quality.edge_cut == pytest.approx(cut)
    assert quality.node_balance == pytest.approx(max(map(of.count, range(k))) * k / len(of))
    most = max(kept.values(), default=0)
    assert quality.edge_balance == pytest.approx(most * k / kept.total() if most else 1)
    assert quality.train_balance == pytest.approx(max(train.values()) * k / train.total())
    assert quality.empty_parts == k - len(set(of))
    if labelled:
        assert quality.label_entropy == pytest.approx(entropy / labelled, abs=1e-12)
    else:
        assert quality.label_entropy is None


def test_quality_of_a_graph_without_anything():
    graph = Graph.from_arrays([[], []], num_nodes=0)
    quality = Partition(torch.empty(0, dtype=torch.int64), 3).quality(graph)
    assert (quality.edge_cut, quality.node_balance, quality.empty_parts) == (0, 1, 3)
    assert quality.train_balance is None and quality.label_entropy is None


@pytest.mark.parametrize(
    ("assignment", "parts", "message"),
    [
        ([0, 3], 3, r"part ids span \[0, 3\]; with 3 parts the range is \[0, 2\]"),
        ([0, -1], 3, r"part ids span \[-1, 0\]"),
        ([0.0, 1.0], 2, r"one integer per node; got torch.float32 \(2,\)"),
        ([[0, 1]], 2, r"got torch.int64 \(1, 2\)"),
        ([], 0, "num_parts=0 must be at least 1"),
    ],
)
def test_what_is_no_partition(assignment, parts, message):
    kind = None if assignment else torch.int64
    with pytest.raises(InputError, match=message):
        Partition(torch.tensor(assignment, dtype=kind), parts)


def test_another_graphs_partition():
    graph = Graph.from_arrays([[0], [1]])
    with pytest.raises(InputError, match="the partition has 3 nodes, the graph 2"):
        Partition(torch.zeros(3, dtype=torch.int32), 1).quality(graph)


@pytest.fixture
def part():
    return Partition(
        np.array([2, 0, 1, 0]), np.int64(3), "metis", np.int32(7), 1.5, {"balance": "edges"}
    )


def test_saved_and_loaded(part, tmp_path):
    part.save(tmp_path / "deep" / "part.npz")
    again = Partition.load(tmp_path / "deep" / "part.npz")
    assert torch.equal(again.assignment, part.assignment)
    assert again.assignment.dtype == torch.int32
    for field in ("num_parts", "method", "seed", "seconds", "parameters"):
        assert getattr(again, field) == getattr(part, field)
    part.save(tmp_path / "deep" / "part.npz")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["part.npz"]


def test_a_missing_file(tmp_path):
    with pytest.raises(StoreError, match="no partition at"):
        Partition.load(tmp_path / "part.npz")


def test_a_damaged_file(part, tmp_path):
    """Cut anywhere, it is refused; with a byte flipped, refused or read as it was written."""
    path = tmp_path / "part.npz"
    part.save(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError, match="cannot be read"):
            Partition.load(path)
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert torch.equal(Partition.load(path).assignment, part.assignment)
        except StoreError as error:
            assert "cannot be read" in str(error)


def test_a_file_of_something_else(tmp_path):
    np.savez(tmp_path / "part.npz", assignment=np.zeros(3))
    with pytest.raises(StoreError, match="cannot be read"):
        Partition.load(tmp_path / "part.npz")
    np.save(tmp_path / "part.npy", np.zeros(3))
    with pytest.raises(StoreError, match="cannot be read"):
        Partition.load(tmp_path / "part.npy")


def test_an_unwritable_place(part, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"could not write .*part.npz: "):
        part.save(tmp_path / "file" / "part.npz")
