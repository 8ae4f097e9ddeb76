"""Running the worker, a process of its own: a crash in native code is an exception here.

Also how much memory it will take, and takes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gnnscale.errors import PartitionError, StoreError
from gnnscale.storage.files import hold_folder
from gnnscale.storage.memory import available_memory, scratch_folder

logger = logging.getLogger(__name__)

_PREFIX = "gnnscale-partition-"
_MOMENT = 0.1  # seconds between two looks at the worker's memory
WORKER = Path(__file__).with_name("worker.py")
_ALONE = 40 << 20  # an interpreter with NumPy and the partitioner
# Bytes a node and a directed edge, the graph held compressed by KaMinPar: a plane just above the
# peaks of the worker that benchmarks/partition.py prints. A node's share includes 36 bytes for the
# list of integers in which KaMinPar's module returns the parts; it has no other way.
_BYTES = {"metis": (200, 85), "default": (400, 8), "terapart-largek": (400, 4.5)}

#: The mean size of a part below which KaMinPar's "fast" cuts about as little as its "default", in
#: less time; `benchmarks/partition.py` runs both.
_SMALL_PART = 256


@contextlib.contextmanager
def work_folder(*arrays: NDArray[np.integer]) -> Iterator[Path]:
    """A folder for the files of one job on these arrays (see `scratch_root`), gone afterwards.

    That of a process which was killed is removed by the next job.

    Raises:
        PartitionError: writing in it failed (a full disk, for one).
    """
    with contextlib.ExitStack() as stack:
        try:
            tensors = map(torch.from_numpy, arrays)
            folder = stack.enter_context(scratch_folder(_PREFIX, *tensors))
        except StoreError as error:
            raise PartitionError(f"{error}, or use method='streaming'") from error
        try:
            yield folder
        except OSError as error:
            raise PartitionError(
                f"could not hand the graph to the partitioner through {folder}: {error}; set "
                "TMPDIR to a folder with room for the graph, or use method='streaming'"
            ) from error


def run_worker(job: dict[str, Any], folder: Path, estimate: int = 0) -> None:
    """Run the job in the worker and wait for it.

    Never multiprocessing: a fork hangs once OpenMP has run, a spawn re-runs an unguarded script.
    The worker is killed when this process is interrupted.

    Args:
        job: written to the folder as JSON.
        folder: of the job's files.
        estimate: bytes of memory that the worker is expected to take, for the error.

    Raises:
        PartitionError: it was killed by a signal or ended with another status than 0; says how much
            memory it took, was expected to take, and could take.
    """
    method, room, peak = job["method"], available_memory(), 0
    description, output = folder / "job.json", folder / "output.txt"
    description.write_text(json.dumps(job), encoding="utf-8")
    held = hold_folder(folder)  # inherited by the worker, which may outlive this process
    with output.open("wb") as sink:
        # -P: the worker's own folder must not come before the standard library on its path.
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", str(WORKER), str(description)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                pass_fds=(held,),
            )
        finally:
            os.close(held)
        try:
            while (status := _ended(process)) is None:
                peak = max(peak, peak_memory(process.pid))
        except BaseException:
            process.kill()
            process.wait()
            raise
    said = output.read_text(encoding="utf-8", errors="replace").strip()
    if said:
        logger.debug("%s said:\n%s", method, said)
    if status == 0:
        logger.info("the %s worker took %s of memory", method, _gigabytes(peak))
        return
    last = said.splitlines()[-1] if said else "it said nothing"
    raise PartitionError(
        f"the {method} worker {_describe(status)}: {last}. Memory: it held {_gigabytes(peak)} when "
        f"last seen, was estimated to need {_gigabytes(estimate)}, and {_gigabytes(room)} were "
        "available. Try another method: 'kaminpar' with preset='terapart-largek' is the leanest of "
        "the native ones, 'streaming' takes 32 bytes a node in this process"
    )


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Wait a moment; return the status of a process that has ended, None of one that runs."""
    try:
        return process.wait(_MOMENT)
    except subprocess.TimeoutExpired:
        return None


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _describe(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "an unknown signal"
    return f"was killed by signal {-status} ({name})"


def estimated_peak(settings: str, num_nodes: int, num_edges: int) -> int:
    """Estimate the peak of the worker's resident memory in bytes.

    Args:
        settings: "metis" or one of KaMinPar's presets; those that were not measured are estimated
            as "default".
        num_nodes: of the largest graph.
        num_edges: of its directed edges.
    """
    node, edge = _BYTES.get(settings, _BYTES["default"])
    return int(_ALONE + node * num_nodes + edge * num_edges)


def fitting_preset(num_nodes: int, num_edges: int, num_parts: int, room: int) -> str:
    """KaMinPar's settings for parts of this size whose estimated peak lies within `room` bytes."""
    if estimated_peak("default", num_nodes, num_edges) > room:
        return "terapart-largek"
    return "fast" if num_nodes < _SMALL_PART * num_parts else "default"


def peak_memory(pid: int) -> int:
    """The highest resident memory, in bytes, of a running process; 0 where the system has none."""
    # Not getrusage: a child's figure there begins with what its parent held when it was started.
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0
