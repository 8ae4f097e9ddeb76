"""Components, distances and degrees beside networkx and the edge list."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.graph import Graph
from gnnscale.graph import adjacency as blocks
from gnnscale.statistics.degrees import degrees
from gnnscale.statistics.distances import distances
from tests.helpers.strategies import graphs


@given(graph=graphs(), most=st.sampled_from([1 << 22, 7]))
def test_components_and_distances_are_networkx_s(graph, most):
    before, blocks._MOST = blocks._MOST, most
    try:
        found = distances(graph)
    finally:
        blocks._MOST = before
    other = nx.Graph(graph.edge_index.T.tolist())
    other.add_nodes_from(range(graph.num_nodes))
    sizes = [len(part) for part in nx.connected_components(other)]
    assert found.components == len(sizes)
    assert found.greatest == max(sizes) / graph.num_nodes
    assert found.sample == graph.num_nodes and not found.far  # all of them: exact
    paths = nx.all_pairs_shortest_path_length(other)
    hops = np.array([hop for _, row in paths for hop in row.values()])
    for hop, share in enumerate(found.within):
        assert share == pytest.approx((hops <= hop).sum() / graph.num_nodes**2)
    away = hops[hops > 0]
    if not away.size:
        assert found.diameter is None
        return
    shares = [(away <= hop).mean() for hop in range(away.max() + 1)]
    assert found.diameter == pytest.approx(np.interp(0.9, *_first_of_equals(shares)))


def _first_of_equals(shares):
    kept = [k for k, share in enumerate(shares) if not k or share > shares[k - 1]]
    return [shares[k] for k in kept], kept


def test_what_is_further_than_models_go_is_said():
    path = torch.stack([torch.arange(999), torch.arange(1, 1000)])
    found = distances(Graph.from_arrays(path, undirected=True))
    assert found.far and found.diameter is None and found.components == 1 and found.sample == 64


@given(graph=graphs())
def test_degrees_are_those_of_the_edge_list(graph):
    found = degrees(graph)
    source, target = graph.edge_index
    arriving = torch.bincount(target, minlength=graph.num_nodes)
    assert found.greatest == int(arriving.max()) and found.mean == float(arriving.double().mean())
    assert found.median == float(arriving.median())
    assert found.self_loops == int((source == target).sum())
    joined = source != target
    ends = torch.cat([source[joined], target[joined]])
    assert found.isolated == graph.num_nodes - ends.unique().numel()
    assert torch.equal(torch.repeat_interleave(found.values, found.counts), arriving.sort().values)
    assert all(int(arriving[node]) == degree for node, degree in found.hubs)
    if found.greatest_out is not None:
        assert found.greatest_out == int(torch.bincount(source).max()) * bool(source.numel())
