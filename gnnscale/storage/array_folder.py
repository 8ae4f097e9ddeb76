"""A folder of arrays: one `.npy` file each, and `meta.json` with their sizes and checksums.

It is written under a temporary name and renamed when whole: array by array, or block by block where
no array fits the memory. A thread hashes and writes a block while the next one is made. Sizes are
checked at every open, checksums on request.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import DamagedStore, InputError, StoreError
from gnnscale.storage.files import atomic_folder, file_checksum, json_bytes, read_json, write_json
from gnnscale.storage.formats import Format
from gnnscale.storage.mapped import Bound, map_array, read_rows

_BLOCK = 1 << 24
VERIFIED = 64 << 20
"""Bytes of a folder that are compared with their checksums whenever it is opened: a tenth of a
second at most."""


def write_arrays(path: Path, meta: dict[str, Any], arrays: Mapping[str, Tensor], what: str) -> None:
    """Write arrays and what is said of them to the folder `path`, replacing what is there.

    Args:
        path: the folder.
        meta: what `meta.json` says besides, the stamp of a `Format` among it.
        arrays: the arrays by name.
        what: what they are, for errors.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
        InputError: an array has a type that cannot be stored.
    """
    refuse_bfloat16(arrays)
    needed = sum(a.numel() * a.element_size() for a in arrays.values())
    with array_folder(path, what, needed) as folder:
        for name, array in arrays.items():
            folder.write(name, array)
        folder.meta = meta


def refuse_bfloat16(arrays: Mapping[str, Tensor]) -> None:
    """Refuse arrays of a type that NumPy does not have.

    Raises:
        InputError: naming them.
    """
    narrow = [name for name, array in arrays.items() if array.dtype == torch.bfloat16]
    if narrow:
        raise InputError(f"{', '.join(narrow)}: bfloat16 cannot be stored; use float16 or float32")


@contextlib.contextmanager
def array_folder(path: Path, what: str, needed: int = 0) -> Iterator[ArrayFolder]:
    """Write the folder `path` piece by piece; it takes its place when the block is left in peace.

    Args:
        path: the folder.
        what: what it holds, for errors.
        needed: bytes that are sure to be written, which the disk must have free.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    folder = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise StoreError(
                f"storing {what} at {path} takes {needed:,} bytes; the disk has {free:,} left"
            )
        with atomic_folder(path) as partial:
            folder = ArrayFolder(partial, what)
            yield folder
            folder.finish()
    except OSError as error:
        size = max(needed, 0 if folder is None else folder.written)
        raise StoreError(
            f"could not write {what} ({size:,} bytes{'' if needed else ' so far'}) to {path}: "
            f"{error.strerror or error}{_space_left(path)}"
        ) from error


class ArrayFolder:
    """A folder of arrays that is being written.

    Attributes:
        path: where, for now; for scratch files, which must be gone at the end.
        meta: what `meta.json` is to say besides the arrays.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self._what = path, what
        self.meta: dict[str, Any] = {}
        self._files: dict[str, dict[str, Any]] = {}
        self.written = 0

    def write(self, name: str, array: Tensor) -> None:
        """Write a whole array, read by range where it lies in a file itself."""
        flat = array.detach().reshape(-1)
        per_block = max(1, _BLOCK // array.element_size())
        with self.array(name, flat.numpy().dtype, tuple(array.shape)) as file:
            for start in range(0, flat.numel(), per_block):
                block = read_rows(flat, start, min(start + per_block, flat.numel()))
                file.append(block.contiguous().numpy())

    @contextlib.contextmanager
    def array(
        self, name: str, dtype: np.dtype, shape: tuple[int | None, ...]
    ) -> Iterator[ArrayFile]:
        """Write an array block by block; the number of its rows may be None, not known yet."""
        file = ArrayFile(self.path / f"{name}.npy", dtype, shape)
        try:
            yield file
            self._files[name] = file.finish()
            self.written += self._files[name]["bytes"]
        finally:
            file.close()

    def optional(
        self, name: str, dtype: np.dtype, shape: tuple[int | None, ...], wanted: bool
    ) -> contextlib.AbstractContextManager[ArrayFile | None]:
        """As `array`, or None where it is not wanted."""
        return self.array(name, dtype, shape) if wanted else contextlib.nullcontext()

    def expect(self, needed: int) -> None:
        """Refuse to go on where the disk has not as many bytes left.

        Raises:
            StoreError: it has not.
        """
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise StoreError(
                f"storing {self._what} takes {needed:,} more bytes; the disk has {free:,} left"
            )

    def finish(self) -> None:
        """Write `meta.json`: the folder is whole."""
        meta = {**self.meta, "arrays": dict(sorted(self._files.items()))}
        write_json(self.path / "meta.json", {**meta, "checksum": _meta_checksum(meta)})


class ArrayFile:
    """An `.npy` file that is being written, made by `ArrayFolder.array`."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int | None, ...]) -> None:
        self._path, self._dtype, self._shape = path, np.dtype(dtype), shape
        self._digest = hashlib.blake2b(digest_size=16)
        self._count = 0
        self._writing: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "gnnscale-write")
        self._file = open(path, "w+b")  # noqa: SIM115 - closed by close()
        self._digest.update(self._write_header(0))

    def append(self, block: np.ndarray) -> None:
        """Write a contiguous block behind the others; not to be changed until the next is."""
        self._wait()
        if block.size:
            self._count += block.size
            self._writing = self._thread.submit(self._write, block.reshape(-1).view(np.uint8).data)

    def finish(self) -> dict[str, Any]:
        """Flush the file to disk; what `meta.json` says of it."""
        self._wait()
        row = math.prod(size for size in self._shape[1:] if size is not None)
        rows = self._shape[0] if self._shape else None
        if self._shape and rows is None:
            rows = self._count // row if row else 0
            self._shape = (rows, *self._shape[1:])
            self._write_header(self._file.tell())
            checksum = file_checksum(self._path)  # it begins with the header, known only now
        else:
            checksum = self._digest.hexdigest()
        expected = math.prod(size or 0 for size in self._shape)
        assert self._count == expected, (self._path.name, self._count, self._shape)
        self._file.flush()
        os.fsync(self._file.fileno())
        return {
            "file": self._path.name,
            "dtype": self._dtype.str,
            "shape": list(self._shape),
            "bytes": self._file.tell(),
            "checksum": checksum,
        }

    def close(self) -> None:
        """Close the file, whole or not."""
        self._thread.shutdown(cancel_futures=True)
        with contextlib.suppress(OSError):  # a full disk, which append or finish has told of
            self._file.close()

    def _write(self, block: memoryview) -> None:
        self._digest.update(block)
        self._file.write(block)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _write_header(self, back_to: int) -> bytes:
        """Its length does not depend on the number of rows: NumPy leaves room for their digits."""
        header = np.lib.format.header_data_from_array_1_0(np.empty((0,), self._dtype))
        header["shape"] = tuple(size or 0 for size in self._shape)
        text = io.BytesIO()
        np.lib.format.write_array_header_1_0(text, header)
        self._file.seek(0)
        self._file.write(text.getvalue())
        if back_to:
            self._file.seek(back_to)
        self._file.flush()
        return text.getvalue()


