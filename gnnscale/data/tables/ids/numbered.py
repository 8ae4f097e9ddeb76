"""Edges whose ids were numbered as they came, on the disk until the nodes have their order."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.errors import StoreError
from gnnscale.storage.files import read_at

#: Gives ids numbers, uint32; None where it cannot any more.
GiveNumbers = Callable[[Any], "np.ndarray | None"]


class NumberedEdges:
    """Edges by numbers of ids, in a file without a name.

    Reading an edge list once more, and looking its ids up once more, takes longer than this file:
    8 bytes an edge.

    Args:
        folder: a folder on the disk to use.
    """

    def __init__(self, folder: Path) -> None:
        path = self._path = folder / "numbered"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        weakref.finalize(self, os.close, self._file)
        self._sizes: list[int] = []
        self._more: list[np.dtype] = []

    def take(self, chunks: Iterable[tuple[Any, ...]], number: GiveNumbers) -> bool:
        """Number all edges; whether they could be.

        Args:
            chunks: ids of sources and targets, and weights where there are any.
            number: what numbers ids.

        Raises:
            StoreError: the disk is full.
        """
        with open(self._file, "wb", closefd=False) as file:
            for source, target, *more in chunks:
                numbers = number(source), number(target)
                if numbers[0] is None or numbers[1] is None:
                    os.ftruncate(self._file, 0)
                    return False
                self._sizes.append(len(source))
                self._more = [array.dtype for array in more]
                try:
                    for array in (*numbers, *more):
                        file.write(np.ascontiguousarray(array).data)
                    file.flush()
                except OSError as error:
                    raise StoreError(f"could not write {self._path}: {error.strerror}") from error
        return True

    def chunks(self, places: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """The edges as they came.

        Args:
            places: the node of each number.
        """
        at = 0
        kinds = [np.dtype(np.uint32), np.dtype(np.uint32), *self._more]
        for size in self._sizes:
            arrays = [np.empty(size, kind) for kind in kinds]
            for array in arrays:
                if size and read_at(self._file, at, array.view(np.uint8).data):
                    raise StoreError(f"{self._path} is shorter than what was written")
                at += array.nbytes
            yield (places[arrays[0]], places[arrays[1]], *arrays[2:])
