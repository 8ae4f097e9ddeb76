"""Adjacency: rows are targets; symmetry is seen; everything PyG accepts is read as PyG reads it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import EdgeIndex
from torch_geometric.utils import degree

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, Graph, as_adjacency
from tests.helpers.strategies import dense_adjacency, graphs


@given(graphs())
def test_entry_i_j_is_the_edge_from_j_to_i(graph):
    dense = dense_adjacency(graph)
    assert torch.allclose(graph.adj.to_dense(torch.float64), dense)
    assert (graph.adj.num_nodes, graph.adj.num_edges) == (graph.num_nodes, graph.num_edges)
    for row in range(graph.num_nodes):
        sources = graph.adj.indices[graph.adj.indptr[row] : graph.adj.indptr[row + 1]]
        assert (sources.diff() >= 0).all()


@given(graphs())
def test_degrees(graph):
    target, n = graph.edge_index[1], graph.num_nodes
    assert torch.equal(graph.adj.in_degree(), degree(target, n, torch.int64))
    expected = dense_adjacency(graph).sum(1)
    assert torch.allclose(graph.adj.in_degree(weighted=True).double(), expected)


@settings(max_examples=50)
@given(graphs())
def test_symmetry_is_never_claimed_wrongly(graph):
    dense = dense_adjacency(graph)
    if graph.adj.symmetric:
        assert torch.allclose(dense, dense.T)
    wide = Adjacency(graph.adj.indptr, graph.adj.indices.long(), graph.adj.values)
    assert wide.symmetric == graph.adj.symmetric


@given(graphs(directed=False))
def test_symmetry_is_seen(graph):
    assert graph.adj.symmetric


def test_weights_break_symmetry():
    edges = torch.tensor([[0, 1], [1, 0]])
    assert Adjacency.from_edge_index(edges).symmetric
    assert Adjacency.from_edge_index(edges, 2, torch.tensor([2.0, 2.0])).symmetric
    assert not Adjacency.from_edge_index(edges, 2, torch.tensor([2.0, 3.0])).symmetric


@given(graphs(duplicates=False))
def test_everything_is_read_as_pyg_reads_it(graph):
    n, (source, target) = graph.num_nodes, graph.edge_index
    weight = graph.edge_weight
    if weight is None:
        weight = torch.ones(graph.num_edges)
    coo = torch.sparse_coo_tensor(
        torch.stack([target, source]), weight, (n, n), check_invariants=True
    )
    given = [coo, coo.coalesce(), coo.to_sparse_csr(), coo.to_sparse_csc(), graph.adj]
    if graph.edge_weight is None:
        given += [graph.edge_index, EdgeIndex(graph.edge_index), graph.edge_index.int()]
    for adj in given:
        read = as_adjacency(adj, n)
        assert type(read.edge_index) is torch.Tensor
        assert torch.equal(read.edge_index, graph.edge_index)
        assert (read.values is None) == (graph.edge_weight is None or not graph.num_edges) or (
            adj is graph.adj
        )
        assert torch.allclose(read.to_dense(torch.float64), dense_adjacency(graph))


def test_integer_weights_are_weights():
    coo = torch.sparse_coo_tensor([[0, 1], [1, 0]], [2, 3], (2, 2), check_invariants=True)
    for adj in (coo, coo.to_sparse_csr()):
        assert as_adjacency(adj).values.tolist() == [2.0, 3.0]
        assert as_adjacency(adj).values.dtype == torch.float32
    ones = torch.sparse_coo_tensor([[0, 1], [1, 0]], [True, True], (2, 2), check_invariants=True)
    assert as_adjacency(ones).values is None
    built = Adjacency.from_edge_index(torch.tensor([[0], [1]]), 2, torch.tensor([2]))
    assert built.values.dtype == torch.float32


@pytest.mark.parametrize(
    ("adj", "nodes", "message"),
    [
        (torch.zeros(3, 3), None, r"cannot read Tensor of shape \(3, 3\) as an adjacency"),
        ([[0], [1]], None, r"cannot read list of shape \(\)"),
        (torch.zeros(2, 3).to_sparse(), None, r"square; this one has shape \(2, 3\)"),
        (torch.tensor([[0], [5]]), 3, "out of range"),
        (torch.tensor([[0], [-5]]), 3, "negative"),
        (torch.zeros(3, 3).to_sparse(), 4, "the adjacency has 3 nodes; 4 are expected"),
        (Graph.from_arrays([[0], [1]]).adj, 4, "the adjacency has 2 nodes; 4 are expected"),
    ],
)
def test_what_cannot_be_read(adj, nodes, message):
    with pytest.raises(InputError, match=message):
        as_adjacency(adj, nodes)


def test_weights_of_the_wrong_length():
    with pytest.raises(InputError, match="values has shape"):
        Adjacency.from_edge_index(torch.tensor([[0], [1]]), 2, torch.ones(2))


def test_a_copy_elsewhere_starts_with_an_empty_cache():
    adj = Graph.from_arrays([[0], [1]]).adj
    assert adj.edge_index is adj.edge_index
    adj.cache["degrees"] = 1
    moved = adj.to("meta")
    assert moved.cache == {} and adj.cache == {"degrees": 1}
    assert moved.edge_index.device.type == "meta"
    assert adj.to("cpu") is adj


@given(graphs(directed=False, weighted=None), st.randoms(use_true_random=False))
def test_symmetric_rows_are_recognised_whatever_their_order(graph, random):
    """Parallel edges of several weights too: the matrix is its transpose, entry for entry."""
    adj, places = graph.adj, []
    for row in range(adj.num_nodes):
        of_row = list(range(int(adj.indptr[row]), int(adj.indptr[row + 1])))
        random.shuffle(of_row)
        places += of_row
    weight = None if adj.values is None else adj.values[places]
    assert Adjacency(adj.indptr, adj.indices[places], weight).symmetric
    if weight is not None and adj.num_edges > (adj.indices == adj.row_index).sum():
        off = int((adj.indices != adj.row_index).nonzero()[0])
        changed = adj.values.clone()
        changed[off] *= 2
        assert not Adjacency(adj.indptr, adj.indices, changed).symmetric
