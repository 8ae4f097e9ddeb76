"""Activation checkpointing: a block keeps what enters it, and computes the rest again in the
backward pass (Chen et al., 2016, arXiv 1604.06174).

What is kept falls from all activations to one per block, plus those of one block at a time, for one
more forward pass: a third more computation. Gradients are the same bit for bit: dropout masks are a
hash, opaque convolutions are seeded anew, torch's generator is put back to where it was, and
buffers (running statistics) are read as they were and updated once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gnnscale.nn.blocks.context import Context, Runner, run_phases
from gnnscale.nn.blocks.phases import Collect, Features, Phase, slots_of


def checkpointed(runner: Runner = run_phases) -> Runner:
    """A runner that checkpoints what `runner` runs.

    The head is run plainly: the backward pass would compute it again at once.
    """

    def run(
        block: nn.Module | None, phases: Sequence[Phase], x: Features, context: Context
    ) -> Features:
        # A trailing `Collect` keeps nothing itself; inside, every block would hold the whole
        # jumping knowledge before it.
        inside = [phase for phase in phases if not isinstance(phase, Collect)]
        if block is None or not inside or not torch.is_grad_enabled():
            return runner(block, phases, x, context)
        x, slots = _checkpoint(runner, block, inside, x, context)
        context.slots.update(slots)
        return run_phases(block, phases[len(inside) :], x, context)

    return run


def _checkpoint(
    runner: Runner, block: nn.Module, phases: Sequence[Phase], x: Features, context: Context
) -> tuple[Features, dict[str, Any]]:
    context.dropout_key(0)  # a seed that is not given is drawn once, not by each of the two runs
    names = {name for phase in phases for name in slots_of(phase)}
    read = {name: value for name, value in context.slots.items() if name in names}
    before = {id(buffer): buffer.clone() for buffer in block.buffers()}

    def run(x: Features, _: Tensor) -> tuple[Features, dict[str, Any]]:
        inner = replace(context, slots=dict(read))
        return runner(block, phases, x, inner), inner.slots

    # Given the adjacency, torch finds the device whose generator it keeps: x may be sparse.
    return checkpoint(
        run,
        x,
        context.adj.indptr,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _buffers_as(block, before)),
    )


@contextlib.contextmanager
def _buffers_as(block: nn.Module, values: dict[int, Tensor]) -> Iterator[None]:
    """Put copies of `values` in the place of a block's buffers, and these back afterwards."""
    places = [
        (module, name, buffer)
        for module in block.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and id(buffer) in values
    ]
    try:
        for module, name, buffer in places:
            module._buffers[name] = values[id(buffer)].clone()
        yield
    finally:
        for module, name, buffer in places:
            module._buffers[name] = buffer
