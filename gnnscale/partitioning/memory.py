"""How much memory a native partitioner will take, and how much there is to take."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

_WORKER = 40 << 20  # an interpreter with NumPy and the partitioner
# Bytes a node and a directed edge, the graph held compressed by KaMinPar: a plane just above the
# peaks of the worker that benchmarks/partition.py prints. A node's share includes 36 bytes for the
# list of integers in which KaMinPar's module returns the parts; it has no other way.
_BYTES = {"metis": (200, 85), "default": (400, 8), "terapart-largek": (400, 4.5)}

_GROUPS, _GROUPS_OF_THIS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

#: What `preset="auto"` chooses from, the best cut first.
AUTO_PRESETS = ("default", "terapart-largek")


def estimated_peak(settings: str, num_nodes: int, num_edges: int) -> int:
    """Estimate the peak of the worker's resident memory in bytes.

    Args:
        settings: "metis" or one of KaMinPar's presets; those that were not measured are estimated
            as "default".
        num_nodes: of the largest graph.
        num_edges: of its directed edges.
    """
    node, edge = _BYTES.get(settings, _BYTES["default"])
    return int(_WORKER + node * num_nodes + edge * num_edges)


def fitting_preset(num_nodes: int, num_edges: int, room: int) -> str:
    """The first of `AUTO_PRESETS` whose estimated peak lies within `room` bytes, else the last."""
    for preset in AUTO_PRESETS:
        if estimated_peak(preset, num_nodes, num_edges) <= room:
            return preset
    return AUTO_PRESETS[-1]


def available_memory() -> int:
    """Bytes that a new process may take: of the machine, its control group and its own limit."""
    return max(0, min([psutil.virtual_memory().available, *_process_limit(), *_group_limits()]))


def peak_memory(pid: int) -> int:
    """The highest resident memory, in bytes, of a running process; 0 where the system has none."""
    # Not getrusage: a child's figure there begins with what its parent held when it was started.
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def _process_limit() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit


def _group_limits() -> Iterator[int]:
    """Yield what each control group of Linux that this process is in leaves, caches apart."""
    with contextlib.suppress(OSError):
        for line in _GROUPS_OF_THIS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":  # the second version
                root, limit, used = _GROUPS, "memory.max", "memory.current"
            elif "memory" in controllers.split(","):
                root = _GROUPS / "memory"
                limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
            else:
                continue
            folder = root / path.lstrip("/")
            for group in (folder, *folder.parents):
                with contextlib.suppress(OSError, ValueError):  # no limit here: no file, or "max"
                    most, taken = (int((group / name).read_text()) for name in (limit, used))
                    yield most - taken + _reclaimable(group)
                if group == root:
                    break


def _reclaimable(group: Path) -> int:
    lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return sum(int(size) for name, size in lines if name in ("active_file", "inactive_file"))
