"""`gnnscale info`: what a data set, a stored graph or a run is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gnnscale.cli.console import err, facts, line, out, plain
from gnnscale.cli.options import Download, Verbose, name_or_files
from gnnscale.cli.reading import opened_as, with_reading_options
from gnnscale.errors import InputError
from gnnscale.shown import size

if TYPE_CHECKING:
    from gnnscale.data import Card
    from gnnscale.graph import ClusteredGraph, Graph


@with_reading_options()
def info(
    files: Annotated[list[str], name_or_files("the folder of a run, or ")],
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read everything: checksums of what is stored, all checks."),
    ] = False,
    signal: Annotated[
        bool,
        typer.Option(
            "--signal",
            help="Is there anything to learn, and is it in the graph? Probes in closed form on "
            "features, neighbours and structure.",
        ),
    ] = False,
    leaks: Annotated[
        bool,
        typer.Option(
            "--leaks",
            help="What a model could cheat with: copies across the split, features and edges that "
            "carry labels.",
        ),
    ] = False,
    cut: Annotated[
        bool,
        typer.Option("--cut", help="The edges that clusters would cut, of a graph of any size."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw degrees, homophily, labels and the split into this .png.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="The split that --signal and --leaks are about.")
    ] = "default",
    download: Download = False,
    verbose: Verbose = False,
    **given: Any,
) -> None:
    """Show what a data set, a stored graph or a run is: its card, and figures measured on it.

    [bold]Examples[/bold]

    gnnscale info wordnet

    gnnscale info wordnet --signal --leaks --plot wordnet.png

    gnnscale info edges.parquet nodes.csv --labels team --split 60/20/20

    gnnscale info 'synthetic:planted?nodes=20000&homophily=0.6'

    gnnscale info stores/my --verify [dim]# reads every byte and compares checksums[/dim]

    gnnscale info runs/wordnet-sage
    """
    from gnnscale.cli.sources import card_of, is_path, open_data
    from gnnscale.graph import (
        ClusteredGraph,
        Graph,
        is_stored_graph,
        verify_store,
        verify_stored_graph,
    )
    from gnnscale.storage.files import check_writable

    given["split"] = None if split == "default" else split
    name = opened_as(None, files, given)
    split = given.pop("split") or "default"
    asked = {"--signal": signal, "--leaks": leaks, "--cut": cut, "--plot": plot is not None}
    if plot is not None and plot.suffix.lower() != ".png":  # before minutes are spent
        raise InputError(f"--plot {plot}: the picture is a PNG; name it so")
    if plot is not None:
        check_writable(plot, f"--plot {plot}")
    card = card_of(name)
    if card is None and (Path(name) / "run.json").is_file():
        if others := [option for option, value in asked.items() if value]:
            raise InputError(
                f"{name} is a run, {' and '.join(others)} of a graph: give the graph that it is "
                "from, which gnnscale info names"
            )
        _show_run(Path(name), verify)
        return
    if card is not None:
        _show_card(card)
    data = open_data(name, download)
    path = Path(os.path.expanduser(name))
    clustered = isinstance(data, ClusteredGraph)
    if verify and (clustered or (is_path(name) and is_stored_graph(path))):
        with err.status("reading every byte"):  # first: figures of a damaged file would mislead
            verify_store(path) if clustered else verify_stored_graph(path)
        line("every checksum agrees")
    _show_measured(data, signal, leaks, cut or None, split, plot)
    if verify and isinstance(data, Graph):
        data.check()
        line("all checks of the arrays passed")


def _show_measured(
    data: Graph | ClusteredGraph,
    signal: bool,
    leaks: bool,
    cut: bool | None,
    split: str,
    plot: Path | None,
) -> None:
    from gnnscale.graph import ClusteredGraph
    from gnnscale.statistics import describe

    with err.status("measuring"):
        found = describe(data, signal=signal, leaks=leaks, cut=cut, split=split)
    if isinstance(data, ClusteredGraph):
        title = f"{data.graph.name}, stored at {data.path}"
        facts({**_clusters(data), **found.words()}, title=title)
    else:
        facts(found.words(), title=f"{data.name}, measured")
    if found.signal is not None:
        facts(found.signal_words(), title="Is there anything to learn?")
    for note in found.notes:
        line(note)
    if found.leaks is not None:
        line("What a model could cheat with", style="bold")
        for words in found.leak_words():
            line(" ", words)
    if plot is not None:
        found.plot(plot)
        line(f"Picture: {plot}")


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


def _clusters(clustered: ClusteredGraph) -> dict[str, str | None]:
    sizes, train = clustered.offsets.diff(), clustered.train_counts
    files = () if clustered.path is None else clustered.path.iterdir()
    return {
        "clusters": f"{clustered.num_parts:,} by {clustered.method}, seed {clustered.seed}",
        "cluster sizes": f"{int(sizes.min()):,} to {int(sizes.max()):,} nodes, of them "
        f"{int(train.min()):,} to {int(train.max()):,} for training (split {clustered.split})",
        "made from": clustered.graph.source,
        "on disk": size(sum(file.stat().st_size for file in files)),
    }


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
