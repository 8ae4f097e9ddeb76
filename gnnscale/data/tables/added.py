"""Columns that stand beside the cells of a part: in its folder's name, or as a range of pandas'."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gnnscale.data.tables.column import Part
from gnnscale.storage.arrow import pyarrow


class Added(NamedTuple):
    """A column that is nowhere written cell by cell.

    Attributes:
        name: what it is called.
        type: what its cells are.
        cells: those of so many rows, from a row on.
    """

    name: str
    type: pyarrow.DataType
    cells: Callable[[int, int], pyarrow.Array]


class WithAdded:
    """A part with columns added behind its own. See `Part`."""

    def __init__(self, part: Part, added: Sequence[Added]) -> None:
        self._part, self._added = part, added
        self.what, self.words, self.typed = part.what, part.words, part.typed
        self.names = [*part.names, *(column.name for column in added)]

    @property
    def types(self) -> list[pyarrow.DataType]:
        """See `Part`."""
        return [*self._part.types, *(column.type for column in self._added)]

    @property
    def row_numbers(self) -> frozenset[int]:
        """See `Part`."""
        return self._part.row_numbers

    @property
    def signed(self) -> frozenset[int]:
        """See `Part`."""
        return self._part.signed

    @property
    def empty_end(self) -> int:
        """See `Part`."""
        return self._part.empty_end

    def count(self) -> int:
        """See `Part.count`."""
        return self._part.count()

    def empty_at(self, column: int) -> str:
        """See `Part.empty_at`."""
        return self._part.empty_at(column) if column < len(self._part.names) else ""

    def settle(self, columns: Sequence[int]) -> None:
        """See `Part.settle`."""
        self._part.settle([i for i in columns if i < len(self._part.names)])

    def read(
        self, columns: Sequence[int], kinds: Mapping[int, pyarrow.DataType]
    ) -> Iterator[pyarrow.RecordBatch]:
        """See `Part.read`."""
        own = len(self._part.names)
        inner = [i for i in columns if i < own] or [0]
        row = 0
        for batch in self._part.read(inner, {i: kinds[i] for i in inner if i in kinds}):
            arrays = [
                batch.column(inner.index(i))
                if i < own
                else self._added[i - own].cells(row, batch.num_rows)
                for i in columns
            ]
            row += batch.num_rows
            yield pyarrow.RecordBatch.from_arrays(arrays, names=[str(i) for i in columns])


def with_ranges(part: Part, schema: pyarrow.Schema) -> Part:
    """With the indices that pandas keeps as a start and a step, where they have a name."""
    about = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    ranges = [
        index
        for index in about.get("index_columns", [])
        if isinstance(index, dict) and index.get("kind") == "range" and index.get("name")
    ]
    added = [_range(index["name"], index["start"], index["step"]) for index in ranges]
    return WithAdded(part, added) if added else part


def _range(name: str, start: int, step: int) -> Added:
    def cells(row: int, count: int) -> pyarrow.Array:
        return pyarrow.array(start + step * np.arange(row, row + count))

    return Added(name, pyarrow.int64(), cells)


def constant(name: str, value: str | int | None, kind: pyarrow.DataType) -> Added:
    """A column of one value."""
    one = pyarrow.scalar(value, kind)
    return Added(name, kind, lambda row, count: pyarrow.repeat(one, count))
