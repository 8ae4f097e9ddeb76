"""load_run: a run's model, graph and trainer again, in a new process."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from typing_extensions import override

from gnnscale.data.changed import changes
from gnnscale.declared import arguments_of
from gnnscale.errors import InputError, RunMismatch, StoreError
from gnnscale.graph import ClusteredGraph, Graph, is_store, open_graph
from gnnscale.graph.store.graph_folder import is_stored_graph, open_stored_graph
from gnnscale.nn import GraphModel, LayeredGNN, from_spec
from gnnscale.train.arguments import as_data
from gnnscale.train.clusters import describe_data
from gnnscale.train.controllers.learned import LearnedController
from gnnscale.train.controllers.stopping import (
    Decision,
    FixedEpochs,
    LayerProgress,
    Plateau,
    StopController,
)
from gnnscale.train.options import ClusterOptions, is_described
from gnnscale.train.run.folder import RunFolder
from gnnscale.train.run.records import Description, State
from gnnscale.train.run.report import Report
from gnnscale.train.task import NodeTask
from gnnscale.train.trainer import Trainer
from gnnscale.train.trainers import TRAINERS

# Arguments that may be functions.
_CHOICES = [name for name, one in arguments_of(ClusterOptions).items() if Callable in one.parts[1]]


class Run(NamedTuple):
    """A finished or interrupted run.

    Attributes:
        model: with the best weights known.
        graph: what it was trained on.
        trainer: evaluates and predicts at once; `trainer.fit()` goes on where the run stopped.
        report: the record so far.
    """

    model: LayeredGNN | GraphModel
    graph: Graph | ClusteredGraph
    trainer: Trainer
    report: Report

    @override
    def __repr__(self) -> str:
        return f"Run({self.trainer!r}, {self.report!r})"


def load_run(
    path: str | Path,
    *,
    model: Any = None,
    graph: Any = None,
    device: str | None = None,
    **arguments: Any,
) -> Run:
    """Open a run folder.

    Args:
        path: the run folder.
        model: a fresh model, for one that gnnscale cannot build by itself (models of `gs.nn` by
            name it can; your own layers it cannot).
        graph: the graph, for one that is not where the run found it.
        device: another device than the run's.
        arguments: `run_dir=`, another folder (or None), where a graph that has grown, say, is
            trained on from these weights; and what a configuration cannot hold: `optimizer=`,
            `scheduler=`, `task=`, `parameter_groups=`, `controller=`, `fine_tune=`, `callbacks=`
            of the run, where they were functions or objects of your own.

    Raises:
        StoreError: there is no run, or it is damaged.
        RunMismatch: the model or graph is another one, or must be given; or a file in the folder is
            of another run.
    """
    folder = RunFolder(path)
    about = folder.describe()
    weights, report = folder.weights()
    trainer_class = TRAINERS.of_class(about["trainer"])
    if trainer_class is None:
        raise StoreError(f"{path} was trained by {about['trainer']}, which is unknown here")
    if model is None:
        if about["spec"] is None:
            raise RunMismatch(
                "this run's model is not one of gnnscale.nn by name: build it and pass model="
            )
        model = from_spec(about["spec"])
    known = about["task"]
    task = known["name"] if known["built_in"] else "auto"
    data = _find_graph(folder, about, task) if graph is None else as_data(graph, task)
    if graph is not None and known["built_in"]:
        data = _with_labels(data, known["name"], about.get("num_classes") or 0)
    taken = inspect.signature(trainer_class).parameters
    config = {name: value for name, value in about["config"].items() if name in taken}
    if device is not None:
        config["device"] = device
    if known["built_in"]:
        settings = (known["headline"], known["class_weight"], known["label_smoothing"])
        own = NodeTask(known["name"], *settings)
        arguments.setdefault("task", own if graph is None else own.scores())
    elif "task" not in arguments:
        raise RunMismatch(f"the run's task {known['name']!r} is your own: pass task=")
    for name in _CHOICES:
        if is_described(config.get(name)):
            arguments.setdefault(name, _absent(name, config[name]))
    if config.get("fine_tune"):
        config["fine_tune"] = {
            name: _absent("fine_tune", value) if name in _CHOICES and is_described(value) else value
            for name, value in config["fine_tune"].items()
        }
    if "controller" in config and "controller" not in arguments:
        arguments["controller"] = controller_from(config["controller"], folder.controller)
    arguments.setdefault("run_dir", path)
    trainer = trainer_class(model, data, **{**config, **arguments})
    same = arguments["run_dir"] == path
    if same and graph is not None:
        same = trainer.identity["data"]["fingerprint"] == about["data"]["fingerprint"]
    trainer.adopt(weights, Report(**report), same)
    return Run(trainer.model, data, trainer, trainer.report)


def _with_labels(
    data: Graph | ClusteredGraph, task: str, num_classes: int
) -> Graph | ClusteredGraph:
    """A graph without labels, which is there to be scored, with labels that nobody knows."""
    whole = data.graph if isinstance(data, ClusteredGraph) else data
    if whole.y is not None:
        return data
    shape = (whole.num_nodes,) if task == "classification" else (whole.num_nodes, num_classes)
    unknown = float("nan") if task == "regression" else -1
    y = torch.full(shape, unknown, dtype=torch.float32 if task == "regression" else torch.int64)
    whole = dataclasses.replace(whole, y=y, task=task, num_classes=num_classes)
    return dataclasses.replace(data, graph=whole) if isinstance(data, ClusteredGraph) else whole


def _absent(name: str, description: str) -> Callable:
    """Stands for a function that the configuration only names; needed for training alone."""

    def absent(*_: object) -> NoReturn:
        raise RunMismatch(f"the run's {name} was {description}: pass {name}= to load_run to go on")

    absent.__qualname__ = description
    return absent


def _find_graph(folder: RunFolder, about: Description, task: str) -> Graph | ClusteredGraph:
    known = about["data"]
    try:
        data = as_data(_open_graph(folder, known), task)
    except (InputError, StoreError) as error:
        if not (gone := changes(known.get("files", {}), known["source"])):
            raise
        ways = "Put that back as it was; or, for another graph, pass graph="
        raise type(error)(f"{error}. Since the run {_listed(gone)}. {ways}") from error
    whole = data.graph if isinstance(data, ClusteredGraph) else data
    same = whole.fingerprint() == known["fingerprint"]
    if not same or describe_data(data, known["fingerprint"])["clusters"] != known["clusters"]:
        changed = _listed(changes(known.get("files", {}), known["source"]))
        now = (
            ""
            if not known["source"] or known["clustered"]
            else f"gnnscale.load({known['source']!r})"
        )
        raise RunMismatch(
            f"the graph {known['name']} is no longer the one of the run: {changed or 'made anew'}. "
            "Put that back as it was; or, to use the run's model on what is there now, pass "
            f"graph={now}"
        )
    return data


def _listed(changed: list[str]) -> str:
    return "; ".join(changed[:5]) + "; …" * (len(changed) > 5)


def _open_graph(folder: RunFolder, known: Description) -> Graph | ClusteredGraph:
    if is_store(folder.graph):
        clustered = open_graph(folder.graph)
        return clustered if known["clustered"] else clustered.original()
    if is_stored_graph(folder.graph):
        # A run that is started anew must not clear it away.
        return dataclasses.replace(open_stored_graph(folder.graph), source=str(folder.graph))
    if known["source"] is None and folder.is_store_of_run(folder.store):
        return open_graph(folder.store).original()
    if known["source"] is None:
        raise RunMismatch(f"the run's graph is not in {folder.graph} any more: pass graph=")
    if known["clustered"]:
        return open_graph(known["source"])
    from gnnscale.data import load

    return load(known["source"])


_BY_ARGUMENTS: dict[str, Callable[..., StopController]] = {
    "FixedEpochs": FixedEpochs,
    "Plateau": Plateau,
}


def controller_from(description: Description, path: Path) -> StopController:
    """The controller of a run.

    Args:
        description: what its `describe` said.
        path: where a learned one was saved.

    Returns:
        It; for one that gnnscale does not know, one that stands for it in all but training.

    Raises:
        StoreError: a learned controller is missing or damaged.
        RunMismatch: the learned controller at `path` is another one.
    """
    arguments = dict(description)
    name = arguments.pop("controller", None)
    if name in _BY_ARGUMENTS:
        return _BY_ARGUMENTS[name](**arguments)
    if name != "LearnedController":
        return _Absent(description)
    controller = LearnedController.load(path)
    if controller.describe() != description:
        raise RunMismatch(f"the controller in {path} is no longer the run's: pass controller=")
    return controller


class _Absent:
    """Stands for a controller that a run only describes; needed for training alone."""

    needs_validation = False

    def __init__(self, description: Description) -> None:
        self._description = description

    def begin(self, layer: int, layers: int) -> None:
        self._refuse()

    def decide(self, progress: LayerProgress) -> Decision:
        self._refuse()

    def state_dict(self) -> State:
        self._refuse()

    def load_state_dict(self, state: State) -> None:
        self._refuse()

    def describe(self) -> Description:
        return self._description

    def _refuse(self) -> NoReturn:
        raise RunMismatch(
            f"the run's controller was {self._description}: pass controller= to load_run to go on"
        )
