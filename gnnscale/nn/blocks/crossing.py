"""What goes from each block to the next: the current rows, and the slots that are read later on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from gnnscale.nn.blocks.phases import Collect, Phase, Read, Save, slots_of


def crossing(phases: Sequence[Sequence[Phase]]) -> list[dict[str, str]]:
    """At every boundary between blocks, "x" and those slots: under which name each goes.

    Read off the phases: in evaluation mode dropout gives what it takes, and two values are one.

    Args:
        phases: of every block, and of the head last.

    Returns:
        `[num_blocks − 1]`; a name with itself, or with that of which it holds the value.
    """
    fresh = count()
    held = {"x": next(fresh)}  # by name, the number of its value
    found = []
    for number, block in enumerate(phases[:-2], start=1):
        for phase in block:
            match phase:
                case Save(slot):
                    held[slot] = held["x"]
                case Collect(slot, _, begins):
                    held[slot] = held["x"] if begins else next(fresh)
                case Read(slot):
                    held["x"] = held[slot]
                case _:
                    held["x"] = next(fresh)
        later = {slot for other in phases[number:] for phase in other for slot in slots_of(phase)}
        goes: dict[int, str] = {}
        found.append({n: goes.setdefault(held[n], n) for n in held if n == "x" or n in later})
    return found
