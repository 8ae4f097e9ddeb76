"""The progress bar of a run: loss, validation metric, nodes per second, time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType


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
