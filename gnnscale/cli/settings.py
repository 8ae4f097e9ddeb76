"""From options and the card's preset to arguments of model and trainer, also layer by layer."""

from __future__ import annotations

import difflib
import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnnscale.cli.console import err, line
from gnnscale.cli.options import MODEL_DEFAULTS, MODEL_OPTIONS, read
from gnnscale.declared import arguments_of
from gnnscale.errors import InputError
from gnnscale.train.options import FREE_ON_RESUME, OPTIONS

if TYPE_CHECKING:
    from gnnscale.data import Card
    from gnnscale.data.recipes import Recipe
    from gnnscale.graph import Graph
    from gnnscale.nn import LayeredGNN
    from gnnscale.train.controllers.learned import LearnedController

CONTROLLER_FILE = "controller.safetensors"
_OF_CONTROLLERS = frozenset({"controller_file", "controller_kwargs"})
# Of a card's preset, which is for clusters: what is of the data.
_OF_DATA = ("inductive", "task", "metric", "split", "class_weight", "label_smoothing")
_CLUSTERS = ("num_parts", "clusters_per_batch")
# Of training: what the episodes that a controller is learned in have their own way, beside what
# changes no result.
_NOT_LEARNT_WITH = (
    *("fine_tune", "inductive", "keep", "evaluate_every"),
    *_CLUSTERS,
)


@dataclass(frozen=True)
class Settings:
    """What to build and how to train it.

    Attributes:
        kind: the model's name.
        model: further arguments of the model.
        trainer: arguments of the trainer that are not at their defaults, in words.
        preset: those of them that the data set's card has set.
    """

    kind: str
    model: dict[str, Any]
    trainer: dict[str, Any]
    preset: dict[str, Any]


def settings(
    options: dict[str, Any],
    card: Card | None,
    recipe: Recipe | None = None,
    trainer: str = "cluster",
) -> Settings:
    """Lay options over the card's preset, or over one of its recipes.

    Args:
        options: by name, as the command line gave them; None for those that were not given.
        card: of the data set, or None.
        recipe: of the card, instead of its preset.
        trainer: its name.

    Raises:
        InputError: an option cannot be read or is of another trainer, or the preset sets what there
            is not.
    """
    given = _read({name: value for name, value in options.items() if value is not None})
    if faults := options_of_another(given.keys() - set(MODEL_OPTIONS), trainer):
        raise InputError(faults)
    preset = {} if card is None else dict(card.preset if recipe is None else recipe.settings)
    table = "preset" if recipe is None else f"recipes.{recipe.name}"
    if unknown := sorted(preset.keys() - options.keys()):
        assert card is not None  # it, or a recipe of it, sets them
        faults = []
        for name in unknown:
            close = difflib.get_close_matches(name, options, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            faults.append(f"{card.path}: [{table}] sets {name!r}, which is no option{hint}")
        raise InputError(faults)
    said = preset.keys() - given
    if recipe is None and trainer != "cluster":
        said &= _said_for(trainer, "fine_tune" in given)
    if "norm" in given:  # the preset's were for another norm
        said -= {"norm_kwargs"}
    kind = given.get("model") or preset.get("model", MODEL_DEFAULTS["model"])
    if "norm_kwargs" in said and not _takes(kind, "norm_kwargs"):
        said -= {"norm", "norm_kwargs"}  # without its arguments it is another norm
    preset = {name: value for name, value in preset.items() if name in said}
    both = {**MODEL_DEFAULTS, **preset, **given}
    if "num_parts" in given and "clusters_per_batch" in preset:
        fewest = min(given["num_parts"], preset["clusters_per_batch"])
        both["clusters_per_batch"] = preset["clusters_per_batch"] = max(1, fewest)
    model = {name: both.pop(name) for name in MODEL_OPTIONS if name in both}
    model |= model.pop("model_kwargs", {})
    return Settings(model.pop("model"), model, both, preset)


def build_model(chosen: Settings, graph: Graph) -> LayeredGNN:
    """Build the model for a graph; seed torch before.

    Raises:
        InputError: the graph lacks features or labels, or an argument does not suit the model.
    """
    from gnnscale.nn import MODELS

    faults = []
    if graph.x is None:
        faults.append(
            f"{graph.name} has no features, which the models here start from; of edges in a table, "
            "a table of nodes has them: EDGES NODES"
        )
    for name in ("hidden_channels", "num_layers"):
        faults += MODEL_OPTIONS[name].faults(chosen.model[name])
    for name in chosen.model:
        if not _takes(chosen.kind, name):
            faults.append(f"model {chosen.kind!r} takes no {name}")
    if faults:
        raise InputError(faults)
    arguments = dict(chosen.model)
    widths = (graph.num_features, arguments.pop("hidden_channels"), arguments.pop("num_layers"))
    try:
        return MODELS[chosen.kind](*widths, graph.num_classes, **arguments)
    except (TypeError, ValueError) as error:  # PyG's own word on a norm or an argument
        raise InputError(f"model {chosen.kind!r} cannot be built: {error}") from error


def _takes(model: str, argument: str) -> bool:
    from gnnscale.nn import MODELS

    parameters = inspect.signature(MODELS[model]).parameters.values()
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)


