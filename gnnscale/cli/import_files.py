"""`gnnscale import`: files as they are to a graph on disk."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from gnnscale.cli import console
from gnnscale.cli import options as o
from gnnscale.cli.console import err, line
from gnnscale.cli.reading import are_tables, dataset_of, taken, with_reading_options
from gnnscale.cli.sources import perhaps_labels


@with_reading_options()
def import_files(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="EDGES|PATH [NODES]",
            help="A table of edges, and one of nodes; or any file or folder of gnnscale formats.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", help="Where the graph goes.", show_default=False),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="60/20/20|COLUMN|FILE",
            help="Training, validation and test nodes: shares of a random split, a column, or its "
            "values as fold:train=0+1,val=2,test=3, a file, or by time, as time:60/20/20 or "
            "time:2018/2019.",
            show_default="what the files say",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of a random split.")] = 0,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="classification, multilabel or regression.",
            show_default="what labels say",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="The headline.", show_default="the task's")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call it in reports.", show_default="the folder's")
    ] = None,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="What sorting edges and ids may take.")
    ] = "512MB",
    verbose: o.Verbose = False,
    **given: Any,
) -> None:
    """Read files once into a graph on disk, which opens at once and is read in a stream.

    What each column was read as is told in a line; where one may be two things, the error says both
    and the option for each. Ids live on: predictions are keyed by them.

    [bold]Examples[/bold]

    gnnscale import edges.parquet nodes.csv --labels team --split 60/20/20 --out graphs/people

    gnnscale import ratings.csv --source user --target item --weight stars --drop date --out g

    gnnscale import graph.graphml --out g [dim]# see gnnscale formats[/dim]

    gnnscale train --dataset ./g
    """
    from gnnscale.data import load
    from gnnscale.graph import checked_graph_path, store_graph

    checked_graph_path(to)
    name = name or to.resolve().name
    options: dict[str, Any] = {"split": split, "task": task, "metric": metric}
    if split is not None and "/" in split:
        options["seed"] = seed
    tables = are_tables(None, files)
    if tables:
        options |= {"memory": memory, "path": str(to)}
    said = taken(given) | ({"name": name} if tables else {})
    dataset = dataset_of(None, files, said)
    with err.status(f"reading {' and '.join(files)}"):
        graph = load(dataset, **{k: v for k, v in options.items() if v is not None})
        if not tables:
            graph = dataclasses.replace(graph, name=name, source=None)
            graph = store_graph(graph, to)
    for column in () if graph.schema is None else graph.schema.columns:
        line(console.said(column))
    line(graph)
    path = str(to) if len(to.parts) > 1 else f"./{to}"
    if graph.y is None:
        hint = perhaps_labels(graph)
        line(f"No labels to train on: --labels COLUMN names them{hint}")
    elif not any(bool(split.train.any()) for split in graph.splits.values()):
        line("No training nodes: --split 60/20/20 draws them")
    else:
        line(f"Next: gnnscale train --dataset {shlex.quote(path)}")
