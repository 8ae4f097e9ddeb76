"""How far an epoch has come: what it adds up, and the bar that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

import torch
import torch.distributed as dist
from torch import Tensor

from gnnscale import comm
from gnnscale.train.run.records import State


class Meter:
    """The sums of an unfinished epoch. The loss stays on the device until somebody reads it.

    Attributes:
        weight: the sum of normalisers.
        seconds: the time it took so far.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self._loss = torch.zeros((), dtype=torch.float64, device=self._device)
        self.weight = 0.0
        self._nodes = 0
        self.seconds = 0.0

    def add(self, loss: Tensor, weight: float, nodes: int) -> None:
        """Count a batch: the sum of its losses, what that is divided by, and its nodes."""
        self._loss += loss.detach()  # added in float64
        self.weight += weight
        self._nodes += nodes

    def over_ranks(self, group: dist.ProcessGroup | None = None) -> None:
        """Take the sums of all ranks, at the end of an epoch; waits for the device."""
        if comm.world_size(group) == 1:
            return
        loss, self.weight, nodes = comm.sum_numbers(
            float(self._loss), self.weight, self._nodes, group=group
        )
        self._loss.fill_(loss)
        self._nodes = int(nodes)

    def mean_loss(self) -> float:
        """The mean loss so far; waits for the device."""
        return float(self._loss) / self.weight if self.weight else 0.0

    @property
    def nodes_per_second(self) -> float:
        """Nodes of batches by the seconds so far."""
        return self._nodes / max(self.seconds, 1e-9)

    def state_dict(self) -> State:
        """The sums."""
        return {
            "loss": self._loss,
            "weight": self.weight,
            "nodes": self._nodes,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from the sums of an interrupted epoch."""
        self._loss = state["loss"].to(self._device)
        self.weight, self._nodes = state["weight"], state["nodes"]
        self.seconds = state["seconds"]


class Progress:
    """A rich progress bar on a terminal, nothing elsewhere.

    Args:
        total: steps of the run.
        done: steps already taken.
        enabled: False for silence even on a terminal.
    """

    _REFRESH = 0.2  # seconds; reading the loss more often would stop the device for nothing

    def __init__(self, total: int, done: int = 0, enabled: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True)
        self._shown = enabled and console.is_terminal
        self._bar = RichProgress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[validation]}"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._shown,
            transient=True,
        )
        self._task = self._bar.add_task(
            "", total=total, completed=done, epoch="1", loss="-", validation="", speed=""
        )
        self._last = 0.0

    def __enter__(self) -> Progress:
        if self._shown:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:  # stopping a bar that is off writes an empty line in some versions of rich
            self._bar.stop()

    def step(
        self, done: int, epoch: str, loss: Callable[[], float], nodes_per_second: float
    ) -> None:
        """Show where training stands. `loss` is called only when the bar is redrawn."""
        if not self._shown or time.monotonic() - self._last < self._REFRESH:
            return
        self._last = time.monotonic()
        self._bar.update(
            self._task,
            completed=done,
            epoch=epoch,
            loss=f"{loss():.3f}",
            speed=f"{nodes_per_second:,.0f} nodes/s",
        )

    def validation(self, name: str, value: float) -> None:
        """Show the last validation metric."""
        if self._shown:
            self._bar.update(self._task, validation=f"val {name} {value:.4f}")
