"""`gnnscale train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnscale.cli import options as o
from gnnscale.cli.console import err, line, out
from gnnscale.errors import RunMismatch

if TYPE_CHECKING:
    from gnnscale.graph import Graph
    from gnnscale.train import ClusterTrainer, Report

_MODEL, _BATCHES, _TRAINING, _EVALUATION, _RUN = (
    "Model",
    "Clusters and batches",
    "Training",
    "Evaluation",
    "Run",
)
_NO_ARGUMENTS = (
    "dataset",
    "trainer",
    "baselines",
    "run_dir",
    "resume",
    "tensorboard",
    "download",
    "verbose",
)
_RESUME: dict[str, str | bool] = {"auto": "auto", "yes": True, "no": False}


def _option(panel: str, text: str, default: str | bool = False, **more: Any) -> Any:
    return typer.Option(help=text, show_default=default, rich_help_panel=panel, **more)


def train(
    ctx: typer.Context,
    dataset: o.Dataset,
    model: Annotated[o.Model | None, _option(_MODEL, "Which model.", "sage")] = None,
    hidden_channels: Annotated[int | None, _option(_MODEL, "Width of its layers.", "128")] = None,
    num_layers: Annotated[int | None, _option(_MODEL, "Layers; hops seen.", "3")] = None,
    dropout: Annotated[float | None, _option(_MODEL, "Probability in [0, 1].", "0.0")] = None,
    act: Annotated[
        str | None,
        _option(_MODEL, "Activation, a name PyG knows; or none.", "relu", metavar="NAME"),
    ] = None,
    norm: Annotated[
        str | None,
        _option(
            _MODEL,
            "Normalisation: layer_norm, batch_norm, graph_norm … (names PyG knows); or none.",
            "none",
            metavar="NAME",
        ),
    ] = None,
    norm_kwargs: Annotated[
        str | None,
        _option(
            _MODEL,
            "Its arguments, name=value: mode=node for layer_norm over each node by itself.",
            metavar="K=V,…",
        ),
    ] = None,
    residual: Annotated[
        bool | None,
        _option(_MODEL, "Add a layer's input to its output.", "no"),
    ] = None,
    model_kwargs: Annotated[
        str | None,
        _option(
            _MODEL,
            "Further arguments of the model, such as heads=4, aggr=max or diag_lambda=1.",
            metavar="K=V,…",
        ),
    ] = None,
    trainer: Annotated[
        o.Trainer, _option(_TRAINING, "How: cluster is Cluster-GCN.", True)
    ] = o.Trainer.cluster,
    num_parts: Annotated[
        int | None,
        _option(_BATCHES, "Clusters; 1 is full-batch training.", "by size"),
    ] = None,
    clusters_per_batch: Annotated[
        int | None, _option(_BATCHES, "Clusters a step.", "by size")
    ] = None,
    method: Annotated[str | None, _option(_BATCHES, o.METHODS, "auto", metavar="NAME")] = None,
    partition_seed: Annotated[
        int | None, _option(_BATCHES, "Of the partition; none: the seed.", "none")
    ] = None,
    balance: Annotated[
        o.Balance | None, _option(_BATCHES, "What the partitioner evens out.", "nodes")
    ] = None,
    stratify: Annotated[
        bool | None,
        _option(_BATCHES, "Even out training nodes over batches.", "stratify"),
    ] = None,
    inductive: Annotated[
        bool | None,
        _option(_BATCHES, "Partition and train on the subgraph of the training nodes.", "no"),
    ] = None,
    precompute: Annotated[
        bool | None,
        _option(_BATCHES, "Compute the first propagation of the features once.", "no"),
    ] = None,
    prefetch: Annotated[int | None, _option(_BATCHES, "Batches prepared ahead.", "2")] = None,
    epochs: Annotated[int | None, _option(_TRAINING, "Passes over the clusters.", "50")] = None,
    lr: Annotated[float | None, _option(_TRAINING, "Learning rate.", "0.01")] = None,
    optimizer: Annotated[
        str | None, _option(_TRAINING, "adam, adamw or sgd.", "adam", metavar="NAME")
    ] = None,
    scheduler: Annotated[
        str | None,
        _option(_TRAINING, "Of lr: cosine, onecycle or none.", "none", metavar="NAME"),
    ] = None,
    weight_decay: Annotated[float | None, _option(_TRAINING, "Weight decay.", "0.0")] = None,
    clip_norm: Annotated[
        str | None,
        _option(_TRAINING, "Greatest norm of the gradient.", "none", metavar="N|none"),
    ] = None,
    accumulate: Annotated[
        int | None, _option(_TRAINING, "Batches an update of the weights.", "1")
    ] = None,
    precision: Annotated[
        o.Precision | None,
        _option(_TRAINING, "Of dense products: bf16; fp16 on a GPU.", "float32"),
    ] = None,
    checkpoint_activations: Annotated[
        bool | None,
        _option(_TRAINING, "Compute blocks again in the backward pass: less memory.", "no"),
    ] = None,
    compile: Annotated[
        bool | None,
        _option(_TRAINING, "Fuse row-local phases with torch.compile.", "no"),
    ] = None,
    class_weight: Annotated[
        str | None,
        _option(_TRAINING, "balanced weighs classes by rarity.", "none", metavar="NAME"),
    ] = None,
    label_smoothing: Annotated[float | None, _option(_TRAINING, "In [0, 1).", "0.0")] = None,
    early_stopping: Annotated[
        str | None,
        _option(
            _TRAINING,
            "Stop after so many epochs without a better validation metric.",
            "none",
            metavar="N|none",
        ),
    ] = None,
    keep: Annotated[
        o.Keep | None, _option(_TRAINING, "Weights to end with (by validation).", "best")
    ] = None,
    seed: Annotated[
        int | None, _option(_TRAINING, "Of weights, partition, draws and dropout.", "0")
    ] = None,
    device: Annotated[
        str | None, _option(_TRAINING, "auto, cpu, cuda, cuda:1 …", "auto", metavar="NAME")
    ] = None,
    task: Annotated[
        str | None,
        _option(
            _EVALUATION,
            "classification, multilabel or regression.",
            "the data set's",
            metavar="NAME",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        _option(
            _EVALUATION,
            "Headline metric: accuracy, f1_macro, f1_micro, roc_auc, average_precision, mae, mse, "
            "rmse.",
            "the data set's",
            metavar="NAME",
        ),
    ] = None,
    split: Annotated[
        str | None, _option(_EVALUATION, "Split set.", "the first", metavar="NAME")
    ] = None,
    evaluate_every: Annotated[
        str | None,
        _option(
            _EVALUATION,
            "Epochs; auto keeps it under a tenth of the work.",
            "auto",
            metavar="N|auto",
        ),
    ] = None,
    chunk_rows: Annotated[
        int | None, _option(_EVALUATION, "Rows at once in exact inference.", "by size")
    ] = None,
    storage: Annotated[
        Path | None,
        _option(_EVALUATION, "A folder for its layers, instead of memory.", "memory"),
    ] = None,
    memory: Annotated[
        str | None,
        _option(_EVALUATION, "What it may hold of a layer: 1GB, …", "auto", metavar="SIZE|auto"),
    ] = None,
    store: Annotated[
        Path | None,
        _option(_EVALUATION, "A folder for the clustered graph, instead of memory.", "memory"),
    ] = None,
    baselines: Annotated[
        bool, _option(_EVALUATION, "Compare with majority, label propagation and an MLP.", True)
    ] = True,
    run_dir: Annotated[
        Path | None,
        _option(
            _RUN,
            "Folder of the run; else one in runs/, named by data set and model.",
            metavar="PATH",
        ),
    ] = None,
    resume: Annotated[
        o.Resume,
        _option(
            _RUN,
            "With a run in the folder: auto goes on if it is this one, yes insists on one, no "
            "starts anew.",
            True,
        ),
    ] = o.Resume.auto,
    checkpoint_every: Annotated[
        str | None,
        _option(_RUN, "Steps; auto: at the end of epochs, 20 s apart.", "auto", metavar="N|auto"),
    ] = None,
    tensorboard: Annotated[
        bool, _option(_RUN, "Write the figures to <run-dir>/tensorboard.")
    ] = False,
    progress: Annotated[bool, _option(_RUN, "Show a progress bar on a terminal.", True)] = True,
    download: o.Download = False,
    verbose: o.Verbose = False,
) -> None:
    """Train a model on mini-batches of clusters, evaluate it exactly, compare it with baselines.

    Where a data set's card has a preset (wordnet's has), that is the default; options win over it.
    A run that was interrupted goes on when the same command is given again.

    [bold]Examples[/bold]

    gnnscale train --dataset wordnet

    gnnscale train -d wordnet --model gcn --hidden-channels 64 --epochs 5 --run-dir runs/small

    gnnscale train -d ./my.npz --num-parts 200 --clusters-per-batch 10 --early-stopping 5

    gnnscale train -d 'synthetic:planted?nodes=20000' --norm layer_norm --norm-kwargs mode=node

    gnnscale train -d wordnet --model cluster_gcn --model-kwargs diag_lambda=1 --num-layers 5

    gnnscale train -d ./graphs.npz --inductive --precompute [dim]# several graphs: node_ptr[/dim]
    """
    folder = run_dir
    try:
        from gnnscale.cli.settings import settings
        from gnnscale.cli.sources import card_of, short_name

        given = {name: value for name, value in ctx.params.items() if name not in _NO_ARGUMENTS}
        chosen = settings(given, card_of(dataset))
        folder = folder or Path("runs") / f"{short_name(dataset)}-{chosen.kind}"
        _train(dataset, chosen, folder, resume, baselines, tensorboard, download)
    except RunMismatch as error:
        hint = "On the command line: --run-dir FOLDER, or --resume no to replace the run there"
        raise RunMismatch(f"{error}\n{hint}") from error
    except KeyboardInterrupt:
        if folder is not None and (folder / "checkpoint.safetensors").exists():
            how = "without --resume no" if resume is o.Resume.no else "again"
            text = f"interrupted; {folder} is saved: give the same command {how} to go on"
        else:
            text = "interrupted before anything was saved: the same command starts anew"
        line(text, console=err)
        raise typer.Exit(130) from None


def _train(
    dataset: str,
    chosen: Any,
    run_dir: Path,
    resume: o.Resume,
    compare: bool,
    tensorboard: bool,
    download: bool,
) -> None:
    import torch

    from gnnscale.cli.settings import build_model
    from gnnscale.cli.sources import check_not_fixed, open_data
    from gnnscale.graph import ClusteredGraph
    from gnnscale.train import Callback, ClusterTrainer, TensorBoard

    data = open_data(dataset, download)
    graph = data.graph if isinstance(data, ClusteredGraph) else data
    check_not_fixed(dataset, data, chosen.trainer)
    line(graph)
    if chosen.preset:
        line("preset of the card:", _words(chosen.preset))
    torch.manual_seed(chosen.trainer.get("seed", 0))
    network = build_model(chosen, graph)
    callbacks: list[Any] = [TensorBoard(run_dir / "tensorboard")] if tensorboard else []
    started = []

    class Started(Callback):
        def on_fit_start(self, trainer: Any) -> None:
            started.append(True)
            if done := len(trainer.report.rows):
                line(f"{run_dir} was interrupted: going on after epoch {done}")

    callbacks.append(Started())
    trainer = ClusterTrainer(network, data, run_dir=run_dir, callbacks=callbacks, **chosen.trainer)
    report = trainer.fit(resume=_RESUME[resume])
    if not started:
        line(f"{run_dir} was complete already: nothing is left to train")
    _tell(graph, chosen, trainer, report, compare)
    _next_steps(run_dir)


def _tell(
    graph: Graph, chosen: Any, trainer: ClusterTrainer, report: Report, compare: bool
) -> None:
    from gnnscale.cli.comparison import baselines_of_run, comparison_table

    where = next((name for name in ("test", "val") if name in report.final), None)
    if where is not None:
        results = baselines_of_run(graph, trainer, report, where) if compare else {}
        layers = "layer" if chosen.model["num_layers"] == 1 else "layers"
        name = f"{chosen.kind}, {chosen.model['num_layers']} {layers}, cluster mini-batches"
        results[name] = report.final[where][report.headline]
        out.print(comparison_table(results, report.headline, where))
    seconds = report.seconds
    spent = ", ".join(
        f"{name} {seconds[name]:.1f} s"
        for name in ("partition", "first hop", "train", "evaluate")
        if name in seconds
    )
    best = "" if report.best_epoch is None else f", weights of epoch {report.best_epoch}"
    epochs = f"{len(report.rows)} epoch{'s' * (len(report.rows) != 1)}"
    line(f"{epochs} in {seconds.get('total', 0):.1f} s ({spent}){best}")


def _next_steps(run_dir: Path) -> None:
    folder = shlex.quote(str(run_dir))
    line(f"Report, curves and weights: {run_dir}")
    line(f"Next: gnnscale evaluate {folder} --on all")
    line(f"      gnnscale predict {folder} --out predictions.npy")


def _words(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in arguments.items())
