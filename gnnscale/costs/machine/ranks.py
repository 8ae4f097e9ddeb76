"""What messages between two processes of this machine take. Run as a script it is one of the two.

Two interpreters that import torch alone: no forks after torch has threads.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_LARGE, _TIMES = 4 << 20, 5
_LOOKS = 0.002  # seconds between two looks for a file
_TOGETHER = 60.0  # seconds until both have imported torch and found each other


class Pair:
    """Two processes, which wait to be told.

    Args:
        folder: where they meet.
        started: the processes.
    """

    def __init__(self, folder: Path, started: list[subprocess.Popen[str]]) -> None:
        self._folder, self._started = folder, started

    def wait(self, patience: float = _TOGETHER) -> None:
        """Wait until they have found each other, at most so many seconds, or one has ended."""
        until = time.perf_counter() + patience
        while not all((self._folder / f"ready{rank}").exists() for rank in range(2)):
            ended = any(process.poll() is not None for process in self._started)
            if ended or time.perf_counter() > until:
                return
            time.sleep(_LOOKS)

    def message_seconds(self, patience: float) -> tuple[float, float] | tuple[None, None]:
        """Seconds of a message, and seconds a byte of it; None where that is not known in time.

        Args:
            patience: seconds that it takes at most.
        """
        (self._folder / "go").touch()
        try:
            latency, sent = self._started[0].communicate(timeout=max(0.0, patience))[0].split()
            return float(latency), float(sent)
        except (subprocess.TimeoutExpired, ValueError):
            return None, None


@contextlib.contextmanager
def two_processes() -> Iterator[Pair]:
    """Start two processes that can send each other messages; they are gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        started = [
            subprocess.Popen(
                [sys.executable, __file__, folder, str(rank)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for rank in range(2)
        ]
        try:
            yield Pair(Path(folder), started)
        finally:
            for process in started:
                process.kill()
                process.communicate()


def _run(folder: Path, rank: int) -> None:
    import torch
    from torch import distributed

    if hasattr(os, "sched_setaffinity"):  # as ranks that compute: one of them a processor
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[rank % len(processors)]})
    meet = folder / "meet"
    distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    distributed.barrier()
    (folder / f"ready{rank}").touch()
    while folder.exists() and not (folder / "go").exists():
        time.sleep(_LOOKS)
    seconds = []
    for size, times in ((1, 20), (_LARGE, _TIMES)):
        message, found = torch.zeros(size, dtype=torch.uint8), []
        for _ in range(times + 1):
            began = time.perf_counter()
            for step in (distributed.send, distributed.recv)[:: 1 - 2 * rank]:
                step(message, 1 - rank)
            found.append((time.perf_counter() - began) / 2)
        seconds.append(statistics.median(found[1:]))
    latency, large = seconds
    sys.stdout.write(f"{latency} {(large - min(latency, large / 2)) / _LARGE}\n")
    sys.stdout.flush()
    os._exit(0)  # what torch does at its end takes longer than all of it


if __name__ == "__main__":
    _run(Path(sys.argv[1]), int(sys.argv[2]))
