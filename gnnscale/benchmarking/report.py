"""The record of a benchmark, and its figures as leaderboards write them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gnnscale.benchmarking.results import SETS, SeedResult, Spread, draw_curves
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
        return "\n".join(_leaderboard_lines(self))

    def markdown(self) -> str:
        """Tables in Markdown: beside the published row, and seed by seed."""
        return _markdown(self)

    def plot(self, path: str | Path) -> Path:
        """Draw the learning curves, mean and deviation over seeds, to a .png or .svg.

        Raises:
            MissingDependency: matplotlib is not installed.
            StoreError: the file cannot be written.
        """
        path = Path(path)
        with atomic_write(path) as file:
            draw_curves(self.runs, self.title, self.metric, file, path.suffix.removeprefix("."))
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


def figure_text(value: float | None, sd: float | None = None, *, share: bool = True) -> str:
    """As "78.97 ± 0.33"; shares of one in percent, errors as they are."""
    if value is None:
        return "-"
    scale, digits = (100, 2) if share else (1, 4)
    text = f"{scale * value:.{digits}f}"
    return text if sd is None else f"{text} ± {scale * sd:.{digits}f}"


def _leaderboard_lines(report: BenchReport) -> list[str]:
    """The summary that OGB's examples end with.

    Final figures are of the epoch that is best on validation, so the highest figure of validation
    is the final one.
    """
    share = report.higher_is_better
    best = "Highest" if share else "Lowest"
    rows = {
        f"{best} Train": report.highest("train"),
        f"{best} Valid": report.spread("val"),
        "Final Train": report.spread("train"),
        "Final Test": report.spread("test"),
    }
    width = max(map(len, rows))
    known = {name: spread for name, spread in rows.items() if spread is not None}
    lines = [
        f"{name:>{width}}: {figure_text(spread.mean, spread.sd, share=share)}"
        for name, spread in known.items()
    ]
    return ["All runs:", *lines]


def comparison_rows(report: BenchReport) -> list[list[str]]:
    """The published row, where there is one, and this benchmark's: method, test, … hardware."""
    share, rows = report.higher_is_better, []
    if (row := report.published) is not None:
        rows.append(
            [
                f"{row.method}, published",
                figure_text(row.test, row.test_sd, share=share),
                figure_text(row.val, row.val_sd, share=share),
                "-" if row.parameters is None else f"{row.parameters:,}",
                row.hardware or "-",
            ]
        )
    test, val = report.spread("test"), report.spread("val")
    rows.append(
        [
            report.title,
            "-" if test is None else figure_text(test.mean, test.sd, share=share),
            "-" if val is None else figure_text(val.mean, val.sd, share=share),
            f"{report.parameters:,}",
            report.hardware,
        ]
    )
    return rows


def comparison_columns(report: BenchReport) -> list[str]:
    """The names of the columns of `comparison_rows`."""
    metric = report.metric.replace("_", " ")
    unit = ", %" if report.higher_is_better else ""
    return ["method", f"test {metric}{unit}", f"validation{unit}", "parameters", "hardware"]


def remarks(report: BenchReport) -> list[str]:
    """What a reader of the comparison has to know: source, differences, who computed the metric."""
    count = len(report.runs)
    seeds = f"Mean and sample standard deviation over {count} seeds" if count > 1 else "One seed"
    lines = [f"{seeds}, each with its weights best on validation."]
    if report.published is not None:
        lines.append(f"Published: {report.published.source}.")
        if report.unlike:
            lines.append(f"Not the published settings: {'; '.join(report.unlike)}.")
    if report.disagreement is not None:
        apart = f"{report.disagreement:.1e}" if report.disagreement else "not at all"
        lines.append(f"Figures by the official evaluator, from which our metric differs {apart}.")
    return lines


def _markdown(report: BenchReport) -> str:
    """The whole record for people."""
    parts = [
        f"# {report.title}",
        _table(comparison_columns(report), comparison_rows(report)),
        "\n".join(f"- {line}" for line in remarks(report)),
        "```\n" + "\n".join(_leaderboard_lines(report)) + "\n```",
        _table(
            ["seed", "test", "validation", "train", "best epoch", "epochs", "seconds"],
            [_seed_row(run, report.higher_is_better) for run in report.runs],
        ),
    ]
    if report.model is not None:
        words = ", ".join(f"{k} {v}" for k, v in report.model["arguments"].items())
        parts.append(f"Model: {report.model['model']}: {words}.")
    parts.append("Trainer: " + ", ".join(f"{k} {v}" for k, v in report.settings.items()) + ".")
    versions = ", ".join(f"{k} {v}" for k, v in report.environment.items())
    parts.append(f"Environment: {versions}.")
    return "\n\n".join(parts) + "\n"


def _seed_row(run: SeedResult, share: bool) -> list[str]:
    return [
        str(run.seed),
        *(figure_text(run.figure(where), share=share) for where in ("test", "val", "train")),
        "-" if run.best_epoch is None else str(run.best_epoch),
        str(run.epochs),
        f"{run.seconds.get('total', 0.0):.1f}",
    ]


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
