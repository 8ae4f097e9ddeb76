"""A file of edges: which columns are which, and chunks of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.tables.node_ids import as_text
from gnnscale.errors import InputError, StoreError
from gnnscale.graph.build.tables import (
    check_columns,
    column_names,
    first_rows,
    npy_chunks,
    table_batches,
    table_kind,
)
from gnnscale.storage.arrow import compute, pyarrow, types

_SOURCES = ("source", "src", "from", "from_id", "source_id", "u", "head", "node1", "id1")
_TARGETS = ("target", "dst", "to", "to_id", "target_id", "v", "tail", "node2", "id2")
_WEIGHTS = ("weight", "weights", "w", "edge_weight")


class EdgeTable:
    """A file of edges.

    Args:
        path: the file.
        source: the column of sources, or None.
        target: the column of targets, or None.
        weight: the column of weights, or None.

    Raises:
        InputError: it is of another kind, or has no such columns.
        StoreError: it is missing or damaged.
    """

    def __init__(
        self, path: Path, source: str | None, target: str | None, weight: str | None
    ) -> None:
        self.path = path
        kind = ".npy" if path.suffix == ".npy" else table_kind(path)
        named = [column for column in (source, target, weight) if column is not None]
        if kind is None:
            raise InputError(
                f"{path} is no edge list: give .npy, .parquet, .csv, .tsv or .txt, the last three "
                "also compressed (.gz, .zst)"
            )
        if kind == ".npy" and named:
            raise InputError(f"{path} has no columns that are called {', '.join(named)}")
        if not path.is_file():
            raise StoreError(f"{path} is missing")
        self._npy = kind == ".npy"
        self.may_be_text = kind not in (".npy", ".parquet")
        self._header = False
        self._columns: list[str] = []
        if self._npy:
            return
        self._header = self.may_be_text and _has_header(first_rows(path), bool(named))
        known = column_names(path, self._header)
        check_columns(path, named, known)
        if not known:
            return  # an empty text: no edges
        if len(known) < 2:
            raise InputError(f"{path} has one column, {known[0]}; an edge list has two or three")
        bare = self.may_be_text and not self._header
        if bare and len(known) > 3:
            raise InputError(
                f"{path} has {len(known)} columns; an edge list has source, target and perhaps "
                "weight. Name those to read: source=, target= (with a header line)"
            )
        first = source or _called(known, _SOURCES) or next(c for c in known if c != target)
        second = target or _called(known, _TARGETS) or next(c for c in known if c != first)
        third = weight or _called(known, _WEIGHTS) or ("f2" if bare and len(known) == 3 else None)
        self._columns = [first, second] + ([third] if third else [])

    def is_text(self) -> bool:
        """Whether ids are text, by the first of them."""
        if self._npy or not self._columns:
            return False
        for batch in self._batches({}):
            return any(_is_text(column.type) for column in batch.columns[:2])
        return False

    def chunks(self, text: bool) -> Iterator[tuple[Any, ...]]:
        """Chunks (source, target) or (source, target, weight).

        Args:
            text: ids are columns of text; else int64 `[k]`. Weights are float `[k]`.

        Raises:
            InputError: a cell is empty, or an id neither.
            StoreError: the file is damaged, or text comes after integers.
        """
        if self._npy:
            for chunk in npy_chunks(self.path):
                yield tuple(map(as_text, chunk)) if text else chunk
            return
        if not self._columns:
            return
        kind = pyarrow.large_string() if text else pyarrow.int64()
        forced = dict(zip(self._columns, (kind, kind, pyarrow.float64()), strict=False))
        for batch in self._batches(forced):
            named = dict(zip(batch.schema.names, batch.columns, strict=True))
            source, target, *weight = (named[column] for column in self._columns)
            for what, column in (("source", source), ("target", target)):
                _check_ids(self.path, what, column)
            read = as_text if text else _integers
            yield (read(source), read(target), *(w.to_numpy(zero_copy_only=False) for w in weight))

    def _batches(self, forced: dict[str, Any]) -> Iterator[pyarrow.RecordBatch]:
        given = {k: v for k, v in forced.items() if k in self._columns}
        yield from table_batches(self.path, header=self._header, columns=self._columns, types=given)


def _has_header(rows: Sequence[Sequence[str]], named: bool) -> bool:
    if named or not rows:
        return named
    first = [cell.strip().lower() for cell in rows[0]]
    if all(map(_is_whole, first[:2])):
        return False
    if not set(first).isdisjoint(_SOURCES) and not set(first).isdisjoint(_TARGETS):
        return True
    return len(rows) > 1 and all(map(_is_whole, rows[1][:2]))


def _is_whole(cell: str) -> bool:
    return cell.strip().removeprefix("-").isdecimal()


def _called(columns: Sequence[str], names: Sequence[str]) -> str | None:
    return next((column for column in columns if column.strip().lower() in names), None)


def _is_text(kind: pyarrow.DataType) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _check_ids(path: Path, what: str, column: pyarrow.Array) -> None:
    empty = column.null_count
    if types.is_string(column.type) or types.is_large_string(column.type):
        empty += compute.sum(compute.equal(compute.binary_length(column), 0)).as_py() or 0
    if empty:
        raise InputError(f"{path}: {empty} cells of {what} are empty; fill them in")
    if not types.is_integer(column.type) and not _is_text(column.type):
        raise InputError(f"{path}: {what} is {column.type}; ids are integers or text")


def _integers(column: pyarrow.Array) -> np.ndarray:
    try:
        return column.cast(pyarrow.int64()).to_numpy()
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"ids are integers of up to 63 bits: {error}") from error
