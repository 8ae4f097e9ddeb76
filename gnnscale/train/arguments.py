"""What a trainer is given beside numbers and flags, read and checked: data, task, choices."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from gnnscale.costs.sizes import sizes_for
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, open_graph
from gnnscale.graph.reading.labels import TASKS
from gnnscale.nn import LayeredGNN, as_layered
from gnnscale.partitioning.methods import balance_faults
from gnnscale.storage.memory import memory_bytes
from gnnscale.train.known import Known, known_then
from gnnscale.train.options import ClusterOptions, TrainerOptions, described
from gnnscale.train.session import choose_device
from gnnscale.train.steps.learnt import task_faults
from gnnscale.train.steps.updates import precision_faults
from gnnscale.train.task import NodeTask, Task

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=ClusterOptions)
C_co = TypeVar("C_co", bound=ClusterOptions, covariant=True)


def option_faults(options: TrainerOptions) -> list[str]:
    """Every option that is of no type, out of range, or does not go with another, in words."""
    faults, options = options.faults(), options.sound()
    if options.memory != "auto":
        try:
            memory_bytes(options.memory)
        except InputError as error:
            faults += error.faults
    if options.storage is not None and not Path(options.storage).is_dir():
        faults.append(f"storage={str(options.storage)!r} is no folder")
    if isinstance(options, ClusterOptions):
        faults += balance_faults(options.balance)
    if options.weight_decay and callable(options.optimizer):
        faults.append(
            f"weight_decay={options.weight_decay!r}: optimizer={described(options.optimizer)} is a "
            "function, which sets its own"
        )
    callbacks = options.callbacks
    listed = isinstance(callbacks, Sequence)
    if not listed or not all(hasattr(callback, "on_epoch_end") for callback in callbacks):
        faults.append(f"callbacks={callbacks!r}: a list of Callbacks")
    try:
        faults += precision_faults(options.precision, choose_device(options.device))
    except InputError as error:
        faults += error.faults
    return faults


def as_data(data: Any, task: Any = "auto") -> Graph | ClusteredGraph:
    """Read what a trainer is given: a graph, a clustered graph, a store's path, or PyG data.

    Where the task is one that is built in, the labels are read for it.

    Raises:
        InputError: it is none of these, or its labels do not allow the task.
    """
    wanted = _built_in(task)
    if isinstance(data, str | Path):
        data = open_graph(data)
    if isinstance(data, ClusteredGraph):
        graph = data.graph.with_task(wanted or data.graph.task)
        return data if graph is data.graph else dataclasses.replace(data, graph=graph)
    if isinstance(data, Graph):
        return data.with_task(wanted or data.task)
    return read_graph(data, task)


def read_graph(data: Any, task: Any, **given: Any) -> Graph:
    """`Graph.from_data`, with labels read for the task where it is one that is built in."""
    return Graph.from_data(data, task=_built_in(task), **given)


def _built_in(task: object) -> str | None:
    name = task.name if isinstance(task, NodeTask) else task
    return name if isinstance(name, str) and name in TASKS else None


def as_seen(
    data: Graph | ClusteredGraph, split: str, inductive: bool
) -> tuple[str, bool, list[str]]:
    """The split, and whether training nodes alone are seen, where a clustered graph may say so.

    Returns:
        `split`, `inductive`, and in words why the clusters do not go with that split.
    """
    if isinstance(data, Graph):
        return split, inductive, []
    inductive, whole = inductive or data.view_name == "train", data.graph
    if split == "default":
        return data.split, inductive, []
    if whole.splits.get(split) is whole.split(data.split):
        return split, inductive, []
    fault = (
        f"split={split!r}, but the clustered graph has the training nodes of {data.split!r} first: "
        f"cluster it with split={split!r}"
    )
    return split, inductive, [fault]


def as_task(options: TrainerOptions, graph: Graph, split: str) -> Task:
    """Read a trainer's task, "auto" being the graph's own; prepare it for a graph and a split.

    Raises:
        InputError: it is none, or the graph's labels do not suit it; every fault is listed.
    """
    task: Any = options.task
    class_weight, label_smoothing = options.class_weight, options.label_smoothing
    faults = []
    if isinstance(task, str):
        kind = graph.task if task == "auto" else task
        metric = graph.metric if options.metric is None else options.metric
        task = NodeTask(kind, metric, class_weight, label_smoothing)
    elif (
        class_weight is not None or not isinstance(label_smoothing, int | float) or label_smoothing
    ):
        faults.append("class_weight and label_smoothing: give them to the task itself")
    if not hasattr(task, "prepare"):
        raise InputError([*faults, f"task={task!r}: 'auto', a name or a Task"])
    if not isinstance(getattr(task, "additive", True), bool):
        faults.append(f"{type(task).__name__}.additive={task.additive!r} must be True or False")
    try:
        task.prepare(graph, split)
    except InputError as error:
        faults += error.faults
    if type(task) is not NodeTask:
        names = [metric.name for metric in task.metrics()]
        if names and names[0] != task.headline:
            faults.append(
                f"{type(task).__name__}.headline={task.headline!r}, and metrics() gives "
                f"{', '.join(names)}: the headline comes first"
            )
        faults += task_faults(task)
    if faults:
        raise InputError(faults)
    return task


class Given(NamedTuple, Generic[C_co]):
    """What a trainer on clusters is given, read and found to fit together.

    Attributes:
        model: the model.
        data: the whole graph.
        known: what training and validation know of it, or None for all.
        task: what is learnt.
        config: the options, of which none is left open.
        fewer: whether the clusters of a batch were chosen, and may be fewer.
    """

    model: LayeredGNN
    data: Graph | ClusteredGraph
    known: Known | None
    task: Task
    config: C_co
    fewer: bool


def as_clusters(options: C, faults: list[str]) -> Given[C]:
    """Read what a trainer on clusters is given, and settle what was left open.

    Args:
        options: as they were given.
        faults: what is known to be at fault.

    Raises:
        InputError: listing every option and every part of the data that is at fault.
    """
    options = options.sound()
    data, model = as_data(options.graph, options.task), options.model
    whole = data.graph if isinstance(data, ClusteredGraph) else data
    split, inductive, unfit = as_seen(data, options.split, options.inductive)
    known, trained, late = known_then(data, split)
    num_parts, per_batch, impossible = sizes_for(
        trained, model, split, inductive, options.num_parts, options.clusters_per_batch
    )
    faults = [*faults, *unfit, *late, *impossible]
    if options.precompute and whole.x is None:
        faults.append("precompute=True: the graph has no features x to propagate")
    try:
        task = as_task(options, whole if known is None else known.train, split)
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(faults)
    given = {
        "method": options.method != "auto",
        "balance": options.balance != "nodes",
        "store": options.store,
    }
    if isinstance(data, ClusteredGraph) and (unused := [k for k, v in given.items() if v]):
        logger.warning(
            "%s: the graph comes in clusters, and is not clustered anew", ", ".join(unused)
        )
    config = options.settled(
        num_parts=num_parts, clusters_per_batch=per_batch, split=split, inductive=inductive
    )
    return Given(as_layered(model), data, known, task, config, options.clusters_per_batch is None)
