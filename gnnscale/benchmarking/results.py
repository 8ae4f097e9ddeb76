"""What a benchmark found: a result a seed, their mean and deviation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gnnscale.data.recipes import Published
from gnnscale.errors import StoreError
from gnnscale.storage.files import atomic_write, json_checksum, read_json, write_json
from gnnscale.storage.formats import Format
from gnnscale.storage.pictures import plot_where_possible

FORMAT = Format(
    "gnnscale-bench",
    1,
    "record of a benchmark",
    "the same gnnscale.bench(…) or `gnnscale bench …` writes it from the runs in its folder",
)
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


@dataclass(frozen=True)
class BenchReport:
    """The record of a benchmark.

    Attributes:
        title: model and data set, in words.
        metric: the headline metric.
        higher_is_better: its direction.
        runs: the results, one a seed.
        parameters: trainable parameters of the model.
        hardware: processor or GPU, with its memory.
        settings: arguments of the trainer that all runs share.
        model: the model's name and arguments; None for one of the user's own.
        environment: versions and threads of the last run.
        published: the published row to compare with.
        unlike: settings that differ from those of the published row, in words.
    """

    title: str
    metric: str
    higher_is_better: bool
    runs: list[SeedResult]
    parameters: int
    hardware: str
    settings: dict[str, Any]
    model: dict[str, Any] | None
    environment: dict[str, Any]
    published: Published | None = None
    unlike: tuple[str, ...] = ()

    def spread(self, where: str) -> Spread | None:
        """The headline metric on a set of nodes, of the weights best on validation."""
        figures = [run.figure(where) for run in self.runs]
        return Spread.of(value for value in figures if value is not None)

    def highest(self, where: str) -> Spread | None:
        """The best value that any epoch reached, by our own metric."""
        best = max if self.higher_is_better else min
        curves = [[row[where] for row in run.curve if where in row] for run in self.runs]
        return Spread.of(best(values) for values in curves if values)

    @property
    def disagreement(self) -> float | None:
        """The largest difference between the official evaluator and our metric; None without it."""
        differences = [
            abs(value - run.final[where])
            for run in self.runs
            for where, value in run.official.items()
        ]
        return max(differences, default=None)

    def text(self) -> str:
        """As OGB's examples print their results."""
        from gnnscale.benchmarking.tables import leaderboard_lines

        return "\n".join(leaderboard_lines(self))

    def markdown(self) -> str:
        """Tables in Markdown: beside the published row, and seed by seed."""
        from gnnscale.benchmarking.tables import markdown

        return markdown(self)

    def plot(self, path: str | Path) -> Path:
        """Draw the learning curves, mean and deviation over seeds, to a .png or .svg.

        Raises:
            MissingDependency: matplotlib is not installed.
            StoreError: the file cannot be written.
        """
        from gnnscale.benchmarking.curves import draw_band

        path = Path(path)
        with atomic_write(path) as file:
            draw_band(self, file, path.suffix.removeprefix("."))
        return path

    def save(self, folder: str | Path) -> None:
        """Write results.json, results.md and curves.png.

        Raises:
            StoreError: a file cannot be written.
        """
        folder = Path(folder)
        content = {**FORMAT.stamp, **asdict(self), "spread": {w: self.spread(w) for w in SETS}}
        write_json(folder / "results.json", {**content, "checksum": json_checksum(content)})
        with atomic_write(folder / "results.md") as file:
            file.write(self.markdown().encode())
        plot_where_possible(self.plot, folder / "curves.png")

    @classmethod
    def load(cls, path: str | Path) -> BenchReport:
        """Read a results.json.

        Raises:
            StoreError: it is missing, damaged or no record of a benchmark.
        """
        content = read_json(path)
        checksum = content.pop("checksum", None) if isinstance(content, dict) else None
        if checksum != json_checksum(content):
            raise StoreError(f"{path} is damaged: its checksum differs")
        content = FORMAT.unstamped(content, path)
        try:
            content.pop("spread")
            runs = [SeedResult(**run) for run in content.pop("runs")]
            published = content.pop("published")
            unlike = tuple(content.pop("unlike"))
            row = None if published is None else Published(**published)
            return cls(**content, runs=runs, published=row, unlike=unlike)
        except (TypeError, KeyError) as error:
            raise StoreError(f"{path} is no record of a benchmark: {error}") from error
