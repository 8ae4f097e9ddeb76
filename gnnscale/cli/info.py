"""`gnnscale info`: what a data set, a stored graph or a run is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gnnscale.cli.console import err, facts, line, out, plain, size
from gnnscale.cli.options import DATASET_HELP, Download, Verbose

if TYPE_CHECKING:
    from gnnscale.data import Card
    from gnnscale.graph import ClusteredGraph


def info(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|PATH", help=f"{DATASET_HELP} Or the folder of a run.", show_default=False
        ),
    ],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read everything: checksums of what is stored, all checks."),
    ] = False,
    download: Download = False,
    verbose: Verbose = False,
) -> None:
    """Show what a data set, a stored graph or a run is: its card, and figures measured on it.

    [bold]Examples[/bold]

    gnnscale info wordnet

    gnnscale info 'synthetic:planted?nodes=20000&homophily=0.6'

    gnnscale info stores/my --verify [dim]# reads every byte and compares checksums[/dim]

    gnnscale info runs/wordnet-sage
    """
    from gnnscale.cli.sources import card_of, is_path, open_data
    from gnnscale.graph import ClusteredGraph

    card = card_of(name)
    if card is None and (Path(name) / "run.json").is_file():
        _show_run(Path(name), verify)
        return
    if card is not None:
        _show_card(card)
    data = open_data(name, download)
    if isinstance(data, ClusteredGraph):
        _show_store(data, verify)
        return
    from gnnscale.cli.statistics import measure
    from gnnscale.graph import is_stored_graph, verify_stored_graph

    stored = is_path(name) and is_stored_graph(path := Path(os.path.expanduser(name)))
    if stored and verify:  # first: figures of a damaged file would mislead
        with err.status("reading every byte"):
            verify_stored_graph(path)
        line("every checksum agrees")
    with err.status("measuring"):
        figures = measure(data)
    facts(figures, title=f"{data.name}, measured")
    if verify:
        data.check()
        line("all checks of the arrays passed")


def _show_card(card: Card) -> None:
    facts(
        {
            "task": f"{card.task} of {card.y_level}s",
            "metric": card.metric,
            "split": card.split,
            "preprocessing": ", ".join(card.preprocessing) or None,
            "licence": card.licence,
            "source": card.source,
            "cite": card.citation or None,
            "download": card.download or None,
            "leaderboard": "results may be compared with it" if card.leaderboard else None,
            "preset": ", ".join(f"{k} {v}" for k, v in card.preset.items()) or None,
            "recipes": "; ".join(f"{r.name}: {r.title}" for r in card.recipes.values()) or None,
            "card": card.path,
        },
        title=f"{card.name}: {card.title}",
    )
    if card.notes:
        line(card.notes.strip())
    if card.added:
        table = Table("added to the raw data", "the leaderboard's code")
        for added in card.added:
            table.add_row(plain(added.what), "adds it too" if added.official else "does not")
        out.print(table)
    if card.results:
        table = Table("known results", "metric", "value", "source")
        for known in card.results:
            figure = f"{known.value:.3f}"
            table.add_row(*map(plain, (known.method, known.metric, figure, known.source)))
        out.print(table)


def _show_store(clustered: ClusteredGraph, verify: bool) -> None:
    from gnnscale.cli.statistics import measure
    from gnnscale.graph import verify_store

    assert clustered.path is not None
    if verify:  # first: figures of a damaged file would mislead
        with err.status("reading every byte"):
            verify_store(clustered.path)
    with err.status("measuring"):
        figures = measure(clustered.graph)
    sizes = clustered.offsets.diff()
    train = clustered.train_counts
    facts(
        {
            "clusters": f"{clustered.num_parts:,} by {clustered.method}, seed {clustered.seed}",
            "cluster sizes": f"{int(sizes.min()):,} to {int(sizes.max()):,} nodes, of them "
            f"{int(train.min()):,} to {int(train.max()):,} for training (split {clustered.split})",
            "made from": clustered.graph.source,
            **figures,
            "on disk": size(sum(f.stat().st_size for f in clustered.path.iterdir())),
        },
        title=f"{clustered.graph.name}, stored at {clustered.path}",
    )
    if verify:
        line("every checksum agrees")


def _show_run(path: Path, verify: bool) -> None:
    from gnnscale.errors import StoreError
    from gnnscale.graph import Partition, is_store, verify_store
    from gnnscale.train import Report
    from gnnscale.train.run.checkpoint import load_tree
    from gnnscale.train.run.folder import RunFolder

    folder = RunFolder(path)
    about = folder.describe()
    file = path / "report.json"
    report = Report.load(file) if file.exists() else Report(headline=about["task"]["headline"])
    config, data = about["config"], about["data"]
    complete = (path / "model.safetensors").exists()
    state = f"complete ({report.stopped})" if complete else "unfinished: the same command goes on"
    best = report.best
    facts(
        {
            "state": state,
            "epochs": f"{len(report.rows)} of {config['epochs']}",
            "best": None
            if best is None
            else f"validation {report.headline} {best:.4f} in epoch {report.best_epoch}",
            **{
                where: ", ".join(f"{name} {_figure(value)}" for name, value in metrics.items())
                for where, metrics in report.final.items()
            },
            "trainer": about["trainer"],
            "model": _model_in_words(about),
            "graph": f"{data['name']}, {data['nodes']:,} nodes, {data['edges']:,} directed edges",
            "from": data["source"],
            **_batches_in_words(config),
            "settings": ", ".join(f"{k} {config[k]}" for k in ("lr", "optimizer", "seed", "split")),
            "time": f"{report.seconds['total']:.1f} s" if "total" in report.seconds else None,
        },
        title=f"Run in {path}",
    )
    if not verify:
        return
    files = [f for f in ("checkpoint.safetensors", "model.safetensors") if (path / f).exists()]
    if not files:
        raise StoreError(f"{path} has no checkpoint: it was stopped before the first step")
    folder.state()  # the checkpoint, and that what it names is there and of this run
    if complete:
        load_tree(path / "model.safetensors")
    if (path / "partition.npz").exists():
        Partition.load(path / "partition.npz")
        files.append("partition.npz")
    if is_store(path / "graph"):
        verify_store(path / "graph")
        line("every checksum of the stored graph agrees")
    line(f"readable: {', '.join(files)}")


def _batches_in_words(config: dict[str, Any]) -> dict[str, str]:
    if "graphs_per_batch" in config:
        return {"batches": f"{config['graphs_per_batch']:,} graphs"}
    if config.get("num_parts") is None:  # layer by layer, and nothing needs clusters
        return {}
    return {"clusters": f"{config['num_parts']:,}, {config['clusters_per_batch']:,} a batch"}


def _model_in_words(about: dict[str, Any]) -> str:
    spec = about["spec"]
    if spec is None:
        return "your own"
    readout = ""
    if "encoder" in spec["arguments"]:
        readout = f", {spec['arguments']['readout']} over a graph"
        spec = spec["arguments"]["encoder"]
    arguments = spec["arguments"]
    shown = ("hidden_channels", "num_layers", "dropout", "norm", "residual")
    listed = (f"{name} {arguments[name]}" for name in shown if arguments.get(name))
    return f"{spec['model']}, {', '.join(listed)}{readout}"


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
