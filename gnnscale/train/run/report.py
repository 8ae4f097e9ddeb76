"""Report: what a run did, epoch by epoch, and what it cost."""

from __future__ import annotations

import logging
import math
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from gnnscale.errors import StoreError
from gnnscale.storage.files import atomic_write, json_checksum, read_json, write_json
from gnnscale.storage.formats import Format
from gnnscale.train.run.records import Description, Row

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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
