"""`gnnscale train`."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Column, Table
from typing_extensions import override

from gnnscale.cli import options as o
from gnnscale.cli.console import err, line, out, plain
from gnnscale.cli.reading import Files, opened_as, with_reading_options
from gnnscale.errors import StoreError
from gnnscale.train.options import EVALUATION, RUN, TRAINING

if TYPE_CHECKING:
    from gnnscale.cli.settings import Settings
    from gnnscale.graph import Graph
    from gnnscale.train import Report
    from gnnscale.train.trainer import Trainer

_HOW = {
    "ClusterTrainer": "cluster mini-batches",
    "LayerwiseTrainer": "layer by layer",
    "GraphTrainer": "mini-batches of graphs",
    "PipelineTrainer": "pipeline of stages",
}
_FILE = "baselines.json"
_LARGE = 10.0
"""Features beyond it are named where nothing was learned."""
_RESUME: dict[str, str | bool] = {"auto": "auto", "yes": True, "no": False}


@with_reading_options()
@o.with_training_options()
def train(
    files: Files = None,
    dataset: o.Dataset = None,
    trainer: Annotated[
        o.Trainer,
        typer.Option(
            help="How: cluster is Cluster-GCN, pipeline the same in stages on several devices, "
            "layerwise is L-GCN, graph is for data sets of many graphs with one label each.",
            rich_help_panel=TRAINING,
        ),
    ] = "cluster",
    baselines: Annotated[
        bool,
        typer.Option(
            help="Compare with majority, label propagation and an MLP.", rich_help_panel=EVALUATION
        ),
    ] = True,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Folder of the run; else one in runs/, named by data set and model.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    resume: Annotated[
        Literal["auto", "yes", "no"],
        typer.Option(
            help="With a run in the folder: auto goes on if it is this one, yes insists on one, no "
            "starts anew.",
            rich_help_panel=RUN,
        ),
    ] = "auto",
    tensorboard: Annotated[
        bool,
        typer.Option(
            help="Write the figures to <run-dir>/tensorboard.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = False,
    download: o.Download = False,
    verbose: o.Verbose = False,
    **given: Any,
) -> None:
    """Train a model on mini-batches of clusters, layer by layer or on graphs; evaluate it exactly.

    Where a data set's card has a preset (wordnet's has), that is the default; options win over it.
    Layer by layer (--trainer layerwise) the preset says the model alone: the rest is of clusters.
    Data sets of many graphs with one label each (TU's, ogbg-…) are for --trainer graph.
    A run that was interrupted goes on when the same command is given again.

    [bold]Examples[/bold]

    gnnscale train --dataset wordnet

    gnnscale train -d wordnet --model gcn --hidden-channels 64 --epochs 5 --run-dir runs/small

    gnnscale train -d ./my.npz --num-parts 200 --clusters-per-batch 10 --early-stopping 5

    gnnscale train -d 'synthetic:planted?nodes=20000' --norm layer_norm --norm-kwargs mode=node

    gnnscale train -d wordnet --model cluster_gcn --model-kwargs diag_lambda=1 --num-layers 5

    gnnscale train -d ./graphs.npz --inductive --precompute [dim]# several graphs: node_ptr[/dim]

    gnnscale train edges.parquet nodes.csv --labels team --split 60/20/20

    gnnscale train -d wordnet --trainer layerwise --controller plateau --fine-tune 5

    gnnscale train -d wordnet --trainer layerwise --controller learned

    gnnscale train -d tudataset/MUTAG --trainer graph --model gin --readout sum
    """
    folder = run_dir
    try:
        from gnnscale.cli.settings import settings
        from gnnscale.cli.sources import card_of, short_name

        dataset = opened_as(dataset, files, given)
        chosen = settings(given, card_of(dataset), trainer=trainer)
        how = "" if trainer == "cluster" else f"-{trainer}"
        folder = folder or Path("runs") / f"{short_name(dataset)}-{chosen.kind}{how}"
        _train(dataset, chosen, trainer, folder, resume, baselines, tensorboard, download)
    except KeyboardInterrupt:
        if folder is not None and (folder / "checkpoint.safetensors").exists():
            how = "without --resume no" if resume == "no" else "again"
            text = f"interrupted; {folder} is saved: give the same command {how} to go on"
        else:
            text = "interrupted before anything was saved: the same command starts anew"
        line(text, console=err)
        raise typer.Exit(130) from None


def _train(
    dataset: str,
    chosen: Settings,
    trainer: str,
    run_dir: Path,
    resume: str,
    compare: bool,
    tensorboard: bool,
    download: bool,
) -> None:
    import torch

    from gnnscale.cli.settings import build_model, trainer_arguments
    from gnnscale.cli.sources import open_to_train
    from gnnscale.storage.files import check_writable
    from gnnscale.train import TRAINERS, Callback, TensorBoard

    if not (run_dir / "run.json").exists():  # before data are read, or a controller is learnt
        check_writable(run_dir / "run.json", f"--run-dir {run_dir}")
    task = chosen.trainer.get("task", "auto")
    data, graph = open_to_train(dataset, download, chosen.trainer, task)
    if chosen.preset:
        line("preset of the card:", _words(chosen.preset))
    arguments = chosen.trainer
    if trainer == "layerwise":
        anew = resume == "no"
        make = functools.partial(build_model, chosen, graph)
        arguments = trainer_arguments(arguments, data, make, run_dir, anew)
    torch.manual_seed(arguments.get("seed", 0))
    network = build_model(chosen, graph)
    callbacks: list[Any] = [TensorBoard(run_dir / "tensorboard")] if tensorboard else []
    started = []

    class Started(Callback):
        @override
        def on_fit_start(self, trainer: Any) -> None:
            started.append(True)
            if done := len(trainer.report.rows):
                line(f"{run_dir} goes on after epoch {done}")

    callbacks.append(Started())
    run = TRAINERS[trainer](network, data, run_dir=run_dir, callbacks=callbacks, **arguments)
    report = run.fit(resume=_RESUME[resume])
    if not started:
        line(f"{run_dir} was complete already: nothing is left to train")
    _tell(graph, chosen, run, report, compare)
    _next_steps(run_dir)


def _tell(graph: Graph, chosen: Settings, run: Trainer, report: Report, compare: bool) -> None:
    from gnnscale.train.run.report_shown import layers_table

    if report.layers:
        out.print(layers_table(report))
    where = next((name for name in ("test", "val") if name in report.final), None)
    if where is not None:
        results = baselines_of_run(graph, run, report, where) if compare else {}
        layers = "layer" if chosen.model["num_layers"] == 1 else "layers"
        how = _HOW[type(run).__name__]
        name = f"{chosen.kind}, {chosen.model['num_layers']} {layers}, {how}"
        results[name] = report.final[where][report.headline]
        out.print(comparison_table(results, report.headline, where))
        if results[name] <= results.get("majority class", float("-inf")):
            for text in _scale_of_features(graph):
                line(text)
    seconds = report.seconds
    spent = ", ".join(
        f"{name} {seconds[name]:.1f} s"
        for name in ("partition", "first hop", "aggregate", "train", "fine_tune", "evaluate")
        if name in seconds
    )
    best = ""
    if report.best_epoch is not None and not report.layers:  # each of those has its own
        best = f", weights of epoch {report.best_epoch}"
    epochs = f"{len(report.rows)} epoch{'s' * (len(report.rows) != 1)}"
    line(f"{epochs} in {seconds.get('total', 0):.1f} s ({spent}){best}")


def _scale_of_features(graph: Graph) -> Iterator[str]:
    """What may help a model that learned nothing from features as large as years or prices."""
    from torch import Tensor

    if not isinstance(graph.x, Tensor) or not graph.x.numel():
        return
    largest = graph.x[:10_000].abs().amax(dim=0)
    column = int(largest.argmax())
    if (value := float(largest[column])) <= _LARGE:
        return
    name = graph.feature_names[column] if graph.feature_names else str(column)
    recipe = f"--feature-recipe {shlex.quote(name)}=standardise"
    yield f"No better than the majority class: feature {name!r} reaches {value:,.0f}."
    yield f"Bring features to one scale; where tables are read, {recipe} does"


def comparison_table(results: Mapping[str, float], metric: str, where: str = "test") -> Table:
    """Results by name, the last one, which is the trained model's, in bold."""
    table = Table("", Column(plain(f"{where} {metric}")))
    for position, (name, value) in enumerate(results.items(), start=1):
        style = "bold" if position == len(results) else ""
        table.add_row(plain(name), f"{value:.4f}", style=style)
    return table


def baselines_of_run(
    graph: Graph, trainer: Trainer, report: Report, where: str
) -> dict[str, float]:
    """The baselines for a run, by its own metric; kept in its folder, for they take a while."""
    from gnnscale.benchmarking import baselines
    from gnnscale.storage.files import read_json, write_json

    split, metric = trainer.config.split, report.headline
    asked: dict[str, Any] = {
        "graph": report.run["graph"]["fingerprint"],
        "split": split,
        "metric": metric,
        "where": where,
    }
    path = Path(str(trainer.folder)) / _FILE
    try:
        known = read_json(path)
        if known["asked"] == asked:
            return dict(known["results"])
    except (StoreError, KeyError, TypeError):
        pass  # there are none yet, or not readable ones
    began = time.monotonic()
    with err.status("baselines: majority class, label propagation, MLP on the same features"):
        compared = dataclasses.replace(graph, metric=metric)
        results = baselines(compared, where, split)
    write_json(path, {"asked": asked, "results": results, "seconds": time.monotonic() - began})
    return results


def _next_steps(run_dir: Path) -> None:
    folder = shlex.quote(str(run_dir))
    line(f"Report, curves and weights: {run_dir}")
    line(f"Next: gnnscale evaluate {folder} --on all")
    line(f"      gnnscale predict {folder} --out predictions.csv")


def _words(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in arguments.items())
