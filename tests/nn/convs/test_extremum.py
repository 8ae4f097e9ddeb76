"""GraphSAGE's max and min run by a kernel and equal PyG's own forward and gradients."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from torch_geometric.nn import SAGEConv

from gnnscale.nn import as_layered
from gnnscale.nn.blocks.phases import Neighbourhood
from tests.helpers.strategies import graphs

WAYS = list(itertools.product(("max", "min"), (False, True), (False, True)))


@settings(max_examples=20)
@given(graphs(features=4, duplicates=True))
@pytest.mark.parametrize(("aggr", "project", "normalize"), WAYS)
def test_equal_to_pyg(aggr, project, normalize, graph):
    convs = [SAGEConv(a, b, aggr, normalize, project=project).double() for a, b in ((4, 5), (5, 3))]
    model = as_layered(convs)
    phases = [phase for block in model.phases for phase in block]
    assert sum(getattr(phase, "on_adjacency", None) is not None for phase in phases) == 2

    def by_pyg(x):
        return convs[1](convs[0](x, graph.edge_index).relu() + 1, graph.edge_index)

    def by_kernels(x):
        first, second = (phase for phase in phases if isinstance(phase, Neighbourhood))
        return second.on_adjacency(first.on_adjacency(x, graph.adj).relu() + 1, graph.adj)

    results = []
    for run in (by_pyg, by_kernels):
        out = run(graph.x)
        gradients = torch.autograd.grad(out.square().sum(), list(convs[0].parameters()))
        results.append([out, *gradients])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_is_watched_or_replaced_runs_as_it_is():
    conv = SAGEConv(4, 3, "max")
    model = as_layered([conv])
    conv.register_propagate_forward_hook(lambda *given: None)
    assert all(getattr(p, "on_adjacency", None) is None for block in model.phases for p in block)
