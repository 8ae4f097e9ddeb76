"""Texts of numbers and words, packed or not."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from gnnscale.data.tables.files import opened
from gnnscale.errors import InputError, StoreError
from gnnscale.storage.unpacking import too_large, unpack_limit

_BLOCK_BYTES = 1 << 22


def read_text(path: Path) -> list[str]:
    """The lines of a small text that are not blank, without ends; UTF-8, or else Latin-1.

    Raises:
        StoreError: it cannot be read, or unpacks to too much.
    """
    try:
        size = path.stat().st_size
        with opened(path) as file:
            limit = unpack_limit(size)
            content = file.read(limit + 1)
    except OSError as error:
        raise StoreError(f"could not read {path}: {error}") from error
    if len(content) > limit:
        raise too_large(path, size)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line for line in text.splitlines() if line.strip()]


def number_rows(
    file: IO[bytes], path: Path, columns: int, dtype: type, comment: bytes = b"%"
) -> Iterator[np.ndarray]:
    """Read lines of numbers between any white space, some MB at a time.

    Args:
        file: the text, from where its rows begin.
        path: what errors call it.
        columns: numbers a line; 0 takes those of the first line.
        dtype: what they are read as.
        comment: what lines that are left out begin with.

    Yields:
        Rows `[k, columns]`.

    Raises:
        InputError: a line has another number of cells, or something else than numbers.
        StoreError: the file is damaged.
    """
    rest = b""
    more = True
    while more:
        try:
            block = file.read(_BLOCK_BYTES)
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        more = bool(block)
        text = rest + block
        end = text.rfind(b"\n") + 1 if more else len(text)
        text, rest = text[:end], text[end:]
        if comment in text:
            text = re.sub(rb"^[ \t]*" + re.escape(comment) + rb".*$", b"", text, flags=re.MULTILINE)
        if not columns:
            columns = next((len(line.split()) for line in text.splitlines() if line.strip()), 0)
        if columns and text.strip():
            yield _numbers(text, path, columns, dtype)


def _numbers(text: bytes, path: Path, columns: int, dtype: type) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # NumPy's word for what is no number
        try:
            # Twice as fast as Arrow's reader, and content with any white space.
            found: np.ndarray = np.fromstring(text, dtype, sep=" ")
        except (DeprecationWarning, ValueError, OverflowError):
            raise _faulty(text, path, columns, dtype) from None
    if found.size % columns or not _even(text, found.size // columns, columns):
        raise _faulty(text, path, columns, dtype)
    return found.reshape(-1, columns)


def _even(text: bytes, rows: int, columns: int) -> bool:
    """Whether each line has so many cells: two faulty lines may make up for each other."""
    letters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(letters == ord("\n"))
    inside = letters > ord(" ")
    starts = np.flatnonzero(inside[1:] & ~inside[:-1]) + 1
    if inside[0]:
        starts = np.concatenate([[0], starts])
    if starts.size != rows * columns:
        return False
    line = np.searchsorted(ends, starts[::columns])  # in which the first cell of a row is
    last = np.searchsorted(ends, starts[columns - 1 :: columns])
    return bool((line == last).all() and (np.diff(line) > 0).all())


def _faulty(text: bytes, path: Path, columns: int, dtype: type) -> InputError:
    """The first line that is at fault."""
    for line in text.splitlines():
        cells = line.split()
        try:
            numbers = len([dtype(cell) for cell in cells])
        except ValueError:
            numbers = -1
        if cells and numbers != columns:
            shown = line.decode("utf-8", "replace").strip()[:80]
            kind = "whole numbers" if dtype is int else "numbers"
            return InputError(f"{path}: the line {shown!r} is not {columns} {kind}")
    return InputError(f"{path}: its lines are not {columns} numbers each")
