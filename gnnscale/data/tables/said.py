"""What a caller says of tables and columns, made out: see `gnnscale.from_edge_list`."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnnscale.data.options import TABLES
from gnnscale.data.tables.files import is_pattern
from gnnscale.data.tables.node_table import npy_path
from gnnscale.data.tables.roles.nodes import Meant
from gnnscale.data.tables.table import Table, open_table
from gnnscale.data.tables.text.questions import asked_of
from gnnscale.data.tables.values.recipe import FeatureRecipe
from gnnscale.errors import InputError
from gnnscale.graph.schema import Schema
from gnnscale.storage.arrow import pyarrow
from gnnscale.storage.files import expanded

ColumnSaid = str | int


@dataclass(frozen=True)
class Told:
    """What a caller says of columns; see `gnnscale.from_edge_list`.

    Columns that were times in earlier tables are `times_before`: those that there are, are again.
    """

    id: ColumnSaid | None = None
    source: ColumnSaid | None = None
    target: ColumnSaid | None = None
    weight: ColumnSaid | None = None
    time: Sequence[ColumnSaid] = ()
    times_before: Sequence[str] = ()
    drop: Sequence[ColumnSaid] | Mapping[str, Any] = ()
    split: ColumnSaid | None = None
    recipe: Any = None


def dialects(dialect: Mapping[str, Any], told: Told) -> dict[str, dict[str, Any]]:
    """What is said of the text of each table: of the edges, unless by name.

    Where columns of edges are named, they have a header: who does that has seen it.

    Raises:
        InputError: there is no such table; or what is said of a header is neither whether there is
            one nor names.
    """
    found: dict[str, dict[str, Any]] = {table: dict.fromkeys(dialect) for table in TABLES}
    for key, said in dialect.items():
        for table, value in (said if isinstance(said, Mapping) else {"edges": said}).items():
            if table not in found:
                raise InputError(f"{key}: {table!r} is none of {', '.join(TABLES)}")
            if key == "header" and not (value is None or isinstance(value, bool | list | tuple)):
                raise InputError(
                    f"header={value!r} must be True, False or the names of the columns"
                )
            found[table][key] = value
    named = [one for one in (told.source, told.target, told.weight) if isinstance(one, str)]
    if found["edges"]["header"] is None and any(not re.fullmatch(r"f?\d+", one) for one in named):
        found["edges"]["header"] = True
    return found


def listed(named: ColumnSaid | Sequence[ColumnSaid]) -> list[ColumnSaid]:
    """One column, or several."""
    return list(named) if isinstance(named, Collection) and not isinstance(named, str) else [named]


def named_anywhere(
    tables: Mapping[str, Table],
    keyword: str,
    wanted: Sequence[ColumnSaid] | Mapping[str, Any],
) -> dict[str, list[str]]:
    """The columns of these names, by table; a number is of the first table, unless one is said.

    Raises:
        InputError: no table has one.
    """
    if isinstance(wanted, Mapping):
        if absent := [key for key in wanted if key not in tables]:
            raise InputError(f"{keyword}: {absent[0]!r} is none of {', '.join(tables)}")
        return {
            key: [tables[key].column(one).name for one in listed(named)]
            for key, named in wanted.items()
        }
    found: dict[str, list[str]] = {}
    for one in wanted:
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise InputError(f"{keyword}={one!r}: a column is a name or a number")
        if isinstance(one, int):
            where = {key: [t.column(one).name] for key, t in [*tables.items()][:1]}
        else:
            where = {k: [one] for k, t in tables.items() if one in {c.name for c in t.columns}}
        if not where:
            there = "; ".join(
                f"{t.what} has {', '.join(c.name for c in t.columns)}" for t in tables.values()
            )
            raise InputError(f"{keyword}={one!r}: no table has such a column: {there or 'none'}")
        for key, names in where.items():
            found.setdefault(key, []).extend(names)
    return found


def opened_table(given: object, what: str, dialect: Mapping[str, Any]) -> Table | None:
    """A table, of whose text this is said; None of what is an array, or nothing."""
    if given is None or npy_path(given) is not None or _is_array(given):
        return None
    with asked_of(what):
        table = open_table(given, what, **dialect)
    table.whose, table.comment = what, dialect["comment"]
    if not table.columns:
        without = "; of a graph without edges it is that line alone" if what == "edges" else ""
        raise InputError(
            f"{table.what} is empty: it has no row, nor the line that names columns{without}"
        )
    return table


def _is_array(given: object) -> bool:
    if isinstance(given, np.ndarray):
        return given.dtype.names is None
    kind = type(given)
    foreign = kind.__module__.split(".")[0] in ("torch", "scipy") or kind.__name__ == "Series"
    return foreign or isinstance(given, list | tuple | range)


def labels_said(labels: object, features: Table | None) -> tuple[list[ColumnSaid], object]:
    """Columns of the table of nodes that are labels, and labels apart.

    Raises:
        InputError: they are neither a column nor a file, nor anything that may be labels.
    """
    names = [] if features is None else [column.name for column in features.columns]
    if labels is None:
        return [], None
    if isinstance(labels, Mapping):
        try:
            return [], pyarrow.table({"id": [*labels], "label": [*labels.values()]})
        except pyarrow.ArrowException as error:
            raise InputError(f"labels: ids, or labels, are of several types: {error}") from error
    if isinstance(labels, int) and not isinstance(labels, bool):
        return [labels], None
    if isinstance(labels, list | tuple):
        several: list[ColumnSaid] = [one for one in labels if isinstance(one, str) and one in names]
        if several and len(several) == len(labels):
            return several, None
    if isinstance(labels, str) and labels in names:
        return [labels], None
    path = expanded(labels) if isinstance(labels, str) else None
    if path is not None and not path.exists() and not is_pattern(path):
        there = (
            f"{features.what} has {', '.join(names)}" if features is not None else "no features="
        )
        raise InputError(f"labels={labels!r} is no column ({there}) and no file")
    if type(labels).__name__ == "Series" and type(labels).__module__.startswith("pandas"):
        return [], _of_series(labels)
    return [], labels


def _of_series(labels: Any) -> object:
    """A pandas Series: its index is ids, unless that counts the rows."""
    if list(labels.index) == list(range(len(labels))):
        return labels.to_numpy()
    return labels.rename("label").rename_axis("id").reset_index()


def recipe_said(wanted: Any, table: Table) -> Mapping[str, str] | str | FeatureRecipe | None:
    """What is said of features, by the names of their columns.

    Raises:
        InputError: it is no recipe; or there is no such column.
    """
    if isinstance(wanted, Schema):
        if wanted.recipe is None:
            raise InputError("recipe: this schema has none; its features were no columns")
        return FeatureRecipe.from_json(wanted.recipe)
    if isinstance(wanted, Mapping):
        return {
            table.column(one).name if isinstance(one, int) else one: kind
            for one, kind in wanted.items()
        }
    if wanted is None or isinstance(wanted, str | FeatureRecipe):
        return wanted
    raise InputError(
        f"recipe={wanted!r}: give {{column: kind}}, one kind for all columns, or another graph's "
        "schema"
    )


def meant_by(recipe: Mapping[str, str] | str | FeatureRecipe | None, column: str) -> Meant:
    """Whether a recipe makes numbers or text of a column, and the decimal sign of these."""
    if isinstance(recipe, FeatureRecipe):
        one = recipe.ingredients.get(column)
        if one is None or one.type not in ("number", "text"):
            return "", ""
        return ("number", one.decimal) if one.type == "number" else ("text", "")
    declared = {"*": recipe} if isinstance(recipe, str) else recipe or {}
    kind = declared.get(column, declared.get("*"))
    if not isinstance(kind, str) or not kind:
        return "", ""
    return "text" if kind.startswith(("one-hot", "hash", "drop")) else "number", ""


def name_of(edges: object) -> str:
    """What to call a graph of these edges: as their file or folder."""
    if not isinstance(edges, str | os.PathLike):
        return "graph"
    path = expanded(edges)
    while is_pattern(path):
        path = path.parent
    return path.name.split(".")[0] or "graph"
