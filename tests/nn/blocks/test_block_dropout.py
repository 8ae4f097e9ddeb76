"""Dropout depends on seed, epoch, block and node, never on the batch it is drawn in."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR
from gnnscale.nn import Block, Context, LayeredGNN
from gnnscale.nn.blocks.phases import Dropout, Rows
from gnnscale.nn.modules import works_in_place
from tests.helpers.layers import assert_equal, few

NONE = torch.zeros(2, 0, dtype=torch.int64)


def run(model, x, node_id=None, seed=1, epoch=0, step=0, edges=NONE):
    adj = Adjacency.from_edge_index(edges, x.shape[0])
    context = Context(adj, training=True, seed=seed, epoch=epoch, step=step, node_id=node_id)
    return model(x, adj, context=context)


def models() -> dict[str, LayeredGNN]:
    inner = pyg.MLP([5, 5, 5], norm=None, dropout=0.5, plain_last=False)
    head = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Dropout(0.5))
    made = {
        "relu": [Block(pyg.GCNConv(5, 5), dropout=0.5), Block(pyg.GCNConv(5, 5), dropout=0.3)],
        "tanh": [Block(pyg.SAGEConv(5, 5), act="tanh", dropout=0.5)],
        "first": [Block(pyg.GCNConv(5, 5), dropout=0.5, order="dropout-conv-act")],
        "gin": [Block(pyg.GINConv(inner), dropout=0.5)],
        "head": [Block(pyg.SAGEConv(5, 5), dropout=0.5)],
    }
    return {
        name: LayeredGNN(blocks, head if name == "head" else None).double()
        for name, blocks in made.items()
    }


@few
@given(
    st.sampled_from(sorted(models())),
    st.lists(st.integers(0, 19), min_size=1, max_size=20, unique=True),
    st.booleans(),
)
def test_a_node_keeps_its_mask_in_any_batch(name, chosen, sparse):
    model = models()[name]
    x = torch.randn(20, 5).double()
    some = torch.tensor(chosen)
    whole = run(model, CSR.from_dense(x) if sparse else x, torch.arange(20))
    part = run(model, CSR.from_dense(x[some]) if sparse else x[some], some)
    assert_equal(part, whole[some])
    assert_equal(run(model, x), whole)  # without ids, rows are numbered


@few
@given(st.sampled_from(sorted(models())))
def test_masks_differ_by_seed_and_epoch(name):
    model, x = models()[name], torch.randn(64, 5).double()
    first = run(model, x)
    assert torch.equal(run(model, x, step=5), first)  # a node is in one batch an epoch
    assert not torch.equal(run(model, x, epoch=1), first)
    assert not torch.equal(run(model, x, seed=2), first)


def test_masks_differ_by_block_and_within_one():
    for model, dropouts in zip(models().values(), (2, 1, 1, 3, 2), strict=True):
        phases = itertools.chain.from_iterable(model.phases)
        streams = [phase.stream for phase in phases if isinstance(phase, Dropout)]
        assert len(streams) == len(set(streams)) == dropouts
    identity = [Block(nn.Identity(), act=None, dropout=0.5) for _ in range(2)]
    x = torch.ones(200, 8)
    once, twice = run(LayeredGNN(identity[:1]), x), run(LayeredGNN(identity), x)
    assert 0.4 < (once == 0).float().mean() < 0.6
    assert 0.65 < (twice == 0).float().mean() < 0.85  # not the same mask again: 3/4


def test_no_dropout_in_evaluation_and_none_at_zero():
    x = torch.randn(9, 5).double()
    for model in models().values():
        model.eval()
        assert torch.equal(model(x, NONE), model(x, NONE))
    model = LayeredGNN([Block(nn.Identity(), act=None, dropout=0.5)])
    assert not torch.equal(run(model, x), x)
    model.blocks[0].dropout.p = 0.0
    assert torch.equal(run(model, x), x)
    model.blocks[0].dropout.p = 1.0
    assert not run(model, x).any()


def test_without_a_seed_every_pass_draws_its_own():
    model, x = models()["relu"].train(), torch.randn(50, 5).double()
    torch.manual_seed(3)
    first, second = model(x, NONE), model(x, NONE)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(model(x, NONE), first)


def test_dropout_of_opaque_layers_repeats_and_leaves_torch_alone():
    model = LayeredGNN([pyg.GATConv(5, 4, dropout=0.5), pyg.GATConv(4, 4, dropout=0.5)]).train()
    x, edges = torch.randn(30, 5), torch.randint(0, 30, (2, 200))
    before = torch.get_rng_state()
    first = run(model, x, edges=edges)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(run(model, x, edges=edges), first)
    others = [run(model, x, edges=edges, **{key: 7}) for key in ("seed", "epoch", "step")]
    for other in others:
        assert not torch.equal(other, first)
    # Two layers do not draw the same numbers.
    twins = LayeredGNN([Block(Noise(), act=None), Block(Noise(), act=None)]).train()
    once = run(LayeredGNN([Block(Noise(), act=None)]).train(), torch.zeros(4, 3))
    assert not torch.equal(run(twins, torch.zeros(4, 3)), 2 * once)


class Noise(nn.Module):
    def forward(self, x, edge_index):
        return x + torch.rand_like(x)


@pytest.mark.parametrize("act", ["relu", "leaky_relu", "elu", "tanh", "swish"])
@pytest.mark.parametrize("inplace", [False, True])
def test_fusing_an_activation_changes_nothing(act, inplace):
    x = torch.randn(50, 4)
    before, outs = x.clone(), []
    for watched in (False, True):
        block = Block(nn.Identity(), act=act, dropout=0.5)
        if inplace and hasattr(block.act, "inplace"):
            block.act.inplace = True
        if watched:  # a hook sees what the activation gives: nothing may be fused
            block.act.register_forward_hook(lambda *call: None)
        model = LayeredGNN([block])
        fused = not watched and (act == "relu" or not works_in_place(block.act))
        assert [type(phase) for phase in model.phases[0]] == [Rows, Dropout][fused:]
        outs.append((run(model.train(), x), run(model.eval(), x)))
    assert all(map(torch.equal, *outs))
    assert torch.equal(x, before)


def test_gradients_pass_where_the_mask_lets_them():
    model = LayeredGNN([Block(nn.Identity(), act="relu", dropout=0.5)])
    x = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
    out = run(model, x)
    out.sum().backward()
    assert torch.equal(x.grad, torch.where(out > 0, 2.0, 0.0).double())
