"""What the seeds of a benchmark found: their figures, mean and deviation, and learning curves."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from gnnscale.storage.pictures import CURVES, curves

SETS = ("train", "val", "test")


class Spread(NamedTuple):
    """A figure over seeds.

    Attributes:
        mean: arithmetic mean.
        sd: sample standard deviation (divisor n - 1, as `torch.std` in OGB's examples has it); None
            for a single value.
        values: how many.
    """

    mean: float
    sd: float | None
    values: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """The spread of some values; None where there are none."""
        known = list(values)
        if not known:
            return None
        sd = statistics.stdev(known) if len(known) > 1 else None
        return cls(statistics.fmean(known), sd, len(known))


@dataclass(frozen=True)
class SeedResult:
    """The run of one seed.

    Attributes:
        seed: of weights, draws and dropout.
        final: the headline metric by set of nodes ("train", "val", "test") of the weights that are
            best on validation.
        official: the same by the benchmark's own evaluator, where there is one.
        best_epoch: their epoch.
        epochs: epochs trained.
        seconds: wall time by phase; see `Report`.
        peak_memory: bytes, the peak of summed PSS over the process and its children in this run's
            last call; None where it is not known.
        curve: the epochs evaluated: epoch, loss, and the metric by set.
    """

    seed: int
    final: dict[str, float]
    official: dict[str, float]
    best_epoch: int | None
    epochs: int
    seconds: dict[str, float]
    peak_memory: int | None = None
    curve: list[dict[str, float]] = field(default_factory=list)

    def figure(self, where: str) -> float | None:
        """What counts: the official figure where there is one, else our own."""
        return self.official.get(where, self.final.get(where))


def draw_curves(
    runs: list[SeedResult], title: str, metric: str, file: IO[bytes], kind: str
) -> None:
    """Draw loss and headline metric over epochs: the mean, and a band of one deviation.

    Args:
        runs: one a seed.
        title: of the picture.
        metric: the headline metric.
        file: what is written to.
        kind: "png" or "svg".
    """
    title = f"{title}, {len(runs)} seed{'s' * (len(runs) != 1)}"
    with curves(file, title, metric, kind) as (left, right):
        for axes, names in ((left, ("loss",)), (right, SETS)):
            for name in names:
                epochs, means, lows, highs = _band(runs, name)
                if epochs:
                    axes.plot(epochs, means, color=CURVES[name], label=name, lw=1.2)
                    axes.fill_between(epochs, lows, highs, color=CURVES[name], alpha=0.2, lw=0)


def _band(
    runs: list[SeedResult], name: str
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Mean, and mean ∓ deviation, over the seeds that reached an epoch."""
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        for row in run.curve:
            if name in row:
                by_epoch.setdefault(int(row["epoch"]), []).append(row[name])
    epochs = sorted(by_epoch)
    means, lows, highs = [], [], []
    for epoch in epochs:
        spread = Spread.of(by_epoch[epoch])
        assert spread is not None
        wide = spread.sd or 0.0
        means.append(spread.mean)
        lows.append(spread.mean - wide)
        highs.append(spread.mean + wide)
    return epochs, means, lows, highs
