"""Which files a table consists of, how they are packed, and what they are by their first bytes."""

from __future__ import annotations

import glob
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from typing_extensions import override

from gnnscale.data.unread import not_read, unread_kind
from gnnscale.errors import InputError, StoreError
from gnnscale.storage.arrow import pyarrow
from gnnscale.storage.unpacking import check_archive, too_large, unpack_limit

_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"PK\x03\x04", "zip"),
)
#: How files of columns begin, and what they are.
COLUMNAR = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"FEA1", "arrow"))
_STREAM = b"\xff\xff\xff\xff"  # that of Arrow, before the length of its first message
#: What is laid beside parts of a table: words for people, and checksums.
_BESIDE = re.compile(
    r"(README|LICEN[CS]E|CHANGELOG)(\.(md|txt|rst))?|.*\.(md|crc|md5|sha\d*)", re.I
)
#: What readers of packed files raise where one is damaged, or packed in a way they do not know.
_UNREADABLE = (OSError, EOFError, RuntimeError, lzma.LZMAError, zlib.error, zipfile.BadZipFile)
_NULL = "__HIVE_DEFAULT_PARTITION__"


def part_files(given: Path) -> list[Path]:
    """The files that a path stands for: itself, those in a folder, or those of a pattern.

    In a folder, hidden files, those that begin with "_" (as `_SUCCESS`), READMEs, licences and
    checksums are no tables.

    Raises:
        StoreError: there is nothing.
    """
    if given.is_file():
        return [given]
    if given.is_dir():
        found = [path for path in given.rglob("*") if path.is_file() and _is_shown(path, given)]
        if not found:
            raise StoreError(f"{given} is a folder without files of a table")
        return sorted(found, key=_natural)
    if is_pattern(given):
        matches = map(Path, glob.glob(_literal_as_far_as_it_is_there(given), recursive=True))
        found = [
            file
            for path in sorted(matches, key=_natural)
            if not path.name.startswith((".", "_"))
            for file in part_files(path)
        ]
        if not found:
            raise StoreError(f"no file is called {given}")
        return found
    raise StoreError(f"{given} is missing")


def is_pattern(given: Path) -> bool:
    """Whether a path stands for others: a file or folder that is called so comes first."""
    return glob.has_magic(str(given)) and not os.path.exists(given)


def _literal_as_far_as_it_is_there(given: Path) -> str:
    """A pattern in which folders that are there, as "[2020]", stand for themselves."""
    there = next((folder for folder in given.parents if os.path.exists(folder)), Path())
    return os.path.join(glob.escape(str(there)), given.relative_to(there))


def hive_columns(file: Path, root: Path) -> dict[str, str | None]:
    """The columns that folders between `root` and a file name, as in `year=2020/part-0.csv`."""
    between = file.relative_to(root).parts[:-1]
    pairs = [part.partition("=") for part in between if re.fullmatch(r"[^=]+=[^=]*", part)]
    return {unquote(key): None if value == _NULL else unquote(value) for key, _, value in pairs}


def file_kind(path: Path) -> str:
    """What a file is: "parquet", "arrow" or "text", the last perhaps packed.

    Raises:
        InputError: something else, or packed so that it cannot be read; with what to do.
        StoreError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            mark = file.read(32)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
    for start, kind in COLUMNAR:
        if mark.startswith(start):
            return kind
    if mark.startswith(_STREAM) and len(mark) > 8:
        return "arrow"
    _refuse_unread(path, mark)
    if packing(path) is not None:
        mark = next(read_bytes(path, 32), b"")
        if mark.startswith((*(start for start, _ in COLUMNAR), _STREAM)):
            raise InputError(f"{path} is a Parquet or Arrow file that is packed again: unpack it")
        _refuse_unread(path, mark)
    return "text"


def packing(path: Path) -> str | None:
    """How a file is packed, by its first bytes: a browser may have unpacked what is called .gz."""
    with open(path, "rb") as file:
        mark = file.read(8)
    if path.suffix == ".br":
        return "brotli"
    return next((kind for start, kind in _PACKED if mark.startswith(start)), None)


def read_bytes(path: Path, most: int) -> Iterator[bytes]:
    """The bytes of a file, unpacked, at most so many at once.

    Raises:
        StoreError: it is damaged.
    """
    try:
        with opened(path) as file:
            while block := file.read(most):
                yield block
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def opened(path: Path) -> IO[bytes]:
    """Open a file, unpacked on its way.

    Raises:
        InputError: it is a zip of several files.
        StoreError: it cannot be read; while it is, also that it is damaged or unpacks to too much.
    """
    try:
        kind = packing(path)
        if kind is None:
            return open(path, "rb")
        source = _unpacked(path, kind)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return io.BufferedReader(_Bounded(path, source.read, source.close), 1 << 16)


def _unpacked(path: Path, kind: str) -> IO[bytes]:
    if kind == "xz":
        return lzma.open(path)
    if kind == "zip":
        return _only_member(path)
    source: IO[bytes] = pyarrow.input_stream(str(path), compression=kind)
    return source


def _unreadable(path: Path, error: Exception) -> StoreError:
    why = error.strerror if isinstance(error, OSError) else None
    return StoreError(f"{path} cannot be read: {why or error or type(error).__name__}")


class _Bounded(io.RawIOBase):
    """What a file unpacks to, up to what it may."""

    def __init__(self, path: Path, read: Callable[[int], bytes], close: Callable[[], None]) -> None:
        super().__init__()
        self._path, self._read, self._close = path, read, close
        self._compressed = path.stat().st_size
        self._room = unpack_limit(self._compressed)

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        try:
            block = self._read(len(buffer))
        except _UNREADABLE as error:
            raise _unreadable(self._path, error) from error
        self._room -= len(block)
        if self._room < 0:
            raise too_large(self._path, self._compressed)
        buffer[: len(block)] = block
        return len(block)

    @override
    def close(self) -> None:
        if not self.closed:
            self._close()
        super().close()


def _only_member(path: Path) -> IO[bytes]:
    try:
        archive = zipfile.ZipFile(path)
    except ValueError as error:  # of places that are before the file
        raise zipfile.BadZipFile(str(error)) from error
    check_archive(archive, path, path.stat().st_size)
    names = [
        name
        for name in archive.namelist()
        if not name.endswith("/") and not name.startswith("__MACOSX/")
    ]
    if "[Content_Types].xml" in names:
        raise InputError(f"{path} is an Excel workbook or the like: save its sheet as CSV")
    if len(names) != 1:
        raise InputError(
            f"{path} holds {len(names)} files ({', '.join(names[:5])}); unpack it and give the "
            "file, or the folder where all are parts of one table"
        )
    return archive.open(names[0])


def _refuse_unread(path: Path, mark: bytes) -> None:
    if (kind := unread_kind(mark)) is not None:
        raise not_read(path, *kind)


def _is_shown(path: Path, root: Path) -> bool:
    inside = path.relative_to(root).parts
    hidden = any(part.startswith((".", "_")) and "=" not in part for part in inside)
    return not hidden and _BESIDE.fullmatch(path.name) is None


def _natural(path: Path) -> list[object]:
    """part-2 before part-10."""
    pieces = re.split(r"(\d+)", os.fspath(path))
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)]
