"""One optimizer step of a small model: by accumulation, the oracle, and by what runs a pipeline."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

import gnnscale as gs
from gnnscale.loader import Batch
from gnnscale.nn import Context, LayeredGNN
from gnnscale.parallel.engine.passes import Computation
from gnnscale.train.task import NodeTask
from tests.helpers.small_runs import CLASSES, HIDDEN, IN, small_graph

BLOCKS = 4
# Name, devices, cuts.
LAYOUTS = {
    "gpipe": (2, [2]),
    "1f1b": (2, [1]),
    "interleaved": (2, [1, 2, 3]),
    "zbv": (2, [1, 2, 3]),
}
NORMS = (None, "batch_norm", "graph_norm")


@functools.cache
def micro_batches() -> tuple[Batch, ...]:
    """Four batches of different sizes."""
    graph = small_graph(60)
    part = gs.partition(graph, 10, method="random", seed=0)
    loader = gs.ClusterLoader(gs.cluster(graph, part), 3, prefetch=0)
    return tuple(batch for batch in loader if batch is not None)[:4]


def model(norm: Any = None, dropout: float = 0.0, kind: str = "GCN", **options: Any) -> LayeredGNN:
    """Residuals would cross no cut, the jumping knowledge crosses all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        jk = {} if kind == "GAT" else {"jk": "cat"}
        make: Callable[..., LayeredGNN] = getattr(gs.nn, kind)
        return make(
            IN, HIDDEN, BLOCKS, CLASSES, norm=norm, dropout=dropout, **jk, **options
        ).train()


def context(batch: Batch) -> Context:
    return Context(
        batch.adj,
        training=True,
        seed=11,
        step=batch.step,
        node_id=batch.node_id,
        segments=batch.segments,
    )


def total() -> float:
    return float(sum(batch.step_train_nodes for batch in micro_batches()))


def computation(**options: Any) -> Computation:
    return Computation(context, NodeTask().loss, lambda loss: loss / total(), **options)


def accumulated(model: LayeredGNN, batches: Sequence[Batch]) -> list[float]:
    """Add the gradients of the batches one after another; their summed losses."""
    losses = []
    for batch in batches:
        loss = NodeTask().loss(model(batch.x, batch.adj, context=context(batch)), batch)
        (loss / total()).backward()
        losses.append(float(loss.detach()))
    return losses


def assert_same_step(
    mine: LayeredGNN, theirs: LayeredGNN, names: Sequence[str] | None = None
) -> None:
    """Gradients and running statistics agree; gradients to the last bit, or two orders of a sum."""
    for name, parameter in mine.named_parameters():
        if names is None or name in names:
            expected = theirs.get_parameter(name).grad
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-7, msg=name)
    for name, buffer in mine.named_buffers():
        if names is None or name in names:
            assert torch.equal(buffer, theirs.get_buffer(name)), name