def _read(given: dict[str, Any]) -> dict[str, Any]:
    found, faults = {}, []
    for name, value in given.items():
        try:
            found[name] = read(name, value) if isinstance(value, str) else value
        except ValueError as error:
            faults.append(f"--{name.replace('_', '-')} {error}")
    if faults:
        raise InputError(faults)
    return found


def options_of_another(names: Iterable[str], trainer: str) -> list[str]:
    """What is wrong with options that are of other trainers, in words; the model's are of all."""
    taken = {name: set(arguments_of(options)) for name, options in OPTIONS.items()}
    taken["layerwise"] |= _OF_CONTROLLERS
    faults = []
    for name in sorted(names):
        others = [other for other, has in taken.items() if name in has]
        if trainer in others or not others:
            continue
        fault = f"--{name.replace('_', '-')} is of --trainer {others[0]}, not of {trainer}"
        if name == "early_stopping":
            fault += "; --controller plateau stops a layer that gains nothing"
        elif trainer == "layerwise" and others[0] == "cluster":
            fault += f"; for clusters at the end: --fine-tune epochs=10,{name}=…"
        faults.append(fault)
    return faults


def _said_for(trainer: str, fine_tuned: bool) -> set[str]:
    """The arguments that a card's preset, which is of clusters, sets for another trainer too.

    Args:
        trainer: its name.
        fine_tuned: whether layers trained one by one train together at the end, on clusters.
    """
    if trainer == "layerwise":
        return {*MODEL_OPTIONS, *_OF_DATA, *(_CLUSTERS if fine_tuned else ())}
    return {*MODEL_OPTIONS, *arguments_of(OPTIONS[trainer])}


def trainer_arguments(
    words: Mapping[str, Any], data: object, model: Callable[[], object], folder: Path, anew: bool
) -> dict[str, Any]:
    """The arguments of `LayerwiseTrainer` that the words of the command line mean.

    Args:
        words: options by name, as `Settings.trainer` has them.
        data: the graph, which a controller is learned on where none is given.
        model: makes a model for it.
        folder: where a learned controller is kept.
        anew: whether one that is there is learned again.

    Raises:
        InputError: words that do not go together, or an argument that there is not.
        StoreError: the controller's file is missing or damaged.
    """
    arguments = {name: value for name, value in words.items() if name not in _OF_CONTROLLERS}
    table = dict(words.get("controller_kwargs") or {})
    path = words.get("controller_file")
    kind = arguments.pop("controller", None) or ("fixed" if path is None else "learned")
    _check(kind, table, path)
    if fine_tune := arguments.pop("fine_tune", None):
        known = {name: arguments[name] for name in _CLUSTERS if name in arguments}
        arguments["fine_tune"] = {**known, **fine_tune}
    if kind == "fixed":
        arguments.setdefault("epochs", 80)
    arguments["controller"] = _controller(kind, table, path, arguments, data, model, folder, anew)
    return arguments


def _check(kind: str, table: dict[str, Any], path: object) -> None:
    faults = []
    if path is not None and kind != "learned":
        faults.append(
            f"--controller-file: --controller {kind} reads none; --controller learned does"
        )
    if path is not None and table:
        faults.append(
            "--controller-kwargs: the controller in --controller-file has learned already"
        )
    if kind == "fixed" and table:
        faults.append("--controller-kwargs: --controller fixed has --epochs alone")
    if faults:
        raise InputError(faults)


def _controller(
    kind: str,
    table: dict[str, Any],
    path: Any,
    arguments: dict[str, Any],
    data: object,
    model: Callable[[], object],
    folder: Path,
    anew: bool,
) -> Any:
    from gnnscale.train.controllers.learned import LearnedController
    from gnnscale.train.controllers.stopping import FixedEpochs, Plateau

    if kind == "fixed":
        return FixedEpochs(arguments["epochs"])
    maker: Any = Plateau if kind == "plateau" else LearnedController.learn
    if unknown := sorted(table.keys() - inspect.signature(maker).parameters.keys()):
        raise InputError(f"--controller-kwargs: --controller {kind} has no {', '.join(unknown)}")
    if kind == "plateau":
        return Plateau(**table)
    if path is not None:
        return LearnedController.load(path)
    left = {*_NOT_LEARNT_WITH, *FREE_ON_RESUME} - {"device"}
    with_ = {name: value for name, value in arguments.items() if name not in left}
    return _learned({**with_, **table}, data, model, folder / CONTROLLER_FILE, anew)


def _learned(
    arguments: dict[str, Any], data: Any, model: Callable[[], object], path: Path, anew: bool
) -> LearnedController:
    """Learn a controller, or take the one that was learned so for the run in the folder."""
    from gnnscale.train.controllers.learned import LearnedController

    if path.exists() and not anew:
        known = LearnedController.load(path)
        about = {"num_nodes": data.num_nodes, **arguments}
        # The run's own configuration says the rest, such as the learning rate.
        if all(known.learnt_on[name] == about[name] for name in about.keys() & known.learnt_on):
            line(f"controller: {known}, of {path}")
            return known
    began = time.monotonic()
    with err.status("learning a controller on samples of the graph"):
        controller = LearnedController.learn(model, data, **arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    controller.save(path)
    line(f"controller: {controller}, in {time.monotonic() - began:.1f} s, kept in {path}")
    return controller
