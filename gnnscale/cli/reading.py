"""The options that say what tables are, and a data set's name made of files and what is said.

Everything that opens a data set by its name opens tables so: a file of edges, with what
`gnnscale.from_edge_list` is told behind a question mark.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gnnscale.data.options import as_query, by_table, read_texts, split_query
from gnnscale.errors import InputError
from gnnscale.storage.files import expanded

READING = "Tables of edges and nodes"

_OPTIONS: Mapping[str, tuple[Any, str, str | None]] = {
    "labels": (
        str,
        "Column of labels, several as A,B, or a file of ids and labels.",
        "COLUMN|FILE",
    ),
    "id": (str, "Column of ids in the table of nodes.", "COLUMN"),
    "source": (str, "Column of sources in the table of edges.", "COLUMN"),
    "target": (str, "Column of targets.", "COLUMN"),
    "weight": (str, "Column of weights.", "COLUMN"),
    "time": (str, "Column of times, of edges or nodes, or one of each, as A,B.", "COLUMN,…"),
    "drop": (str, "Columns to leave out, as A,B.", "COLUMN,…"),
    "feature_recipe": (str, "How columns become features: age=standardise,city=one-hot.", "K=V,…"),
    "sep": (
        list[str],
        r"What stands between cells of text, as ';' or '\t'; of NODES, 'features=;'.",
        "TEXT",
    ),
    "comment": (
        list[str],
        "What lines begin with that are no rows; of NODES, 'features=#'.",
        "TEXT",
    ),
    "header": (
        list[str],
        "Whether the first row of text names its columns, or these names; of NODES, features=no.",
        "yes|no|A,B,…",
    ),
    "encoding": (
        list[str],
        "Of text: utf-8, utf-16, latin-1 …; of NODES, features=cp1250.",
        "NAME",
    ),
    "decimal": (
        list[str],
        "What stands before decimals, where numbers in text do not tell; of NODES, 'features=,'.",
        ".|,",
    ),
    "directed": (bool, "Edges have one direction: no reverse is added.", None),
    "coalesce": (bool, "Merge parallel edges, adding their weights.", None),
    "absent": (str, "Edges of nodes without a row: refuse, or drop.", "refuse|drop"),
    "num_nodes": (int, "Ids are numbers below it.", None),
}

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[EDGES [NODES]]",
        help="Tables, instead of --dataset: edges, and nodes with their features and labels.",
        show_default=False,
    ),
]


def with_reading_options(
    *leave_out: str,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that ends in `**given` the options of tables, without these."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        made = [_parameter(name) for name in _OPTIONS if name not in leave_out]
        parameters = [*own, *made]
        vars(function)["__signature__"] = signature.replace(parameters=parameters)
        function.__annotations__ = {p.name: p.annotation for p in parameters}
        return function

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    kind, text, metavar = _OPTIONS[name]
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=text,
        metavar=metavar,
        show_default=False,
        rich_help_panel=READING,
    )
    annotation: Any = Annotated[kind | None, option]
    by_name = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, by_name, default=None, annotation=annotation)


def taken(given: dict[str, Any]) -> dict[str, Any]:
    """What is said of tables, taken out of the options of a command."""
    said = {name: given.pop(name, None) for name in _OPTIONS}
    said = {name: value for name, value in said.items() if value not in (None, [])}
    for name, value in said.items():
        if isinstance(value, list):
            said[name] = _merged(value)
    if said.pop("directed", False):
        said["undirected"] = False
    if "feature_recipe" in said:
        said["recipe"] = said.pop("feature_recipe")
    return said


def _merged(texts: Sequence[str]) -> str:
    """What is said of the text of several tables, each by its name; of edges without one."""
    found: dict[str, str] = {}
    for text in texts:
        own = by_table(text)
        found |= own if isinstance(own, dict) else {"edges": own}
    if found.keys() == {"edges"}:
        return found["edges"]
    return ",".join(f"{table}={own}" for table, own in found.items())


def opened_as(dataset: str | None, files: Sequence[str] | None, given: dict[str, Any]) -> str:
    """The name of what a command is given; what is said of tables is taken out of its options.

    Where tables are given, `split` is of them; of anything else it names a split set, or shares
    of a random one.
    """
    said, split = taken(given), given.get("split")
    if split is not None and ("/" in split or are_tables(dataset, files or ())):
        given["split"] = None
    else:
        split = None
    return dataset_of(dataset, files or (), said, split)


def dataset_of(
    dataset: str | None, files: Sequence[str], said: Mapping[str, Any], split: str | None = None
) -> str:
    """The name under which `gnnscale.load` opens what was given.

    Args:
        dataset: a name or path, or None.
        files: a name or path, or tables: edges, then nodes.
        said: of tables, as `taken` gave it.
        split: what becomes training, validation and test nodes, where it is said of tables.

    Raises:
        InputError: nothing is given, or too much; or something is said of tables, and there are
            none.
    """
    if dataset is not None and files:
        raise InputError(f"give --dataset {dataset}, or files ({' '.join(files)}), not both")
    if dataset is None and not files:
        raise InputError("give --dataset NAME|PATH, or files: a table of edges, and one of nodes")
    if len(files) > 2:
        raise InputError(
            f"{len(files)} files: give edges, and nodes; labels in a file of their own are "
            "--labels FILE, part files a folder or a pattern in quotes"
        )
    first = _path(files[0] if dataset is None else dataset, is_table=len(files) == 2)
    options = dict(said)
    if len(files) == 2:
        options["features"] = _absolute(files[1])
    if split is not None:
        options["split"] = split
    if not options:
        return first
    if "labels" in options and os.path.exists(options["labels"]):
        options["labels"] = _absolute(options["labels"])
    base, query = split_query(first)
    if options.keys() - {"split"} and not os.path.exists(expanded(base)) and not _is_pattern(base):
        words = ", ".join(f"--{name.replace('_', '-')}" for name in said) or files[-1]
        raise InputError(f"{base}: there is no such file, and {words} is of tables in files")
    return base + as_query({**options, **read_texts(base, query)})


def are_tables(dataset: str | None, files: Sequence[str]) -> bool:
    """Whether what is given is read as tables: `--split` is then of them."""
    if len(files) == 2:
        return True
    from gnnscale.data.formats.registry import find_format

    given = _path(files[0] if files else dataset or "")
    path = Path(os.path.expanduser(split_query(given)[0]))
    if not path.exists():
        return _is_pattern(path)
    found = find_format(path)
    return found is not None and found.name == "edges"


def _path(given: str, is_table: bool = False) -> str:
    """A bare name that is a file, or a folder of tables, is written as a path."""
    there = Path(given).exists() if is_table else Path(given).suffix and Path(given).is_file()
    bare = given == os.path.basename(given) and there
    return f"./{given}" if bare else given


def _is_pattern(path: str | Path) -> bool:
    """Whether it stands for part files; a question mark is what options stand behind."""
    return bool(set(str(path)) & set("*["))


def _absolute(given: str) -> str:
    return os.path.abspath(os.path.expanduser(given))
