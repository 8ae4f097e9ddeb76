"""Watch: which ranks live, and what one that failed has said.

Every rank counts up a number of its own in the group's store, four times a second. An error is put
there for the others to find. torchrun ends the ranks of its own host when one of them fails, but
neither says on the others what has happened, nor reaches those of another host.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from torch import distributed

from gnnscale.errors import RankFailure

logger = logging.getLogger(__name__)

_TICK = 0.25  # seconds
_GONE = 8  # ticks: silent so long, when something has broken, is who broke it
_PATIENCE = 6.0  # seconds for an error to be told, or a silence to be noticed
_GRACE = 20.0  # seconds for this rank to end by itself once another has failed


class Watch:
    """Tells the others that this rank lives, and listens whether they do.

    Args:
        store: of the process group.
        rank: of this process.
        size: how many there are.
        timeout: seconds of silence after which a rank counts as gone, whatever it may be doing.
    """

    def __init__(self, store: Any, rank: int, size: int, timeout: float) -> None:
        # A connection each: one that waits is held until it has been answered.
        self._store, self._waiting = (
            distributed.PrefixStore("gnnscale", store.clone()) for _ in range(2)
        )
        self._rank, self._size = rank, size
        self._limit = max(_GONE, round(timeout / _TICK))
        self._count = 0
        self._doing = "nothing"
        self._last = [b""] * size
        self._silent = [0] * size  # in ticks of our own: all may have been stopped together
        self._errors = 0  # of this rank: those that all ranks raise alike are over for all
        self._failure: str | None = None
        self._noticed = False
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gnnscale-ranks", daemon=True)
        self._tick()

    def begin(self) -> None:
        """Listen from now on: all ranks have said that they live."""
        self._thread.start()

    def end(self) -> None:
        """Say and hear nothing more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def publish(self, error: BaseException) -> None:
        """Tell the others of an error that ends what this rank does."""
        text = f"rank {self._rank} of {self._size} failed: {type(error).__name__}: {error}"
        with self._lock, contextlib.suppress(RuntimeError):  # the store may be gone before us
            self._store.compare_set(f"failed/{self._errors}", "", text)
        with self._lock:  # or a tick that has seen this one would take it for a new one
            self._errors += 1
            self._failure, self._noticed = None, False

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Let the others know what this rank does, for where they do not all do the same."""
        before, self._doing = self._doing, what
        try:
            yield
        finally:
            self._doing = before

    def check(self) -> None:
        """Raise where another rank has failed or is gone.

        Raises:
            RankFailure: naming it.
        """
        if self._failure is None:
            gone = [r for r, ticks in enumerate(self._silent) if ticks >= self._limit]
            if not gone:
                return
            self._failure = self._missing(gone[0])
        self._noticed = True
        raise RankFailure(self._failure)

    def explain(self, error: Exception) -> RankFailure:
        """Why something between ranks broke: waits a little for what the others have to say."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self._failure is None and self._lost is None:
            quiet = max(range(self._size), key=self._silent.__getitem__)
            if self._silent[quiet] >= _GONE:
                self._failure = self._missing(quiet)
            else:
                time.sleep(_TICK / 4)
        self._noticed = True
        return RankFailure(
            self._failure
            or self._lost
            or f"rank {self._rank} of {self._size}: all ranks live, but one does not answer within "
            f"$GNNSCALE_TIMEOUT{self._out_of_step()}: {error}"
        )

    def _out_of_step(self) -> str:
        doing = [text.decode().partition(" ")[2] for text in self._last]
        doing[self._rank] = self._doing
        if len(set(doing)) == 1:
            return ""
        each = ", ".join(f"rank {rank} in {what}" for rank, what in enumerate(doing))
        return (
            f"; they do not do the same ({each}): every rank calls fit, evaluate, predict and "
            "embed, and rank 0 alone writes what comes of them"
        )

    def say(self, key: str) -> None:
        """Leave a mark that `wait` waits for."""
        self._waiting.set(key, "1")

    def unsay(self, key: str) -> None:
        """Take a mark away."""
        self._waiting.delete_key(key)

    def wait(self, key: str) -> None:
        """Wait for a mark, however long whoever leaves it works, while all ranks live.

        Raises:
            RankFailure: one has failed or is gone.
        """
        # Asked for again and again: a store's own `wait` prints a warning when its time is over.
        pause = 0.0005
        while True:
            self.check()
            try:
                if self._waiting.check([key]):
                    return
            except RuntimeError as error:
                raise self.explain(error) from error
            time.sleep(pause)
            pause = min(2 * pause, _TICK / 5)

    def _missing(self, rank: int) -> str:
        return (
            f"rank {rank} of {self._size} is gone without an error of its own: it was killed (out "
            "of memory?), its program is over, or its machine cannot be reached"
        )

    def _run(self) -> None:
        since: float | None = None
        while not self._stop.wait(_TICK):
            try:
                self._tick()
            except RuntimeError:
                self._lost = (
                    f"rank {self._rank} of {self._size} has lost the store that ranks meet at: "
                    "rank 0 or its torchrun is gone"
                )
                return
            if self._failure is None or self._noticed:
                since = None
            elif since is None:
                since = time.monotonic()
            elif time.monotonic() - since > _GRACE:
                # It is in a call that nothing else ends: a collective on another device, or a loop.
                logger.critical("rank %d ends: %s", self._rank, self._failure)
                os._exit(1)

    def _tick(self) -> None:
        with self._lock:
            self._count += 1
            self._store.set(f"lives/{self._rank}", f"{self._count} {self._doing}")
            if not self._thread.is_alive():
                return
            for other in range(self._size):
                if other == self._rank:
                    continue
                now = self._store.get(f"lives/{other}")
                self._silent[other] = self._silent[other] + 1 if now == self._last[other] else 0
                self._last[other] = now
            key = f"failed/{self._errors}"
            if self._failure is None and self._store.check([key]):
                self._failure = self._store.get(key).decode()
