"""Moments merge exactly, and norms applied with them equal PyG's own."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import norm as pyg

from gnnscale import nn as gsnn
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.graph import Graph
from gnnscale.inference.engine import stream
from gnnscale.inference.ranks import Gathered, undivided
from gnnscale.nn import Block, LayeredGNN
from gnnscale.nn.norms import statistics
from gnnscale.nn.norms.segments import pointers_of, segment_of_rows
from gnnscale.nn.norms.statistics import Moments
from tests.helpers.layers import assert_equal, few, shaken


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
        torch.testing.assert_close(moments.mean[0], wide.mean(0), rtol=1e-9, atol=1e-6)
        deviation = (wide - wide.mean(0)).square().sum(0)
        torch.testing.assert_close(moments.deviation[0], deviation, rtol=1e-6, atol=0)

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
    "instance_norm": lambda: pyg.InstanceNorm(4),
    "instance_norm, affine": lambda: pyg.InstanceNorm(4, affine=True),
    "pair_norm": lambda: pyg.PairNorm(0.7),
    "pair_norm, individually": lambda: pyg.PairNorm(0.7, scale_individually=True),
    "mean_subtraction": lambda: pyg.MeanSubtractionNorm(),
    "graph_size": lambda: pyg.GraphSizeNorm(),
    "groups": lambda: pyg.DiffGroupNorm(4, 3, track_running_stats=False),
}
OURS = {
    "graph_norm": lambda over: gsnn.GraphNorm(4, over=over),
    "instance_norm": lambda over: gsnn.InstanceNorm(4, affine=True, over=over),
    "layer_norm": lambda over: gsnn.LayerNorm(4, over=over),
    "pair_norm": lambda over: gsnn.PairNorm(0.7, over=over),
    "mean_subtraction": lambda over: gsnn.MeanSubtractionNorm(over=over),
    "graph_size": lambda over: gsnn.GraphSizeNorm(over=over),
}


@pytest.mark.parametrize("name", NORMS)
@few
@given(CUTS, st.integers(2, 40), st.integers(0, 100))
def test_norms_with_merged_moments_equal_the_norm(name, points, rows, seed):
    norm = shaken(NORMS[name]()).eval()
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed)).double() + 2
    assert statistics.mergeable(norm)
    pieces = cut(x, points)
    moments = statistics.partial_stats(norm, pieces[0])
    for piece in pieces[1:]:
        moments = moments.merge(statistics.partial_stats(norm, piece))
    applied = [statistics.apply_stats(norm, piece, moments) for piece in pieces]
    assert_equal(torch.cat(applied), norm(x), 1e-8)


@pytest.mark.parametrize("name", OURS)
@few
@given(CUTS, st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 100))
def test_segments_equal_pygs_batches_whole_and_in_chunks(name, points, sizes, seed):
    norm = shaken(OURS[name]("graph")).eval()
    theirs = type(norm).__mro__[2 if name != "graph_norm" else 1].forward
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    x = torch.randn(int(ptr[-1]), 4, generator=torch.Generator().manual_seed(seed)).double() + 2
    whole = theirs(norm, x, segment_of_rows(ptr, len(x)), len(sizes))
    assert_equal(norm(x, ptr=ptr), whole, 1e-8)
    gathered = Gathered(norm, ptr, undivided(len(x), len(x)))
    ranges = list(itertools.pairwise([0, *sorted(p for p in points if p <= len(x)), len(x)]))
    for a, b in ranges:
        gathered.add(a, b, x[a:b])
    assert_equal(torch.cat([gathered.apply(a, b, x[a:b]) for a, b in ranges]), whole, 1e-8)


def test_a_graph_without_nodes_is_a_segment_too():
    ptr = torch.tensor([0, 3, 3, 5])
    x = torch.randn(5, 4).double()
    assert_equal(gsnn.GraphNorm(4).double()(x, ptr=ptr)[3:], pyg.GraphNorm(4).double()(x[3:]))
    assert pointers_of(torch.tensor([0, 0, 0, 2, 2]), 5, 3).tolist() == ptr.tolist()


def test_a_state_dict_of_pygs_loads_and_rows_come_in_any_order():
    theirs, ours = shaken(pyg.GraphNorm(4)), gsnn.GraphNorm(4).double()
    ours.load_state_dict(theirs.state_dict())
    x, batch = torch.randn(9, 4).double(), torch.tensor([2, 0, 1, 2, 0, 0, 1, 2, 2])
    assert_equal(ours(x, batch), theirs(x, batch))

    class Mine(gsnn.GraphNorm):  # as PyG's norms are written
        def forward(self, x, batch=None, batch_size=None):
            return 2 * super().forward(x, batch, batch_size)

    mine = Mine(4).double()
    mine.load_state_dict(theirs.state_dict())
    ptr = torch.tensor([0, 4, 9])
    segments = segment_of_rows(ptr, 9)
    assert_equal(statistics.normalise(mine, x, ptr), 2 * theirs(x, segments))


@few
@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.sampled_from([0.0, 1e3]))
def test_running_statistics_are_the_averaged_first_and_second_moments(sizes, mean):
    norm = gsnn.GraphNorm(3, running=True, momentum=0.3).double()
    first, second = torch.zeros(3).double(), torch.ones(3).double()
    for rows in sizes:
        x = torch.randn(rows, 3).double() + mean
        norm.train()(x)
        first = 0.7 * first + 0.3 * x.mean(0)
        second = 0.7 * second + 0.3 * x.square().mean(0)
    assert_equal(norm.running_mean, first)
    assert_equal(norm.running_var, second - first.square(), 1e-6)
    shaken(norm).eval()
    centred = x - norm.mean_scale * norm.running_mean
    spread = norm.running_var + ((1 - norm.mean_scale) * norm.running_mean).square() + norm.eps
    assert_equal(norm(x), norm.weight * centred / spread.sqrt() + norm.bias, 1e-6)
    assert norm.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    norm.reset_parameters()
    assert not norm.running_mean.any() and bool((norm.running_var == 1).all())


def test_what_norms_refuse():
    with pytest.raises(InputError, match="over='rows'"):
        gsnn.GraphNorm(4, over="rows")
    with pytest.raises(InputError, match="momentum=0"):
        gsnn.GraphNorm(4, momentum=0)
    with pytest.raises(InputError, match="by 'graph' or by 'node'"):
        gsnn.LayerNorm(4, mode="row")
    model = gsnn.GCN(4, 4, 2, 2, norm=gsnn.GraphNorm(4, over="cluster"))
    with pytest.raises(InputError, match="needs a ClusteredGraph"):
        model(torch.ones(3, 4), torch.empty(2, 0, dtype=torch.int64))
    with pytest.raises(InputError, match="must ascend"):
        pointers_of(torch.tensor([1, 0]), 2)
    with pytest.raises(InputError, match="each of the 3 rows"):
        gsnn.GCN(4, 4, 2, 2)(
            torch.ones(3, 4), torch.empty(2, 0, dtype=torch.int64), batch=torch.tensor([0, 1])
        )
    for wrong in (torch.ones(3, 5), torch.ones(3, 3), torch.ones(4), torch.ones(2, 3, 4)):
        with pytest.raises(InputError, match=r"for 4 channels|expected floating"):
            gsnn.GraphNorm(4)(wrong)
    with pytest.raises(UnsupportedModel, match="not known as one reduction"):
        statistics.partial_stats(nn.GroupNorm(2, 4), torch.ones(3, 4))


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
    assert statistics.uses_running_statistics(pyg.DiffGroupNorm(4, 2))
    assert statistics.uses_running_statistics(gsnn.GraphNorm(4, running=True))
    assert not statistics.uses_running_statistics(gsnn.GraphNorm(4))
    assert not statistics.mergeable(nn.GroupNorm(2, 4))
    assert not statistics.mergeable(type("Mine", (pyg.GraphNorm,), {})(4))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), pyg.BatchNorm(4), pyg.DiffGroupNorm(4, 2)])
def test_a_training_batch_of_one_node_has_no_variance(norm):
    model = LayeredGNN([Block(nn.Linear(4, 4), norm)])
    alone = torch.ones(1, 4), torch.empty(2, 0, dtype=torch.int64)
    with pytest.raises(InputError, match=r"has 1 node; .*Norm.* more clusters_per_batch"):
        model.train()(*alone)
    model.eval()(*alone)
    single = pyg.BatchNorm(4, allow_single_element=True)
    LayeredGNN([Block(nn.Linear(4, 4), single)]).train()(*alone)


def test_a_norm_with_a_hook_is_called():
    norm = pyg.GraphNorm(4)
    norm.register_forward_hook(lambda module, arguments, out: 2 * out)
    assert not statistics.mergeable(norm)


class Centre(nn.Module):
    """A user's norm, known to nobody."""

    def forward(self, x):
        return x - x.mean(0)


class RegisteredCentre(Centre):
    """One that is."""


statistics.register_norm(
    RegisteredCentre, statistics.Form(lambda norm, x, stats, segments: x - stats.mean.to(x.dtype))
)


@pytest.mark.parametrize("norm", [Centre(), RegisteredCentre()])
def test_a_norm_of_ones_own_is_exact_in_chunks(norm):
    model = shaken(LayeredGNN([Block(nn.Linear(4, 4), norm), Block(nn.Linear(4, 2))])).eval()
    graph = Graph.from_arrays([[0], [1]], x=torch.randn(20, 4), num_nodes=20)
    whole = model(graph.x.double(), graph.adj)
    assert_equal(torch.cat([out for *_, out in stream(model, graph, chunk_rows=3)]), whole)
