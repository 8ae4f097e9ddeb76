"""Texts, packed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from gnnscale.errors import StoreError
from gnnscale.storage.arrow import pyarrow
from gnnscale.storage.unpacking import too_large, unpack_limit

_Opens = Callable[[Path], object]
_OPENED: dict[bytes, _Opens] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda path: pyarrow.input_stream(str(path), compression="zstd"),
    b"\x04\x22\x4d\x18": lambda path: pyarrow.input_stream(str(path), compression="lz4"),
}
UNREADABLE = (OSError, EOFError, lzma.LZMAError)
"""What reading an unpacked file raises where it is missing, damaged or truncated."""


def open_unpacked(path: Path) -> BinaryIO:
    """Open a file, unpacked where its first bytes say that it is packed, whatever it is called."""
    with open(path, "rb") as file:
        first = file.read(8)
    for magic, opens in _OPENED.items():
        if first.startswith(magic):
            return cast(BinaryIO, opens(path))
    return open(path, "rb")


def read_text(path: Path) -> list[str]:
    """The lines of a small text that are not blank, without ends; UTF-8, or else Latin-1.

    Raises:
        StoreError: it cannot be read, or unpacks to too much.
    """
    try:
        size = path.stat().st_size
        with open_unpacked(path) as file:
            limit = unpack_limit(size)
            content = file.read(limit + 1)
    except UNREADABLE as error:
        raise StoreError(f"could not read {path}: {error}") from error
    if len(content) > limit:
        raise too_large(path, size)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line for line in text.splitlines() if line.strip()]
