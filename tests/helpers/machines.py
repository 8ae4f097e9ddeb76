"""A machine that is made up, for tests of what is predicted by one: no seconds are measured."""

from __future__ import annotations

from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.machine.table import Table

_SIZES = {
    "dense": 4, "matrix gradient": 4, "sparse": 4, "features": 4, "features gradient": 4,
    "dropout": 2, "dropout gradient": 2, "rows": 2, "gathered": 2,
}  # fmt: skip
_FIXED = ("step", "phase", "gradient", "parameter", "number", "batch", "chunk")


def made_up(speed: float = 1.0) -> Machine:
    """A machine whose every rate is that speed, in some nanoseconds a unit."""
    axes = {name: tuple((1.0, 1e9) for _ in range(sizes)) for name, sizes in _SIZES.items()}
    tables = {
        name: Table(tuple(map(str, range(len(own)))), own, (1e-9 / speed,) * 2 ** len(own))
        for name, own in axes.items()
    }
    return Machine(
        processor="made up",
        device="cpu",
        threads=2,
        torch="0",
        gnnscale="0",
        tables=tables,
        fixed=dict.fromkeys(_FIXED, 1e-6 / speed),
        batch=dict.fromkeys(("node", "edge", "entry", "byte", "transposed"), 1e-9 / speed),
        copied=1e-10 / speed,
        fresh=1e-10 / speed,
        read=1e-9 / speed,
        cores={1: 1.0, 2: 1.8},
        alone={1: 1.0, 2: 1.6},
        latency=1e-5,
        sent=1e-9,
    )
