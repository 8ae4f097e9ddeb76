"""What the arguments of a model by name may be, and how they are kept to build it again."""

from __future__ import annotations

import json
from typing import Any

from gnnscale.choices import number_faults, whole_faults
from gnnscale.errors import InputError

_MOST_LAYERS = 10_000  # a number beyond is a mistake, and would be built for hours


def check_arguments(
    arguments: dict[str, Any], lazy: bool = True, output_given: bool = False
) -> None:
    """Check those arguments of a model that nothing else checks, whichever of them it takes.

    Args:
        arguments: by name.
        lazy: whether `in_channels` may be -1.
        output_given: whether `out_channels` may not be None.

    Raises:
        InputError: naming all that are not valid.
    """
    limits = {
        "in_channels": (-1 if lazy else 1, 2**31),
        "hidden_channels": (1, 2**31),
        "num_layers": (1, _MOST_LAYERS),
        "out_channels": (1, 2**31),
        "K": (0, _MOST_LAYERS),
        "hops": (1, _MOST_LAYERS),
    }
    optional = () if output_given else ("out_channels",)
    faults = [
        fault
        for name, bounds in limits.items()
        if name in arguments and not (name in optional and arguments[name] is None)
        for fault in whole_faults(name, arguments[name], *bounds)
    ]
    if not faults and arguments["in_channels"] == 0:
        faults.append("in_channels=0 must be at least 1, or -1 to be read off the first batch")
    if "alpha" in arguments:
        faults += number_faults("alpha", arguments["alpha"], 0, 1)
    if faults:
        raise InputError(faults)


def spec_of(name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """What builds the model again, or None where an argument cannot be written as JSON."""
    try:
        return json.loads(json.dumps({"model": name, "arguments": arguments}))
    except TypeError:
        return None
