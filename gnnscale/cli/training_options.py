"""The options of `gnnscale train`, which `gnnscale bench` shares: what each is called and says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gnnscale.cli import options as o

MODEL, BATCHES, LAYERS, TRAINING, EVALUATION, RUN = (
    "Model",
    "Clusters and batches",
    "Layer by layer",
    "Training",
    "Evaluation",
    "Run",
)


def option(panel: str, text: str, default: str | bool = False, **more: Any) -> Any:
    """An option under a heading, with its default in words."""
    return typer.Option(help=text, show_default=default, rich_help_panel=panel, **more)


Model = Annotated[o.Model | None, option(MODEL, "Which model.", "sage")]
HiddenChannels = Annotated[int | None, option(MODEL, "Width of its layers.", "128")]
NumLayers = Annotated[int | None, option(MODEL, "Layers; hops seen.", "3")]
Dropout = Annotated[float | None, option(MODEL, "Probability in [0, 1].", "0.0")]
Act = Annotated[
    str | None,
    option(MODEL, "Activation, a name PyG knows; or none.", "relu", metavar="NAME"),
]
Norm = Annotated[
    str | None,
    option(
        MODEL,
        "Normalisation: layer_norm, batch_norm, graph_norm … (names PyG knows); or none.",
        "none",
        metavar="NAME",
    ),
]
NormKwargs = Annotated[
    str | None,
    option(
        MODEL,
        "Its arguments, name=value: mode=node for layer_norm over each node by itself.",
        metavar="K=V,…",
    ),
]
Residual = Annotated[
    bool | None,
    option(MODEL, "Add a layer's input to its output.", "no"),
]
ModelKwargs = Annotated[
    str | None,
    option(
        MODEL,
        "Further arguments of the model, such as heads=4, aggr=max or diag_lambda=1.",
        metavar="K=V,…",
    ),
]
Trainer = Annotated[
    o.Trainer,
    option(
        TRAINING,
        "How: cluster is Cluster-GCN, pipeline the same in stages on several devices, layerwise "
        "is L-GCN, graph is for data sets of many graphs with one label each.",
        True,
    ),
]
NumParts = Annotated[
    int | None,
    option(BATCHES, "Clusters; 1 is full-batch training.", "by size"),
]
ClustersPerBatch = Annotated[int | None, option(BATCHES, "Clusters a step.", "by size")]
GraphsPerBatch = Annotated[int | None, option(BATCHES, "Of --trainer graph: graphs a step.", "128")]
Readout = Annotated[
    o.Readout | None, option(MODEL, "Of --trainer graph: from nodes to graphs.", "mean")
]
Method = Annotated[str | None, option(BATCHES, o.METHODS, "auto", metavar="NAME")]
PartitionSeed = Annotated[int | None, option(BATCHES, "Of the partition; none: the seed.", "none")]
Balance = Annotated[str | None, option(BATCHES, o.BALANCE, "nodes", metavar="nodes|edges|N")]
Stratify = Annotated[
    bool | None,
    option(BATCHES, "Even out training nodes over batches.", "stratify"),
]
Inductive = Annotated[
    bool | None,
    option(BATCHES, "Partition and train on the subgraph of the training nodes.", "no"),
]
Precompute = Annotated[
    bool | None,
    option(BATCHES, "Compute the first propagation of the features once.", "no"),
]
Prefetch = Annotated[int | None, option(BATCHES, "Batches prepared ahead.", "2")]
Controller = Annotated[
    o.Controller | None,
    option(LAYERS, "What stops the training of a layer.", "fixed"),
]
ControllerKwargs = Annotated[
    str | None,
    option(
        LAYERS,
        "Its arguments: patience=5,monitor=metric for plateau; rounds=100 for learning.",
        metavar="K=V,…",
    ),
]
ControllerFile = Annotated[
    Path | None,
    option(
        LAYERS,
        "A learned controller (controller.safetensors of a run); else it is learned first.",
        metavar="FILE",
    ),
]
BatchRows = Annotated[int | None, option(LAYERS, "Training nodes a step.", "1024")]
RowsDtype = Annotated[
    o.RowsDtype | None, option(LAYERS, "In what aggregated rows are kept.", "float32")
]
FineTune = Annotated[
    str | None,
    option(
        LAYERS,
        "Epochs in which all layers train together at the end, by clusters; or arguments of that, "
        "such as epochs=10,lr=0.001.",
        "none",
        metavar="N|K=V,…",
    ),
]
Epochs = Annotated[
    int | None,
    option(
        TRAINING,
        "Passes over the clusters; layer by layer those of each layer, or the most where a "
        "controller decides.",
        "50; layerwise 80",
    ),
]
Lr = Annotated[float | None, option(TRAINING, "Learning rate.", "0.01; layerwise 0.005")]
Optimizer = Annotated[str | None, option(TRAINING, "adam, adamw or sgd.", "adam", metavar="NAME")]
Scheduler = Annotated[
    str | None,
    option(TRAINING, "Of lr: cosine, onecycle or none.", "none", metavar="NAME"),
]
WeightDecay = Annotated[float | None, option(TRAINING, "Weight decay.", "0.0")]
ClipNorm = Annotated[
    str | None,
    option(TRAINING, "Greatest norm of the gradient.", "none", metavar="N|none"),
]
Stages = Annotated[
    str | None,
    option(
        TRAINING,
        "Of --trainer pipeline: how many, auto, or the blocks with which one begins, as 2,4.",
        "2",
        metavar="N|auto|N,N…",
    ),
]
Schedule = Annotated[
    str | None,
    option(TRAINING, "Of --trainer pipeline: gpipe, 1f1b, interleaved or zbv.", "1f1b"),
]
MicroBatches = Annotated[
    int | None, option(BATCHES, "Of --trainer pipeline: batches an update.", "8")
]
Accumulate = Annotated[int | None, option(TRAINING, "Batches an update of the weights.", "1")]
GradientCompression = Annotated[
    str | None,
    option(TRAINING, "ternary: ranks (torchrun) exchange gradients in two bits a value.", "none"),
]
Precision = Annotated[
    o.Precision | None,
    option(TRAINING, "Of dense products: bf16; fp16 on a GPU.", "float32"),
]
CheckpointActivations = Annotated[
    bool | None,
    option(TRAINING, "Compute blocks again in the backward pass: less memory.", "no"),
]
Compile = Annotated[
    bool | None,
    option(TRAINING, "Fuse row-local phases with torch.compile.", "no"),
]
ClassWeight = Annotated[
    str | None,
    option(TRAINING, "balanced weighs classes by rarity.", "none", metavar="NAME"),
]
LabelSmoothing = Annotated[float | None, option(TRAINING, "In [0, 1).", "0.0")]
EarlyStopping = Annotated[
    str | None,
    option(
        TRAINING,
        "Stop after so many epochs without a better validation metric.",
        "none",
        metavar="N|none",
    ),
]
Keep = Annotated[o.Keep | None, option(TRAINING, "Weights to end with (by validation).", "best")]
Seed = Annotated[int | None, option(TRAINING, "Of weights, partition, draws and dropout.", "0")]
Device = Annotated[
    str | None, option(TRAINING, "auto, cpu, cuda, cuda:1 …", "auto", metavar="NAME")
]
Task = Annotated[
    str | None,
    option(
        EVALUATION,
        "classification, multilabel or regression.",
        "the data set's",
        metavar="NAME",
    ),
]
Metric = Annotated[
    str | None,
    option(
        EVALUATION,
        "Headline metric: accuracy, f1_macro, f1_micro, roc_auc, average_precision, mae, mse, "
        "rmse.",
        "the data set's",
        metavar="NAME",
    ),
]
Split = Annotated[str | None, option(EVALUATION, "Split set.", "the first", metavar="NAME")]
EvaluateEvery = Annotated[
    str | None,
    option(
        EVALUATION,
        "Epochs; auto keeps it under a tenth of the work.",
        "auto",
        metavar="N|auto",
    ),
]
ChunkRows = Annotated[int | None, option(EVALUATION, "Rows at once in exact inference.", "by size")]
Storage = Annotated[
    Path | None,
    option(EVALUATION, "A folder for its layers, instead of memory.", "memory"),
]
Memory = Annotated[
    str | None,
    option(EVALUATION, "What the run may add to its process: 1GB, …", "auto", metavar="SIZE|auto"),
]
Store = Annotated[
    Path | None,
    option(EVALUATION, "A folder for the clustered graph, instead of memory.", "memory"),
]
Baselines = Annotated[
    bool, option(EVALUATION, "Compare with majority, label propagation and an MLP.", True)
]
RunDir = Annotated[
    Path | None,
    option(
        RUN,
        "Folder of the run; else one in runs/, named by data set and model.",
        metavar="PATH",
    ),
]
Resume = Annotated[
    o.Resume,
    option(
        RUN,
        "With a run in the folder: auto goes on if it is this one, yes insists on one, no "
        "starts anew.",
        True,
    ),
]
CheckpointEvery = Annotated[
    str | None,
    option(RUN, "Steps; auto: at the end of epochs, 20 s apart.", "auto", metavar="N|auto"),
]
Tensorboard = Annotated[bool, option(RUN, "Write the figures to <run-dir>/tensorboard.")]
Progress = Annotated[bool, option(RUN, "Show a progress bar on a terminal.", True)]
