"""Tables of nodes, edges or graphs: their ids, and the other columns as arrays."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from gnnscale.data.formats.dgl.roles import roles_of
from gnnscale.data.tables.column import kind_of
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.values.classes import read_label_columns
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow

logger = logging.getLogger(__name__)


class Rows(NamedTuple):
    """A table: its ids, as columns of Arrow's, and the others as arrays."""

    what: str
    ids: dict[str, pyarrow.ChunkedArray]
    arrays: dict[str, np.ndarray]


class RowsReader:
    """Reads the tables of a set; what text labels are called is kept.

    Args:
        labels: what the labels are called; None where known names tell.

    Attributes:
        classes: the names of classes, where the labels were text.
    """

    def __init__(self, labels: str | None = None) -> None:
        self._labels = labels
        self.classes: tuple[str, ...] | None = None

    def read(
        self,
        table: Table,
        ids: Mapping[str, str],
        needed: Collection[str],
        others: Collection[str] | None = None,
    ) -> Rows:
        """Read a table.

        Args:
            table: the table.
            ids: what its columns of ids are called, by what they are.
            needed: those of them that must be there.
            others: the other columns to read; all where that is None.

        Raises:
            InputError: a column is missing, or holds something else than numbers.
        """
        what = table.what
        columns = [c.name for c in table.columns if not c.row_number and "Unnamed" not in c.name]
        wanted = [ids[key] for key in needed] + [*(others or ())]
        if missing := [name for name in wanted if name not in columns]:
            raise InputError(
                f"{what} has no column {', '.join(missing)}; there are {', '.join(columns)}"
            )
        if others is None:
            others = [name for name in columns if name not in ids.values()]
        there = [name for name in columns if name in {*ids.values(), *others}]
        batches = [*table.batches(there)]
        read = pyarrow.Table.from_batches(batches) if batches else table.sample(0)
        label = self._labels if self._labels in others else None
        label = roles_of(others, "graphs", labels=label).label
        arrays = {
            name: self._array(read[name], f"{what}: {name}", name == label) for name in others
        }
        if texts := [name for name, array in arrays.items() if array is None]:
            logger.warning("%s: left out, being text: %s", what, ", ".join(texts))
        return Rows(
            what,
            {key: read[name] for key, name in ids.items() if name in columns},
            {name: array for name, array in arrays.items() if array is not None},
        )

    def _array(self, column: pyarrow.ChunkedArray, what: str, is_label: bool) -> np.ndarray | None:
        """Numbers, lists of them or labels; None of other text."""
        if kind_of(column.type) == "text":
            lists = _lists(column)
            if lists is not None or not is_label:
                return lists
        if is_label:
            read = read_label_columns({"label": column}, None, None, what)
            if read.names is not None:
                self.classes = read.names
            return read.labels()
        return _numbers(column, what)


def _numbers(column: pyarrow.ChunkedArray, what: str) -> np.ndarray:
    kind = kind_of(column.type)
    if kind == "list":
        lengths = compute.list_value_length(column).unique()
        if column.null_count or len(lengths) > 1:
            raise InputError(f"{what}: its lists are of different lengths")
        flat = _numbers(compute.list_flatten(column), what)
        return flat.reshape(len(column), -1) if flat.size else np.empty((len(column), 0))
    if kind not in ("integer", "float", "bool", "empty"):
        raise InputError(f"{what} is {column.type}; numbers are read, or lists of them")
    if column.null_count or kind_of(column.type) == "empty":
        column = column.cast(pyarrow.float64())
    return np.array(column.to_numpy())


def _lists(column: pyarrow.ChunkedArray) -> np.ndarray | None:
    """Text as lists of numbers, `[rows, numbers]`; None where it is none."""
    text = compute.utf8_trim(column.cast(pyarrow.large_string()), " \t[](),")
    parts = compute.split_pattern(text, ",")
    lengths = compute.list_value_length(parts).unique()
    if column.null_count or len(lengths) != 1:
        return None
    try:
        numbers = compute.utf8_trim_whitespace(compute.list_flatten(parts)).cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return None
    return np.array(numbers.to_numpy()).reshape(len(column), -1)
