"""Tables and edge lists in files, read batch by batch: Parquet, text with one row a line, .npy."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from gnnscale.errors import InputError, StoreError
from gnnscale.storage.arrow import csv as arrow_csv
from gnnscale.storage.arrow import parquet, pyarrow
from gnnscale.storage.files import expanded
from gnnscale.storage.unpacking import too_large, unpack_limit

_TEXT = {".csv": ",", ".tsv": "\t", ".txt": " "}
_COMPRESSED = (".gz", ".zst", ".bz2", ".lz4")
_BLOCK_BYTES = 1 << 22  # of text that is parsed at once
_ROWS_AT_ONCE = 1 << 20
_EDGES_AT_ONCE = 1 << 21


def table_kind(path: Path) -> str | None:
    """Which kind of table a file is by its name: ".parquet", ".csv", …; None for another kind."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in _TEXT else None
    return suffixes[-1] if suffixes and suffixes[-1] in (*_TEXT, ".parquet") else None


def first_rows(path: Path) -> list[list[str]]:
    """The first two rows of a text table that are not blank, as text; fewer where there are none.

    Raises:
        StoreError: it is missing or damaged.
    """
    separator = _TEXT[str(table_kind(path))]
    try:
        with _open_text(path, separator) as file:
            found: list[bytes] = []
            rest = b""  # of a line that has not ended, perhaps within a character
            while len(found) < 2 and (block := file.read(1 << 16)):
                *ended, rest = (rest + block).split(b"\n")
                found += [line for line in ended if line.strip()]
            if rest.strip():
                found.append(rest)
            lines = [line.decode("utf-8-sig").rstrip("\r") for line in found[:2]]
    except (OSError, EOFError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise StoreError(f"{path} cannot be read as a table: {error}") from error
    return list(csv.reader(lines, delimiter=separator))


def table_batches(
    path: str | Path,
    *,
    header: bool = False,
    columns: Sequence[str] | None = None,
    types: dict[str, pyarrow.DataType] | None = None,
) -> Iterator[pyarrow.RecordBatch]:
    """Read a table that may be larger than memory.

    Args:
        path: a .parquet; or text, .csv, .tsv or .txt (separated by white space), also .gz, .zst,
            .bz2 or .lz4. Lines of text that begin with "#" are comments.
        header: whether the first line of a text names the columns; else they are f0, f1, ….
        columns: which to read; all, in their order, when not given.
        types: what columns of text are read as; else what the first of them look like.

    Raises:
        StoreError: it is missing, damaged, or no table of these types.
    """
    path = expanded(path)
    if not path.is_file():
        raise StoreError(f"{path} is missing")
    try:
        if table_kind(path) == ".parquet":
            with parquet.ParquetFile(path) as file:
                yield from file.iter_batches(_ROWS_AT_ONCE, columns=columns)
        else:
            yield from _text_batches(path, header, columns, types or {})
    except (OSError, EOFError, pyarrow.ArrowException) as error:
        raise StoreError(f"{path} cannot be read as an edge list or table: {error}") from error


def column_names(path: Path, header: bool) -> list[str]:
    """The names of the columns of a table.

    Raises:
        StoreError: it is missing or damaged.
    """
    if table_kind(path) == ".parquet":
        try:
            return list(parquet.read_schema(path).names)
        except (OSError, pyarrow.ArrowException) as error:
            raise StoreError(f"{path} cannot be read as a table: {error}") from error
    rows = first_rows(path)
    if not rows:
        return []
    return rows[0] if header else [f"f{i}" for i in range(len(rows[0]))]


def _text_batches(
    path: Path, header: bool, columns: Sequence[str] | None, types: dict[str, Any]
) -> Iterator[pyarrow.RecordBatch]:
    separator = _TEXT[str(table_kind(path))]
    with _open_text(path, separator) as file:
        first = file.read(1)
        if not first:
            return  # an empty file is a table without rows
        file.unread(first)
        reader = arrow_csv.open_csv(
            pyarrow.PythonFile(file, mode="r"),
            arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, autogenerate_column_names=not header),
            arrow_csv.ParseOptions(delimiter=separator),
            arrow_csv.ConvertOptions(column_types=types, include_columns=columns),
        )
        with reader:
            yield from reader


def _open_text(path: Path, separator: str) -> _Lines:
    return _Lines(path, pyarrow.input_stream(str(path), compression="detect"), separator == " ")


