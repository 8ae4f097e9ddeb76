"""Tensors in files, written through a map.

A write through a map to a disk that has become full kills the process (SIGBUS), so the space of the
whole file is taken first.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import StoreError
from gnnscale.inference.layer_file import reserve as reserve_file


@contextlib.contextmanager
def temporary_folder(parent: str | Path) -> Iterator[str]:
    """A folder in `parent`, removed in the end.

    Raises:
        StoreError: `parent` cannot be written.
    """
    try:
        folder = tempfile.TemporaryDirectory(dir=parent)
    except OSError as error:
        raise StoreError(f"could not write to {parent}: {error.strerror or error}") from error
    with folder as name:
        yield name


def new_layer(path: Path, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor in a file, which takes up disk space until nothing refers to it.

    Raises:
        StoreError: the file cannot be written, or the disk is too full for it.
    """
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    try:
        array = np.memmap(path, kind, "w+", shape=shape)
        reserve(path)
    except OSError as error:
        size = shape[0] * shape[1] * kind.itemsize / 1e9
        raise StoreError(
            f"could not keep a layer of {size:.3g} GB in {path.parent}: {error.strerror or error}"
        ) from error
    with contextlib.suppress(OSError):  # where an open file cannot be removed, its folder will be
        os.unlink(path)
    return torch.from_numpy(array)


def reserve(path: str | Path) -> None:
    """Take the disk space of a file's whole length.

    Raises:
        OSError: there is not enough of it.
    """
    with open(path, "rb+") as file:
        reserve_file(file.fileno(), os.fstat(file.fileno()).st_size)
