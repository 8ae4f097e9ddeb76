"""Moments merge exactly, and norms applied with them equal PyG's own."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import norm as pyg

from gnnscale.errors import InputError
from gnnscale.nn import Block, LayeredGNN, statistics
from gnnscale.nn.statistics import Moments
from tests.nn.layers import assert_equal, few, shaken


def cut(x: torch.Tensor, points: list[int]) -> list[torch.Tensor]:
    edges = [0, *sorted(p for p in points if p <= len(x)), len(x)]
    return [x[a:b] for a, b in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(0, 200), max_size=6)


@few
@given(CUTS, st.integers(0, 1000), st.sampled_from([0.0, 1e3, -1e6]), st.randoms())
def test_moments_of_pieces_are_those_of_the_whole(points, seed, mean, random):
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(seed)) + mean  # float32
    pieces = [Moments.of(piece) for piece in cut(x, points)]
    wide = x.double()

    def assert_whole(moments: Moments) -> None:
        assert moments.rows == 200
        torch.testing.assert_close(moments.mean, wide.mean(0), rtol=1e-13, atol=1e-13)
        deviation = (wide - wide.mean(0)).square().sum(0)
        torch.testing.assert_close(moments.deviation, deviation, rtol=1e-8, atol=0)

    left = pieces[0]
    for piece in pieces[1:]:
        left = left.merge(piece)
    right = pieces[-1]
    for piece in pieces[-2::-1]:
        right = piece.merge(right)
    assert_whole(left)
    assert_whole(right)
    random.shuffle(pieces)  # and commutative
    shuffled = pieces[0]
    for piece in pieces[1:]:
        shuffled = shuffled.merge(piece)
    assert_whole(shuffled)


def test_no_rows_have_moments_too():
    none = Moments.of(torch.empty(0, 3))
    some = Moments.of(torch.randn(5, 3))
    for merged in (none.merge(some), some.merge(none)):
        assert merged.rows == 5
        assert torch.equal(merged.mean, some.mean)
        assert torch.equal(merged.deviation, some.deviation)
    assert none.merge(none).rows == 0
    assert torch.isfinite(none.merge(none).mean).all()


NORMS = {
    "graph_norm": lambda: pyg.GraphNorm(4),
    "batch_norm": lambda: pyg.BatchNorm(4, track_running_stats=False),
    "torch batch_norm": lambda: nn.BatchNorm1d(4, track_running_stats=False),
    "batch_norm, not affine": lambda: nn.BatchNorm1d(4, affine=False, track_running_stats=False),
    "layer_norm": lambda: pyg.LayerNorm(4, mode="graph"),
    "layer_norm, not affine": lambda: pyg.LayerNorm(4, affine=False, mode="graph"),
}


@pytest.mark.parametrize("name", NORMS)
@few
@given(CUTS, st.integers(2, 40), st.integers(0, 100))
def test_norms_with_merged_moments_equal_the_norm(name, points, rows, seed):
    norm = shaken(NORMS[name]()).eval()
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed)).double() + 2
    assert statistics.mergeable(norm)
    pieces = cut(x, points)
    moments = statistics.partial(norm, pieces[0])
    for piece in pieces[1:]:
        moments = moments.merge(statistics.partial(norm, piece))
    assert_equal(torch.cat([statistics.apply(norm, p, moments) for p in pieces]), norm(x), 1e-8)


@few
@given(st.integers(1, 40), st.integers(0, 100))
def test_our_graph_norm_equals_pygs_with_its_gradients(rows, seed):
    norm = shaken(pyg.GraphNorm(4))
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed)).double()
    x.requires_grad_()
    outs = statistics.graph_norm(norm, x), statistics.graph_norm_traced(norm, x), norm(x)
    assert_equal(outs[0], outs[2])
    assert_equal(outs[1], outs[2])
    direction = torch.randn(rows, 4).double()
    wanted = [x, norm.weight, norm.bias, norm.mean_scale]
    gradients = [torch.autograd.grad((out * direction).sum(), wanted) for out in outs]
    for ours, traced, theirs in zip(*gradients, strict=True):
        assert_equal(ours, theirs, 1e-7)
        assert_equal(traced, theirs, 1e-7)


def test_which_norms_are_row_local():
    class Mine(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    assert statistics.is_row_local(nn.LayerNorm(4))
    assert statistics.is_row_local(pyg.LayerNorm(4, mode="node"))
    assert not statistics.is_row_local(pyg.LayerNorm(4))
    assert not statistics.is_row_local(Mine(4))
    assert not statistics.is_row_local(nn.BatchNorm1d(4))
    assert statistics.uses_running_statistics(pyg.BatchNorm(4))
    assert not statistics.uses_running_statistics(nn.BatchNorm1d(4, track_running_stats=False))
    assert not statistics.mergeable(pyg.InstanceNorm(4))
    assert not statistics.mergeable(type("Mine", (pyg.GraphNorm,), {})(4))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), pyg.BatchNorm(4)])
def test_a_training_batch_of_one_node_has_no_variance(norm):
    model = LayeredGNN([Block(nn.Linear(4, 4), norm)])
    alone = torch.ones(1, 4), torch.empty(2, 0, dtype=torch.int64)
    with pytest.raises(InputError, match=r"has 1 node; BatchNorm.* more clusters_per_batch"):
        model.train()(*alone)
    model.eval()(*alone)
    single = pyg.BatchNorm(4, allow_single_element=True)
    LayeredGNN([Block(nn.Linear(4, 4), single)]).train()(*alone)


def test_a_norm_with_a_hook_is_called():
    norm = pyg.GraphNorm(4)
    norm.register_forward_hook(lambda module, arguments, out: 2 * out)
    assert not statistics.mergeable(norm)