class _Lines(io.RawIOBase):
    """Text without its comments, and with one blank for any white space where that separates.

    Arrow's reader knows neither. What has no comment passes as it is.
    """

    def __init__(self, path: Path, stream: Any, blanks: bool) -> None:
        super().__init__()
        self._path, self._stream, self._blanks = path, stream, blanks
        self._compressed = path.stat().st_size
        self._room = unpack_limit(self._compressed)  # more than what is not packed has
        self._rest = b""  # of a line that has not ended
        self._ready = b""

    @override
    def readable(self) -> bool:
        return True

    def unread(self, text: bytes) -> None:
        self._ready = text + self._ready

    @override
    def read(self, size: int = -1) -> bytes:
        while not self._ready:
            block = self._stream.read(_BLOCK_BYTES)
            self._room -= len(block)
            if self._room < 0:
                raise too_large(self._path, self._compressed)
            text = self._rest + block
            end = text.rfind(b"\n") + 1 if block else len(text)
            self._rest = text[end:]
            self._ready = self._cleaned(text[:end])
            if not block:
                break
        if size < 0:
            return self._ready + b"".join(iter(lambda: self.read(_BLOCK_BYTES), b""))
        text, self._ready = self._ready[:size], self._ready[size:]
        return text

    @override
    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _cleaned(self, text: bytes) -> bytes:
        if b"#" in text:
            text = re.sub(rb"^[ \t]*#[^\n]*\n?", b"", text, flags=re.MULTILINE)
        if self._blanks:
            text = re.sub(rb"[ \t\r]+", b" ", text)
            text = re.sub(rb"^ | $", b"", text, flags=re.MULTILINE)
        return text


def check_columns(path: Path, wanted: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names of columns that a table does not have.

    Raises:
        InputError: naming them, and those there are.
    """
    if missing := [name for name in wanted if name not in known]:
        raise InputError(f"{path} has no column {', '.join(missing)}; there are {', '.join(known)}")


def edge_chunks(path: str | Path) -> Iterator[tuple[np.ndarray, ...]]:
    """Read an edge list that may be larger than memory.

    Args:
        path: an .npy of integers `[2, num_edges]` or `[num_edges, 2]` (two edges are read as the
            former); or a table, .parquet, or without a header .csv, .tsv or .txt, the latter also
            .gz, .zst, .bz2 or .lz4: source, target and, where there is a third column, weight.

    Yields:
        `(source, target)`, int64 `[k]`, or `(source, target, weight)`, for `build_graph`.

    Raises:
        InputError: it is of another kind or shape.
        StoreError: it is missing or damaged.
    """
    path = expanded(path)
    kind = ".npy" if path.suffix == ".npy" else table_kind(path)
    if kind is None:
        raise InputError(
            f"{path} is no edge list: give .npy, .parquet, .csv, .tsv or .txt, the last three also "
            "compressed (.gz, .zst)"
        )
    if not path.is_file():
        raise StoreError(f"{path} is missing")
    return npy_chunks(path) if kind == ".npy" else _text_chunks(path)


def npy_chunks(path: Path) -> Iterator[tuple[np.ndarray, ...]]:
    """The edges of an `.npy`, see `edge_chunks`."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version == (2, 0):
                read = np.lib.format.read_array_header_2_0
            shape, columns_first, dtype = read(file)
            start = file.tell()
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if len(shape) != 2 or 2 not in shape or dtype.kind not in "iu":
        raise InputError(f"{path} is {dtype} {shape}; an edge list is integers [2, num_edges]")
    expected = start + dtype.itemsize * shape[0] * shape[1]
    if path.stat().st_size != expected:
        raise StoreError(f"{path} has {path.stat().st_size:,} bytes; its header says {expected:,}")
    rows = shape[0] == 2
    num_edges = shape[1] if rows else shape[0]
    together = rows == columns_first  # source and target of an edge lie side by side
    for first in range(0, num_edges, _EDGES_AT_ONCE):
        count = min(_EDGES_AT_ONCE, num_edges - first)
        if together:
            pairs = _read(path, dtype, start, 2 * first, 2 * count).reshape(count, 2)
            yield pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
        else:
            yield (
                _read(path, dtype, start, first, count).astype(np.int64, copy=False),
                _read(path, dtype, start, num_edges + first, count).astype(np.int64, copy=False),
            )


def _read(path: Path, dtype: np.dtype, start: int, first: int, count: int) -> np.ndarray:
    return np.fromfile(path, dtype, count, offset=start + first * dtype.itemsize)


def _text_chunks(path: Path) -> Iterator[tuple[np.ndarray, ...]]:
    # A weight may look like a whole number as long as one likes.
    for batch in table_batches(path, types={"f2": pyarrow.float64()}):
        yield edge_columns(path, batch.columns)


def edge_columns(path: Path, columns: Sequence[pyarrow.Array]) -> tuple[np.ndarray, ...]:
    """Source, target and, where there is one, weight, out of the columns of a table.

    Raises:
        InputError: there are more or fewer columns, or some cells are empty.
    """
    if len(columns) not in (2, 3):
        raise InputError(
            f"{path} has {len(columns)} columns; an edge list has source, target and perhaps weight"
        )
    for what, column in zip(("source", "target", "weight"), columns, strict=False):
        if column.null_count:
            raise InputError(f"{path}: {column.null_count} cells of {what} are empty; fill them in")
    return tuple(column.to_numpy(zero_copy_only=False) for column in columns)
