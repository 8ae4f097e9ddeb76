"""What a trainer is given beside numbers and flags, read and checked: data, task, choices."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, open_graph
from gnnscale.graph.reading.labels import TASKS, with_task
from gnnscale.partitioning import METHODS
from gnnscale.train.config import TrainConfig
from gnnscale.train.device import choose_device
from gnnscale.train.steps.learnt import task_faults
from gnnscale.train.steps.optimizers import OPTIMIZERS, SCHEDULERS
from gnnscale.train.steps.precision import precision_faults
from gnnscale.train.task import NodeTask, Task


def refuse_arrays(arguments: dict[str, Any], config: type[TrainConfig]) -> None:
    """Refuse arrays for arguments that are one word, number or flag: comparing them is no answer.

    Raises:
        InputError: naming each.
    """
    names = {field.name for field in dataclasses.fields(config)} - {"class_weight", "split"}
    if faults := [
        f"{name} is one value, not an array: {value!r}"
        for name, value in arguments.items()
        if name in names and isinstance(value, np.ndarray | Tensor) and value.ndim
    ]:
        raise InputError(faults)


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
        graph = with_task(data.graph, wanted or data.graph.task)
        return data if graph is data.graph else dataclasses.replace(data, graph=graph)
    if isinstance(data, Graph):
        return with_task(data, wanted or data.task)
    return read_graph(data, task)


def read_graph(data: Any, task: Any, **given: Any) -> Graph:
    """`Graph.from_data`, with labels read for the task where it is one that is built in."""
    return Graph.from_data(data, task=_built_in(task), **given)


def _built_in(task: Any) -> str | None:
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


def as_task(
    task: Any, graph: Graph, split: str, metric: str | None, class_weight: Any, label_smoothing: Any
) -> Task:
    """Read a task, "auto" being the graph's own, and prepare it for a graph and a split.

    Raises:
        InputError: it is none, or the graph's labels do not suit it; every fault is listed.
    """
    faults = []
    if isinstance(task, str):
        kind = graph.task if task == "auto" else task
        wanted = graph.metric if metric is None else metric
        task = NodeTask(kind, wanted, class_weight, label_smoothing)
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


def choice_faults(
    optimizer: Any, scheduler: Any, method: Any, parameter_groups: Any, callbacks: Any
) -> list[str]:
    """What is wrong with arguments that are names, functions or objects, in words."""
    faults = []
    for name, choice, known in (
        ("optimizer", optimizer, OPTIMIZERS),
        ("scheduler", scheduler, (None, *SCHEDULERS)),
        ("method", method, ("auto", *METHODS)),
    ):
        if not callable(choice) and choice not in known:
            there_are = ", ".join(str(name) for name in known)
            faults.append(f"unknown {name} {choice!r}; there are {there_are}, or a function")
    if parameter_groups is not None and not callable(parameter_groups):
        faults.append(f"parameter_groups={parameter_groups!r}: a function of the model")
    listed = isinstance(callbacks, Sequence)
    if not listed or not all(hasattr(callback, "on_epoch_end") for callback in callbacks):
        faults.append(f"callbacks={callbacks!r}: a list of Callbacks")
    return faults


def device_faults(device: str, precision: str) -> list[str]:
    """Why there is no such device, or none for that precision, in words."""
    try:
        return precision_faults(precision, choose_device(device))
    except InputError as error:
        return error.faults
