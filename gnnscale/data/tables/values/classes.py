"""Columns of a table as labels: classes and labels keep what they are called.

========================  ==========================================================================
text, dictionaries        classes, numbered in the order of the dictionary, else ascending
booleans                  the classes "false" and "true"
lists of text             several labels a row
several columns           of booleans or 0 and 1: several labels; of numbers: several targets
numbers                   as `gnnscale.graph.reading.labels` reads them; where `task` says that they
                          are classes and they are not numbered from 0 on, they are numbered through
========================  ==========================================================================

A cell that is empty is unlabelled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gnnscale.data.tables.text.cells import MISSING
from gnnscale.errors import InputError
from gnnscale.graph.reading.labels import with_unknown
from gnnscale.storage.arrow import compute, pyarrow, types

#: What also stands for nothing, where others are text.
_NO_LABEL = {word.lower() for word in MISSING if word} | {"?", "-", "--", "missing"}
_COMMA = re.compile(r"[-+]?\d+,\d+")
_ROWS = 20  # from here on, text that is different in every row is no class


class LabelColumns(NamedTuple):
    """Labels as a table has them.

    Attributes:
        y: `[rows]` or `[rows, columns]`; anything where nothing is known.
        known: bool, of its shape.
        names: of classes, labels or targets, in the order of their numbers; None without names.
        task: what the columns can only be for, or what was said; None where the values are to tell.
    """

    y: np.ndarray
    known: np.ndarray
    names: tuple[str, ...] | None
    task: str | None

    def labels(self) -> np.ndarray:
        """The labels, with -1 or NaN where nothing is known."""
        return with_unknown(self.y, self.known, self.task)


def read_label_columns(
    columns: Mapping[str, pyarrow.ChunkedArray],
    task: str | None = None,
    names: Sequence[str] | None = None,
    what: str = "labels",
) -> LabelColumns:
    """Read columns of a table as labels.

    Args:
        columns: by name, all of one length.
        task: "classification", "multilabel", "regression"; None where the columns are to tell.
        names: of the classes or labels there are already, as in another table; None where these
            columns say which there are.
        what: what the table is called in errors.

    Raises:
        InputError: a column is of a type that makes no label, or not for this task; a class is
            none of `names`; text is different in every row.
    """
    plain = {name: _decoded(column) for name, column in columns.items()}
    if len(plain) > 1:
        return _several(plain, task, what)
    [(name, column)] = plain.items()
    where = f"{what}: {name}"
    if _is_text(column.type):
        return _text_classes(column, _order(columns[name]), task, names, where)
    if types.is_boolean(column.type):
        y, known = _filled(column)
        several = task == "multilabel"
        called = (name,) if several else ("false", "true")
        return LabelColumns(y, known, called, task or "classification")
    if _is_list(column.type) and _is_text(column.type.value_type):
        return _lists(column, task, names, where)
    if not _is_number(column.type):
        raise InputError(f"{where} is {column.type}; labels are numbers, text or booleans")
    y, known = _filled(column)
    if task == "classification":
        return _numbered(y, known, names, where)
    return LabelColumns(y, known, None, task)


def _text_classes(
    column: pyarrow.ChunkedArray,
    order: list[str] | None,
    task: str | None,
    names: Sequence[str] | None,
    where: str,
) -> LabelColumns:
    if task not in (None, "classification"):
        raise InputError(
            f"{where} is text, which is classes; for {task} give numbers"
            + (", or lists of text" if task == "multilabel" else "")
        )
    column = compute.if_else(compute.equal(column, ""), None, column)
    found = sorted(compute.unique(column).drop_null().to_pylist())
    _check_meant(found, where)
    rows = len(column) - column.null_count
    if names is None and order is None and rows == len(found) >= _ROWS:
        raise InputError(
            f"{where} is different in each of its {rows:,} rows, as {found[0]!r}: is it an id? "
            "Give the column of classes as labels="
        )
    if names is None:
        names = found if order is None else [*order, *(v for v in found if v not in set(order))]
    _check_known(found, names, where)
    codes = compute.index_in(column, value_set=pyarrow.array(list(names), pyarrow.large_string()))
    y, known = _filled(codes)
    return LabelColumns(y.astype(np.int64), known, tuple(names), "classification")


def _lists(
    column: pyarrow.ChunkedArray, task: str | None, names: Sequence[str] | None, where: str
) -> LabelColumns:
    if task not in (None, "multilabel"):
        raise InputError(f"{where} holds lists of text, which is several labels a row, not {task}")
    merged = column.combine_chunks()
    flat = merged.flatten().cast(pyarrow.large_string())
    found = sorted(compute.unique(flat).drop_null().to_pylist())
    names = found if names is None else names
    _check_known(found, names, where)
    place = compute.index_in(flat, value_set=pyarrow.array(list(names), pyarrow.large_string()))
    row = compute.list_parent_indices(merged).to_numpy()
    some = place.is_valid().to_numpy(zero_copy_only=False)
    y = np.zeros((len(merged), len(names)), np.int8)
    y[row[some], place.drop_null().to_numpy()] = 1
    known = merged.is_valid().to_numpy(zero_copy_only=False)
    return LabelColumns(y, np.repeat(known[:, None], len(names), 1), tuple(names), "multilabel")


def _several(
    columns: Mapping[str, pyarrow.ChunkedArray], task: str | None, what: str
) -> LabelColumns:
    wrong = {
        name: "text" if _is_text(column.type) else str(column.type)
        for name, column in columns.items()
        if not (_is_number(column.type) or types.is_boolean(column.type))
    }
    if wrong:
        listed = ", ".join(f"{name} is {kind}" for name, kind in wrong.items())
        raise InputError(
            f"{what}: of several columns of labels, each is numbers or booleans: {listed}"
        )
    read = [_filled(column) for column in columns.values()]
    y, known = (np.stack(parts, axis=1) for parts in zip(*read, strict=True))
    if task is None and all(types.is_boolean(column.type) for column in columns.values()):
        task = "multilabel"
    return LabelColumns(y, known, tuple(columns), task)


def _numbered(
    y: np.ndarray, known: np.ndarray, names: Sequence[str] | None, where: str
) -> LabelColumns:
    """Numbers that are classes: as they are, or by their names."""
    given = y[known]
    whole = given.dtype.kind in "iu" or (np.isfinite(given) & (given == np.round(given))).all()
    if not whole:
        return LabelColumns(y, known, None, "classification")  # refused where labels are read
    used = np.unique(given.astype(np.int64))
    if names is None:
        below = used.size and used[0] < 0 and not (used[0] == -1 and 0 in used)
        gaps = used.size and used[-1] >= max(1024, 10 * used.size)
        if not (below or gaps):
            return LabelColumns(y, known, None, "classification")
        names = [str(value) for value in used]
    _check_known([str(value) for value in used], names, where)
    place = {name: number for number, name in enumerate(names)}
    numbers = np.array([place[str(value)] for value in used], np.int64)
    made = np.zeros(y.shape, np.int64)
    made[known] = numbers[np.searchsorted(used, given.astype(np.int64))]
    return LabelColumns(made, known, tuple(names), "classification")


def _check_meant(found: Sequence[str], where: str) -> None:
    """Refuse what may be no label, or two writings of one, or numbers."""
    if gone := [value for value in found if value.strip().lower() in _NO_LABEL]:
        raise InputError(
            f"{where} holds {gone[0]!r}: a class, or no label? Leave the cell empty where there is "
            f"none, and write a class otherwise, as 'class {gone[0]}'"
        )
    bare = [value.strip() for value in found]
    if again := [value for value in found if bare.count(value.strip()) > 1]:
        raise InputError(f"{where} holds {again[0]!r} and {again[1]!r}; write one class in one way")
    if found and all(_COMMA.fullmatch(value) for value in found):
        raise InputError(
            f"{where} holds {found[0]!r}: numbers with a comma are text here; write them with a "
            "point"
        )


def _check_known(found: Sequence[str], names: Sequence[str], where: str) -> None:
    there = set(names)
    if unknown := [value for value in found if value not in there]:
        raise InputError(
            f"{where} holds {', '.join(map(repr, unknown[:5]))}{', …' * (len(unknown) > 5)}, none "
            f"of the {len(names):,} classes that there are: {', '.join(map(repr, names[:10]))}"
            f"{', …' * (len(names) > 10)}"
        )


def _filled(column: pyarrow.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Values, with zeros where there is none, and which are there; NaN is none."""
    known = column.is_valid().to_numpy()
    if types.is_decimal(column.type):
        column = column.cast(pyarrow.float64())
    zero = pyarrow.scalar(0, pyarrow.int8()).cast(column.type)
    y = column.fill_null(zero).to_numpy()
    if y.dtype.kind == "f":
        known = known & ~np.isnan(y)
        y = np.where(known, y, 0).astype(y.dtype)
    return y, known


def _decoded(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    kind = column.type
    if types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return column.cast(pyarrow.large_string()) if _is_text(column.type) else column


def _order(column: pyarrow.ChunkedArray) -> list[str] | None:
    """The order of classes that a dictionary has, where all its chunks have one."""
    if not types.is_dictionary(column.type):
        return None
    values = [c.dictionary.cast(pyarrow.large_string()).to_pylist() for c in column.chunks]
    same = values and all(chunk == values[0] for chunk in values)
    # Of a plain dictionary, as Parquet has it for text, the order is that of first appearance.
    return values[0] if same and column.type.ordered else None


def _is_text(kind: pyarrow.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_list(kind: pyarrow.DataType) -> bool:
    return types.is_list(kind) or types.is_large_list(kind)


def _is_number(kind: pyarrow.DataType) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
