"""`gnnscale plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gnnscale.cli import options as o
from gnnscale.cli.console import err, error_line, line, out, plain
from gnnscale.cli.reading import Files, opened_as, with_reading_options
from gnnscale.errors import InputError

# What a trainer is told that changes what is planned, beside the model's options and `memory`.
_TOLD = ("split", "inductive", "optimizer", "task", "seed", "readout")


@with_reading_options()
@o.with_training_options(*o.DECLARED.keys() - {*o.MODEL_OPTIONS, *_TOLD, "memory", "device"})
def plan(
    files: Files = None,
    dataset: o.Dataset = None,
    trainer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Those that may be taken, in order of preference: cluster, layerwise …",
            show_default="all",
        ),
    ] = None,
    ranks: Annotated[
        int | None,
        typer.Option(help="Processes that may train together (torchrun).", show_default="1"),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw seconds against memory into this .png.", show_default=False
        ),
    ] = None,
    timed: Annotated[
        bool,
        typer.Option(
            "--seconds/--no-seconds",
            help="Predict seconds; where the machine is not known, it is measured once.",
        ),
    ] = True,
    download: o.Download = False,
    verbose: o.Verbose = False,
    **given: Any,
) -> None:
    """Say before anything runs what fits, how long it takes, and which way to train.

    Full batch, clusters, layer by layer, pipelines, one rank and several: work, depth, messages,
    memory by part, seconds an epoch; and what is recommended, with the reason.

    [bold]Examples[/bold]

    gnnscale plan --dataset wordnet --memory 2GB

    gnnscale plan -d wordnet --model gcn --hidden-channels 512 --memory 500MB --plot plan.png

    gnnscale plan -d wordnet --trainer layerwise --memory 1GB

    gnnscale plan edges.parquet nodes.csv --labels team --split 60/20/20 --ranks 2
    """
    from gnnscale.cli.settings import build_model, settings
    from gnnscale.cli.sources import card_of, open_data
    from gnnscale.graph import Graph
    from gnnscale.planning import plan as planned
    from gnnscale.storage.files import check_writable

    if plot is not None and plot.suffix.lower() != ".png":  # before minutes are spent
        raise InputError(f"--plot {plot}: the picture is a PNG; name it so")
    if plot is not None:
        check_writable(plot, f"--plot {plot}")
    name = opened_as(dataset, files, given)
    every = dict.fromkeys(o.DECLARED) | given  # a preset sets others, which are the trainer's
    trainers = None if trainer is None else trainer.split(",")
    chosen = settings(every, card_of(name))
    told = {key: value for key, value in chosen.trainer.items() if key in (*_TOLD, "memory")}
    data = open_data(name, download, told.get("task", "auto"))
    model = build_model(chosen, data if isinstance(data, Graph) else data.graph)
    with err.status("planning"):
        found = planned(
            data,
            model,
            trainers=trainers,
            ranks=ranks,
            devices=chosen.trainer.get("device", "auto"),
            machine="auto" if timed else None,
            **told,
        )
        text = found.table()
    out.print(plain(text), soft_wrap=True)
    if plot is not None:
        found.plot(plot)
        line(f"Picture: {plot}")
    if found.best is None:
        error_line(found.why)
        raise typer.Exit(2)
