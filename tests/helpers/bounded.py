"""What a trainer adds to its process, measured by another process.

A child makes graph, model and trainer, and calls one verb after the other, each when it is told to.
The parent looks at it and its own children meanwhile: summed anonymous PSS and dirty mapped pages,
less what there was right before the call.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from gnnscale.storage.memory import memory_bytes

_PAUSE = 0.002  # seconds between two looks
_VERBS = ("fit", "evaluate", "predict")


class Added(NamedTuple):
    """What came of a case.

    Attributes:
        peaks: bytes that each verb added at most, in the order of calls; of several ranks together.
        refused: what was said in refusing, or None.
        before: bytes that there were before the first verb.
    """

    peaks: dict[str, int]
    refused: str | None
    before: int

    @property
    def most(self) -> int:
        """The most that any verb added."""
        return max(self.peaks.values(), default=0)

    @property
    def suggested(self) -> str | None:
        """The smallest bound that would do, as the refusal says."""
        found = (
            None if self.refused is None else re.search(r"give memory='(.*?)'", self.refused, re.I)
        )
        return None if found is None else found[1]


def added(case: dict[str, Any], timeout: float = 900.0) -> Added:
    """Run a case in a process of its own.

    Args:
        case: see `tests.helpers.bounded_case`; "verbs" are the calls, all by default.
        timeout: seconds.
    """
    folder = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-m", "tests.helpers.bounded_case", json.dumps(case)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=folder
    ) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        try:
            return _watched(child, time.monotonic() + timeout)
        finally:
            child.kill()


def _watched(child: subprocess.Popen[str], until: float) -> Added:
    peaks: dict[str, int] = {}
    refused, first = None, 0
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    process = psutil.Process(child.pid)
    while line := child.stdout.readline():
        if not line.startswith("ready "):
            continue
        verb = line.split()[1]
        before = most = dirty_bytes(process)
        first = first or before
        child.stdin.write("go\n")
        child.stdin.flush()
        tick = 0
        family = [process]
        while not _readable(child.stdout):
            assert time.monotonic() < until, f"{verb} takes too long"
            if tick % 20 == 0:
                family = [process, *process.children(recursive=True)]
            tick += 1
            most = max(most, sum(map(dirty_bytes, family)))
            time.sleep(_PAUSE)
        said = child.stdout.readline()
        assert said, child.stderr.read()[-2000:]
        told = json.loads(said)
        peaks[verb] = most - before
        if told["refused"] is not None:
            refused = told["refused"]
            break
    else:
        assert peaks, child.stderr.read()[-2000:]
    return Added(peaks, refused, first)


def _readable(pipe: Any) -> bool:
    import select

    return bool(select.select([pipe], [], [], 0)[0])


def dirty_bytes(process: psutil.Process) -> int:
    """Anonymous and dirty mapped bytes of a process, pages shared by several in parts."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = dict(re.findall(r"^(Pss_\w+): +(\d+) kB", text, re.MULTILINE))
    return 1024 * max(int(found.get(name, 0)) for name in ("Pss_Anon", "Pss_Dirty"))


def holds(case: dict[str, Any], found: Added) -> bool:
    """Whether what was added keeps to the bound of the case."""
    return found.most <= memory_bytes(case["memory"])


def trimmed() -> None:
    """Give back what the heap of this process keeps."""
    ctypes.CDLL(None).malloc_trim(0)
