"""Convolutions of several hops in chunks equal the plain forward: as propagations and as opaque."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import nn as pyg

from gnnscale.inference import stream
from gnnscale.nn import Block, ClusterGCNConv, LayeredGNN
from tests.helpers.layers import assert_equal, evaluated, few, is_opaque, shaken
from tests.helpers.strategies import graphs

CONVS = {
    "SG": lambda width: pyg.SGConv(5, width, K=3),
    "SSG": lambda width: pyg.SSGConv(5, width, alpha=0.1, K=3),
    "TAG": lambda width: pyg.TAGConv(5, width, K=2),
    "APPNP": lambda width: pyg.APPNP(K=3, alpha=0.1),
    "Cluster-GCN of PyG": lambda width: pyg.ClusterGCNConv(5, width, diag_lambda=1.0),
    "Cluster-GCN": lambda width: ClusterGCNConv(5, width, diag_lambda=1.0),
    "Cluster-GCN of its authors": lambda width: ClusterGCNConv(
        5, width, "mean", concatenated=True, propagated_dropout=0.5
    ),
}


@pytest.mark.parametrize("name", CONVS)
@settings(few, max_examples=6)
@given(
    graphs(min_nodes=2, max_nodes=8, sparse_x=None),
    st.sampled_from([3, 9]),
    st.booleans(),
    st.booleans(),
)
def test_every_chunk_size(tmp_path_factory, name, graph, width, opaque, files):
    conv = CONVS[name](width)
    if opaque:
        conv.register_forward_hook(lambda module, arguments, out: 2 * out)
    model = shaken(LayeredGNN([Block(conv, "graph_norm" if name != "APPNP" else None)]))
    assert is_opaque(model) == opaque
    storage = tmp_path_factory.mktemp("layers") if files else None
    expected = evaluated(model, graph)
    for chunk_rows in range(1, graph.num_nodes + 1):
        chunks = stream(model, graph, chunk_rows=chunk_rows, storage=storage)
        assert_equal(torch.cat([out.clone() for _, _, out in chunks]), expected, 1e-8)
