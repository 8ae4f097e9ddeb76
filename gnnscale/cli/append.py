"""`gnnscale append`: new nodes and edges for a graph in clusters."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gnnscale.cli import options as o
from gnnscale.cli.console import err, line
from gnnscale.cli.reading import taken, with_reading_options
from gnnscale.errors import InputError


@with_reading_options("feature_recipe", "coalesce", "absent", "num_nodes")
def append(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE",
            help="A graph in clusters, as gnnscale partition --out stores it.",
            show_default=False,
        ),
    ],
    edges: Annotated[
        str,
        typer.Argument(
            metavar="EDGES",
            help="New edges, between old and new nodes, as import takes them.",
            show_default=False,
        ),
    ],
    nodes: Annotated[
        str | None,
        typer.Argument(
            metavar="[NODES]",
            help="The new nodes: a table with the columns that the old ones had, or an array "
            "(.npy, a sparse .npz of SciPy) where theirs was one. Labels may be missing.",
            show_default=False,
        ),
    ] = None,
    joins: Annotated[
        Literal["train", "val", "test", "none"],
        typer.Option(help="The part of the split that new nodes with a label join."),
    ] = "train",
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Write it there.", show_default="STORE itself"
        ),
    ] = None,
    edge_attr: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npy",
            help="Attributes of the new edges, a row each, where the old ones have them.",
            show_default=False,
        ),
    ] = None,
    edge_type: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npy", help="Likewise types of edges.", show_default=False),
    ] = None,
    node_type: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npy", help="Likewise types of nodes.", show_default=False),
    ] = None,
    parallel: Annotated[
        bool,
        typer.Option(
            "--parallel",
            help="Add edges that are all there already beside those. Without it, that is taken for "
            "a second run of the same command, and refused.",
        ),
    ] = False,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="What reading the tables may take.")
    ] = "512MB",
    verbose: o.Verbose = False,
    **given: Any,
) -> None:
    """Add nodes and edges to a graph in clusters, without a new partition.

    New nodes join the cluster of most of their neighbours; columns become features by the recipe
    of the old ones. How many edges the clusters cut now is told, and where a new partition pays.
    The store is replaced when the new one is whole: an interrupt leaves it as it was.

    [bold]Examples[/bold]

    gnnscale partition -d ./people --num-parts 16 --out stores/people

    gnnscale append stores/people new-edges.parquet new-people.csv

    gnnscale append stores/people june.parquet june.csv --joins none --out stores/june
    """
    from gnnscale.data.appending import Growth
    from gnnscale.data.appending import append as append_to
    from gnnscale.data.formats.edge_lists.arguments import as_arguments
    from gnnscale.data.options import plain
    from gnnscale.graph import is_stored_graph

    if is_stored_graph(store):
        raise InputError(
            f"{store} is a graph without clusters: gnnscale partition --dataset "
            f"{shlex.quote(_path(store))} --num-parts N --out FOLDER stores it in clusters, which "
            "grow"
        )
    said = taken(given)
    told = as_arguments({k: plain(v) if isinstance(v, str) else v for k, v in said.items()})
    growths: list[Growth] = []
    try:
        with err.status(f"adding to {store}"):
            grown = append_to(
                store,
                edges,
                nodes,
                path=to,
                joins=None if joins == "none" else joins,
                edge_attr=edge_attr,
                edge_type=edge_type,
                node_type=node_type,
                parallel=parallel,
                memory=memory,
                after=growths.append,
                **told,
            )
    except KeyboardInterrupt:
        line(f"interrupted: {store} is as it was", console=err)
        raise typer.Exit(130) from None
    for growth in growths:
        for words in growth.words():
            line(words)
    line(grown)
    path = shlex.quote(_path(store if to is None else to))
    for growth in growths:
        if growth.hint is not None:
            again = f"gnnscale partition --dataset {path} --num-parts {grown.num_parts}"
            line(f"{growth.hint}: {again} --out FOLDER")
    line(f"Next: gnnscale predict RUN --dataset {path} --out predictions.csv")


def _path(folder: Path) -> str:
    """As --dataset takes it, which reads a bare name as that of a data set."""
    return str(folder) if len(folder.parts) > 1 else f"./{folder}"
