"""Activation checkpointing: the same step bit for bit, with less kept between forward and back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCNConv, SAGEConv

import gnnscale as gs
from gnnscale.graph import Adjacency
from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.nn.blocks.context import Context, run_phases

IN, HIDDEN, OUT = 6, 8, 3


class Noisy(nn.Module):
    """Row-local, with draws of its own and a buffer that its output depends on."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(HIDDEN, HIDDEN)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        out = self.linear(x + torch.randn_like(x)) * (1 + self.calls)
        self.calls += 1
        return out


def deep(*, depth=3, **options):
    blocks = [gs.nn.Block(SAGEConv(IN, HIDDEN), norm="batch_norm", dropout=0.3)]
    blocks += [
        gs.nn.Block(GCNConv(HIDDEN, HIDDEN), norm="graph_norm", dropout=0.3, residual=True)
        for _ in range(depth)
    ]
    return gs.nn.LayeredGNN(blocks, nn.Linear(HIDDEN * options.pop("joined", 1), OUT), **options)


MODELS = {
    "deep": deep,
    "jk_cat": lambda: deep(jk="cat", joined=4),
    "jk_max": lambda: deep(jk="max"),
    "gin": lambda: gs.nn.GIN(IN, HIDDEN, 3, OUT, dropout=0.5, norm="batch_norm"),
    "gat": lambda: gs.nn.GAT(IN, HIDDEN, 2, OUT, dropout=0.5, heads=2, norm="layer_norm"),
    "noisy": lambda: gs.nn.LayeredGNN([SAGEConv(IN, HIDDEN), Noisy(), SAGEConv(HIDDEN, OUT)]),
}


def batch(nodes=40, seed=0):
    random = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, nodes, (2, 4 * nodes), generator=random)
    return torch.randn(nodes, IN, generator=random), Adjacency.from_edge_index(edges, nodes)


def step(model, runner, x, adj, seed=3):
    """Output, gradients and buffers of two steps, and the generator's state after them."""
    torch.manual_seed(11)
    model.train().zero_grad()
    for number in range(2):
        context = Context(adj, True, seed, epoch=number, step=number, runner=runner)
        out = model(x, adj, context=context)
        out.square().sum().backward()
    found = {f"gradient {k}": p.grad for k, p in model.named_parameters()}
    found |= {f"buffer {k}": b for k, b in model.named_buffers()}
    return {"out": out.detach(), **found, "generator": torch.get_rng_state()}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bf16", [False, True])
def test_a_step_is_the_same_bit_for_bit(name, bf16):
    model = MODELS[name]()
    x, adj = batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        plain = step(copy.deepcopy(model), run_phases, x, adj)
        found = step(copy.deepcopy(model), checkpointed(), x, adj)
    for key, value in plain.items():
        assert torch.equal(found[key], value), key


def test_without_a_seed_one_is_drawn_once():
    model, (x, adj) = deep(), batch()
    context = Context(adj, True, runner=checkpointed())
    model.train()(x, adj, context=context).sum().backward()
    expected = copy.deepcopy(model)
    expected.zero_grad()
    expected(x, adj, context=Context(adj, True, context.seed)).sum().backward()
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_sparse_features():
    x, adj = batch()
    x = gs.kernels.CSR.from_dense(x * (x > 0))
    plain, found = (step(copy.deepcopy(m), r, x, adj) for m, r in _both(MODELS["gin"]()))
    assert all(torch.equal(found[key], value) for key, value in plain.items())


def _both(model):
    return (model, run_phases), (model, checkpointed())


@pytest.mark.parametrize("jk", [None, "cat"])
def test_less_is_kept(jk):
    """What autograd saves of a deep model: little more than what enters its blocks."""
    x, adj = batch(nodes=200)
    kept = {}
    model = deep(jk=jk, joined=4 if jk else 1)
    for name, (_, runner) in zip(("plain", "checkpointed"), _both(model), strict=True):
        seen = {}

        def pack(tensor, seen=seen):
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = model(x, adj, context=Context(adj, True, 0, runner=runner))
        kept[name] = sum(seen.values())
        assert out.requires_grad
    assert kept["checkpointed"] < kept["plain"] / 2


def test_in_evaluation_nothing_is_checkpointed():
    model, (x, adj) = deep().eval(), batch()
    with torch.no_grad():
        assert torch.equal(
            model(x, adj, context=Context(adj, False, runner=checkpointed())), model(x, adj)
        )
