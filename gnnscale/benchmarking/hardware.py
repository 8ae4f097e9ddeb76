"""What a leaderboard calls hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def hardware(environment: Mapping[str, Any]) -> str:
    """The GPU with its memory, else the processor with the threads used.

    Args:
        environment: what `gnnscale.train.run.report.environment` says.
    """
    if "gpu" in environment:
        return str(environment["gpu"])
    threads = environment["threads"]
    name = environment["processor"] or environment["machine"]
    return f"{name}, {threads} thread{'s' * (threads != 1)}"
