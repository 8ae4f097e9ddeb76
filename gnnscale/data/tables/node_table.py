"""Features or labels of nodes in a file: with a column of ids, or in the order of the nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gnnscale.data.tables.node_ids import Integers, NodeIds, Numbers, Texts, as_text
from gnnscale.errors import InputError, StoreError
from gnnscale.graph.build.tables import (
    check_columns,
    column_names,
    first_rows,
    table_batches,
    table_kind,
)
from gnnscale.graph.reading.labels import with_unknown
from gnnscale.storage.arrow import pyarrow, types
from gnnscale.storage.files import expanded

_IDS = ("id", "node_id", "node", "name", "node_name")


class NodeTable:
    """A row a node: an array in memory or in an `.npy`, or a table.

    Attributes:
        what: what it is called in errors.
        columns: the names of its columns; none of an array.
        id_column: the column that says whose a row is; None where rows are in the order of nodes.
        label: the column of labels among features.
    """

    def __init__(self, what: str, array: np.ndarray | None, path: Path | None) -> None:
        self.what = what
        self._array, self._path, self._header = array, path, False
        self.columns: list[str] = []
        self.id_column: str | None = None
        self.label: str | None = None

    @classmethod
    def of(cls, given: object, what: str, id_column: str | None) -> NodeTable | None:
        """What a user gave as features or labels.

        Raises:
            InputError: it is of another kind, or has no such column.
            StoreError: a file is missing or damaged.
        """
        if given is None:
            return None
        if not isinstance(given, str | os.PathLike):
            array = np.asarray(given)
            if not array.ndim or array.dtype.kind not in "biuf":
                raise InputError(
                    f"{what} is {type(given).__name__} ({array.dtype} {array.shape}); give an "
                    "array of numbers with a row a node, or a file"
                )
            return cls(what, array, None)
        path = expanded(given)
        what = f"{what} ({path})"
        if path.suffix != ".npy" and table_kind(path) is None:
            raise InputError(f"{what}: give an array, .npy, .parquet, .csv or .tsv")
        if not path.is_file():
            raise StoreError(f"{what}: there is no such file")
        if path.suffix == ".npy":
            try:
                return cls(what, np.load(path, mmap_mode="r", allow_pickle=False), None)
            except (OSError, ValueError, EOFError) as error:
                raise StoreError(f"{what} is damaged, or no array of numbers: {error}") from error
        table = cls(what, None, path)
        rows = [] if table_kind(path) == ".parquet" else first_rows(path)
        table._header = bool(rows) and not any(map(_is_number, rows[0]))
        table.columns = column_names(path, table._header)
        if id_column is not None:
            check_columns(path, [id_column], table.columns)
        table.id_column = id_column or next((c for c in table.columns if c.lower() in _IDS), None)
        return table

    def without(self, label: str) -> NodeTable:
        """The same, with the column of labels apart."""
        self.label = label
        return self

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        if self._array is not None:
            return len(self._array)
        return sum(batch.num_rows for batch in self._batches(self.columns[:1]))

    def node_ids(self, memory: int) -> NodeIds:
        """Which nodes there are: those of this table, in its order.

        Raises:
            InputError: an id is there twice, or empty.
        """
        column = self._ids()
        unique = len(column.unique())
        if column.null_count or unique < len(column):
            raise InputError(
                f"{self.what}: column {self.id_column} has {column.null_count:,} empty cells and "
                f"{len(column) - unique - bool(column.null_count):,} ids that are there before; "
                "give each node one row"
            )
        if not types.is_integer(column.type):
            return Texts(as_text(column))
        ids = column.cast(pyarrow.int64()).to_numpy(zero_copy_only=False)
        if (ids == np.arange(ids.size)).all():
            return Numbers(ids.size, self.what)
        return Integers(ids, memory)

    def features(self) -> Iterator[np.ndarray]:
        """Blocks of features, float32 `[k, num_features]` (as they are, in an array of floats).

        Raises:
            InputError: a column is no number.
        """
        if self._array is not None:
            array = self._array[:, None] if self._array.ndim == 1 else self._array
            for start in range(0, len(array), 1 << 15):
                block = array[start : start + (1 << 15)]
                yield block if block.dtype.kind == "f" else block.astype(np.float32)
            return
        chosen = [c for c in self.columns if c not in (self.id_column, self.label)]
        if not chosen:
            raise InputError(f"{self.what} has no columns but {', '.join(self.columns)}")
        for batch in self._batches(chosen):
            yield np.concatenate([_matrix(batch[c], f"{self.what}: {c}") for c in chosen], axis=1)

    def labels(self, task: str | None) -> np.ndarray:
        """The labels, a row a node, in the order of this table; -1 or NaN in empty cells."""
        return with_unknown(*self._labels(), task)

    def labels_of(self, ids: NodeIds, task: str | None) -> np.ndarray:
        """The labels in the order of nodes; -1 or NaN where there is none."""
        if self.id_column is None:
            return self.labels(task)
        labels, known = self._labels()
        column = self._ids()
        integers = types.is_integer(column.type) and not isinstance(ids, Texts)
        nodes = ids.find(
            column.to_numpy(zero_copy_only=False) if integers else as_text(column),
            f"{self.what}: id",
        )
        if nodes.size and np.bincount(nodes).max() > 1:
            again = column[int((np.bincount(nodes)[nodes] > 1).argmax())]
            raise InputError(f"{self.what}: {again.as_py()!r} has several rows; give it one")
        placed = np.zeros((ids.num_nodes, *labels.shape[1:]), labels.dtype)
        there = np.zeros(placed.shape, dtype=bool)
        placed[nodes], there[nodes] = labels, known
        return with_unknown(placed, there, task)

    def _labels(self) -> tuple[np.ndarray, np.ndarray]:
        """The labels in the order of this table, and which cells hold one."""
        if self._array is not None:
            return np.array(self._array), np.ones(self._array.shape, dtype=bool)
        chosen = [self.label] if self.label else [c for c in self.columns if c != self.id_column]
        if not chosen:
            raise InputError(f"{self.what} has no columns but {', '.join(self.columns)}")
        parts, known = [np.empty((0, len(chosen)), dtype=bool)], []
        for batch in self._batches(chosen):
            columns = [batch[c] for c in chosen]
            for name, column in zip(chosen, columns, strict=True):
                if not _is_numeric(column.type):
                    raise InputError(f"{self.what}: {name} is {column.type}; labels are numbers")
            cells = [c.fill_null(pyarrow.scalar(0, pyarrow.int8()).cast(c.type)) for c in columns]
            parts.append(np.stack([c.to_numpy(zero_copy_only=False) for c in cells], axis=1))
            filled = [c.is_valid().to_numpy(zero_copy_only=False) for c in columns]
            known.append(np.stack(filled, axis=1))
        labels, there = np.concatenate(parts), np.concatenate([parts[0], *known])
        return (labels[:, 0], there[:, 0]) if len(chosen) == 1 else (labels, there)

    def _ids(self) -> pyarrow.Array:
        assert self.id_column is not None
        chunks = [batch[self.id_column] for batch in self._batches([self.id_column])]
        return pyarrow.chunked_array(
            chunks, chunks[0].type if chunks else pyarrow.int64()
        ).combine_chunks()

    def _batches(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        assert self._path is not None
        yield from table_batches(self._path, header=self._header, columns=columns)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_numeric(kind: pyarrow.DataType) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _matrix(column: pyarrow.Array, what: str) -> np.ndarray:
    if types.is_fixed_size_list(column.type) or types.is_list(column.type):
        lengths = column.value_lengths().unique() if types.is_list(column.type) else [0]
        if len(lengths) > 1 or column.null_count:
            raise InputError(f"{what}: its lists are of different lengths")
        return _matrix(column.flatten(), what).reshape(len(column), -1)
    if not _is_numeric(column.type):
        raise InputError(f"{what} is {column.type}; features are numbers. Leave it out")
    return column.to_numpy(zero_copy_only=False).astype(np.float32)[:, None]
