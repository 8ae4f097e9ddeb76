"""The figures of a benchmark as leaderboards write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gnnscale.benchmarking.results import BenchReport, SeedResult


def figure_text(value: float | None, sd: float | None = None, *, share: bool = True) -> str:
    """As "78.97 ± 0.33"; shares of one in percent, errors as they are."""
    if value is None:
        return "-"
    scale, digits = (100, 2) if share else (1, 4)
    text = f"{scale * value:.{digits}f}"
    return text if sd is None else f"{text} ± {scale * sd:.{digits}f}"


def leaderboard_lines(report: BenchReport) -> list[str]:
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


def markdown(report: BenchReport) -> str:
    """The whole record for people."""
    parts = [
        f"# {report.title}",
        _table(comparison_columns(report), comparison_rows(report)),
        "\n".join(f"- {line}" for line in remarks(report)),
        "```\n" + "\n".join(leaderboard_lines(report)) + "\n```",
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
