"""Options that several commands share, and the choices there are."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import typer

from gnnscale.cli.console import show_log
from gnnscale.declared import arguments_of
from gnnscale.train.options import ClusterOptions

Trainer = Literal["cluster", "layerwise", "graph", "pipeline"]


class View(StrEnum):
    """The nodes whose subgraph is cut."""

    all = "all"
    train = "train"


class Where(StrEnum):
    """Sets of nodes to evaluate on."""

    test = "test"
    val = "val"
    train = "train"
    all = "all"


def _show_log(verbose: bool) -> None:
    if verbose:
        show_log(verbose=True)


DATASET_HELP = (
    "A name (see gnnscale datasets), a path (.npz, folder of arrays, stored graph) or "
    "synthetic:planted?nodes=10000."
)
BALANCE = arguments_of(ClusterOptions)["balance"].said["option"]
METHODS = arguments_of(ClusterOptions)["method"].said["option"]

Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", callback=_show_log, help="Tell on stderr what is being done."),
]
Dataset = Annotated[
    str, typer.Option("--dataset", "-d", metavar="NAME|PATH", help=DATASET_HELP, show_default=False)
]
Download = Annotated[
    bool,
    typer.Option(
        "--download", help="Fetch the data where they are not on this machine (OGB's, PyG's)."
    ),
]
GraphOfRun = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        metavar="NAME|PATH",
        help="The graph, where it is no longer where the run found it.",
        show_default="the run's",
    ),
]
DeviceOfRun = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 …", show_default="the run's"),
]


def read_balance(text: str) -> str | float:
    """What a partitioner evens out: a word, or how many edges cost as much as a node."""
    try:
        return float(text)
    except ValueError:
        return text  # partitioning says which words there are
