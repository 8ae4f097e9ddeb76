"""How much memory a native partitioner will take, and takes."""

from __future__ import annotations

import contextlib
from pathlib import Path

_WORKER = 40 << 20  # an interpreter with NumPy and the partitioner
# Bytes a node and a directed edge, the graph held compressed by KaMinPar: a plane just above the
# peaks of the worker that benchmarks/partition.py prints. A node's share includes 36 bytes for the
# list of integers in which KaMinPar's module returns the parts; it has no other way.
_BYTES = {"metis": (200, 85), "default": (400, 8), "terapart-largek": (400, 4.5)}

#: The mean size of a part below which KaMinPar's "fast" cuts about as little as its "default", in
#: less time; `benchmarks/partition.py` runs both.
_SMALL_PART = 256


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
