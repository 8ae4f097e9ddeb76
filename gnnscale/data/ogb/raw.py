"""OGB's raw files, read in a stream from a folder or straight out of the downloaded archive.

Both are given as a `Traversable` that has ``raw/`` and ``split/``: a `pathlib.Path` or a
`zipfile.Path`. A gzip's and a zip's checksums are verified on the way, so that damage is told.
"""

from __future__ import annotations

import contextlib
import gzip
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.errors import StoreError

_TEXT_AT_ONCE = 1 << 23  # bytes


@contextlib.contextmanager
def open_raw(path: Path) -> Iterator[Traversable]:
    """Open the raw data of a set.

    Args:
        path: the folder or the zip.

    Yields:
        What has ``raw/`` and ``split/``.

    Raises:
        StoreError: it is missing, no zip, damaged, or of another layout.
    """
    if path.is_dir():
        yield path
        return
    try:
        with zipfile.ZipFile(path) as archive:
            tops = [name.partition("raw/")[0] for name in archive.namelist() if "raw/" in name]
            tops = [top for top in tops if top.count("/") <= 1 and not top.startswith("__MACOSX")]
            if not tops:
                raise StoreError(f"{path} is no archive of OGB's: it has no folder raw/")
            yield zipfile.Path(archive, min(tops, key=len))
    except zipfile.BadZipFile as error:
        raise StoreError(f"{path} is {_what_instead(path)}: {error}. Fetch it again") from error
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error


def csv_blocks(file: Traversable, dtype: Any) -> Iterator[np.ndarray]:
    """Read a csv.gz without a header.

    Args:
        file: the file.
        dtype: integers, or floats, of which an empty field is NaN.

    Yields:
        `[rows, columns]` of that type, some MB each, a column lying in one piece.

    Raises:
        StoreError: it is missing, damaged, truncated, or holds something else.
    """
    import pyarrow as pa
    from pyarrow import csv

    dtype = np.dtype(dtype)
    kind = pa.from_numpy_dtype(dtype)
    try:
        columns = _columns(file)
        if not columns:
            return
        with (
            file.open("rb") as content,
            pa.CompressedInputStream(pa.PythonFile(content, "r"), "gzip") as text,
            csv.open_csv(
                text,
                csv.ReadOptions(autogenerate_column_names=True, block_size=_TEXT_AT_ONCE),
                convert_options=csv.ConvertOptions(
                    column_types={f"f{i}": kind for i in range(columns)}
                ),
            ) as reader,
        ):
            for batch in reader:
                yield _block(batch, dtype, file)
    except pa.ArrowInvalid as error:
        raise StoreError(f"{file} does not hold {_words(dtype)}: {error}") from error
    except FileNotFoundError as error:
        raise missing(file) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"{file} is damaged or truncated: {error}. Fetch it again") from error


def read_csv(file: Traversable, dtype: Any) -> np.ndarray:
    """Read a csv.gz without a header whole, `[rows, columns]`; as `csv_blocks`."""
    blocks = list(csv_blocks(file, dtype))
    return np.concatenate(blocks) if blocks else np.empty((0, 1), dtype)


def read_ids(file: Traversable) -> np.ndarray:
    """Read a csv.gz of one whole number a line, `[rows]`; as `csv_blocks`.

    Raises:
        StoreError: also where it has more columns.
    """
    table = read_csv(file, np.int64)
    if table.shape[1] != 1:
        raise StoreError(f"{file} has {table.shape[1]} columns; one number a line is expected")
    return table[:, 0]


def in_step(*streams: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
    """Cut the blocks of several files into blocks of the same rows, until the first file ends."""
    sources = [iter(stream) for stream in streams]
    held = [next(source, None) for source in sources]
    while all(block is not None for block in held):
        count = min(len(block) for block in held if block is not None)
        yield tuple(block[:count] for block in held if block is not None)
        for i, block in enumerate(held):
            assert block is not None
            held[i] = block[count:] if len(block) > count else next(sources[i], None)


def counted(
    blocks: Iterable[np.ndarray], expected: int, file: Traversable, what: str
) -> Iterator[np.ndarray]:
    """Pass blocks on, and refuse a file that has another number of rows than expected.

    Raises:
        StoreError: it has; at the end, or as soon as there are too many.
    """
    rows = 0
    for block in blocks:
        rows += len(block)
        if rows > expected:
            break
        yield block
    if rows != expected:
        more = "more than " if rows > expected else ""
        raise StoreError(
            f"{file} has {more}{min(rows, expected):,} rows for {expected:,} {what}, as the raw "
            "data say themselves: they are not whole, or not of one version. Fetch them again"
        )


def missing(file: Traversable) -> StoreError:
    """The error for a raw file that is not there."""
    return StoreError(
        f"{file} is missing; the raw data are not whole. Fetch them again, or complete them"
    )


def _block(batch: Any, dtype: np.dtype, file: Traversable) -> np.ndarray:
    out = np.empty((batch.num_columns, batch.num_rows), dtype).T
    for i, column in enumerate(batch.columns):
        if column.null_count and dtype.kind != "f":
            raise StoreError(f"{file} has {column.null_count:,} empty fields among whole numbers")
        out[:, i] = column.to_numpy(zero_copy_only=False)
    return out


def _columns(file: Traversable) -> int:
    """The number of fields of the first line; 0 where there is none."""
    with file.open("rb") as content, gzip.open(content) as text:
        line = text.readline()
    return line.count(b",") + 1 if line else 0


def _words(dtype: np.dtype) -> str:
    return "numbers" if dtype.kind == "f" else "whole numbers"


def _what_instead(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(512).lstrip()[:1]
    return "a web page, not a zip" if start == b"<" else "damaged or no zip"
