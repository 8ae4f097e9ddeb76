"""The registry: what is read as a propagation, and above all what is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch_geometric import nn as pyg

from gnnscale.errors import InputError
from gnnscale.nn import (
    Block,
    LayeredGNN,
    Propagation,
    Sum,
    as_layered,
    propagation_of,
    register,
)
from gnnscale.nn.convs import propagation
from gnnscale.nn.convs.propagation import reach_of
from gnnscale.nn.modules import OVERRIDABLE
from tests.helpers.layers import DegreeConv, assert_equal, is_opaque

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)).double()
EDGES = torch.tensor([[0, 1, 2, 2, 5, 0, 3], [1, 0, 2, 3, 0, 4, 3]])


@pytest.fixture(autouse=True)
def registry_as_it_was(monkeypatch):
    monkeypatch.setattr(propagation, "_REGISTERED", dict(propagation._REGISTERED))


def convs() -> list[nn.Module]:
    return [pyg.GCNConv(5, 3), pyg.SAGEConv(5, 3), pyg.GINConv(nn.Linear(5, 3))]


def assert_runs_as_it_is(conv: nn.Module) -> None:
    conv.double()
    model = LayeredGNN([Block(conv, act=None)])
    assert propagation_of(conv) is None
    assert is_opaque(model)
    assert_equal(model(X, EDGES), conv(X, EDGES))


def override(base: type, method: str) -> type:
    """A subclass with a method of its own, whose output differs from its parent's if it can.

    PyG tells classes apart by name, and methods by the names that their definitions have.
    """

    def forward(self, x, edge_index, edge_weight=None):
        return 2 * base.forward(self, x, edge_index)

    def message(self, x_j):
        return 2 * x_j

    def aggregate(self, inputs, index, ptr=None, dim_size=None):
        return 2 * base.aggregate(self, inputs, index, ptr, dim_size)

    def message_and_aggregate(self, adj_t, x):
        return 2 * base.message_and_aggregate(self, adj_t, x)

    def update(self, inputs):
        return 2 * inputs

    def edge_update(self):
        raise NotImplementedError

    def propagate(self, edge_index, size=None, **kwargs):
        return 2 * base.propagate(self, edge_index, size=size, **kwargs)

    if method == "message" and base is pyg.GCNConv:

        def message(self, x_j, edge_weight):
            return 2 * edge_weight.view(-1, 1) * x_j

    methods = {method: locals()[method]}
    return type(f"{base.__name__}With{method}", (base,), methods)


def instance(cls: type) -> nn.Module:
    return cls(nn.Linear(5, 3)) if issubclass(cls, pyg.GINConv) else cls(5, 3)


@pytest.mark.parametrize("base", [pyg.GCNConv, pyg.SAGEConv, pyg.GINConv])
@pytest.mark.parametrize("method", OVERRIDABLE)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_subclass_with_a_method_of_its_own_is_opaque(base, method, depth):
    mine = override(base, method)
    for _ in range(depth - 1):
        mine = type(f"Derived{mine.__name__}", (mine,), {})
    conv = instance(mine)
    if method not in ("message_and_aggregate", "edge_update"):  # not called on an edge_index
        parent = instance(base)
        parent.load_state_dict(conv.state_dict())
        assert not torch.allclose(conv(X.float(), EDGES), parent(X.float(), EDGES))
    assert_runs_as_it_is(conv)
    assert reach_of(conv) is None  # nor is its parent's reach taken on trust


class PlainGCN(pyg.GCNConv):
    """Adds nothing that propagation would see."""

    def describe(self) -> str:
        return "plain"


class PlainSAGE(pyg.SAGEConv):
    """As it is."""


class PlainGIN(pyg.GINConv):
    """As it is."""


@pytest.mark.parametrize("plain", [PlainGCN, PlainSAGE, PlainGIN])
def test_a_plain_subclass_is_a_propagation(plain):
    conv = instance(plain)
    assert propagation_of(conv) is not None
    conv(X.float(), EDGES)  # PyG writes a generated `propagate` into every class it instantiates
    assert "propagate" in plain.__dict__
    assert propagation_of(conv) is not None
    assert propagation_of(instance(plain.__base__)) is not None


def double_output(module, arguments, out):
    return 2 * out


def double_input(module, arguments):
    return (2 * arguments[0], *arguments[1:])


def lin_of(conv: nn.Module) -> nn.Module:
    return next(m for m in conv.modules() if "weight" in m._parameters)


def patch_message(conv):
    conv.message = lambda *arguments, **kwargs: 2 * type(conv).message(conv, *arguments, **kwargs)


def patch_forward(conv):
    lin = lin_of(conv)
    lin.forward = lambda x: 2 * type(lin).forward(lin, x)


INTERCEPTIONS = {
    "forward hook": lambda conv: conv.register_forward_hook(double_output),
    "forward pre-hook": lambda conv: conv.register_forward_pre_hook(double_input),
    "hook on lin": lambda conv: lin_of(conv).register_forward_hook(double_output),
    "pre-hook on lin": lambda conv: lin_of(conv).register_forward_pre_hook(double_input),
    "hook on the aggregation": lambda conv: conv.aggr_module.register_forward_hook(double_output),
    "backward hook": lambda conv: conv.register_full_backward_hook(lambda m, i, o: None),
    "message hook": lambda conv: conv.register_message_forward_hook(lambda c, i, out: 2 * out),
    "aggregate hook": lambda conv: conv.register_aggregate_forward_hook(lambda c, i, out: 2 * out),
    "propagate hook": lambda conv: conv.register_propagate_forward_hook(lambda c, i, out: 2 * out),
    "propagate pre-hook": lambda conv: conv.register_propagate_forward_pre_hook(
        lambda c, i: (i[0], i[1], i[2])
    ),
    "patched message": patch_message,
    "patched forward of lin": patch_forward,
    "weight_norm": lambda conv: nn.utils.parametrizations.weight_norm(lin_of(conv)),
    "spectral_norm": lambda conv: nn.utils.parametrizations.spectral_norm(lin_of(conv)),
    "pruning": lambda conv: prune.l1_unstructured(lin_of(conv), "weight", amount=0.5),
}


@pytest.mark.parametrize("which", [0, 1, 2], ids=["GCN", "SAGE", "GIN"])
@pytest.mark.parametrize("how", INTERCEPTIONS)
def test_an_intercepted_instance_is_opaque(how, which):
    conv = convs()[which].double().eval()
    assert propagation_of(conv) is not None
    model = LayeredGNN([Block(conv, act=None)]).eval()
    before = model(X, EDGES)  # the phases are made, and made again
    assert not is_opaque(model)
    INTERCEPTIONS[how](conv)
    assert is_opaque(model)
    assert_equal(model(X, EDGES), conv(X, EDGES))
    if how not in ("backward hook", "propagate pre-hook", "weight_norm"):
        assert not torch.allclose(model(X, EDGES), before)


def test_a_hook_that_goes_gives_the_fast_path_back():
    conv = pyg.GCNConv(5, 3)
    model = LayeredGNN([Block(conv)])
    handle = conv.register_forward_hook(double_output)
    assert is_opaque(model)
    handle.remove()
    assert not is_opaque(model)


@pytest.mark.parametrize("part", ["norm", "act", "dropout", "head", "head[1]", "nn"])
def test_a_hook_on_any_module_of_a_block_is_called(part):
    norm, act, dropout = pyg.GraphNorm(3), nn.ReLU(), nn.Dropout(0.5)
    inner = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    head = nn.Sequential(nn.Tanh(), nn.Dropout(0.5))
    blocks = [Block(pyg.GCNConv(5, 3), norm, act, dropout), Block(pyg.GINConv(inner), act=None)]
    model = LayeredGNN(blocks, head).double()
    model(X, EDGES)
    called = []
    parts = {
        "norm": norm,
        "act": act,
        "dropout": dropout,
        "head": head,
        "head[1]": head[1],
        "nn": inner,
    }
    parts[part].register_forward_hook(lambda *_: called.append(part))
    model(X, EDGES)
    assert called == [part]


def test_replaced_parameters_and_modules_are_used():
    model = as_layered(pyg.GCN(5, 4, 2, 3, norm="batch_norm")).double().eval()
    model(X, EDGES)
    other = {k: 2 * v for k, v in model.state_dict().items()}
    model.load_state_dict(other, assign=True)
    assert_equal(model(X, EDGES), model.to_pyg().eval()(X, EDGES))
    conv = model.blocks[1].conv
    conv.lin.weight = nn.Parameter(-conv.lin.weight.detach())
    assert_equal(model(X, EDGES), model.to_pyg()(X, EDGES))
    blocks = LayeredGNN([Block(pyg.GCNConv(5, 3), act="relu")]).double()
    blocks(X, EDGES)
    blocks.blocks[0].act = nn.Tanh()
    assert_equal(blocks(X, EDGES), blocks.blocks[0].conv(X, EDGES).tanh())


def test_lazy_channels_are_opaque_until_they_are_known():
    torch.manual_seed(0)
    conv = pyg.GCNConv(-1, 3)
    model = LayeredGNN([Block(conv, act=None)])
    assert is_opaque(model)
    assert model.in_channels is None
    first = model(X.float(), EDGES)
    assert not is_opaque(model)
    assert_equal(model(X.float(), EDGES), first, 1e-5)


def test_the_reach_of_known_convolutions_and_of_their_subclasses():
    class Mine(pyg.GATConv):
        def message(self, x_j, alpha):
            return alpha.unsqueeze(-1) * x_j

    assert reach_of(pyg.GCNConv(5, 3)) == 2  # degrees, where it has hooks and runs as it is
    assert reach_of(pyg.GATConv(5, 3)) == 1
    assert reach_of(type("Plain", (pyg.GATConv,), {})(5, 3)) == 1
    assert reach_of(Mine(5, 3)) is None
    assert reach_of(DegreeConv(5, 3)) is None


def test_register_a_propagation():
    class Twice(nn.Module):
        """P² X W with P = A + I."""

        def __init__(self, on: bool = True) -> None:
            super().__init__()
            self.lin, self.on = nn.Linear(5, 3, bias=False), on

        def forward(self, x, edge_index):
            for _ in range(2):
                x = x.index_add(0, edge_index[1], x[edge_index[0]])
            return self.lin(x)

    def reading(conv: Twice) -> Propagation | None:
        return Propagation(Sum(1.0), hops=2, weight=conv.lin.weight) if conv.on else None

    assert_runs_as_it_is(Twice())
    assert register(Twice, propagation=reading) is Twice
    conv = Twice().double()
    model = LayeredGNN([Block(conv, act=None)])
    assert not is_opaque(model)
    assert_equal(model(X, EDGES), conv(X, EDGES))
    assert_runs_as_it_is(Twice(on=False))  # a reading may decline
    assert_runs_as_it_is(
        type("Mine", (Twice,), {"forward": lambda self, x, edge_index: self.lin(x)})()
    )
    register(Twice, propagation=reading, hops=2)
    assert reach_of(Twice()) == 2
    register(Twice, hops=3)  # the last word counts
    assert reach_of(Twice()) == 3
    assert_runs_as_it_is(Twice())


def test_a_subclass_may_be_registered_by_itself():
    mine = override(pyg.GCNConv, "message")
    register(mine, hops=2)
    assert reach_of(mine(5, 3)) == 2
    assert_runs_as_it_is(mine(5, 3))


@pytest.mark.parametrize("hops", [0, -1, 1.0, "2", True])
def test_a_reach_is_a_whole_number(hops):
    with pytest.raises(InputError, match="whole number from 1 on"):
        register(DegreeConv, hops=hops)
    with pytest.raises(InputError, match="whole number from 1 on"):
        Block(DegreeConv(5, 3), hops=hops)


def test_register_wants_something():
    with pytest.raises(InputError, match="propagation=…, with hops=…"):
        register(DegreeConv)
