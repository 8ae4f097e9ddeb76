"""Compiled row phases: what the eager ones give, in a bounded number of graphs."""

from __future__ import annotations

import copy
import os
import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch_geometric.nn import SAGEConv

import gnnscale as gs
from gnnscale.errors import MissingDependency
from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.nn.blocks.compiling import CompiledRows
from gnnscale.nn.blocks.context import Context, run_phases
from tests.nn.blocks.test_checkpointing import HIDDEN, IN, MODELS, OUT, batch, deep, step

# dynamo looks at the gradient of every tensor, and silences torch's warning of it elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
# Every block is compiled by itself: more of the same would show no more.
COMPILED = {
    "deep": lambda: deep(depth=1),
    "gin": lambda: gs.nn.GIN(IN, HIDDEN, 2, OUT, dropout=0.5, norm="batch_norm"),
}


@pytest.mark.parametrize(("name", "device"), [("gin", "cpu"), ("deep", "cuda")])
def test_outputs_gradients_and_buffers_are_the_eager_ones(name, device):
    """Told of "cuda", it takes dropout into the graph; the tensors are on the CPU still."""
    model = COMPILED[name]()
    eager = step(copy.deepcopy(model), run_phases, *batch())
    runner = CompiledRows(torch.device(device), "aot_eager")
    for inner in (runner, checkpointed(runner)):
        found = step(copy.deepcopy(model), inner, *batch())
        for key, value in eager.items():
            torch.testing.assert_close(found[key], value, **CLOSE, msg=key)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own, when it is imported
def test_inductor():
    model = COMPILED["deep"]()
    eager = step(copy.deepcopy(model), run_phases, *batch())
    found = step(copy.deepcopy(model), CompiledRows(torch.device("cpu")), *batch())
    for key, value in eager.items():
        torch.testing.assert_close(found[key], value, **CLOSE, msg=key)


def test_batches_of_all_sizes_share_a_graph_and_layers_have_their_own():
    layers = 9  # torch gives up after eight graphs of one function
    convs = [SAGEConv(IN if i == 0 else 4 + i, 5 + i) for i in range(layers)]
    blocks = [gs.nn.Block(conv, norm="graph_norm", dropout=0.1) for conv in convs]
    counter = CompileCounterWithBackend("eager")
    runner = CompiledRows(torch.device("cuda"), counter)
    model = gs.nn.LayeredGNN(blocks).train()
    for epoch, nodes in enumerate(range(20, 60, 10)):
        x, adj = batch(nodes)
        model(x, adj, context=Context(adj, True, 0, epoch, runner=runner)).sum().backward()
    assert counter.frame_count == layers


def test_norms_over_all_rows_are_part_of_the_graph():
    inside = [gs.nn.GraphNorm(IN), gs.nn.BatchNorm(IN), gs.nn.LayerNorm(IN)]
    outside = [
        gs.nn.GraphNorm(IN, over="graph"),
        gs.nn.GraphNorm(IN, running=True),
        gs.nn.LayerNorm(IN, over="graph"),
        gs.nn.BatchNorm(IN, synchronised=True),
    ]
    x, adj = batch()
    for norms, graphs in ((inside, 3), (outside, 0)):
        model = gs.nn.LayeredGNN([gs.nn.Block(nn.Identity(), n, act=None) for n in norms]).train()
        counter = CompileCounterWithBackend("eager")
        runner = CompiledRows(x.device, counter)
        out = model(x, adj, context=Context(adj, True, 0, runner=runner))
        assert counter.frame_count == graphs
        torch.testing.assert_close(out, model(x, adj), **CLOSE)


def test_what_draws_or_is_unknown_stays_out_of_the_graph():
    mine = MODELS["noisy"]().blocks[1].conv
    modules = [SAGEConv(IN, HIDDEN), mine, nn.RReLU(), nn.Linear(HIDDEN, 3)]
    blocks = [gs.nn.Block(module, act=None) for module in modules]
    counter = CompileCounterWithBackend("eager")
    model, (x, adj) = gs.nn.LayeredGNN(blocks).train(), batch()
    model(x, adj, context=Context(adj, True, 0, runner=CompiledRows(x.device, counter)))
    assert counter.frame_count == 0


def test_without_a_compiler_the_remedy_is_named(monkeypatch):
    import importlib.util

    from torch._inductor import config

    without = config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with without, pytest.raises(MissingDependency, match=r"g\+\+"):
        CompiledRows(torch.device("cpu"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="triton"):
        CompiledRows(torch.device("cuda"))
