"""Ctrl-C, or SIGTERM, at a moment when the state is whole."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

_AT_ONCE = 1.0  # seconds: torchrun passes a Ctrl-C on that the terminal has sent to its ranks too


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait for the end of the step, so that a whole state is saved; twice is at once.

    SIGTERM, by which schedulers and torchrun end a run, waits as well, however often it comes.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False  # signals reach the main thread only; another's handler stays in place
        return
    seen: list[float] = []

    def handle(number: int, frame: Any) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and seen and now - seen[0] > _AT_ONCE:
            raise KeyboardInterrupt
        seen.append(now)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, handle)
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
