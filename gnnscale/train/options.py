"""What trainers are told: one dataclass a trainer, the only declaration of its arguments.

From it come the constructor's signature and documentation, the check that lists all faults at once,
the configuration that is saved with a run and compared when it goes on, and the options of
`gnnscale train` and `bench`. Loads no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from typing_extensions import override

from gnnscale.declared import about, arguments_of, faults_of, plain_numbers
from gnnscale.errors import InputError
from gnnscale.model_arguments import MODEL
from gnnscale.train.run.records import Description

if TYPE_CHECKING:
    from torch.nn import Module

    from gnnscale.train.controllers.stopping import StopController
    from gnnscale.train.run.callbacks import Callback
    from gnnscale.train.task import Task

# Headings of the command line.
BATCHES = "Clusters and batches"
LAYERS = "Layer by layer"
TRAINING = "Training"
EVALUATION = "Evaluation"
RUN = "Run"

MODEL_HELP = "A `LayeredGNN`, a PyG `BasicGNN`, or a list of convolutions (see `nn.as_layered`)."


# A field is a paragraph.
# fmt: off
@dataclass(frozen=True, eq=False)
class TrainerOptions:
    """What every trainer is told; one that a trainer does not take keeps its default there."""

    model: Annotated[Any, about(MODEL_HELP, saved=False)]
    _: KW_ONLY
    epochs: Annotated[int, about(
        "Passes over the training data.",
        least=1, resume="longer", heading=TRAINING, shown="50; layerwise 80",
        option="Passes over the clusters; layer by layer those of each layer, or the most where a "
        "controller decides.",
    )] = 50
    lr: Annotated[float, about(
        "Learning rate.",
        "Of the named optimizers.",
        above=0, heading=TRAINING, shown="0.01; layerwise 0.005",
    )] = 0.01
    seed: Annotated[int, about(
        "Of partition, draws and dropout.",
        "The model's initial weights are the caller's: seed torch before building it.",
        least=0, heading=TRAINING, option="Of weights, partition, draws and dropout.",
    )] = 0
    device: Annotated[str, about(
        'Where it computes: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1", ….',
        checked=False, resume="free", by_rank=True, heading=TRAINING, metavar="NAME",
        option="auto, cpu, cuda, cuda:1 …",
    )] = "auto"
    run_dir: Annotated[str | Path | None, about(
        "A folder for checkpoint, report and curves; without it nothing is written.",
        checked=False, saved=False,
    )] = None
    evaluate_every: Annotated[int | Literal["auto"], about(
        'Epochs between evaluations; "auto" keeps them under a tenth of the work.',
        "It takes the fewest that do, by sizes alone, so that a resumed run evaluates where an "
        "uninterrupted one does. The last epoch is always evaluated.",
        least=1, heading=EVALUATION, option="Epochs; auto keeps it under a tenth of the work.",
    )] = "auto"
    optimizer: Annotated[Literal["adam", "adamw", "sgd"] | Callable, about(
        '"adam", "adamw", "sgd" (momentum 0.9), or a function from parameters to an optimizer.',
        heading=TRAINING, option="adam, adamw or sgd.",
    )] = "adam"
    scheduler: Annotated[Literal["cosine", "onecycle"] | Callable | None, about(
        'Of the learning rate: None, "cosine", "onecycle", or a function from the optimizer to a '
        "schedule.",
        "The named ones advance every step, a function's every epoch. `ReduceLROnPlateau` watches "
        "the validation metric where its mode is the metric's direction, else the training loss.",
        heading=TRAINING, option="Of lr: cosine, onecycle or none.",
    )] = None
    task: Annotated[str | Task, about(
        "\"auto\" takes the graph's; or \"classification\", \"multilabel\" or \"regression\", for "
        "which its labels are then read; or a `Task`.",
        saved=False, heading=EVALUATION, metavar="NAME", shown="the data set's",
        option="classification, multilabel or regression.",
    )] = "auto"
    callbacks: Annotated[Sequence[Callback], about(
        "`Callback`s, such as `TensorBoard`.",
        checked=False, saved=False,
    )] = ()
    split: Annotated[str, about(
        "The split set.",
        heading=EVALUATION, metavar="NAME", shown="the first", option="Split set.",
    )] = "default"
    metric: Annotated[str | None, about(
        "The headline metric; the graph's, else the task's own, when None.",
        heading=EVALUATION, metavar="NAME", shown="the data set's",
        option="Headline metric: accuracy, f1_macro, f1_micro, roc_auc, average_precision, mae, "
        "mse, rmse.",
    )] = None
    weight_decay: Annotated[float, about(
        "Weight decay.",
        "Of the named optimizers.",
        least=0, heading=TRAINING,
    )] = 0.0
    parameter_groups: Annotated[Callable[[Module], Iterable[Any]] | None, about(
        "A function from the model to the optimizer's parameters or groups.",
        "What a task has to train besides is added, where it is not among them.",
    )] = None
    clip_norm: Annotated[float | None, about(
        "Greatest norm of an update's gradient.",
        above=0, heading=TRAINING,
    )] = None
    clip_value: Annotated[float | None, about(
        "Greatest size of a single entry of an update's gradient.",
        "Where one entry is far too large, the others stay as they are, which `clip_norm` would "
        "scale down with it; of both, this one comes first.",
        above=0, heading=TRAINING,
    )] = None
    accumulate: Annotated[int, about(
        "Batches an update of the weights (of every rank).",
        "It is as if they were one, without the links between them; an epoch's last update may "
        "have fewer.",
        least=1, heading=TRAINING, option="Batches an update of the weights.",
    )] = 1
    gradient_compression: Annotated[Literal["ternary"] | None, about(
        'None, or "ternary": ranks exchange gradients in two bits a value.',
        "See TernGrad (Wen et al., NeurIPS 2017); it costs some accuracy.",
        heading=TRAINING,
        option="ternary: ranks (torchrun) exchange gradients in two bits a value.",
    )] = None
    precision: Annotated[Literal["float32", "bf16", "fp16"], about(
        '"float32", or "bf16" or "fp16" for dense products in half precision.',
        'Parameters, norms and loss stay in float32, and evaluation is in float32. "fp16" needs a '
        "GPU.",
        heading=TRAINING, option="Of dense products: bf16; fp16 on a GPU.",
    )] = "float32"
    checkpoint_activations: Annotated[bool, about(
        "Keep what enters a block and compute the rest again in the backward pass.",
        "Less memory for a third more time, the same weights bit for bit.",
        resume="free", heading=TRAINING,
        option="Compute blocks again in the backward pass: less memory.",
    )] = False
    compile: Annotated[bool, about(
        "Fuse the row-local phases of every block with `torch.compile`.",
        "That needs a C++ compiler on the CPU and triton on CUDA. On the CPU it pays in runs of "
        "thousands of steps alone.",
        heading=TRAINING, option="Fuse row-local phases with torch.compile.",
    )] = False
    class_weight: Annotated[Any, about(
        'None, "balanced", or one weight a class.',
        saved=False, heading=TRAINING, metavar="NAME", option="balanced weighs classes by rarity.",
    )] = None
    label_smoothing: Annotated[float, about(
        "For classification, in [0, 1).",
        checked=False, saved=False, heading=TRAINING, option="In [0, 1).",
    )] = 0.0
    early_stopping: Annotated[int | None, about(
        "Stop after so many epochs without a better validation metric.",
        least=1, resume="longer", heading=TRAINING,
    )] = None
    keep: Annotated[Literal["best", "last"], about(
        'The weights to end with: "best" of the validation metric, or the "last".',
        heading=TRAINING, option="Weights to end with (by validation).",
    )] = "best"
    checkpoint_every: Annotated[int | Literal["auto"], about(
        'Steps between checkpoints; "auto": at the end of epochs, 20 seconds apart.',
        least=1, resume="free", heading=RUN,
        option="Steps; auto: at the end of epochs, 20 s apart.",
    )] = "auto"
    chunk_rows: Annotated[int | None, about(
        "Rows at once in exact inference; chosen by size when None.",
        least=1, resume="free", heading=EVALUATION, shown="by size",
        option="Rows at once in exact inference.",
    )] = None
    storage: Annotated[str | Path | None, about(
        "A folder for the layers of exact inference, instead of memory.",
        "With None, layers that do not fit in it go beside the run or the store, as those of a "
        "graph in files do.",
        resume="free", by_rank=True, heading=EVALUATION, shown="memory",
        option="A folder for its layers, instead of memory.",
    )] = None
    memory: Annotated[int | str, about(
        'Bytes that `fit`, `evaluate` and `predict` may add to the process, as "2GB" or a number.',
        "Exact inference keeps layers in files and cuts its work until it fits, clusters are fewer "
        "a batch where their number was left open, and what cannot be cut is refused before "
        'training, with the smallest bound that would do. "auto" goes by what there is.',
        checked=False, resume="free", by_rank=True, heading=EVALUATION, metavar="SIZE|auto",
        option="What the run may add to its process: 1GB, …",
    )] = "auto"
    progress: Annotated[bool, about(
        "Show a progress bar on a terminal.",
        resume="free", by_rank=True, heading=RUN,
    )] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", _text(self.device))
        plain_numbers(self)

    @override
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.saved() == self.saved()

    @override
    def __hash__(self) -> int:
        # Of what is saved, numbers alone: the rest may be lists and dicts.
        return hash((type(self), self.epochs, self.lr, self.seed))

    def faults(self) -> list[str]:
        """Every argument that is of no type or out of range, in words."""
        return faults_of(self)

    def check(self) -> None:
        """Check all arguments together.

        Raises:
            InputError: listing every fault found.
        """
        if faults := self.faults():
            raise InputError(faults)

    def sound(self) -> Self:
        """The same with defaults for what is at fault, so that the rest can be checked as well."""
        known = arguments_of(type(self)).items()
        wrong: dict[str, Any] = {
            name: one.default for name, one in known if one.faults(getattr(self, name))
        }
        return dataclasses.replace(self, **wrong)

    def settled(self, **found: Any) -> Self:
        """The options of a trainer that has read its data: those left open are decided.

        Model and data themselves are not kept.
        """
        fields = dataclasses.fields(self)
        given: dict[str, Any] = {f.name: None for f in fields if f.default is dataclasses.MISSING}
        return dataclasses.replace(self, **given, **found)

    def saved(self) -> Description:
        """The configuration as a run keeps it, in what JSON has."""
        return {name: described(getattr(self, name)) for name in self.kept()}

    @classmethod
    def kept(cls) -> Description:
        """The defaults of all that is saved with a run, by name."""
        known = arguments_of(cls)
        left = {name for name, one in known.items() if not one.said.get("saved", True)}
        return {f.name: f.default for f in dataclasses.fields(cls) if f.name not in left}

    def differences(self, saved: Description) -> list[str]:
        """What differs from a saved configuration in a way that changes the result."""
        mine = self.saved()
        # What an older version did not write was then at its default.
        saved = {**self.kept(), **saved}
        free = FREE_ON_RESUME | LENGTHS
        if _patience(mine["early_stopping"]) < _patience(saved["early_stopping"]):
            free -= {"early_stopping"}
        return [
            f"{key}: {saved.get(key)!r} in the run, {mine.get(key)!r} now"
            for key in sorted((mine.keys() | saved.keys()) - free)
            if saved.get(key) != mine.get(key)
        ]


@dataclass(frozen=True, eq=False)
class ClusterOptions(TrainerOptions):
    """What a `ClusterTrainer` is told."""

    graph: Annotated[Any, about(
        "A `Graph`, a `ClusteredGraph`, the path of either, or PyG `Data`.",
        'Of a `ClusteredGraph` its clusters are used; its view "train" is `inductive=True`.',
        saved=False,
    )]
    num_parts: Annotated[int | None, about(
        "Clusters that are trained on; one is full-batch training.",
        "With None, as many as give batches of this size: a batch's widest activation takes 8 MiB "
        "at most and 2²⁰ edges arrive at it, and an epoch has eight steps as long as a batch keeps "
        "512 nodes. Of a multi-graph data set, every graph that is trained on is a part at least.",
        least=1, heading=BATCHES, shown="by size", option="Clusters; 1 is full-batch training.",
    )] = None
    clusters_per_batch: Annotated[int | None, about(
        "Clusters a step.",
        "With None, up to ten, of 128 nodes at least, or as many of the clusters given as make a "
        "batch of the size above.",
        least=1, heading=BATCHES, shown="by size",
    )] = None
    _: KW_ONLY
    inductive: Annotated[bool, about(
        "Partition and train on the subgraph of the training nodes.",
        "It is evaluated on the whole graph. Other nodes join the clusters of most of their "
        "neighbours for storage alone; graphs without training nodes are clusters of their own "
        "beyond `num_parts`.",
        heading=BATCHES,
    )] = False
    method: Annotated[
        Literal["auto", "kaminpar", "metis", "streaming", "random", "contiguous"] | Callable, about(
        'Partitioner: "auto", "kaminpar", "metis", "streaming", "random", "contiguous", or a '
        "function (see `partition`).",
        heading=BATCHES,
        option="Partitioner: auto, kaminpar, metis, streaming, random or contiguous.",
    )] = "auto"
    partition_seed: Annotated[int | None, about(
        "Of the partition; None takes `seed`.",
        "For runs that share one and differ in seed.",
        least=0, heading=BATCHES, option="Of the partition; none: the seed.",
    )] = None
    balance: Annotated[Literal["nodes", "edges"] | float, about(
        'What parts have alike: "nodes", "edges", or how many edges cost as much as a node.',
        checked=False, heading=BATCHES,
        option="What parts have alike: nodes, edges, or how many edges cost as much as a node.",
    )] = "nodes"
    stratify: Annotated[bool, about(
        "Even out training nodes over batches.",
        heading=BATCHES,
    )] = True
    precompute: Annotated[bool, about(
        "Compute the first propagation of the features once.",
        "Over the whole graph that is trained on and with its degrees (Cluster-GCN, section 6.2). "
        "It needs a model that begins with it. Kept in memory, or in the store of a graph on disk.",
        heading=BATCHES,
    )] = False
    prefetch: Annotated[int, about(
        "Batches prepared ahead.",
        least=0, resume="free", by_rank=True, heading=BATCHES,
    )] = 2
    store: Annotated[str | Path | None, about(
        "A folder for the clustered graph, instead of memory.",
        "With None, that of a graph in files goes into the run folder. A resumed run finds it "
        "there again.",
        resume="free", by_rank=True, heading=EVALUATION, shown="memory",
    )] = None


@dataclass(frozen=True, eq=False)
class PipelineOptions(ClusterOptions):
    """What a `PipelineTrainer` is told: that of a `ClusterTrainer`, and how it is spread."""

    accumulate: int = field(default=1, init=False)
    compile: bool = field(default=False, init=False)
    clusters_per_batch: Annotated[int | None, about(
        "Clusters a micro-batch.",
        "With None, as `ClusterTrainer` takes them.",
        least=1,
    )] = None
    _: KW_ONLY
    stages: Annotated[int | Literal["auto"] | Sequence[int], about(
        'How many, "auto" for as many as the devices take, or the blocks with which one begins.',
        "A number is cut where a profile of the blocks finds the slowest stage least.",
        heading=TRAINING, metavar="N|auto|N,N…", checked=False,
        option="Of --trainer pipeline: how many, auto, or the blocks with which one begins, as "
        "2,4.",
    )] = 2
    schedule: Annotated[Literal["gpipe", "1f1b", "interleaved", "zbv"], about(
        '"gpipe", "1f1b", "interleaved", or "zbv".',
        "The last is experimental and not combined with data parallelism (see `make_schedule`).",
        heading=TRAINING, option="Of --trainer pipeline: gpipe, 1f1b, interleaved or zbv.",
    )] = "1f1b"
    micro_batches: Annotated[int, about(
        "M, batches an update of the weights; an epoch's last update may have fewer.",
        least=1, heading=BATCHES, option="Of --trainer pipeline: batches an update.",
    )] = 8
    devices: Annotated[int | Sequence[str] | None, about(
        "Of a pipeline: a list in one process, or how many.",
        "None for as many as stages need, GPUs where there are so many.",
        checked=False,
    )] = None
    order: Annotated[Literal["drawn", "size", "balanced"], about(
        '"drawn" takes the micro-batches of a step as they are drawn, "size" small, large, small, '
        '"balanced" makes them of even cost.',
        'By "size", of their edges and nodes, little waits while the pipeline fills and drains: '
        'what is learnt is the same but for the order of sums and running statistics. "balanced" '
        "deals the clusters of a step to micro-batches before that (see `BalancedLoader`): other "
        "batches than those of `ClusterTrainer`.",
    )] = "drawn"

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        # An update is that of `ClusterTrainer(accumulate=micro_batches)`.
        object.__setattr__(self, "accumulate", self.micro_batches)


@dataclass(frozen=True, eq=False)
class GraphOptions(TrainerOptions):
    """What a `GraphTrainer` is told."""

    storage: str | Path | None = field(default=None, init=False)
    graphs: Annotated[Any, about(
        "A `Graph` with `node_ptr` and graph-level labels, a PyG data set, a list of PyG `Data`, "
        "or a PyG `DataLoader` of either.",
        "`gs.load` gives such a `Graph` for TU and ogbg data sets.",
        saved=False,
    )]
    readout: Annotated[Literal["sum", "mean", "max", "attention"] | Callable | None, about(
        '"sum", "mean", "max", "attention", or a module (see `GraphModel`).',
        "None for \"mean\", or the `GraphModel`'s own.",
        saved=False, heading=MODEL, shown="mean",
        option="Of --trainer graph: from nodes to graphs.",
    )] = None
    graphs_per_batch: Annotated[int, about(
        "Graphs a step.",
        "Those of an epoch's batches differ by one at most.",
        least=1, heading=BATCHES, option="Of --trainer graph: graphs a step.",
    )] = 128
    _: KW_ONLY
    split: Annotated[Any, about(
        'The name of a split set, or graphs by "train", "val" and "test": ids or masks.',
        "In a named set, a graph is where its first node is. One without nodes is in no part.",
    )] = "default"
    prefetch: Annotated[int, about(
        "Batches prepared ahead by a thread.",
        "With 0, which is best for graphs of some hundred nodes on the CPU, each is prepared when "
        "it is needed.",
        least=0, resume="free", by_rank=True, heading=BATCHES,
    )] = 2
    chunk_rows: Annotated[int | None, about(
        "Nodes at once in evaluation, as whole graphs; chosen by size when None.",
        least=1, resume="free",
    )] = None
    memory: Annotated[int | str, about(
        'Bytes that `fit`, `evaluate` and `predict` may add to the process, as "2GB" or a number.',
        "Evaluation takes fewer graphs at once until it fits. A step that has no room is refused "
        "before training, with the smallest bound that would do and a `graphs_per_batch` that "
        "fits; so is a graph that has none alone. What is predicted counts, with `out=` too. "
        '"auto" sets no bound.',
        checked=False, resume="free", by_rank=True,
    )] = "auto"


@dataclass(frozen=True, eq=False)
class LayerwiseOptions(TrainerOptions):
    """What a `LayerwiseTrainer` is told."""

    scheduler: Literal["cosine", "onecycle"] | Callable | None = field(default=None, init=False)
    parameter_groups: Callable[[Module], Iterable[Any]] | None = field(default=None, init=False)
    gradient_compression: Literal["ternary"] | None = field(default=None, init=False)
    checkpoint_activations: bool = field(default=False, init=False)
    compile: bool = field(default=False, init=False)
    early_stopping: int | None = field(default=None, init=False)
    graph: Annotated[Any, about(
        "A `Graph`, a `ClusteredGraph`, the path of either, or PyG `Data`.",
        saved=False,
    )]
    controller: Annotated[StopController | None, about(
        "Says after every epoch whether the layer in training stops.",
        "`FixedEpochs`, `Plateau`, `LearnedController`, or an object of your own (see "
        "`StopController`). With None, `FixedEpochs(80)`.",
    )] = None
    batch_rows: Annotated[int, about(
        "Rows (training nodes) a step.",
        least=1, heading=LAYERS, option="Training nodes a step.",
    )] = 1024
    _: KW_ONLY
    epochs: Annotated[int, about(
        "The most that a layer is trained for, whatever the controller says.",
        least=1, resume="longer",
    )] = 500
    lr: Annotated[float, about(
        "Learning rate; every layer has an optimizer of its own.",
        "Of the named optimizers.",
        above=0,
    )] = 0.005
    inductive: Annotated[bool, about(
        "Aggregate for training over the subgraph of the training nodes.",
        "It is evaluated on the whole graph.",
    )] = False
    num_parts: Annotated[int | None, about(
        "Clusters that an opaque convolution is trained on.",
        "As many as `ClusterTrainer` takes when None.",
        least=1,
    )] = None
    clusters_per_batch: Annotated[int | None, about("Of these a step.", least=1)] = None
    fine_tune: Annotated[Mapping[str, Any] | None, about(
        "Arguments of a `ClusterTrainer` that trains all layers together at the end.",
        'As `{"epochs": 10, "num_parts": 50}`; None for none. Its weights are kept where their '
        'validation metric, exact and on the whole graph, is better than before it; with `"keep": '
        '"last"`, in any case.',
        heading=LAYERS, metavar="N|K=V,…", checked=False,
        option="Epochs in which all layers train together at the end, by clusters; or arguments of "
        "that, such as epochs=10,lr=0.001.",
    )] = None
    rows_dtype: Annotated[Literal["float32", "float16", "bfloat16"], about(
        '"float32", "float16" or "bfloat16": in what aggregated rows are kept.',
        heading=LAYERS, option="In what aggregated rows are kept.",
    )] = "float32"


# fmt: on
OPTIONS: Mapping[str, type[TrainerOptions]] = {
    "cluster": ClusterOptions,
    "layerwise": LayerwiseOptions,
    "graph": GraphOptions,
    "pipeline": PipelineOptions,
}


def _said(detail: str, value: object) -> frozenset[str]:
    known = [one for options in OPTIONS.values() for one in arguments_of(options).values()]
    return frozenset(one.name for one in known if one.said.get(detail) == value)


# May differ when a run is resumed: they change where and how fast, not what is computed.
# (Another device or machine is warned of when the checkpoint is read.) `compile` is none of them:
# fused kernels round otherwise.
FREE_ON_RESUME = _said("resume", "free")
# May be greater when a run goes on: what it has trained so far is what it would have been.
# `going_on` says when not.
LENGTHS = _said("resume", "longer")
# What a rank may have of its own, or its host.
OF_RANKS = _said("by_rank", True)


def described(value: object) -> object:
    """What a value is called in a saved configuration: the same in every process."""
    if hasattr(value, "describe"):  # a stop controller
        return value.describe()
    if isinstance(value, Mapping):
        return {str(name): described(one) for name, one in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [described(one) for one in value]
    if not callable(value):
        return value
    if isinstance(value, functools.partial):
        given = [*map(repr, value.args), *(f"{k}={v!r}" for k, v in value.keywords.items())]
        return f"{name_of(value.func)}({', '.join(given)})"
    name = name_of(value)
    return name if name.endswith(")") else f"{name}()"


def is_described(name: str | None) -> bool:
    """Whether a saved name is that of a function (see `described`)."""
    return name is not None and name.endswith(")")


def name_of(function: object) -> str:
    """What a function is called, without its module: a script's are in `__main__` for itself."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return named.__qualname__


def _patience(early_stopping: int | None) -> float:
    return math.inf if early_stopping is None else early_stopping


def _text(device: object) -> object:
    """A `torch.device` as text; arrays are left for the check."""
    return device if getattr(device, "ndim", 0) else str(device)
