"""The options of commands: those that several share, and those made from what trainers declare."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from gnnscale.cli.console import show_log
from gnnscale.declared import Argument, about, arguments_of
from gnnscale.model_arguments import MODEL, PyGArguments
from gnnscale.train.options import BATCHES, EVALUATION, LAYERS, OPTIONS, RUN, TRAINING

Trainer = Literal["cluster", "layerwise", "graph", "pipeline"]


def _show_log(verbose: bool) -> None:
    if verbose:
        show_log(verbose=True)


DATASET_HELP = (
    "A name (see gnnscale datasets), a path (.npz, folder of arrays, stored graph) or "
    "synthetic:planted?nodes=10000."
)

Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", callback=_show_log, help="Tell on stderr what is being done."),
]
Dataset = Annotated[
    str | None,
    typer.Option("--dataset", "-d", metavar="NAME|PATH", help=DATASET_HELP, show_default=False),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download", help="Fetch the data where they are not on this machine (OGB's, PyG's)."
    ),
]
GraphOfRun = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        metavar="NAME|PATH",
        help="The graph, where it is no longer where the run found it.",
        show_default="the run's",
    ),
]
DeviceOfRun = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 …", show_default="the run's"),
]


def name_or_files(also: str = "") -> object:
    """The argument that is a data set, by its name or path or as tables, or something `also`."""
    return typer.Argument(
        metavar="NAME|PATH [NODES]",
        help=f"{DATASET_HELP} Or {also}tables of edges and of nodes.",
        show_default=False,
    )


# --- of training -------------------------------------------------------------------------------
Model = Literal[
    "sage", "gcn", "gin", "gat", "cluster_gcn", "sgc", "ssgc", "tagcn", "appnp", "sign", "gcnii",
    "deepgcn", "mlp",
]  # fmt: skip
_HEADINGS = (MODEL, TRAINING, BATCHES, LAYERS, EVALUATION, RUN)


# A field is a paragraph.
# fmt: off
@dataclass(frozen=True)
class ModelOptions:
    """Which model the command line builds; `gnnscale.nn.MODELS` has them by name."""

    model: Annotated[Model, about("Which model.", heading=MODEL)] = "sage"
    model_kwargs: Annotated[Mapping[str, Any] | None, about(
        "Further arguments of the model, such as heads=4, aggr=max or diag_lambda=1.",
        heading=MODEL, metavar="K=V,…", shown="",
    )] = None


@dataclass(frozen=True)
class ControllerOptions:
    """What the command line makes a stop controller of."""

    controller: Annotated[Literal["fixed", "plateau", "learned"], about(
        "What stops the training of a layer.",
        heading=LAYERS,
    )] = "fixed"
    controller_kwargs: Annotated[Mapping[str, Any] | None, about(
        "Its arguments: patience=5,monitor=metric for plateau; rounds=100 for learning.",
        heading=LAYERS, metavar="K=V,…", shown="",
    )] = None
    controller_file: Annotated[Path | None, about(
        "A learned controller (controller.safetensors of a run); else it is learned first.",
        heading=LAYERS, metavar="FILE", shown="",
    )] = None


# fmt: on
MODEL_DEFAULTS: dict[str, Any] = {"model": "sage", "hidden_channels": 128, "num_layers": 3}


def _of_models() -> dict[str, Argument]:
    """What a model is built of, those first that are there without a default."""
    found = arguments_of(ModelOptions) | arguments_of(PyGArguments)
    names = [name for name, one in found.items() if "heading" in one.said]
    order = sorted(names, key=lambda name: (name != "model", name == "model_kwargs"))
    given = {name: found[name] for name in order}
    return {
        name: replace(one, default=MODEL_DEFAULTS.get(name, one.default))
        for name, one in given.items()
    }


MODEL_OPTIONS: Mapping[str, Argument] = _of_models()


def _all() -> dict[str, Argument]:
    """Every argument that is an option; of one that several trainers have, the first's help."""
    found = dict(MODEL_OPTIONS)
    for declaration in (ControllerOptions, *OPTIONS.values()):
        for name, argument in arguments_of(declaration).items():
            if "heading" in argument.said:
                found.setdefault(name, argument)
    return found


DECLARED: Mapping[str, Argument] = _all()


def with_training_options(
    *leave_out: str,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that ends in `**given` the declared options, where typer looks for them.

    Args:
        leave_out: names of those that it does not share.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        made = [_parameter(one) for name, one in DECLARED.items() if name not in leave_out]
        parameters = sorted([*own, *made], key=_place)
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters]
        vars(function)["__signature__"] = signature.replace(parameters=parameters)
        function.__annotations__ = {p.name: p.annotation for p in parameters}
        return function

    return decorate


def _place(parameter: inspect.Parameter) -> int:
    """Where an option stands: below those of no training, in the order of the headings."""
    for said in get_args(parameter.annotation)[1:]:
        if (heading := said.rich_help_panel) in _HEADINGS:
            return _HEADINGS.index(heading)
    return -1


def _parameter(argument: Argument) -> inspect.Parameter:
    said = argument.said
    kind, metavar = _kind(argument)
    text = typer.Option(
        help=said.get("option", said["help"]),
        show_default=said.get("shown", _default(argument)) or False,
        rich_help_panel=said["heading"],
        metavar=said.get("metavar", metavar),
    )
    annotation: Any = Annotated[kind | None, text]
    by_name = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(argument.name, by_name, default=None, annotation=annotation)


def _default(argument: Argument) -> str:
    if isinstance(argument.default, bool):
        return argument.name.replace("_", "-") if argument.default else "no"
    return "none" if argument.default is None else str(argument.default)


def _kind(argument: Argument) -> tuple[Any, str | None]:
    """The type that typer reads, and what stands for a value where that does not tell."""
    values, kinds = argument.parts
    words = _words(argument)
    if True in values:
        return bool, None
    numbers = {int, float} & set(kinds)
    others = {str, Mapping, Sequence} & set(kinds)
    if numbers and not words and not others:
        return numbers.pop(), None
    if Path in kinds:
        return Path, None
    if words and not numbers and not others:
        return Literal[*words], None
    return str, "|".join([*("N" for _ in numbers), *words]) or None


def _words(argument: Argument) -> list[str]:
    """The words that may be said in the place of another value."""
    values, _ = argument.parts
    words = [value for value in values if isinstance(value, str)]
    return [*words, "none"] if None in values and "shown" not in argument.said else words


def read(name: str, text: str) -> Any:
    """The value that an option's text means.

    Raises:
        ValueError: saying what may be written.
    """
    if name not in DECLARED:
        return text
    argument = DECLARED[name]
    _, kinds = argument.parts
    words = _words(argument)
    if text in words or (text == "none" and argument.hint is Any):
        return None if text == "none" else text
    if Mapping in kinds:
        if name == "fine_tune" and text.isdecimal():
            return {"epochs": int(text)}
        return read_table(text)
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                pass
    if Sequence in kinds and "," in text:
        try:
            return [int(number) for number in text.split(",")]
        except ValueError:
            pass
    if not {int, float} & set(kinds) or str in kinds:
        return text
    may = ["a number", *map(repr, words), *(["blocks as 2,4"] if Sequence in kinds else [])]
    raise ValueError(f"{text!r}: {' or '.join(may)}")


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
