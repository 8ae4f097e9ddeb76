"""`gnnscale partition`: cut a graph into clusters, measure them, keep them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gnnscale.cli import options as o
from gnnscale.cli.console import err, facts, line
from gnnscale.cli.reading import Files, opened_as, with_reading_options
from gnnscale.declared import arguments_of
from gnnscale.errors import InputError
from gnnscale.train.options import ClusterOptions

if TYPE_CHECKING:
    from gnnscale.graph import Graph, Partition

_SAID = {name: one.said.get("option") for name, one in arguments_of(ClusterOptions).items()}


@with_reading_options()
def partition(
    num_parts: Annotated[int, typer.Option(help="Clusters.", show_default=False)],
    files: Files = None,
    dataset: o.Dataset = None,
    method: Annotated[str, typer.Option(metavar="NAME", help=_SAID["method"])] = "auto",
    seed: Annotated[int, typer.Option(help="Repeats the result, see --deterministic.")] = 0,
    balance: Annotated[str, typer.Option(metavar="nodes|edges|N", help=_SAID["balance"])] = "nodes",
    imbalance: Annotated[
        float, typer.Option(help="How far the heaviest part may exceed the mean: 0.03 is 3 %.")
    ] = 0.03,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="One thread for KaMinPar: the seed decides.")
    ] = False,
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="KaMinPar's settings: default, terapart-largek, …")
    ] = "auto",
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="What KaMinPar or METIS may take: 2GB, …",
            show_default="what there is",
        ),
    ] = None,
    view: Annotated[
        Literal["all", "train"],
        typer.Option(help="train: cut the training nodes' subgraph (inductive protocol)."),
    ] = "all",
    split: Annotated[
        str,
        typer.Option(metavar="NAME", help="The split set whose training nodes are meant."),
    ] = "default",
    threads: Annotated[
        int | None, typer.Option(help="Threads of KaMinPar.", show_default="every core")
    ] = None,
    cache: Annotated[bool, typer.Option(help="Take a result known already, and keep this.")] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Store the graph there in clusters, for --dataset FOLDER.",
            show_default=False,
            rich_help_panel="Keeping it",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Save the assignment of nodes to clusters (gnnscale.Partition.load).",
            show_default=False,
            rich_help_panel="Keeping it",
        ),
    ] = None,
    download: o.Download = False,
    verbose: o.Verbose = False,
    **given: Any,
) -> None:
    """Cut a graph into clusters with few edges between them, and report how good they are.

    [bold]Examples[/bold]

    gnnscale partition --dataset wordnet --num-parts 150

    gnnscale partition -d wordnet --num-parts 150 --method streaming --balance edges

    gnnscale partition -d ./my.npz --num-parts 1500 --out stores/my

    gnnscale train -d stores/my [dim]# trains on the clusters stored there[/dim]
    """
    from gnnscale.cli.sources import in_original_order, open_data
    from gnnscale.graph import ClusteredGraph, cluster
    from gnnscale.graph.store.cluster_folder import checked_store_path
    from gnnscale.partitioning import partition as cut
    from gnnscale.storage.files import check_writable

    if save is not None and save.suffix != ".npz":
        raise InputError(f"--save {save}: an assignment is written as an .npz file; name it so")
    if save is not None:
        check_writable(save, f"--save {save}")
    if out is not None:
        checked_store_path(out)
    given["split"] = None if split == "default" else split
    data = open_data(opened_as(dataset, files, given), download)
    split = given.pop("split") or "default"
    line(data.graph if isinstance(data, ClusteredGraph) else data)
    with in_original_order(data, features=out is not None) as graph:
        with err.status(f"cutting it into {num_parts:,} parts"):
            part = cut(
                graph,
                num_parts,
                method,
                seed,
                balance=o.read("balance", balance),
                imbalance=imbalance,
                deterministic=deterministic,
                preset=preset,
                memory=memory,
                view=view,
                split=split,
                threads=threads,
                cache=cache,
            )
        _report(graph, part)
        if save is not None:
            part.save(save)
            line(f"Assignment: {save}")
        if out is not None:
            with err.status(f"storing it at {out}"):
                cluster(graph, part, path=out, split=split)
            line(f"Stored graph: {out}")
            path = out if len(out.parts) > 1 else f"./{out}"
            line(f"Next: gnnscale train --dataset {path}")


def _report(graph: Graph, part: Partition) -> None:
    quality = part.quality(graph)
    train, entropy = quality.train_balance, quality.label_entropy
    facts(
        {
            "method": part.method,
            "time": f"{part.seconds:.1f} s" if part.seconds else "0 s: known already",
            "parts": f"{part.num_parts:,}, of {int(part.sizes.min()):,} to "
            f"{int(part.sizes.max()):,} nodes",
            "edge cut": f"{quality.edge_cut:.4f} of the edges join two parts",
            "node balance": f"{quality.node_balance:.3f} (largest part over the mean)",
            "edge balance": f"{quality.edge_balance:.3f}",
            "training nodes": None if train is None else f"{train:.3f}",
            "empty parts": quality.empty_parts,
            "label entropy": None
            if entropy is None
            else f"{entropy:.3f} bits, mean over the parts",
        }
    )
