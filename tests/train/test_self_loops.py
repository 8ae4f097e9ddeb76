"""Parallel edges and self-loops with weights of their own: wherever a graph goes, PyG's answer.

Of several self-loops of a node a GCN counts the last, so that their order has to come along.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import nn as pyg

import gnnscale as gs
from gnnscale.inference import stream
from gnnscale.loader import Batch
from gnnscale.nn import Context, propagation_of
from gnnscale.train.steps.first_hop import first_hop
from tests.helpers.layers import assert_equal
from tests.helpers.strategies import graphs, partitions

CONVS = {
    "GCN": lambda: pyg.GCNConv(5, 3, improved=True),
    "SG": lambda: pyg.SGConv(5, 3, K=2),
    "as it is": lambda: pyg.GCNConv(5, 3, aggr="max"),
    "LG": lambda: pyg.LGConv(),
    "ARMA": lambda: pyg.ARMAConv(5, 3),
    "Graph": lambda: pyg.GraphConv(5, 3),
}


@settings(max_examples=12)
@given(
    graphs(min_nodes=2, max_nodes=10, self_loops=True, directed=True),
    st.sampled_from(sorted(CONVS)),
    st.data(),
)
def test_batches_chunks_stores_and_first_hops(graph, name, data):
    conv = CONVS[name]().double()
    model = gs.nn.LayeredGNN([gs.nn.Block(conv, act=None)]).eval()
    weight = () if graph.edge_weight is None else (graph.edge_weight,)
    expected = conv(graph.x, graph.edge_index, *weight).detach()
    part = data.draw(partitions(graph))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        stored = gs.cluster(graph, part, Path(folder) / "store")
        for clustered in (gs.cluster(graph, part), stored):
            batch = whole(clustered)
            out = model(batch.x, batch.adj, context=Context.of(batch, training=False))
            assert_equal(out, expected[batch.node_id])
            chunks = [out.clone() for _, _, out in stream(model, clustered.graph, chunk_rows=2)]
            assert_equal(torch.cat(chunks), expected[clustered.node_id])
            path = Path(folder) / "again" if clustered is stored else None
            again = clustered.original(path)
            assert_equal(model(torch.as_tensor(again.x), again.adj), expected)
            propagation = propagation_of(conv)
            if propagation is not None and propagation.hops == 1 and clustered is not stored:
                hop = first_hop(clustered, propagation)
                assert_equal(propagation.combine(hop, clustered.graph.x), out)


def whole(clustered: gs.ClusteredGraph) -> Batch:
    loader = gs.ClusterLoader(clustered, clusters_per_batch=clustered.num_parts, shuffle=False)
    return next(iter(loader))
