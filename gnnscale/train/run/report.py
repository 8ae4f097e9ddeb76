"""Report: what a run did, epoch by epoch; Progress: how far an epoch of it has come."""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from typing_extensions import override

from gnnscale import comm
from gnnscale.errors import StoreError
from gnnscale.storage.files import atomic_write, json_checksum, read_json, write_json
from gnnscale.storage.formats import Format
from gnnscale.train.run.records import Description, Row, State


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


logger = logging.getLogger(__name__)

FORMAT = Format("gnnscale-report", 1, "report", "the trainer's fit(resume=False)")


@dataclass
class Report:
    """The record of a training run.

    Attributes:
        rows: one dict an epoch: epoch, loss, lr, seconds, nodes_per_second, and where it was
            evaluated the metrics, as "train_accuracy", "val_accuracy", ….
        layers: of a run layer by layer, one dict a layer: layer, epochs, loss, seconds of training
            and aggregate_seconds before it, the best validation metric and why it stopped.
        headline: the metric that "best" goes by.
        best_epoch: the epoch of the best validation metric, whose weights keep="best" keeps; None
            before the first evaluation.
        final: metrics of the kept weights by set of nodes: `{"test": {"accuracy": …}}`.
        seconds: wall time by phase, over all calls of `fit`: partition, train, evaluate, total.
        memory: bytes, of the last call: what `memory_use` says with the peaks of summed PSS over
            the process and its children, and "arrays", those of the graphs it held (as given,
            as clustered, the first hop) that were in memory rather than in a file, by name.
        stopped: why training ended: "epochs", "early stopping", "callback", "layers"; None while it
            runs.
        predicted: what was, before its first step by the machine's profile, or "by" its "first
            steps": seconds of an "epoch" and of an exact "evaluation", bytes of "memory" that it
            adds to the process, at which "moment" that is, and its "parts".
        measured: the same, as it was: the median of epochs after the first, the evaluation at the
            end, and the most that a call of `fit` has added to anonymous memory, by what it
            imports too.
        notes: what is to be known of it, in sentences: why there are no metrics, for one.
        run: what was run: model, graph, configuration, versions, threads, device.
    """

    rows: list[Row] = field(default_factory=list)
    headline: str = "accuracy"
    best_epoch: int | None = None
    final: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    stopped: str | None = None
    run: Description = field(default_factory=dict)
    layers: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    predicted: Description = field(default_factory=dict)
    measured: Description = field(default_factory=dict)

    @override
    def __repr__(self) -> str:
        said = [f"{len(self.rows)} epochs"]
        if self.layers:
            said.append(f"{len(self.layers)} layers")
        said += [f"stopped: {self.stopped}"] if self.stopped else ["unfinished"]
        if self.best is not None:
            said.append(f"best val {self.headline} {self.best:.4f} in epoch {self.best_epoch}")
        if (test := self.final.get("test", {}).get(self.headline)) is not None:
            said.append(f"test {self.headline} {test:.4f}")
        if "total" in self.seconds:
            said.append(f"{self.seconds['total']:.3g} s")
        title = self.run.get("title")
        return f"Report({f'{title}: ' if title else ''}{', '.join(said)})"

    @property
    def best(self) -> float | None:
        """The headline metric of the best epoch on the validation nodes."""
        for row in self.rows:
            if row["epoch"] == self.best_epoch:
                return row.get(f"val_{self.headline}")
        return None

    def table(self) -> str:
        """The epochs that were evaluated, or the layers, and the final metrics, as text."""
        from gnnscale.train.run.report_shown import report_text

        return report_text(self)

    def plot(self, path: str | Path) -> Path:
        """Draw the learning curves to a PNG.

        Raises:
            MissingDependency: matplotlib is not installed.
            StoreError: the file cannot be written.
        """
        from gnnscale.train.run.report_shown import draw_curves

        path = Path(path)
        with atomic_write(path) as file:
            draw_curves(self, file)
        return path

    def save(self, path: str | Path) -> None:
        """Write as JSON; figures that are NaN or infinite become null."""
        content = {**FORMAT.stamp, **_finite(asdict(self))}
        write_json(path, {**content, "checksum": json_checksum(content)})

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing, damaged or is no report.
        """
        content = read_json(path)
        checksum = content.pop("checksum", None) if isinstance(content, dict) else None
        if checksum not in (None, json_checksum(content)):  # one written by hand has none
            raise StoreError(f"{path} is damaged: its checksum differs")
        try:
            return cls(**FORMAT.unstamped(content, path))
        except TypeError as error:
            raise StoreError(f"{path} is no report: {error}") from error


def environment(device: str) -> Description:
    """Versions, threads and machine: what bit-identical results depend on."""
    import numba
    import numpy
    import torch
    import torch_geometric

    gpu = {"gpu": _gpu(torch.device(device))} if device.startswith("cuda") else {}
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torch_geometric": torch_geometric.__version__,
        "numpy": numpy.__version__,
        "numba": numba.__version__,
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": device,
        **gpu,
    }


def warn_of_another_environment(saved: Description, now: Description) -> None:
    """Warn where a run goes on elsewhere than it was begun."""
    different = [f"{k} {saved[k]} → {now.get(k)}" for k in saved if saved[k] != now.get(k)]
    if different:
        logger.warning(
            "the run was begun elsewhere (%s): it goes on, but not bit for bit",
            ", ".join(different),
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((ln.split(":", 1)[1].strip() for ln in lines if ln.startswith("model name")), "")


def _gpu(device: Any) -> str:
    import torch

    about = torch.cuda.get_device_properties(device)
    return f"{about.name} ({round(about.total_memory / 2**30)}GB GPU)"


def _finite(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
