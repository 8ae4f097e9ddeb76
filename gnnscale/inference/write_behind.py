"""Writing to a file while the next rows are computed.

A write into the page cache takes new pages, and waits for the disk where many are dirty: for layers
that do not fit in memory that is as long as their dense products.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import IO

from gnnscale.storage.files import AT_ONCE

Piece = tuple[int, memoryview]  # where it goes in the file, and its bytes

_MOST = 2  # writes that wait or run: each holds a chunk of rows


class WriteBehind:
    """Writes to a file in order, on a thread of its own, and closes the file with itself.

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
