"""Edges, in a table or in an array: chunks of ids and weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gnnscale.data.tables.ids.cells import id_batches, is_text, may_be_text
from gnnscale.data.tables.roles import Role
from gnnscale.data.tables.roles.evidence import as_ids, looked_at
from gnnscale.data.tables.roles.totals import refuse_last_ids
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.values.moments import Clock
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import edge_chunks
from gnnscale.storage.arrow import pyarrow

_EDGES_AT_ONCE = 1 << 21


class Edges(Protocol):
    """Edges of which nothing is known but where they are.

    Attributes:
        what: what errors call them.
        text: whether ids are text, as far as the first of them tell.
        may_be_text: whether those that come later may be, though the first are integers.
        weighted: whether there are weights.
        clock: of their times; None where they have none.
    """

    what: str
    text: bool
    may_be_text: bool
    weighted: bool
    clock: Clock | None

    @property
    def table(self) -> Table | None:
        """The table that they are in; None of an array."""
        ...

    def chunks(self, text: bool) -> Iterator[tuple[Any, ...]]:
        """Chunks (source, target), and behind them weights and times where there are any.

        Args:
            text: ids are columns of text; else int64 `[k]`. Weights and times are float `[k]`.

        Raises:
            InputError: a cell is empty, or an id neither; or the last is called as a total is.
            StoreError: the file is damaged.
        """
        ...

    def first(self) -> pyarrow.Array:
        """Different ids that the first edges name, as text."""
        ...


class EdgeTable:
    """Edges in a table. See `Edges`.

    Args:
        table: the table.
        roles: what its columns are.

    Attributes:
        roles: likewise.
        table: likewise.
    """

    def __init__(self, table: Table, roles: list[Role]) -> None:
        self.what, self.roles, self.table = table.what, tuple(roles), table
        looks = dict(zip([role.role for role in roles], looked_at(table), strict=True))
        self._ends = [looks[role] for role in ("source", "target")] if roles else []
        self._weight = [looks["weight"]] if "weight" in looks else []
        self.weighted = bool(self._weight)
        self.clock = Clock(looks["time"], table.what) if "time" in looks else None
        # "1.0" and "1" would be two nodes where text made text of both.
        points = any(look.column.kind == "float" for look in self._ends)
        self.may_be_text = may_be_text(table, self._ends) and not points
        self.text = any(is_text(table, look) for look in self._ends)

    def chunks(self, text: bool) -> Iterator[tuple[Any, ...]]:
        """See `Edges.chunks`."""
        if self._ends:
            clocks = [] if self.clock is None else [self.clock]
            last = {}
            for chunk in id_batches(self.table, self._ends, text, self._weight, clocks):
                if text and len(chunk[0]):
                    last = {k.name: c[-1].as_py() for k, c in zip(self._ends, chunk, strict=False)}
                yield chunk
            refuse_last_ids(self.table, self.roles, last)

    def first(self) -> pyarrow.Array:
        """See `Edges.first`."""
        if self.text and not self.table.typed:  # as they are written
            kinds = {look.name: pyarrow.large_string() for look in self._ends}
            rows = len(self._ends[0].cells)
            batch = next(self.table.batches([*kinds], kinds), None)
            return _different([] if batch is None else [c.slice(0, rows) for c in batch.columns])
        return _different([as_ids(look.cells) for look in self._ends])


class EdgeArray:
    """Edges in an array `[2, edges]` or `[edges, 2]`, in memory or an `.npy`. See `Edges`.

    Args:
        given: the array, the path of an `.npy`, or a list of pairs.
        what: what errors call it.

    Raises:
        InputError: it is none.
        StoreError: the file is missing.
    """

    may_be_text = weighted = False
    clock: Clock | None = None
    table = None

    def __init__(self, given: Any, what: str) -> None:
        self.what, self.text = what, False
        self._path = self._array = None
        if isinstance(given, str | os.PathLike):
            self._path = Path(given)
            self.what = f"{what} ({given})"
            if not self._path.is_file():
                raise StoreError(f"{self.what} is missing")
            return
        try:
            array = np.asarray(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{what} is no array: {error}") from error
        if array.ndim == 2 and array.dtype.kind == "O":
            array = array.astype(str) if all(isinstance(v, str) for v in array.flat) else array
        if not array.size:
            array = np.empty((2, 0), np.int64)
        if array.ndim != 2 or 2 not in array.shape or array.dtype.kind not in "iuU":
            raise InputError(
                f"{what} is {type(given).__name__} ({array.dtype} {array.shape}); give integers or "
                "text [2, num_edges], a table, or a file"
            )
        pairs = isinstance(given, list | tuple) and len(given[0]) == 2 if array.size else False
        if array.dtype.kind == "u" and array.size and array.max() >= 2**63:
            raise InputError(
                f"{what} holds {array.max()}; ids in an array are below 2^63. Give them as text: "
                "edges.astype(str)"
            )
        self._array = array.T if array.shape[0] != 2 or pairs else array
        self.text = array.dtype.kind == "U"

    def chunks(self, text: bool) -> Iterator[tuple[Any, ...]]:
        """See `Edges.chunks`."""
        for ends in edge_chunks(self._path) if self._path is not None else self._pieces():
            if text:
                yield tuple(as_ids(pyarrow.array(end)) for end in ends)
            else:
                yield tuple(end.astype(np.int64, copy=False) for end in ends)

    def first(self) -> pyarrow.Array:
        """See `Edges.first`."""
        return _different(list(next(self.chunks(text=True), ())))

    def _pieces(self) -> Iterator[tuple[np.ndarray, ...]]:
        assert self._array is not None
        for start in range(0, self._array.shape[1], _EDGES_AT_ONCE):
            yield tuple(self._array[:, start : start + _EDGES_AT_ONCE])


def _different(ends: list[pyarrow.Array]) -> pyarrow.Array:
    empty = pyarrow.array([], pyarrow.large_string())
    return pyarrow.concat_arrays([empty, *ends]).unique().drop_null()
