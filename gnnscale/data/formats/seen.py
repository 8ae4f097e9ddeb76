"""What is seen of a path before it is read: first lines, keys of an archive, names in a folder.

Nothing here raises: what cannot be seen is empty, and whoever reads the file says why.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

_BYTES = 1 << 16
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_OPENED: dict[bytes, Callable[[Path], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_ARROW = {b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}


def kind(path: Path) -> str:
    """The last suffix in small letters, of what is packed where it is: ".mtx" of "a.MTX.gz"."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def head(path: Path) -> bytes:
    """The first 64 KB of a file, unpacked; nothing of a folder, or of what cannot be read."""
    return _head(path, _stamp(path))


def lines(path: Path, most: int = 50) -> list[str]:
    """The first lines of a text, without ends; the last one may be cut short."""
    return head(path).decode("utf-8-sig", "replace").splitlines()[:most]


def keys(path: Path) -> frozenset[str]:
    """The arrays of an ``.npz``; none where it is no such file."""
    return _keys(path, _stamp(path))


def files(path: Path) -> frozenset[str]:
    """The names of what is in a folder; none of a file."""
    try:
        return frozenset(os.listdir(path))
    except OSError:
        return frozenset()


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells one state of a file from another."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


@lru_cache(maxsize=8)
def _head(path: Path, stamp: tuple[int, int] | None) -> bytes:
    if stamp is None or not path.is_file():
        return b""
    try:
        with open(path, "rb") as file:
            first = file.read(_BYTES)
        for magic, opened in _OPENED.items():
            if first.startswith(magic):
                with opened(path) as unpacked:
                    return unpacked.read(_BYTES)
        for magic, name in _ARROW.items():
            if first.startswith(magic):
                import pyarrow

                with pyarrow.input_stream(str(path), compression=name) as unpacked:
                    return bytes(unpacked.read(_BYTES))
    except (OSError, EOFError, ValueError, ImportError, lzma.LZMAError):
        return b""
    return first


@lru_cache(maxsize=8)
def _keys(path: Path, stamp: tuple[int, int] | None) -> frozenset[str]:
    if stamp is None or not path.is_file():
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return frozenset()
    return frozenset(name.removesuffix(".npy") for name in names if name.endswith(".npy"))
