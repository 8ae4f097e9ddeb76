"""Work done by threads ahead of what is done with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def ahead(
    threads: ThreadPoolExecutor,
    make: Callable[[Given], Made],
    given: Iterable[Given],
    most: int,
) -> Generator[Made, None, None]:
    """Yield `make(one)` for each that is given, in order.

    Args:
        threads: where `make` runs. What is given is made here, in the thread that reads.
        make: what must not hold Python's lock for long.
        given: what it is given.
        most: how many may be made or wait to be read, besides the one in hand.
    """
    waiting: deque[Future[Made]] = deque()
    for one in given:
        waiting.append(threads.submit(make, one))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
