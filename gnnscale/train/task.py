"""Task: targets, loss and metrics of what a model is trained for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from gnnscale.errors import InputError
from gnnscale.graph import Graph, Split
from gnnscale.graph.checks import training_faults
from gnnscale.graph.reading.labels import known_labels
from gnnscale.inference import Metric, make_metric
from gnnscale.train.run.records import Description

if TYPE_CHECKING:
    from gnnscale.loader import Batch


class Task(Protocol):
    """What a trainer needs to know of the problem.

    Built in are node classification, multi-label classification and regression; bring your own for
    edge-level or self-supervised training. Links are learnt by a task of your own as well, for
    which no labels are needed; what is reported of them is the loss, as metrics here are of nodes:
    a `LinkTask` that evaluates links is still to come.

    **Parameters.** A task may be an `nn.Module`, or hold modules and `nn.Parameter`s in its
    attributes: a discriminator, weights of losses, embeddings of relations. They are trained,
    clipped, checkpointed, restored and summed over ranks with the model's, and buffers kept
    likewise. `parameter_groups` that leave them out are given them as a last group. Make them in
    `__init__`: `prepare` is called once for every trainer. What `prepare` takes from the graph
    should be no parameter; it is made again, not restored.

    **Sums.** The loss is a sum over targets (nodes, edges, graphs): the gradient of a step is that
    of the losses of its batches, added up, over their normalisers, added up, so that `accumulate=k`
    and k ranks learn what one batch of all these targets does. That is checked on a sample before
    training. A loss that is no such sum (an in-batch softmax, a contrastive loss, a ranking within
    the batch, a plain mean) is declared by the line `additive = False`: a step is then the mean of
    the losses of its batches, weighted by their normalisers, Σ nᵢ Lᵢ / Σ nᵢ, over the batches of an
    update and of all ranks; of one batch, its loss as it is. It is so with every trainer: a batch
    is a micro-batch of `PipelineTrainer`, `batch_rows` rows of a layer of `LayerwiseTrainer`.

    The trial leaves attributes, parameters, buffers and random generators as they were; what a loss
    writes into another tensor (a memory bank) stays, so keep such a thing in a buffer.

    Random numbers that a loss draws come best from torch's own generator, whose state is kept with
    the run.

    Attributes:
        name: for reports.
        headline: the metric that early stopping and "best" go by.
        additive: optional; False for a loss that is no sum over targets.
    """

    name: str
    headline: str

    def prepare(self, graph: Graph, split: str) -> None:
        """Check that the graph can be trained on, and take from it what the loss needs.

        It may be called again, for another trainer and another graph. Batches and outputs are on
        the trainer's device; what is taken from the graph is not, and `loss` moves it.

        Raises:
            InputError: listing every fault found.
        """

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """The **sum** of the losses of a batch's targets, a scalar. `out`: the model's output.

        Batches of `LayerwiseTrainer` have no `x`, and without opaque layers no edges: keep
        `graph.x` in `prepare`, and take its rows by `batch.node_id`.

        With `additive = False`, the loss of the batch, such as a mean.
        """

    def normaliser(self, batch: Batch) -> float:
        """What a batch counts for: losses are divided by the sum over an update's batches.

        A finite number from 0 on; an epoch in which no batch counts is an error.

        Trainers add up those of all ranks, each of which is asked for its own batch (whose
        `step_train_nodes` are then its own too). 0 skips the batch. With `additive = False`, the
        weight of the batch's loss among those of the step.
        """

    def metrics(self) -> list[Metric]:
        """Fresh metrics of node labels, the headline first; none where there are no such figures.

        Without labels they are not asked. What is not evaluated on validation nodes ends with its
        last weights, whatever `keep` says, and takes no `early_stopping`.
        """


class NodeTask:
    """Supervised training on node labels.

    Args:
        kind: "classification" (cross entropy), "multilabel" (binary cross entropy) or "regression"
            (squared error).
        metric: the headline metric; the task's own when None.
        class_weight: None, "balanced" (n / (classes · count), as scikit-learn), or one weight a
            class. Weights are scaled so that their mean over the training nodes (for "multilabel",
            over the labels) is 1: the learning rate keeps its meaning.
        label_smoothing: for classification, in [0, 1).

    Raises:
        InputError: listing every argument that is at fault.
    """

    additive: ClassVar[bool] = True
    # By kind: the two reported by default, the headline first, then the others there are.
    _METRICS: ClassVar = {
        "classification": ("accuracy", "f1_macro", "f1_micro", "roc_auc", "average_precision"),
        "multilabel": ("f1_micro", "f1_macro", "accuracy", "roc_auc", "average_precision"),
        "regression": ("mae", "mse", "rmse"),
    }

    def __init__(
        self,
        kind: str = "classification",
        metric: str | None = None,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
    ) -> None:
        if kind not in self._METRICS:
            raise InputError(f"unknown task {kind!r}; there are {', '.join(self._METRICS)}")
        known, faults = self._METRICS[kind], []
        if metric is not None and (not isinstance(metric, str) or metric not in known):
            faults.append(f"unknown metric {metric!r} for {kind}; there are {', '.join(known)}")
        if kind == "regression" and class_weight is not None:
            faults.append("class_weight goes with classes; this task is regression")
        if isinstance(class_weight, str) and class_weight != "balanced":
            faults.append(f"class_weight={class_weight!r}: None, 'balanced' or weights")
        if not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing < 1:
            raise InputError([*faults, f"label_smoothing={label_smoothing!r} must lie in [0, 1)"])
        if kind != "classification" and label_smoothing:
            faults.append(f"label_smoothing goes with classification; this task is {kind}")
        if faults:
            raise InputError(faults)
        self.name = kind
        self.headline = known[0] if metric is None else metric
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self._weight: Tensor | None = None
        self._scored_only = False
        self._untrainable: list[str] = []

    def scores(self) -> NodeTask:
        """The task for a graph that need not be one to train on: that is found out in training."""
        self._scored_only = True
        return self

    def prepare(self, graph: Graph, split: str) -> None:
        """See `Task`."""
        faults = []
        if graph.y is not None and graph.y_level != "node":
            faults.append(
                f"the labels are {graph.y_level}-level; this trainer learns node-level labels "
                "(GraphTrainer learns those of graphs, a Task of your own any others)"
            )
        else:
            chosen: Split | None = graph.split(split)
            may_be = () if graph.schema is None else graph.schema.may_be_labels
            missing = training_faults(graph.y, None if chosen is None else chosen.train, may_be)
            if self._scored_only:
                self._untrainable = missing
            else:
                faults += missing
        if graph.y is not None and graph.task != self.name:
            faults.append(
                f"the graph's labels are for {graph.task}, the task is {self.name}: build the "
                f"graph with task={self.name!r}"
            )
        ranks = self.headline in ("roc_auc", "average_precision") and self.name == "classification"
        if ranks and graph.num_classes != 2:
            faults.append(f"{self.headline} needs two classes; the graph has {graph.num_classes}")
        if faults:
            raise InputError(faults)
        self.metrics()  # a package that one of them needs may be missing
        if self.class_weight is not None and not self._untrainable:
            self._weight = self._class_weights(graph, graph.split(split))

    def check_output(self, channels: int, graph: Graph) -> None:
        """Compare the model's output channels with the labels.

        Raises:
            InputError: there are fewer outputs than classes, or not one per label or target.
        """
        wanted = graph.num_classes
        if channels == wanted or (self.name == "classification" and channels > wanted):
            return
        what = "classes" if self.name == "classification" else "labels"
        raise InputError(
            f"the model has {channels} outputs, the graph {wanted} {what}: build it with "
            f"out_channels={wanted}"
        )

    def _class_weights(self, graph: Graph, split: Split | None) -> Tensor:
        assert split is not None and graph.y is not None
        y = graph.y[split.train]
        if self.name == "multilabel":
            counts = (y == 1).sum(0).double()
            total = float(y.size(0))
        else:
            counts = torch.bincount(y, minlength=graph.num_classes).double()
            total = float(counts.sum())
        if isinstance(self.class_weight, str):
            weight = total / (graph.num_classes * counts.clamp(min=1))
        else:
            try:
                weight = torch.as_tensor(self.class_weight, dtype=torch.float64, device="cpu")
            except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
                raise InputError(f"class_weight holds no numbers: {error}") from error
            fits = weight.shape == (graph.num_classes,) and bool((weight >= 0).all())
            if not fits or not bool(weight.isfinite().all()):
                raise InputError(
                    f"class_weight wants {graph.num_classes} weights from 0 on, one a class; got "
                    f"{weight.tolist() if weight.numel() < 9 else tuple(weight.shape)}"
                )
        if self.name == "multilabel":
            mean = float(weight.mean())  # a label's weight counts for every node
        else:
            mean = float((weight * counts).sum() / counts.sum().clamp(min=1))
        return (weight / mean).float() if mean else weight.float()

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """See `Task`."""
        if self._untrainable:
            raise InputError(self._untrainable)
        assert batch.y is not None
        y = batch.y
        if batch.train_index.numel() < out.size(0):  # else they are all rows, in their order
            out, y = (rows.index_select(0, batch.train_index) for rows in (out, y))
        if self._weight is not None:
            self._weight = self._weight.to(out)  # kept: a copy to a GPU every step would stop it
        weight = self._weight
        if self.name == "classification":
            rows = functional.cross_entropy(
                out, y, weight, reduction="none", label_smoothing=self.label_smoothing
            )
            return rows.sum()
        if self.name == "multilabel":
            known = known_labels(y, "multilabel")
            target = torch.where(known, y, 0).to(out.dtype)
            losses = functional.binary_cross_entropy_with_logits(
                out, target, weight, reduction="none"
            )
            # Per node the mean over its labels: the scale does not grow with their number.
            return (losses * known).sum() / out.size(1)
        y = y.reshape(out.shape).to(out.dtype)
        known = ~torch.isnan(y)
        return ((out - torch.where(known, y, 0)).square() * known).sum() / out.size(1)

    def normaliser(self, batch: Batch) -> float:
        """See `Task`."""
        if self._untrainable:
            raise InputError(self._untrainable)
        return batch.step_train_nodes

    def metrics(self) -> list[Metric]:
        """See `Task`."""
        names = [self.headline, *(n for n in self._METRICS[self.name][:2] if n != self.headline)]
        return [make_metric(name) for name in names]

    def arguments(self) -> Description:
        """What makes this task again beside its name and headline, as JSON."""
        weight = self.class_weight
        if weight is not None and not isinstance(weight, str):
            weight = torch.as_tensor(weight, dtype=torch.float64).tolist()
        return {"class_weight": weight, "label_smoothing": self.label_smoothing}


def is_additive(task: Task) -> bool:
    """Whether a task's loss is a sum over targets, as it is where the task says nothing."""
    return bool(getattr(task, "additive", True))


