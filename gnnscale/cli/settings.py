"""From the options of `gnnscale train` and the card's preset to arguments of model and trainer."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnnscale.cli.layerwise import of_preset, of_preset_for, options_of_another
from gnnscale.cli.training_options import MODEL_DEFAULTS, MODEL_OPTIONS, read
from gnnscale.errors import InputError

if TYPE_CHECKING:
    from gnnscale.data import Card
    from gnnscale.data.recipes import Recipe
    from gnnscale.graph import Graph
    from gnnscale.nn import LayeredGNN


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
        faults = []
        for name in unknown:
            close = difflib.get_close_matches(name, options, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            faults.append(f"{card.path}: [{table}] sets {name!r}, which is no option{hint}")  # type: ignore[union-attr]
        raise InputError(faults)
    if recipe is None and trainer == "layerwise":
        preset = of_preset(preset, tuple(MODEL_OPTIONS), "fine_tune" in given)
    if recipe is None and trainer in ("graph", "pipeline"):
        preset = of_preset_for(trainer, preset, tuple(MODEL_OPTIONS))
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
        faults.append(f"{graph.name} has no features, which the models here start from")
    if graph.y is None:
        faults.append(f"{graph.name} has no labels to learn")
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
