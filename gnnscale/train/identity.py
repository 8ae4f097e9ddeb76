"""What makes a run the same run: its model and its task, described so that they can be compared."""

from __future__ import annotations

import re
from typing import Any

from gnnscale.nn import LayeredGNN
from gnnscale.train.task import NodeTask, Task


def describe_model(model: LayeredGNN) -> dict[str, Any]:
    """Parameters and phases, the arguments it was built with, and what its modules say."""
    return {
        "model": model.signature(),
        "spec": model.spec,
        "modules": re.sub(r" at 0x\w+", "", repr(model)).splitlines(),
    }


def describe_task(task: Task) -> dict[str, Any]:
    """Name, headline, and the arguments of a task that is built in."""
    built_in = type(task) is NodeTask
    return {
        "name": task.name,
        "headline": task.headline,
        "built_in": built_in,
        **(task.arguments() if isinstance(task, NodeTask) else {}),
    }
