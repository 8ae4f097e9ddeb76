"""Layouts of .npz, each against its own reader."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.datasets import HeterophilousGraphDataset
from torch_geometric.io.npz import parse_npz
from torch_geometric.utils import from_scipy_sparse_matrix

from gnnscale.data import load
from gnnscale.errors import InputError


def pairs(edge_index, weight=None):
    weight = torch.ones(edge_index.size(1)) if weight is None else weight
    return sorted(zip(*edge_index.tolist(), weight.float().tolist(), strict=True))


@st.composite
def matrices(draw, square=True):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = int(rng.integers(1, 9))
    dense = rng.integers(-2, 3, (rows, rows)) * rng.integers(0, 2, (rows, rows))
    return dense.astype(draw(st.sampled_from((np.int8, np.float32, np.float64, bool))))


@given(matrices(), st.sampled_from(("csr", "csc", "coo", "bsr", "dia")), st.booleans())
def test_what_scipy_wrote_is_the_graph_that_pyg_makes_of_it(tmp_path_factory, dense, kind, old):
    made = scipy.sparse.csr_matrix(dense) if old else scipy.sparse.csr_array(dense)
    file = tmp_path_factory.mktemp("scipy") / "a.npz"
    scipy.sparse.save_npz(file, made.asformat(kind))
    graph = load(file)
    edge_index, weight = from_scipy_sparse_matrix(scipy.sparse.load_npz(file))
    weight = torch.as_tensor(weight)
    kept = torch.ones_like(weight, dtype=torch.bool) if kind != "bsr" else weight != 0
    ours = pairs(graph.edge_index, graph.edge_weight)
    assert [row for row in ours if row[2] or kind != "bsr"] == pairs(
        edge_index[:, kept], weight[kept]
    )
    assert graph.num_nodes == len(dense)
    assert load(graph.source).fingerprint() == graph.fingerprint()


def test_a_matrix_that_is_no_graph_is_refused(tmp_path):
    file = tmp_path / "a.npz"
    scipy.sparse.save_npz(file, scipy.sparse.csr_array(np.ones((2, 3))))
    with pytest.raises(InputError, match="2 rows and 3 columns; the matrix of a graph is square"):
        load(file)
    scipy.sparse.save_npz(file, scipy.sparse.csr_array(np.ones((2, 2), complex)))
    with pytest.raises(InputError, match="its values are complex128; weights are real numbers"):
        load(file)
    np.savez(file, format=b"csr", shape=(2, 2), data=[1], indices=[5], indptr=[0, 1, 1])
    with pytest.raises(InputError, match="are no csr matrix"):
        load(file)


def benchmark_arrays(rng, nodes=7):
    adj = scipy.sparse.random(nodes, nodes, 0.3, "csr", random_state=rng)
    adj.data[:] = rng.integers(0, 3, adj.nnz)  # values, and zeros that are stored, say nothing
    attr = scipy.sparse.random(nodes, 4, 0.5, "csr", random_state=rng)
    attr.data[:] = rng.integers(-1, 5, attr.nnz)
    parts = ("data", "indices", "indptr", "shape")
    return {
        **{f"adj_{part}": getattr(adj, part) for part in parts},
        **{f"attr_{part}": getattr(attr, part) for part in parts},
        "labels": rng.integers(0, 3, nodes),
    }


@given(st.integers(0, 2**32), st.booleans())
def test_gnn_benchmark_is_what_pyg_reads(tmp_path_factory, seed, said):
    arrays = benchmark_arrays(np.random.default_rng(seed))
    objects = np.array(["a", None], object)
    file = tmp_path_factory.mktemp("npz") / "a.npz"
    np.savez(file, **arrays, node_names=objects, class_names=["p", "q", "r"])
    graph = load(file, **({"undirected": True} if said else {}))
    data = parse_npz(np.load(file), to_undirected=True)
    assert pairs(graph.edge_index) == pairs(data.edge_index) and graph.edge_weight is None
    assert torch.equal(graph.x.to_dense(), data.x) and torch.equal(graph.y, data.y)
    assert graph.schema.classes == ("p", "q", "r")
    assert load(graph.source).fingerprint() == graph.fingerprint()
    stored = load(file, undirected=False)
    assert stored.num_edges == arrays["adj_data"].size
    attr = scipy.sparse.csr_matrix(
        (arrays["attr_data"], arrays["attr_indices"], arrays["attr_indptr"]), (7, 4)
    )
    np.testing.assert_allclose(stored.x.to_dense(), attr.toarray(), rtol=1e-6)


def test_heterophilous_against_pyg(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (10, 9))
    once = np.array([[0, 1], [2, 1], [3, 4], [1, 0], [5, 5]])
    (tmp_path / "minesweeper" / "raw").mkdir(parents=True)
    file = tmp_path / "minesweeper" / "raw" / "minesweeper.npz"
    np.savez(
        file,
        node_features=rng.random((9, 3)).astype(np.float32),
        node_labels=np.arange(9) % 2,
        edges=once,
        **{f"{part}_masks": masks == i for i, part in enumerate(("train", "val", "test"))},
    )
    graph, data = load(file), HeterophilousGraphDataset(str(tmp_path), "minesweeper")[0]
    assert pairs(graph.edge_index) == pairs(data.edge_index)
    assert torch.equal(graph.x, data.x) and torch.equal(graph.y, data.y)
    assert list(graph.splits) == [f"fold{k}" for k in range(10)]
    for k in range(10):
        assert torch.equal(graph.splits[f"fold{k}"].val, data.val_mask[:, k])
    assert load(file, undirected=False).num_edges == len(once)
    assert load(file, split="fold3").train_mask.tolist() == data.train_mask[:, 3].tolist()
