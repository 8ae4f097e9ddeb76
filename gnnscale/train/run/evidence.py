"""What a run took, beside what was predicted of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import groupby

from gnnscale.shown import duration, size
from gnnscale.train.run.records import Description, Row


def measured(
    rows: Sequence[Row], evaluation: float | None, memory: int, before: Description
) -> Description:
    """What a run took, as it is predicted.

    Args:
        rows: of the report.
        evaluation: seconds of the exact evaluation at its end.
        memory: bytes that `fit` added to the process, what it was first to import among them.
        before: what was found when the run was left, where it has been gone on with.

    Returns:
        "epoch": the median of the seconds of epochs, the first one aside where there are others;
        of layers trained one by one the sum of theirs. "evaluation" as given; "memory" is the most
        that a call of `fit` has added.
    """
    of_layers = groupby(rows, key=lambda row: row.get("layer"))
    every = [[row["seconds"] for row in some] for _, some in of_layers]
    epoch = sum(statistics.median(seconds[1:] or seconds) for seconds in every)
    most = max(memory, before.get("memory", 0))
    found = {"epoch": epoch if every else None, "evaluation": evaluation, "memory": most}
    return {name: value for name, value in found.items() if value is not None}


def compared(predicted: Description, took: Description) -> Iterator[str]:
    """What was measured beside what was predicted of it, in words."""
    for name, what in (("epoch", "an epoch"), ("evaluation", "an exact evaluation")):
        if name in took:
            said = predicted.get(name)
            beside = "" if said is None else f" (predicted: {duration(said)})"
            yield f"{what}: {duration(took[name])}{beside}"
    if "memory" in took:
        said = predicted.get("memory")
        parts = sorted(predicted.get("parts", {}).items(), key=lambda part: -part[1])
        listed = ", ".join(f"{name} {size(value)}" for name, value in parts)
        beside = "" if said is None else f" (predicted: {size(said)} at its {predicted['moment']}"
        yield f"memory added: {size(took['memory'])}{beside}{f'; {listed})' if beside else ''}"
