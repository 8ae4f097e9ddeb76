"""What messages between two processes of this machine take. Run as a script it is one of the two.

Two interpreters that import torch alone: no forks after torch has threads.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_LARGE, _TIMES = 4 << 20, 5


def message_seconds(patience: float) -> tuple[float, float]:
    """Seconds of a message, and seconds a byte of it; 0 where two processes did not find together.

    Args:
        patience: seconds to wait at most.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = [
            subprocess.Popen(
                [sys.executable, __file__, str(Path(folder) / "meet"), str(rank)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for rank in range(2)
        ]
        try:
            said = started[0].communicate(timeout=patience)[0].split()
            return float(said[0]), float(said[1])
        except (subprocess.TimeoutExpired, ValueError, IndexError):
            return 0.0, 0.0
        finally:
            for process in started:
                process.kill()
                process.wait()


def _run(meet: str, rank: int) -> None:
    import torch
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
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
    sys.stdout.write(f"{latency} {max(large - latency, 0.0) / _LARGE}\n")


if __name__ == "__main__":
    _run(sys.argv[1], int(sys.argv[2]))
