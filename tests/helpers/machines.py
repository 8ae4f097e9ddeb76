"""A made-up machine: what is predicted of it is known, and nothing is measured."""

from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.machine.table import Table

_WORKING = (4e6, 1e8)


def _flat(names, rate):
    return Table((*names, "bytes of the step"), (*((1.0, 1e6) for _ in names), _WORKING),
                 (rate,) * 2 ** (len(names) + 1))  # fmt: skip


def made_up():
    """One whose operations take the same a unit whatever the size."""
    wide = ("rows", "columns in", "columns out")
    of_features = ("entries a row", "columns", "features")
    tables = {
        "dense": _flat(wide, 1e-11),
        "matrix gradient": _flat(wide, 1e-11),
        "sparse": _flat(("rows", "entries a row", "columns"), 1e-10),
        "features": _flat(of_features, 1e-10),
        "features gradient": _flat(of_features, 1e-10),
        **{name: _flat(("bytes",), 1e-10) for name in ("rows", "dropout", "dropout gradient")},
    }
    fixed = ("step", "phase", "gradient", "loop", "optimizer", "parameter", "batch")
    return Machine(
        processor="made up",
        device="cpu",
        threads=2,
        layer="omp",
        processors=2,
        torch="2",
        gnnscale="0",
        tables=tables,
        fixed={**dict.fromkeys(fixed, 1e-5), "number": 1e-9},
        batch=dict.fromkeys(("node", "edge", "entry", "byte", "transposed"), 1e-9),
        copied=1e-10,
        fresh=3e-10,
        read=1e-9,
        cores={1: 1.0, 2: 1.8},
        alone={1: 1.0, 2: 1.6},
        latency=5e-5,
        sent=3e-10,
        measured_in=5.0,
    )
