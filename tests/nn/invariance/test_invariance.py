"""A layer that reads what a piece does not hold is refused, whatever it reads; no other one is."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.nn import aggr
from torch_geometric.utils import degree, softmax

from gnnscale.errors import InexactConvolution, UnsupportedModel
from gnnscale.nn import check_invariance
from gnnscale.nn.blocks.phases import Neighbourhood, Rows, Statistics
from gnnscale.nn.convs.taken import takes_padded
from gnnscale.nn.invariance.check import as_layer
from gnnscale.nn.invariance.stand_in import settings_of
from tests.helpers.layers import DegreeConv, few
from tests.nn.invariance.rings import ONE_WAY, RING, ROWS, check

# --- layers of local parts, and the same with one part that is not ----------------------------


def by_degree(h, source, target, n):
    return h / (1 + degree(target, n, h.dtype))[:, None]


def attended(h, source, target, n):
    alpha = softmax((h[source] * h[target]).sum(1), target, num_nodes=n)
    return h + torch.zeros_like(h).index_add(0, target, alpha[:, None] * h[source])


LOCAL = {
    "by degree": by_degree,
    "attended": attended,
    "sum": lambda h, s, t, n: torch.zeros_like(h).index_add(0, t, h[s]),
    "max": lambda h, s, t, n: h.new_zeros(n, h.size(1)).index_reduce(0, t, h[s], "amax"),
    "length": lambda h, s, t, n: nn.functional.normalize(h, dim=1),
    "gate": lambda h, s, t, n: h * h.sigmoid(),
}


def scaled(factor):
    return lambda h, s, t, n: h * factor(h, s, t, n)


NOT_LOCAL = {
    "mean of rows": lambda h, s, t, n: h - h.mean(0),
    "spread of rows": lambda h, s, t, n: h / h.std(0),
    "greatest row": lambda h, s, t, n: h - h.amax(0),
    "least row": lambda h, s, t, n: h - h.amin(0),
    "middle row": lambda h, s, t, n: h - h.median(0).values,
    "attention to all": lambda h, s, t, n: (h @ h.t()).softmax(1) @ h,
    "rank": lambda h, s, t, n: h + h.argsort(0).argsort(0) / 10,
    "number of nodes": scaled(lambda h, s, t, n: 1 / n),
    "number of edges": scaled(lambda h, s, t, n: 1 / (1 + s.numel())),
    "place": lambda h, s, t, n: h + torch.arange(n)[:, None] / 10,
    "ids of neighbours": lambda h, s, t, n: h + h.new_zeros(n).index_add(0, t, s / 10)[:, None],
    "previous row": lambda h, s, t, n: h + h.roll(1, 0),
    "edges one after another": lambda h, s, t, n: h.index_add(0, t, h[s].cumsum(0)),
    "last edge": lambda h, s, t, n: h + h.new_zeros(n, h.size(1)).index_put((t,), h[s]),
    "first edge of all": lambda h, s, t, n: h + (h[s[:1]].sum(0) if s.numel() else 0),
    "greatest degree": scaled(lambda h, s, t, n: 1 / (1 + degree(t, n).max())),
    "mean degree": scaled(lambda h, s, t, n: 1 / (1 + degree(t, n).mean())),
    "whether there are loops": scaled(lambda h, s, t, n: 2.0 if bool((s == t).any()) else 1.0),
    "whether all have edges": scaled(lambda h, s, t, n: 2.0 if bool(degree(t, n).all()) else 1.0),
}


class Made(nn.Module):
    """A layer of some parts; the last one perhaps behind a gate that starts at 0."""

    def __init__(self, *parts, gated: bool = False, training_only: bool = False) -> None:
        super().__init__()
        self.lin = nn.Linear(5, 4)
        self.gate = nn.Parameter(torch.zeros(1)) if gated else None
        self.parts, self.training_only = parts, training_only

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = nn.functional.dropout(self.lin(x), 0.5, self.training)
        *parts, last = self.parts
        for part in parts:
            h = part(h, *edge_index, x.size(0))
        if self.training_only and not self.training:
            return h
        more = last(h, *edge_index, x.size(0))
        return more if self.gate is None else h + self.gate * more


parts = st.lists(st.sampled_from(list(LOCAL)), min_size=1, max_size=2)


@few
@given(parts, st.booleans())
def test_layers_of_local_parts_pass(names, gated):
    check(Made(*(LOCAL[name] for name in names), gated=gated), hops=2 * len(names))


@pytest.mark.parametrize("name", NOT_LOCAL)
@pytest.mark.parametrize("adj", [RING, ONE_WAY], ids=["undirected", "directed"])
@pytest.mark.parametrize(("gated", "training_only"), [(False, False), (True, True)])
def test_one_part_that_is_not_local_is_found(name, adj, gated, training_only):
    layer = Made(LOCAL["sum"], NOT_LOCAL[name], gated=gated, training_only=training_only)
    with pytest.raises(InexactConvolution, match=r"Made depends on") as error:
        check(layer, adj, hops=3)
    assert "hops=" not in str(error.value)
    assert ("in training mode" in str(error.value)) == training_only


# --- graphs beside ----------------------------------------------------------------------------


def test_an_aggregation_that_takes_what_is_equal_as_it_comes_is_refused():
    with pytest.raises(InexactConvolution, match="order in which edges arrive"):
        check(pyg.SAGEConv(5, 3, aggr=aggr.SortAggregation(k=1)))


class Attending(nn.Module):
    """Attends to all rows of its graph, where it is told which they are."""

    def forward(self, x, edge_index, batch=None):
        if batch is None:
            batch = edge_index.new_zeros(x.size(0))
        same = batch[:, None] == batch
        return (x @ x.t()).masked_fill(~same, -torch.inf).softmax(1) @ x


class Blind(Attending):
    """The same, but it is not told."""

    def forward(self, x, edge_index):
        return super().forward(x, edge_index)


def test_graphs_may_not_influence_each_other():
    check(Attending(), level="graphs")
    check(pyg.GPSConv(5, pyg.SAGEConv(5, 5), heads=1, norm="graph_norm"), level="graphs")
    check(DegreeConv(5, 3), level="graphs")  # its reach does not matter
    with pytest.raises(InexactConvolution, match=r"other graphs in its batch.*argument `batch`"):
        check(Blind(), level="graphs")
    for layer in (Attending(), Blind()):
        check(layer, level="whole")
        with pytest.raises(InexactConvolution, match=r"num_parts=1, chunk_rows=60"):
            check(layer)


# --- layers that fail, keep or draw -----------------------------------------------------------


class AtLeast(nn.Module):
    """Fails on graphs with too few edges."""

    def __init__(self, edges: int) -> None:
        super().__init__()
        self.edges = edges

    def forward(self, x, edge_index):
        if edge_index.size(1) < self.edges:
            raise IndexError
        return x


def test_what_fails_on_small_pieces_is_given_larger_ones_or_refused_by_name():
    layer = AtLeast(1)
    check(layer)
    assert takes_padded(layer)
    out = Neighbourhood(layer, 0).run(ROWS, torch.empty(2, 0, dtype=torch.int64), {})
    assert torch.equal(out, ROWS)
    with pytest.raises(UnsupportedModel, match=r"AtLeast runs on the graph, but fails on"):
        check(AtLeast(20))


class Caching(nn.Module):
    """Keeps the degrees of the first graph."""

    degrees = None

    def forward(self, x, edge_index):
        if self.degrees is None:
            self.degrees = 1 + degree(edge_index[1], x.size(0), x.dtype)[:, None]
        return x * self.degrees


class CachingOne(nn.Module):
    """Keeps a number: it fits every graph."""

    degree = None

    def forward(self, x, edge_index):
        if self.degree is None:
            self.degree = 1 + edge_index.size(1) / x.size(0)
        return x * self.degree


def test_what_keeps_or_draws_is_named():
    for caching in (Caching(), CachingOne()):
        with pytest.raises(InexactConvolution, match="kept from the graph that it saw first"):
            check(caching)
    always = Made(lambda h, s, t, n: nn.functional.dropout(h, 0.5))
    with pytest.raises(InexactConvolution, match="random numbers in evaluation mode"):
        check(always)


def seeded(rows):
    """Draws from a seed of its own: a number a channel, or for each row in their order."""

    def draw(h, source, target, n):
        of_its_own = torch.Generator().manual_seed(0)
        return h + torch.randn(n if rows else 1, h.size(1), generator=of_its_own)

    return Made(draw)


def test_what_is_drawn_from_a_seed_of_its_own_may_not_go_by_rows():
    check(seeded(rows=False))
    with pytest.raises(InexactConvolution, match="the order of nodes"):
        check(seeded(rows=True))


# --- rows alone -------------------------------------------------------------------------------


class Choosing(pyg.SAGEConv):
    """Leaves edges out in training, so many of all or each by itself."""

    def __init__(self, of_all):
        super().__init__(5, 4)
        self.of_all = of_all

    def forward(self, x, edge_index):
        count = edge_index.size(1)
        if self.training and self.of_all:
            edge_index = edge_index[:, torch.randperm(count)[: count // 2]]
        elif self.training:
            edge_index = edge_index[:, torch.rand(count) < 0.5]
        return super().forward(x, edge_index)


def test_a_random_choice_among_all_is_named_and_the_remedy_works():
    with pytest.raises(InexactConvolution, match=r"random choice among all.*training mode.*rand"):
        check(Choosing(of_all=True))
    check(Choosing(of_all=True), training=False)
    check(Choosing(of_all=False))


class Centre(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


@pytest.mark.parametrize("function", [Centre(), nn.Softmax(dim=0), lambda x: x / x.norm()])
def test_functions_of_rows_may_not_read_others(function):
    layer = as_layer(Rows(function), of_graphs=False)
    with pytest.raises(InexactConvolution, match=r"(Centre|Softmax|<lambda>) depends on rows"):
        check_invariance(layer, [ROWS], RING)
    check_invariance(layer, [ROWS], RING, level="whole")


@pytest.mark.parametrize("function", [nn.Softmax(dim=1), lambda x: x.tanh(), nn.GRUCell(5, 5)])
def test_functions_of_rows_by_themselves_pass(function):
    check_invariance(as_layer(Rows(function), of_graphs=False), [ROWS], RING)


def test_norms_keep_to_graphs():
    assert as_layer(Statistics(pyg.GraphNorm(5)), of_graphs=True) is None
    assert as_layer(Statistics(Centre()), of_graphs=False) is None  # run on whole layers
    with pytest.raises(InexactConvolution, match="Centre depends on other graphs"):
        check_invariance(
            as_layer(Statistics(Centre()), of_graphs=True), [ROWS], RING, level="graphs"
        )


def test_what_is_only_trained_so_does_not_matter_to_predictions():
    layer = Made(LOCAL["sum"], NOT_LOCAL["mean of rows"], training_only=True)
    check(layer, hops=2, training=False)
    with pytest.raises(InexactConvolution, match="in training mode"):
        check(layer, hops=2)


# --- what the check leaves alone ---------------------------------------------------------------


def test_neither_layer_nor_random_numbers_are_changed():
    layer = pyg.GATConv(5, 3, dropout=0.5)
    layer(ROWS, RING.edge_index[:, :4] % 8)
    layer.attention = layer.lin(ROWS)  # of a graph of gradients, as a layer may keep it
    layer.train()
    layer.lin.eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    check(layer)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert layer.training and not layer.lin.training and layer.attention.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_what_was_found_is_kept_by_class_and_settings(monkeypatch):
    class Fresh(Made):
        pass

    runs = []
    forward = Fresh.forward
    monkeypatch.setattr(Fresh, "forward", lambda *given: runs.append(1) or forward(*given))
    local = LOCAL["sum"]
    check(Fresh(local))
    count = len(runs)
    check(Fresh(local))  # other parameters
    assert len(runs) == count
    with pytest.raises(InexactConvolution):
        check(Fresh(local, NOT_LOCAL["mean of rows"]))
    monkeypatch.setattr(Fresh, "forward", lambda self, x, edge_index: x - x.mean(0))
    with pytest.raises(InexactConvolution):
        check(Fresh(local))


@pytest.mark.parametrize("held", [np.int64(3), np.bool_(True), range(3), np.zeros(3), slice])
def test_what_was_found_is_kept_whatever_a_layer_holds(held):
    layer = Made(LOCAL["sum"])
    layer.held = held
    assert settings_of(layer) == settings_of(layer) != settings_of(Made(LOCAL["sum"]))
    hash(settings_of(layer))


def test_a_layer_that_cannot_be_copied_is_named():
    layer = Made(LOCAL["sum"])
    layer.generator = (i for i in range(3))
    with pytest.raises(UnsupportedModel, match=r"Made cannot be copied.*__deepcopy__"):
        check(layer)


def test_settings_in_an_object_of_the_users_count():
    class Settings:
        kind = "local"

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.settings = Settings()

        def forward(self, x, edge_index):
            return x - x.mean(0) if self.settings.kind == "mean" else x.clone()

    layer = Layer()
    before = settings_of(layer)
    assert before == settings_of(layer)
    layer.settings.kind = "mean"
    assert before != settings_of(layer)
