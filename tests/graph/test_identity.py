"""Fingerprints: equal for equal content, different where anything differs."""

import dataclasses

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gnnscale.graph import Adjacency, Graph, Split
from gnnscale.kernels import CSR
from tests.helpers.graphs import tensors
from tests.helpers.strategies import graphs

TYPES = ("edge_type", "node_type", "edge_time", "node_time")
WHOLE = graphs(edge_attr=True, weighted=None, sparse_x=None)


def copy(graph: Graph) -> Graph:
    """A copy that shares no memory."""
    adj = Adjacency(*(None if t is None else t.clone() for t in _parts(graph.adj)))
    x = graph.x
    x = CSR(*(t.clone() for t in _parts(x)), x.shape) if isinstance(x, CSR) else x.clone()
    splits = {
        name: Split(s.train.clone(), s.val.clone(), s.test.clone())
        for name, s in graph.splits.items()
    }
    own = {name: getattr(graph, name).clone() for name in ("y", "edge_attr", *TYPES)}
    return dataclasses.replace(graph, adj=adj, x=x, splits=splits, **own)


def _parts(csr: CSR):
    return csr.indptr, csr.indices, csr.values


@given(WHOLE)
def test_equal_content_has_equal_fingerprints(graph):
    """Whatever the name, the source, the memory or the width of indices."""
    again = copy(graph)
    again.name, again.source = "other", "elsewhere"
    again.adj.indices = again.adj.indices.long()
    if isinstance(again.x, CSR):
        again.x.indices = again.x.indices.long()
        again.x.shape = torch.Size(again.x.shape)
    again.y = again.y.int()
    again.edge_attr = again.edge_attr.T.contiguous().T
    assert again.fingerprint() == graph.fingerprint()
    assert again.structure_fingerprint() == graph.structure_fingerprint()


@settings(max_examples=50)
@given(WHOLE, st.data())
def test_any_changed_number_changes_the_fingerprint(graph, data):
    changed = copy(graph)
    stored = {name: tensor for name, tensor in tensors(changed).items() if tensor.numel()}
    name = data.draw(st.sampled_from(sorted(stored)))
    flat = stored[name].view(-1)
    place = data.draw(st.integers(0, flat.numel() - 1))
    flat[place] = ~flat[place] if flat.dtype == torch.bool else flat[place] + 1
    assert changed.fingerprint() != graph.fingerprint()
    structure = name in ("indptr", "indices", "edge_weight")
    assert (changed.structure_fingerprint() != graph.structure_fingerprint()) is structure


@given(WHOLE, st.sampled_from(["task", "metric", "num_classes", "y_level", "splits", "rename"]))
def test_what_describes_the_content_counts(graph, field):
    changed = copy(graph)
    if field == "splits":
        changed.splits["second"] = changed.split()
    elif field == "rename":
        changed.splits = {"second": changed.split()}
    else:
        setattr(changed, field, 9 if field == "num_classes" else "graph")
    assert changed.fingerprint() != graph.fingerprint()
    assert changed.structure_fingerprint() == graph.structure_fingerprint()


@given(WHOLE, st.sampled_from(["x", "y", "edge_attr", *TYPES]))
def test_what_is_missing_counts(graph, field):
    assume(getattr(graph, field) is not None)
    assert dataclasses.replace(graph, **{field: None}).fingerprint() != graph.fingerprint()


def test_weights_of_one_are_not_no_weights_and_shapes_count():
    edges = torch.tensor([[0, 1], [1, 0]])
    plain = Graph.from_arrays(edges)
    assert plain.fingerprint() != Graph.from_arrays(edges, edge_weight=[1.0, 1.0]).fingerprint()
    assert plain.fingerprint() != Graph.from_arrays(edges, num_nodes=3).fingerprint()
    flat = [Graph.from_arrays(edges, num_nodes=4, x=torch.zeros(4, k)) for k in (0, 1, 2)]
    assert len({graph.fingerprint() for graph in flat}) == 3


def test_long_arrays_are_hashed_whole():
    """Arrays are hashed in blocks of 2**20 numbers."""
    x = torch.zeros(2**20 + 7, 1)
    graph = Graph.from_arrays(torch.empty(2, 0, dtype=torch.int64), x)
    before = graph.fingerprint()
    x[-1] = 1
    assert graph.fingerprint() != before