def read_meta(path: Path, form: Format) -> dict[str, Any]:
    """What `write_arrays` wrote of a folder of this format.

    Raises:
        StoreError: it is missing, of another format or version, or damaged.
    """
    if not os.path.exists(path / "meta.json"):
        raise DamagedStore(f"no {form.what} at {path}: meta.json is missing")
    meta = read_json(path / "meta.json")
    form.check(meta, path)
    if meta.get("checksum") != _meta_checksum(meta):
        raise DamagedStore(f"{path}/meta.json is damaged: its checksum differs")
    return meta


def open_arrays(
    path: Path, meta: dict[str, Any], bounds: Mapping[str, Bound] | None
) -> dict[str, Tensor]:
    """The arrays of a folder, memory-mapped: to be read, since a change in place may be lost.

    The smallest files, `VERIFIED` bytes of them together, are compared with their checksums: a
    small folder whole. Of the others, what is read is held to its bounds.

    Args:
        path: the folder.
        meta: what `read_meta` gave.
        bounds: of the whole numbers and truth values in them, by name; None for files that this
            process has just written, which nothing is compared of.

    Raises:
        StoreError: a file is missing, unreadable, damaged or truncated, or the folder is being
            replaced.
    """
    room, arrays = 0 if bounds is None else VERIFIED, {}
    try:
        for name, about in sorted(meta["arrays"].items(), key=lambda item: item[1]["bytes"]):
            room -= about["bytes"]
            arrays[name] = _open_array(path, about, (bounds or {}).get(name), room >= 0)
    except StoreError:
        _check_same(path, meta)
        raise
    _check_same(path, meta)
    return arrays


def _check_same(path: Path, meta: dict[str, Any]) -> None:
    """By now another process may have put another folder here, of which some files may be."""
    if read_json(path / "meta.json") != meta:
        raise StoreError(f"{path} was replaced while it was opened; open it again")


def damaged_files(path: Path, meta: dict[str, Any]) -> list[str]:
    """Names of the files whose bytes differ from the checksums in `meta`. Reads every byte.

    That of `meta.json` is of what it says; here its very bytes are compared.

    Raises:
        StoreError: a file is missing or unreadable.
    """
    damaged = [
        about["file"]
        for about in meta["arrays"].values()
        if file_checksum(path / about["file"]) != about["checksum"]
    ]
    if (path / "meta.json").read_bytes() != json_bytes(meta):
        damaged.append("meta.json")
    return damaged


def _open_array(folder: Path, about: dict[str, Any], bound: Bound | None, verified: bool) -> Tensor:
    path = folder / about["file"]
    shape, dtype = tuple(about["shape"]), np.dtype(about["dtype"])
    count = math.prod(shape)
    try:
        size = path.stat().st_size
        if size != about["bytes"]:
            raise DamagedStore(
                f"{path} has {size:,} bytes; {about['bytes']:,} were written: truncated?"
            )
        if verified and file_checksum(path) != about["checksum"]:
            raise DamagedStore(f"{path} is damaged: its checksum differs from what was written")
        if not count:
            return torch.from_numpy(np.empty(shape, dtype))
        # The header is not parsed: where data start is known, and a damaged header would move it.
        offset = size - count * dtype.itemsize
        return map_array(path, dtype, shape, offset, bound=bound, proven=verified)
    except FileNotFoundError as error:
        raise DamagedStore(f"{path} is missing or unreadable: {error.strerror}") from error
    except OSError as error:
        raise StoreError(f"{path} is missing or unreadable: {error.strerror or error}") from error


def _space_left(path: Path) -> str:
    with contextlib.suppress(OSError):
        return f"; the disk has {shutil.disk_usage(path.parent).free:,} bytes left"
    return ""


def _meta_checksum(meta: dict[str, Any]) -> str:
    content = {key: value for key, value in meta.items() if key != "checksum"}
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
