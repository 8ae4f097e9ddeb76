"""Arrays of an ``.npz`` read block by block: one may be larger than memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any

import numpy as np

from gnnscale.data.ogb.raw import missing, size_of
from gnnscale.errors import StoreError
from gnnscale.storage.files import held_folder, remove_abandoned
from gnnscale.storage.unpacking import check_archive

_BYTES_AT_ONCE = 1 << 24
_PREFIX = ".npz-"


@contextlib.contextmanager
def open_npz(file: Traversable, scratch: Path) -> Iterator[Npz]:
    """Open an npz.

    One that lies in a zip is unpacked to a scratch file first: its table of contents is at its end,
    and in a compressed file every step back is a new start.

    Args:
        file: a `pathlib.Path`, or a `zipfile.Path`.
        scratch: where scratch files go, gone afterwards.

    Raises:
        StoreError: it is missing or damaged, or the disk is full.
    """
    if not file.is_file():
        raise missing(file)
    with contextlib.ExitStack() as stack:
        content: Any = file
        size = size_of(file)
        if isinstance(file, zipfile.Path):
            content = stack.enter_context(_unpacked(file, size, scratch))
        try:
            archive = stack.enter_context(zipfile.ZipFile(content))
        except (OSError, zipfile.BadZipFile) as error:
            raise StoreError(f"{file} is damaged or no npz: {error}. Fetch it again") from error
        check_archive(archive, file, size)
        yield Npz(archive, str(file))


class Npz:
    """Arrays of an npz, by key.

    Attributes:
        keys: the names of the arrays.
    """

    def __init__(self, archive: zipfile.ZipFile, label: str) -> None:
        self._archive, self._label = archive, label
        self.keys = [name.removesuffix(".npy") for name in archive.namelist()]

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of an array."""
        with self._open(key) as (_, shape, _, _):
            return shape

    def rows(self, key: str) -> Iterator[np.ndarray]:
        """Yield an array in blocks of rows `[k, ...]`.

        Raises:
            StoreError: there is no such array, or it is damaged, or lies column by column.
        """
        with self._open(key) as (file, shape, columns_first, dtype):
            if columns_first and len(shape) > 1 and min(shape) > 1:
                raise StoreError(
                    f"{self._label}: {key} {shape} lies column by column; save it anew from "
                    "numpy.ascontiguousarray of it"
                )
            row = int(np.prod(shape[1:], dtype=np.int64))
            for count in _counts(shape[0], row * dtype.itemsize):
                yield self._take(file, key, count * row, dtype).reshape(count, *shape[1:])
            self._end(file, key)

    def pairs(self, key: str) -> Iterator[np.ndarray]:
        """Yield an array `[2, n]` in blocks of columns, each `[k, 2]`.

        Raises:
            StoreError: there is no such array, or it is damaged or of another shape.
        """
        with (
            self._open(key) as (file, shape, columns_first, dtype),
            self._open(key) as (second, _, _, _),
        ):
            if len(shape) != 2 or shape[0] != 2 or dtype.kind not in "iu":
                raise StoreError(f"{self._label}: {key} is {dtype} {shape}; expected integers [2,]")
            if columns_first:
                for count in _counts(shape[1], 2 * dtype.itemsize):
                    yield self._take(file, key, 2 * count, dtype).reshape(count, 2)
            else:
                # The second reader is half an array ahead: what it skips is decompressed twice.
                for count in _counts(shape[1], dtype.itemsize):
                    self._take(second, key, count, dtype)
                for count in _counts(shape[1], 2 * dtype.itemsize):
                    halves = (self._take(end, key, count, dtype) for end in (file, second))
                    yield np.stack(list(halves), axis=1)
                self._end(second, key)

    def read(self, key: str) -> np.ndarray:
        """Read an array whole."""
        with self._open(key) as (file, shape, columns_first, dtype):
            flat = self._take(file, key, int(np.prod(shape, dtype=np.int64)), dtype)
            self._end(file, key)
            return np.array(flat.reshape(shape, order="F" if columns_first else "C"))

    @contextlib.contextmanager
    def _open(self, key: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype]]:
        if key not in self.keys:
            raise StoreError(f"{self._label} has no array {key!r}; it has {', '.join(self.keys)}")
        try:
            with self._archive.open(f"{key}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0
                if version == (2, 0):
                    read = np.lib.format.read_array_header_2_0
                shape, columns_first, dtype = read(file)
                if dtype.hasobject:
                    raise StoreError(
                        f"{self._label}: {key} holds Python objects, which are not read for safety"
                    )
                yield file, shape, columns_first, dtype
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise self._damaged(key, error) from error

    def _take(self, file: IO[bytes], key: str, count: int, dtype: np.dtype) -> np.ndarray:
        content = file.read(count * dtype.itemsize)
        if len(content) != count * dtype.itemsize:
            raise self._damaged(key, "it ends early")
        return np.frombuffer(content, dtype)

    def _end(self, file: IO[bytes], key: str) -> None:
        """Read to the end, where the checksum is compared."""
        if file.read(1):
            raise self._damaged(key, "there is more of it than its header says")

    def _damaged(self, key: str, error: object) -> StoreError:
        return StoreError(f"{self._label}: {key} is damaged: {error}. Fetch it again")


def _counts(rows: int, bytes_a_row: int) -> Iterator[int]:
    """The numbers of rows of blocks of some MB."""
    most = max(1, _BYTES_AT_ONCE // max(1, bytes_a_row))
    for start in range(0, rows, most):
        yield min(most, rows - start)


@contextlib.contextmanager
def _unpacked(file: Traversable, size: int, scratch: Path) -> Iterator[Path]:
    """A file in a zip as a file of its own, for a while."""
    scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(scratch).free
    if free < size:
        raise StoreError(
            f"unpacking {file} takes {size:,} bytes for a while; the disk of {scratch} has "
            f"{free:,} left"
        )
    remove_abandoned(scratch, f"{_PREFIX}????????")
    folder, held = held_folder(lambda: Path(tempfile.mkdtemp(prefix=_PREFIX, dir=scratch)))
    try:
        path = folder / "content.npz"
        try:
            with file.open("rb") as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, _BYTES_AT_ONCE)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise StoreError(f"{file} is damaged: {error}. Fetch it again") from error
        except OSError as error:
            raise StoreError(f"could not unpack {file} to {scratch}: {error}") from error
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)
