"""A clustered graph brought back into its original order on disk is what it is in memory."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import StoreError
from gnnscale.graph import Graph, Partition, cluster, open_stored_graph
from gnnscale.storage.mapped import is_mapped
from tests.helpers.graphs import assert_same_graph, tensors
from tests.helpers.strategies import graphs, partitions


@settings(max_examples=25, deadline=None)
@given(graph=graphs(sparse_x=None, edge_attr=None, duplicates=False), data=st.data())
def test_on_disk_as_in_memory(tmp_path_factory, graph, data):
    path = tmp_path_factory.mktemp("original")
    part = data.draw(partitions(graph))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        stored = cluster(graph, part, path / "store" if data.draw(st.booleans()) else None)
        memory = data.draw(st.sampled_from([1, 200, "1MB"]))
        made = stored.original(path / "graph", memory=memory)
    assert_same_graph(made, stored.original())
    assert made.fingerprint() == graph.fingerprint()
    assert all(is_mapped(tensor) for tensor in tensors(made).values() if tensor.numel())
    assert_same_graph(open_stored_graph(path / "graph", verify=True), made)


def test_several_graphs_and_their_labels(tmp_path):
    ptr = torch.tensor([0, 2, 2, 5])
    graph = Graph.from_arrays(
        [[0, 3, 4], [1, 2, 3]], y=[0, 2, 1], num_nodes=5, node_ptr=ptr, y_level="graph"
    )
    stored = cluster(graph, Partition([1, 0, 3, 2, 3], 4), tmp_path / "store")
    assert_same_graph(stored.original(tmp_path / "graph"), graph)


def test_nothing_else_is_replaced(tmp_path):
    stored = cluster(Graph.from_arrays([[0], [1]]), Partition([1, 0], 2))
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(StoreError, match="no gnnscale graph"):
        stored.original(tmp_path)
