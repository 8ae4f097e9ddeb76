"""Where a machine's rates are kept: a file a machine in the cache, read by all that predicts."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from gnnscale.costs.machine.measured import processor_name
from gnnscale.costs.machine.profile import Machine
from gnnscale.errors import StoreError
from gnnscale.kernels.threads import THREADING_LAYER
from gnnscale.partitioning.native.libraries import available_threads
from gnnscale.storage.files import cache_root, read_json, write_json
from gnnscale.storage.formats import Format

logger = logging.getLogger(__name__)

FORMAT = Format("gnnscale-machine", 2, "file of a machine's rates", "gnnscale machine --again")


@dataclass(frozen=True)
class Kind:
    """What rates are of: where any of it is another, they are measured anew.

    Attributes:
        processor: its name.
        device: "cpu".
        threads: of torch.
        layer: numba's, by which its kernels run on threads.
        processors: that this process may use.
        torch: version.
        gnnscale: version.
    """

    processor: str
    device: str
    threads: int
    layer: str
    processors: int
    torch: str
    gnnscale: str

    @classmethod
    def here(cls) -> Kind:
        """Of this process."""
        return cls(
            processor=processor_name(),
            device="cpu",
            threads=torch.get_num_threads(),
            layer=THREADING_LAYER,
            processors=available_threads(),
            torch=torch.__version__,
            gnnscale=version("gnnscale"),
        )

    @property
    def path(self) -> Path:
        """Where its rates are kept."""
        digest = hashlib.blake2b(repr(asdict(self)).encode(), digest_size=8).hexdigest()
        return cache_root() / "machines" / f"{digest}.json"


def known() -> Machine | None:
    """The rates of this machine, as torch's threads and versions are now; None where none are kept.

    Nothing is measured. A file that cannot be read is said, and is as if it were not there.
    """
    kind = Kind.here()
    try:
        path = kind.path
        if not path.exists():
            return None
        machine = load(path)
    except StoreError as error:
        logger.warning("%s. Predictions go without: `gnnscale machine --again` measures", error)
        return None
    return machine if all(getattr(machine, k) == v for k, v in asdict(kind).items()) else None


def remember(machine: Machine) -> Path:
    """Keep a machine's rates, in the place of those that there were.

    Returns:
        Where.

    Raises:
        StoreError: the cache cannot be written.
    """
    kind = Kind(**{name: getattr(machine, name) for name in Kind.__dataclass_fields__})
    path = kind.path
    save(machine, path)
    return path


def save(machine: Machine, path: Path) -> None:
    """Write a machine's rates."""
    write_json(path, {**FORMAT.stamp, **machine.to_json()})


def load(path: Path) -> Machine:
    """Read a machine's rates.

    Raises:
        StoreError: it cannot be read, or is no such file.
    """
    return Machine.from_json(FORMAT.unstamped(read_json(path), path))
