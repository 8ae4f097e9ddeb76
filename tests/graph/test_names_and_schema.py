"""What nodes, classes and features are called lives on, wherever a graph goes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import StoreError
from gnnscale.graph import NodeNames, Schema, cluster, open_graph, subgraph
from gnnscale.graph.clustered import write_store
from gnnscale.graph.partition import Partition
from gnnscale.graph.store.graph_folder import open_stored_graph, store_graph
from gnnscale.storage.arrow import pyarrow

SCHEMA = Schema(("cat", "dog"), ("age", "é"), {"age": {"kind": "as is"}}, ("`age`: feature",))


@st.composite
def named_graphs(draw):
    nodes = draw(st.integers(1, 12))
    if draw(st.booleans()):
        names = draw(st.lists(st.text(max_size=4), min_size=nodes, max_size=nodes, unique=True))
        called = NodeNames.from_arrow(pyarrow.array(names, pyarrow.large_string()))
    else:
        ids = st.integers(-(2**62), 2**62)
        names = draw(st.lists(ids, min_size=nodes, max_size=nodes, unique=True))
        called = NodeNames(torch.tensor(names))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    edges = rng.integers(0, nodes, (2, 2 * nodes))
    graph = gs.Graph.from_arrays(edges, x=rng.random((nodes, 2), np.float32), num_nodes=nodes)
    graph.names, graph.schema = called, SCHEMA
    parts = draw(st.integers(1, 3))
    assignment = torch.from_numpy(rng.integers(0, parts, nodes).astype(np.int32))
    return graph, Partition(assignment, parts), names


def called(graph):
    assert graph.names is not None and graph.schema == SCHEMA
    return graph.names.to_arrow().to_pylist()


@settings(max_examples=25)
@given(named_graphs())
def test_names_follow_their_nodes(tmp_path_factory, given_graph):
    graph, part, names = given_graph
    folder = tmp_path_factory.mktemp("named")
    for clustered in (cluster(graph, part), cluster(graph, part, folder / "a")):
        assert called(clustered.graph) == [names[i] for i in clustered.node_id.tolist()]
        assert called(clustered.original()) == names
        assert called(clustered.original(folder / "original")) == names
        write_store(clustered, folder / "b")
        assert called(open_graph(folder / "b").original()) == names
    assert called(store_graph(graph, folder / "graph")) == names
    assert called(open_stored_graph(folder / "graph")) == names
    chosen = torch.arange(graph.num_nodes) % 2 == 0
    assert called(subgraph(graph, chosen)) == names[::2]


def test_what_is_no_schema_is_refused():
    assert Schema.from_json(None) is None
    assert Schema.from_json(SCHEMA.to_json()) == SCHEMA
    for wrong in ({"unknown": 1}, {"classes": 3}, [1]):
        with pytest.raises(StoreError, match="damaged"):
            Schema.from_json(wrong)