def summed_loss(task: Task, out: Tensor, batch: Batch) -> Tensor:
    """What a batch adds to the sum of a step, which is divided by the sum of the normalisers.

    For a task that is not additive, the batch's loss times its normaliser: a step is then the mean
    of the losses of its batches, weighted by their normalisers.
    """
    loss = task.loss(out, batch)
    if out.requires_grad and torch.is_grad_enabled():
        check_depends(task, loss)
    return loss if is_additive(task) else loss * task.normaliser(batch)


def counted(task: Task, batch: Batch) -> float:
    """A batch's normaliser.

    Raises:
        InputError: it is no finite number from 0 on.
    """
    found = task.normaliser(batch)
    try:
        value = math.nan if isinstance(found, str) else float(found)
    except (TypeError, ValueError, RuntimeError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(
            f"{type(task).__name__}.normaliser returned {found!r}; it returns what a batch counts "
            "for, a finite number from 0 on: how many targets the loss sums over "
            "(batch.train_index.numel(), batch.adj.num_edges), 0 for a batch to be skipped"
        )
    return value


def check_counted(task: Task, weight: float, where: str) -> None:
    """See that something was trained on.

    Args:
        task: the task.
        weight: the sum of the normalisers of all batches.
        where: of which batches, in words.

    Raises:
        InputError: it is 0.
    """
    if not weight:
        raise InputError(
            f"no batch of {where} counted: {type(task).__name__}.normaliser is 0 for each of them, "
            "and nothing was learnt. Return how many targets of a batch the loss sums over "
            "(batch.train_index.numel(), batch.adj.num_edges)"
        )


def check_depends(task: Task, loss: object) -> None:
    """See that there is something to learn from a loss."""
    if not getattr(loss, "requires_grad", False):
        kind = type(task).__name__
        raise InputError(
            f"{kind}.loss does not depend on the model's output: it has no gradient. Compute it "
            "from `out` by what can be differentiated (no argmax, item, detach or no_grad); for a "
            f"batch without targets, return 0 from {kind}.normaliser, or out.sum() * 0 as the loss"
        )


def describe_task(task: Task, parameters: Description) -> Description:
    """What makes a task the same: name, headline, and its arguments where it is built in.

    Args:
        task: the task.
        parameters: of one that is not built in, the shapes of what it has beside the model.
    """
    return {
        "name": task.name,
        "headline": task.headline,
        "built_in": type(task) is NodeTask,
        **(task.arguments() if isinstance(task, NodeTask) else {}),
        **({"parameters": parameters} if parameters else {}),
        **({} if is_additive(task) else {"additive": False}),
    }
