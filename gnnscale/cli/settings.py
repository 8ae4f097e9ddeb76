"""From the options of `gnnscale train` and the card's preset to arguments of model and trainer."""

from __future__ import annotations

import ast
import difflib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnnscale.cli.layerwise import of_preset, of_preset_for, options_of_another
from gnnscale.cli.options import read_balance
from gnnscale.errors import InputError

if TYPE_CHECKING:
    from gnnscale.data import Card
    from gnnscale.data.recipes import Recipe
    from gnnscale.graph import Graph
    from gnnscale.nn import LayeredGNN

MODEL_DEFAULTS: dict[str, Any] = {"model": "sage", "hidden_channels": 128, "num_layers": 3}
_MODEL_OPTIONS = (
    *MODEL_DEFAULTS,
    "dropout",
    "act",
    "norm",
    "norm_kwargs",
    "residual",
    "model_kwargs",
)
# Options that may be a number or a word; "none" is Python's None for all of them.
_NUMBER_OR_WORD = {
    "evaluate_every": (int, "auto"),
    "checkpoint_every": (int, "auto"),
    "memory": (str, "auto"),
    "early_stopping": (int, "none"),
    "clip_norm": (float, "none"),
}
_NONE = ("scheduler", "norm", "act", "class_weight")
_TABLES = ("norm_kwargs", "model_kwargs", "controller_kwargs")


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
    if faults := options_of_another(given.keys() - set(_MODEL_OPTIONS), trainer):
        raise InputError(faults)
    preset = {} if card is None else dict(card.preset if recipe is None else recipe.settings)
    table = "preset" if recipe is None else f"recipes.{recipe.name}"
    if unknown := sorted(preset.keys() - options.keys()):
        faults = []
        for name in unknown:
            close = difflib.get_close_matches(name, options, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            faults.append(f"{card.path}: [{table}] sets {name!r}, which is no option{hint}")  # type: ignore[union-attr]
        raise InputError(faults)
    if recipe is None and trainer == "layerwise":
        preset = of_preset(preset, _MODEL_OPTIONS, "fine_tune" in given)
    if recipe is None and trainer in ("graph", "pipeline"):
        preset = of_preset_for(trainer, preset, _MODEL_OPTIONS)
    preset = {name: value for name, value in preset.items() if name not in given}
    if "norm" in given:  # the preset's were for another norm
        preset.pop("norm_kwargs", None)
    both = {**MODEL_DEFAULTS, **preset, **given}
    if not _takes(both["model"], "norm_kwargs") and "norm_kwargs" in preset:
        for name in ("norm", "norm_kwargs"):  # without its arguments it is another norm
            preset.pop(name, None)
        both = {**MODEL_DEFAULTS, **preset, **given}
    if "num_parts" in given and "clusters_per_batch" in preset:
        fewest = min(given["num_parts"], preset["clusters_per_batch"])
        both["clusters_per_batch"] = preset["clusters_per_batch"] = max(1, fewest)
    model = {name: both.pop(name) for name in _MODEL_OPTIONS if name in both}
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
        faults.append(f"{graph.name} has no features, which the models here start from")
    if graph.y is None:
        faults.append(f"{graph.name} has no labels to learn")
    for name in ("hidden_channels", "num_layers"):
        if chosen.model[name] < 1:
            faults.append(f"{name}={chosen.model[name]} must be at least 1")
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
    read, faults = {}, []
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if name in _NUMBER_OR_WORD:
            kind, word = _NUMBER_OR_WORD[name]
            if value == word:
                value = None if word == "none" else word
            else:
                try:
                    value = kind(value)
                except ValueError:
                    faults.append(f"{option} {value!r}: a number or {word!r}")
        elif name == "balance":
            value = read_balance(value)
        elif name in _NONE and value == "none":
            value = None
        elif name == "stages" and value != "auto":
            try:
                numbers = [int(number) for number in value.split(",")]
                value = numbers if "," in value else numbers[0]
            except ValueError:
                faults.append(f"{option} {value!r}: a number, 'auto', or blocks as 2,4")
        elif name == "fine_tune" and (value == "none" or value.isdecimal()):
            value = None if value == "none" else {"epochs": int(value)}
        elif name in (*_TABLES, "fine_tune"):
            try:
                value = read_table(value)
            except ValueError as error:
                faults.append(f"{option} {error}")
        read[name] = str(value) if isinstance(value, str) else value
    if faults:
        raise InputError(faults)
    return read


def read_table(text: str) -> dict[str, Any]:
    """Read "mode=node,eps=1e-5": words, numbers, True, False and None.

    Raises:
        ValueError: it is not of that form.
    """
    table: dict[str, Any] = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ValueError(f"{pair!r}: write name=value,name=value")
        try:
            table[name.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            table[name.strip()] = value.strip()
    return table
