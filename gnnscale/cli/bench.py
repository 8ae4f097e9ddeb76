"""`gnnscale bench`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from gnnscale.cli import options as o
from gnnscale.cli.console import err, line, out, plain
from gnnscale.cli.reading import opened_as, with_reading_options
from gnnscale.errors import InputError
from gnnscale.train.options import FREE_ON_RESUME

if TYPE_CHECKING:
    from torch import Tensor

    from gnnscale.benchmarking import BenchReport, SeedResult
    from gnnscale.benchmarking.seeds import Evaluator
    from gnnscale.cli.settings import Settings
    from gnnscale.data import Card
    from gnnscale.data.recipes import Recipe

_PANEL = "Benchmark"


@with_reading_options()
@o.with_training_options("seed", "keep")  # a benchmark has the one its own way, and fixes the other
def bench(
    files: Annotated[list[str], o.name_or_files()],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Published settings of the data set's card; none for its preset.",
            show_default="the card's first that fits --trainer and --model",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    trainer: Annotated[
        o.Trainer | None,
        typer.Option(help="How to train.", show_default="cluster", rich_help_panel=_PANEL),
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(help="How many seeds.", show_default="the recipe's", rich_help_panel=_PANEL),
    ] = None,
    seed: Annotated[int, typer.Option(help="The first of them.", rich_help_panel=_PANEL)] = 0,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where runs and results go; else a folder in runs/.",
            show_default="runs/bench-NAME-RECIPE",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    download: o.Download = False,
    verbose: o.Verbose = False,
    **given: Any,
) -> None:
    """Train with several seeds and report as leaderboards ask, beside the published row.

    The seeds share a partition and differ in initial weights, draws and dropout. Figures are of the
    epoch best on validation; of OGB's data sets, by the official Evaluator. Results are written as
    JSON, a Markdown table and learning curves. A benchmark that was interrupted goes on, within a
    run, when the same command is given again; --runs may grow or shrink.

    [bold]Examples[/bold]

    gnnscale bench ogbn-products --trainer cluster --runs 10 --download

    gnnscale bench ogbn-arxiv --recipe full-batch-gcn

    gnnscale bench wordnet --runs 5 --model gcn --epochs 20
    """
    folder = to
    try:
        from gnnscale.cli.settings import settings
        from gnnscale.cli.sources import card_of, short_name

        dataset = opened_as(None, files, given)
        card = card_of(dataset)
        chosen_recipe = choose_recipe(card, recipe, trainer, given["model"])
        if chosen_recipe is not None:
            kind, label = chosen_recipe.trainer, chosen_recipe.name
            chosen = settings(given, card, chosen_recipe, kind)
        else:
            kind = trainer or "cluster"
            chosen = settings(given, card, trainer=kind)
            label = chosen.kind if kind == "cluster" else f"{chosen.kind}-{kind}"
        folder = folder or Path("runs") / f"bench-{short_name(dataset)}-{label}"
        _bench(dataset, chosen_recipe, chosen, kind, runs, seed, folder, download)
    except KeyboardInterrupt:
        done = 0 if folder is None else len(list(folder.glob("seed-*/model.safetensors")))
        line(
            f"interrupted; {done} run{'s are' if done != 1 else ' is'} complete in {folder}: give "
            "the same command again to go on",
            console=err,
        )
        raise typer.Exit(130) from None


def choose_recipe(
    card: Card | None, name: str | None, trainer: str | None, model: str | None
) -> Recipe | None:
    """The recipe asked for by name, else the first that fits; None for the card's preset.

    Without a trainer's name, one of clusters is taken.

    Raises:
        InputError: there is none of that name, or it is of another trainer.
    """
    recipes = {} if card is None else card.recipes
    if name == "none":
        return None
    if name is not None:
        if name not in recipes:
            there = ", ".join(recipes) or "none"
            raise InputError(f"--recipe {name}: the data set's card has {there}")
        if trainer not in (None, recipes[name].trainer):
            raise InputError(
                f"--recipe {name} is of --trainer {recipes[name].trainer}, not of {trainer}; "
                "--recipe none takes the card's preset"
            )
        return recipes[name]
    wanted = trainer or "cluster"
    for recipe in recipes.values():
        if wanted == recipe.trainer and model in (None, recipe.settings.get("model")):
            return recipe
    return None


def _bench(
    dataset: str,
    recipe: Recipe | None,
    chosen: Settings,
    trainer: str,
    runs: int | None,
    seed: int,
    folder: Path,
    download: bool,
) -> None:
    from gnnscale.benchmarking import bench as run_bench
    from gnnscale.cli.settings import build_model, trainer_arguments
    from gnnscale.cli.sources import open_to_train
    from gnnscale.storage.files import check_writable

    check_writable(folder / "results.json", f"--out {folder}")
    data, graph = open_to_train(
        dataset, download, chosen.trainer, chosen.trainer.get("task", "auto")
    )
    if recipe is not None:
        line(f"recipe {recipe.name}: {recipe.title}")
    differences = [] if recipe is None else unlike(recipe, chosen)
    if runs is None:
        runs = 10 if recipe is None else recipe.runs
    metric = chosen.trainer.get("metric") or graph.metric
    make, arguments = functools.partial(build_model, chosen, graph), chosen.trainer
    if trainer == "layerwise":
        arguments = trainer_arguments({**arguments, "seed": seed}, data, make, folder, anew=False)
        del arguments["seed"]
    report = run_bench(
        data,
        make,
        folder,
        runs=runs,
        seed=seed,
        trainer=str(trainer),
        official=official_evaluator(dataset, metric),
        published=None if recipe is None else recipe.published,
        unlike=differences,
        after_run=lambda result: _tell_run(result, metric or ""),
        **arguments,
    )
    _tell(report, folder, seed)


def unlike(recipe: Recipe, chosen: Settings) -> list[str]:
    """What is set otherwise than the recipe has it, in words."""
    from gnnscale.cli.settings import MODEL_DEFAULTS

    now = {"model": chosen.kind, **chosen.model, **chosen.trainer}
    asked = {**MODEL_DEFAULTS, **recipe.settings, **recipe.settings.get("model_kwargs", {})}
    return [
        f"{name} {value}, not {asked.get(name, 'the default')}"
        for name, value in now.items()
        if asked.get(name) != value and name not in FREE_ON_RESUME
    ]


def official_evaluator(dataset: str, metric: str | None) -> Evaluator | None:
    """OGB's own evaluator, for a data set of OGB's and the metric of its leaderboard."""
    from gnnscale.cli.sources import base_name
    from gnnscale.data.ogb import find_entry, is_ogb
    from gnnscale.data.ogb.catalogue import METRICS
    from gnnscale.data.ogb.evaluator import official_metric

    name = base_name(dataset)
    if not is_ogb(name):
        return None
    entry = find_entry(name)
    if entry.files_of != name or metric != METRICS[entry.metric]:
        return None

    def evaluate(out: Tensor, y: Tensor) -> float:
        (value,) = official_metric(name, y, out).values()
        return value

    return evaluate


def _tell_run(result: SeedResult, metric: str) -> None:
    figures = ", ".join(
        f"{name} {result.figure(where):.4f}"
        for where, name in (("val", "validation"), ("test", "test"))
        if result.figure(where) is not None
    )
    what = f"seed {result.seed}:" if not metric else f"seed {result.seed}: {metric}"
    line(
        f"{what} {figures} (epoch {result.best_epoch} of {result.epochs}, "
        f"{result.seconds.get('total', 0.0):.1f} s)"
    )


def _tell(report: BenchReport, folder: Path, seed: int) -> None:
    from gnnscale.benchmarking.report import comparison_columns, comparison_rows, remarks

    line(report.text())
    table = Table(*(Column(plain(name)) for name in comparison_columns(report)))
    rows = comparison_rows(report)
    for row in rows:
        table.add_row(*map(plain, row), style="bold" if row is rows[-1] else "")
    out.print(table)
    for remark in remarks(report):
        line(remark)
    reported = {run.seed for run in report.runs}
    others = [p.name for p in folder.glob("seed-*") if p.name[5:].isdigit()]
    if more := sum(int(name[5:]) not in reported for name in others):
        line(f"{more} more run{'s' * (more != 1)} in {folder}: not asked for, not in the figures")
    line(f"Results, curves and runs: {folder}")
