"""What is seen of a path before it is read: first lines, keys of an archive, names in a folder.

What cannot be seen is empty, and whoever reads the file says why; only what unpacks it is missed.
"""

from __future__ import annotations

import os
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from gnnscale.data.tables.files import opened
from gnnscale.errors import MissingDependency

_BYTES = 1 << 16
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".br", ".zip")


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


def shape(path: Path) -> tuple[tuple[int, ...], str]:
    """The shape of an ``.npy`` and the kind of its numbers, as "i"; nothing of another file."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:
        return (), ""
    return (array.shape, array.dtype.kind) if isinstance(array, np.ndarray) else ((), "")


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
        with opened(path) as file:
            return file.read(_BYTES)
    except MissingDependency:  # of what is packed
        raise
    except Exception:  # whoever reads the file says why
        return b""


@lru_cache(maxsize=8)
def _keys(path: Path, stamp: tuple[int, int] | None) -> frozenset[str]:
    if stamp is None or not path.is_file():
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:
        return frozenset()
    return frozenset(name.removesuffix(".npy") for name in names if name.endswith(".npy"))
