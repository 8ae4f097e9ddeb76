"""Tables with types of their own: in Parquet, Feather and Arrow files, and in memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gnnscale.data.tables.column import kind_of, unique_names
from gnnscale.errors import StoreError
from gnnscale.storage.arrow import feather, ipc, parquet, pyarrow, types

_ROWS_AT_ONCE, _LEAST_ROWS = 1 << 20, 1 << 12
_CELLS_AT_ONCE = 1 << 23  # of wide tables, whose rows are many cells each
_WIDTHS = {"list": 128, "text": 16}  # cells that those of no fixed width are taken for
_INDEX = "__index_level_"  # as pandas calls what has no name


class TypedPart:
    """What is common to tables with types of their own. See `Part`.

    Args:
        what: what errors call it.
        schema: its columns.
    """

    words: tuple[str, ...] = ()
    typed = True
    signed: frozenset[int] = frozenset()
    empty_end = 0

    def __init__(self, what: str, schema: pyarrow.Schema) -> None:
        self.what, self.schema = what, schema
        self.names = list(schema.names)
        self.types = list(schema.types)
        self.row_numbers = row_numbers(schema)

    def settle(self, columns: Sequence[int]) -> None:
        """Nothing is to be read for it."""

    def empty_at(self, column: int) -> str:
        """See `Part.empty_at`."""
        return ""


class ParquetPart(TypedPart):
    """A Parquet file.

    Raises:
        StoreError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            super().__init__(str(path), file.schema_arrow)
            self._rows = int(file.metadata.num_rows)

    def count(self) -> int:
        """See `Part.count`."""
        return self._rows

    def read(
        self, columns: Sequence[int], kinds: Mapping[int, pyarrow.DataType]
    ) -> Iterator[pyarrow.RecordBatch]:
        """See `Part.read`."""
        doubled = len(set(self.names)) < len(self.names)
        wanted = None if doubled else list(dict.fromkeys(self.names[i] for i in columns))
        with self._open() as file:
            own = [self.types[i] for i in (range(len(self.types)) if doubled else columns)]
            for batch in file.iter_batches(_rows_at_once(own), columns=wanted):
                yield _selected(batch, columns if doubled else [self.names[i] for i in columns])

    @contextlib.contextmanager
    def _open(self) -> Iterator[parquet.ParquetFile]:
        # Read ahead, it would hold what it has read until the end.
        with (
            _named(self._path, "Parquet"),
            parquet.ParquetFile(self._path, pre_buffer=False) as file,
        ):
            yield file


class ArrowPart(TypedPart):
    """A Feather or Arrow file, of either version, or a stream of Arrow's.

    Raises:
        StoreError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: int | None = None
        with self._open() as (schema, _):
            super().__init__(str(path), schema)

    def count(self) -> int:
        """See `Part.count`."""
        if self._rows is None:
            with self._open() as (_, batches):
                self._rows = sum(batch.num_rows for batch in batches)
        return self._rows

    def read(
        self, columns: Sequence[int], kinds: Mapping[int, pyarrow.DataType]
    ) -> Iterator[pyarrow.RecordBatch]:
        """See `Part.read`."""
        with self._open() as (_, batches):
            for batch in batches:
                yield from _pieces(_selected(batch, columns))

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]]:
        with _named(self._path, "Arrow"), open(self._path, "rb") as file:
            mark = file.read(6)
            file.seek(0)
            if mark[:4] == b"FEA1":
                table = feather.read_table(self._path)
                yield table.schema, iter(table.to_batches(_ROWS_AT_ONCE))
            elif mark == b"ARROW1":
                with ipc.open_file(file) as reader:
                    batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
                    yield reader.schema, batches
            else:
                with ipc.open_stream(file) as stream:
                    yield stream.schema, iter(stream)


class MemoryPart(TypedPart):
    """A table in memory."""

    def __init__(self, what: str, table: pyarrow.Table) -> None:
        super().__init__(what, table.schema)
        self._table = table

    def count(self) -> int:
        """See `Part.count`."""
        return int(self._table.num_rows)

    def read(
        self, columns: Sequence[int], kinds: Mapping[int, pyarrow.DataType]
    ) -> Iterator[pyarrow.RecordBatch]:
        """See `Part.read`."""
        names = unique_names(self.names)
        chosen = self._table.rename_columns(names).select([names[i] for i in columns])
        yield from chosen.to_batches(_ROWS_AT_ONCE)


def row_numbers(schema: pyarrow.Schema) -> frozenset[int]:
    """The columns in which pandas wrote the numbers of rows: an index of integers without a name.

    An index that has a name, or is text, is a column like others.
    """
    about = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    nameless = {
        column.get("field_name")
        for column in about.get("columns", [])
        if column.get("name") is None and column.get("field_name") in about["index_columns"]
    }
    return frozenset(
        i
        for i, field in enumerate(schema)
        if field.name in nameless or field.name.startswith(_INDEX)
        if kind_of(field.type) in ("integer", "empty")
    )


def _rows_at_once(kinds: Sequence[pyarrow.DataType]) -> int:
    """How many rows of columns of these types are read at a time."""
    width = 0
    for kind in kinds:
        fixed = types.is_fixed_size_list(kind)
        width += kind.list_size if fixed else _WIDTHS.get(kind_of(kind), 1)
    return max(_LEAST_ROWS, min(_ROWS_AT_ONCE, _CELLS_AT_ONCE // max(1, width)))


def _selected(batch: pyarrow.RecordBatch, columns: Sequence[int | str]) -> pyarrow.RecordBatch:
    arrays = [batch.column(column) for column in columns]
    return pyarrow.RecordBatch.from_arrays(arrays, names=[str(column) for column in columns])


def _pieces(batch: pyarrow.RecordBatch) -> Iterator[pyarrow.RecordBatch]:
    for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
        yield batch.slice(start, _ROWS_AT_ONCE)


@contextlib.contextmanager
def _named(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, pyarrow.ArrowException) as error:
        raise StoreError(f"{path} cannot be read as {kind}: {error}") from error
