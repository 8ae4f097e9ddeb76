"""The passes of a stage over the micro-batches of a step: what every engine runs.

Between a forward pass and its backward pass a stage keeps what entered it, cut off from the stage
before, and what left it. Both engines run these passes; they differ in how values travel.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.kernels import CSR
from gnnscale.loader import Batch
from gnnscale.nn import Context
from gnnscale.nn.blocks.phases import opaque_of
from gnnscale.parallel.schedules import Action
from gnnscale.parallel.simulation.timeline import Event
from gnnscale.parallel.stages import Stage

Values = dict[str, Tensor]

# Opaque modules draw from torch's generator, which a process has one of.
_generator = threading.RLock()


@dataclass(frozen=True)
class Computation:
    """What a trainer wants computed, beside the model.

    Attributes:
        context: the context of a forward pass over a batch; asked for once a stage.
        loss: of the last stage's rows and their batch, the sum of the losses.
        root: of that sum, what the backward pass starts from: divided, and scaled for float16.
        autocast: what forward passes run under.
        observe: told of every forward pass once it has run: the stage, the micro-batch.
        redraws: whether backward passes run opaque modules again (activation checkpointing).
    """

    context: Callable[[Batch], Context]
    loss: Callable[[Tensor, Batch], Tensor]
    root: Callable[[Tensor], Tensor]
    autocast: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    observe: Callable[[int, int], None] | None = None
    redraws: bool = False


class _Kept(NamedTuple):
    entered: Values
    left: Values
    gradients: Values | None = None  # of what left, where the backward pass is half done


class StagePasses:
    """The passes of one stage over the micro-batches of one step.

    Args:
        stage: the stage, where its parameters are wanted.
        batches: the micro-batches, there too: features are read by the first stage alone, labels
            by the last.
        computation: what is computed.

    Attributes:
        losses: of the last stage, the sum of losses of every micro-batch so far, detached.
    """

    def __init__(self, stage: Stage, batches: Sequence[Batch], computation: Computation) -> None:
        self.stage = stage
        self.losses: dict[int, Tensor] = {}
        self._batches = batches
        self._computation = computation
        self._kept: dict[int, _Kept] = {}
        opaque = opaque_of(stage.phases)
        self._drawing: AbstractContextManager[object] = (
            _generator if opaque or computation.redraws else contextlib.nullcontext()
        )

    def run(self, action: Action, given: Values | None) -> Values:
        """Compute one action of this stage.

        Args:
            action: what.
            given: what the action before it gives, see `Schedule.source_of`; or None.

        Returns:
            What the next stage receives of a forward, the one before of gradients; of those of
            weights nothing.
        """
        match action.kind:
            case "forward":
                return self.forward(action.micro_batch, given)
            case "backward":
                return self.backward(action.micro_batch, given)
            case "input_grad":
                return self.input_grad(action.micro_batch, given)
            case "weight_grad":
                self.weight_grad(action.micro_batch)
                return {}

    def forward(self, micro_batch: int, received: Values | None) -> Values:
        """Run the stage.

        Args:
            micro_batch: its number.
            received: what the stage before sends; None for the first stage, which reads the
                batch's features.

        Returns:
            What the next stage receives, `[num_nodes, width]` each; of the last stage, its output.
        """
        batch = self._batches[micro_batch]
        context = self._computation.context(batch)
        entered: dict[str, Tensor | CSR] = {}
        if received is None:
            assert batch.x is not None
            entered["x"] = batch.x
        else:
            for name, value in received.items():
                needing = name in self.stage.returns_gradients_for
                entered[name] = value.detach().requires_grad_(needing)
        with self._drawing, self._computation.autocast():
            left = self.stage(dict(entered), context)
        roots = left
        if self.stage.last:
            out = left["x"]
            wide = out.to(torch.promote_types(out.dtype, torch.float32))
            loss = self._computation.loss(wide, batch)
            self.losses[micro_batch] = loss.detach()
            roots = {"loss": self._computation.root(loss)}
        if self._computation.observe is not None:  # of norms in the task, too
            self._computation.observe(self.stage.index, micro_batch)
        self._kept[micro_batch] = _Kept(_needing(entered), _needing(roots))
        return left

    def backward(self, micro_batch: int, gradients: Values | None) -> Values:
        """Add to the parameters' gradients.

        Args:
            micro_batch: its number.
            gradients: of what the next stage received; None for the last stage.

        Returns:
            Gradients of what this stage received, where the one before wants them; contiguous.
        """
        entered, left, _ = self._kept.pop(micro_batch)
        if left:
            with self._drawing:  # activation checkpointing runs opaque modules again
                torch.autograd.backward(list(left.values()), self._seeds(left, gradients))
        return {name: _whole(value.grad, value) for name, value in entered.items()}

    def input_grad(self, micro_batch: int, gradients: Values | None) -> Values:
        """The first half of `backward`: nothing is added to the parameters' gradients.

        What lies between is kept for `weight_grad`, which computes the gradients of the values
        inside the stage once more: waiting devices have the time.
        """
        entered, left, _ = self._kept[micro_batch]
        found: Sequence[Tensor | None] = [None] * len(entered)
        if entered and left:
            with self._drawing:
                found = torch.autograd.grad(
                    list(left.values()),
                    list(entered.values()),
                    self._seeds(left, gradients),
                    retain_graph=True,
                    allow_unused=True,
                )
        self._kept[micro_batch] = _Kept(entered, left, gradients)
        return {
            name: _whole(gradient, value)
            for (name, value), gradient in zip(entered.items(), found, strict=True)
        }

    def weight_grad(self, micro_batch: int) -> None:
        """The second half of `backward`."""
        _, left, gradients = self._kept.pop(micro_batch)
        parameters = [p for p in self.stage.parameters() if p.requires_grad]
        if left and parameters:
            with self._drawing:
                torch.autograd.backward(
                    list(left.values()), self._seeds(left, gradients), inputs=parameters
                )

    def _seeds(self, left: Values, gradients: Values | None) -> list[Tensor | None]:
        """Gradients to start from, in the order of what left the stage."""
        return [None if gradients is None else gradients[name] for name in left]


def _needing(values: Mapping[str, Tensor | CSR]) -> Values:
    """Those that require gradients."""
    return {k: v for k, v in values.items() if isinstance(v, Tensor) and v.requires_grad}


def _whole(gradient: Tensor | None, value: Tensor) -> Tensor:
    """A gradient as it can be sent: zeros of what nothing read, and contiguous.

    `torch.distributed` sends the memory of a tensor that is not contiguous as it lies.
    """
    return torch.zeros_like(value) if gradient is None else gradient.contiguous()


def on_stage(batch: Batch, stage: Stage, device: torch.device) -> Batch:
    """What a stage reads of a batch, on its device: features in the first, labels in the last."""
    if not stage.first:
        batch = replace(batch, x=None, first_hop=None)
    if not stage.last:
        batch = replace(batch, y=None)
    return batch.to(device, non_blocking=True)


class Recorder:
    """Notes what a device ran when, where that is wanted: a GPU is waited for after each action."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.events: list[Event] = []

    @contextlib.contextmanager
    def __call__(self, action: Action, row: int, device: torch.device) -> Iterator[None]:
        """Note an action of a row of the schedule."""
        if not self.wanted:
            yield
            return
        start = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.events.append(Event(row, *action, start, time.perf_counter()))


def put(stage: Stage, device: torch.device) -> None:
    """Move a stage, where it is not there yet: looking is cheaper than `Module.to`."""
    if any(value.device != device for value in (*stage.parameters(), *stage.buffers())):
        stage.to(device)
