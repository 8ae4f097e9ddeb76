"""Activations in a file, in blocks of columns: what propagation loads lies together.

Read and written with plain calls rather than through a map, whose pages would stay resident, and
written while the next rows are computed. The file has no name, so that nothing is left of it
however the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import IO

import torch
from torch import Tensor

from gnnscale.errors import StoreError
from gnnscale.storage.files import AT_ONCE, read_at

Columns = tuple[int, int]
Piece = tuple[int, memoryview]  # where it goes in the file, and its bytes

_MOST = 2  # writes that wait or run: each holds a chunk of rows


class ActivationsInFile:
    """Rows `[num_rows, width]` in a temporary file, in blocks of columns.

    Args:
        folder: where the file lies.
        shape: `(num_rows, width)`, neither 0.
        dtype: of the values.
        blocks: the columns of every block, in order.

    Attributes:
        changed: whether rows have been written that other ranks have not been given.

    Raises:
        StoreError: the folder cannot be written, or the disk is too full.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, int], dtype: torch.dtype, blocks: list[Columns]
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.blocks = blocks
        self.changed = False
        size = shape[0] * shape[1] * dtype.itemsize
        try:
            file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise StoreError(f"could not write to {folder}: {error.strerror or error}") from error
        try:
            reserve(file.fileno(), size)
        except OSError as error:
            file.close()
            raise StoreError(
                f"could not keep the output of a layer, {size / 1e9:.3g} GB, in {folder}: "
                f"{error.strerror or error}"
            ) from error
        self._descriptor = file.fileno()
        self._behind = WriteBehind(file)

    def rows(self, start: int, stop: int, columns: Columns | None = None) -> Tensor:
        """Rows `start` to `stop`, of some blocks' columns or of all."""
        pieces = self.pieces(start, stop, columns or (0, self.shape[1]))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def pieces(self, start: int, stop: int, columns: Columns) -> list[Tensor]:
        """Rows `start` to `stop`, block by block."""
        first, last = columns
        blocks = [block for block in self.blocks if first <= block[0] and block[1] <= last]
        return [self.read(start, stop, block) for block in blocks]

    def put(self, start: int, rows: Tensor, columns: Columns | None = None) -> None:
        """Write rows from `start` on, of one block or of all."""
        self.changed = True
        low = 0 if columns is None else columns[0]
        pieces = []
        for block in self.blocks if columns is None else [columns]:
            # A copy, whoever goes on writing to its rows.
            piece = torch.empty(rows.size(0), block[1] - block[0], dtype=self.dtype)
            piece.copy_(rows[:, block[0] - low : block[1] - low])
            pieces.append((self._offset(start, block), _bytes_of(piece)))
        with _failing():
            self._behind.write(pieces)

    def read(self, start: int, stop: int, block: Columns, out: Tensor | None = None) -> Tensor:
        """Rows of one block, into `out` where it is given."""
        if out is None:
            out = torch.empty(stop - start, block[1] - block[0], dtype=self.dtype)
        offset, view = self._offset(start, block), _bytes_of(out)
        with _failing():
            self._behind.settle(offset, offset + len(view))
            missing = read_at(self._descriptor, offset, view)
        if missing:
            raise StoreError("the output of a layer, in a temporary file, ends early")
        return out

    def gather(self, nodes: Tensor) -> Tensor:
        """The rows `nodes`, distinct ones in whatever order, of activations of one block.

        Neighbours in a file are read together.
        """
        (block,) = self.blocks
        out = torch.empty(nodes.numel(), self.shape[1], dtype=self.dtype)
        ordered, order = nodes.sort()
        ends = ((ordered.diff() != 1).nonzero().squeeze(1) + 1).tolist()
        ascending = torch.empty_like(out)
        for first, last in zip([0, *ends], [*ends, nodes.numel()], strict=True):
            if last > first:
                start = int(ordered[first])
                self.read(start, start + last - first, block, ascending[first:last])
        out[order] = ascending
        return out

    def _offset(self, row: int, block: Columns) -> int:
        width = block[1] - block[0]
        return (self.shape[0] * block[0] + row * width) * self.dtype.itemsize


def _bytes_of(rows: Tensor) -> memoryview:
    return rows.view(-1).view(torch.uint8).numpy().data


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the output of a layer could not be kept in a file: {error.strerror or error}"
        ) from error


def reserve(descriptor: int, size: int) -> None:
    """Take the disk space of a file, so that a full disk is found before the work is done.

    Raises:
        OSError: there is not enough of it.
    """
    os.ftruncate(descriptor, size)
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not on this file system
            raise


class WriteBehind:
    """Writes to a file in order, on a thread of its own, and closes the file with itself.

    A write into the page cache takes new pages, and waits for the disk where many are dirty: for
    activations that do not fit in memory, that is as long as their dense products.

    Args:
        file: an unbuffered file, from here on this object's.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._waiting: deque[_Write] = deque()
        # A queue that may be put to from a finaliser, wherever the collector runs it.
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        thread = threading.Thread(target=_work, args=(self._queue, file), daemon=True)
        thread.start()
        weakref.finalize(self, self._queue.put, None)

    def write(self, pieces: Sequence[Piece]) -> None:
        """Write pieces some time later; their memory is not to change before that.

        Raises:
            OSError: an earlier write has failed.
        """
        while len(self._waiting) >= _MOST:
            self._waiting.popleft().wait()
        write = _Write(pieces)
        self._waiting.append(write)
        self._queue.put(write)

    def settle(self, start: int, stop: int) -> None:
        """Wait until nothing is left to write between these bytes of the file.

        Raises:
            OSError: a write has failed.
        """
        while any(write.touches(start, stop) for write in self._waiting):
            self._waiting.popleft().wait()


class _Write:
    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._error: BaseException | None = None
        self._done = threading.Event()

    def touches(self, start: int, stop: int) -> bool:
        return any(at < stop and start < at + len(view) for at, view in self._pieces)

    def run(self, descriptor: int) -> None:
        try:
            for offset, view in self._pieces:
                while view:
                    count = os.pwritev(descriptor, [view[:AT_ONCE]], offset)
                    offset += count
                    view = view[count:]
        except BaseException as error:  # raised where it is waited for
            self._error = error
        self._done.set()

    def wait(self) -> None:
        self._done.wait()
        if self._error is not None:
            raise self._error


def _work(queue: SimpleQueue[_Write | None], file: IO[bytes]) -> None:
    with file:
        while (write := queue.get()) is not None:
            write.run(file.fileno())
            del write  # its memory goes now, not with the next
