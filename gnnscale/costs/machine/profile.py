"""Machine: the rates of a machine, by which the seconds of a kernel follow from its sizes.

Numbers alone, no torch: `measured.measure` makes one, `cached` keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.facts import Kernel
from gnnscale.costs.machine.table import Table
from gnnscale.errors import InputError, StoreError


@dataclass(frozen=True)
class Machine:
    """A machine as measured: seconds a unit of work by operation, and what is fixed.

    Attributes:
        processor: its name.
        device: "cpu", or the name of the GPU.
        threads: of torch, at which all was measured.
        layer: numba's, by which its kernels run on threads.
        processors: that this process may use.
        torch: version.
        gnnscale: version, whose kernels were measured.
        tables: by operation, the seconds a unit, as a step runs it forward or back:
            "dense" and "matrix gradient" a multiply-add, by rows, columns in and out;
            "sparse" an entry and column (a row counts as one more), by rows, entries a row,
            columns;
            "features" and "features gradient" likewise, by entries a row, columns, features;
            "dropout", "dropout gradient" and "rows" a byte read or written, by bytes;
            The last axis of each is the bytes that a step goes through: what is more than the
            caches hold comes from memory every time.
        fixed: seconds whatever the size: of a "phase" forward and of its "gradient", the loss of a
            "step", what goes on about one ("loop"), the "optimizer", each array ("parameter") and
            each "number" in it, and a "batch" to be put together.
        batch: seconds of a batch's assembly, of a "node", an "edge", an "entry" of sparse features
            and a "byte" of rows.
        copied: seconds a byte of memory that is copied.
        fresh: seconds a byte of memory that comes from the system and goes back.
        read: seconds a byte of a file that memory does not hold.
        cores: by number of processes that compute at once, one thread each, how much more all of
            them do together than one does.
        alone: by number of threads, how much more a process does than with one.
        latency: seconds of a message between two processes; None where none was timed.
        sent: seconds a byte of it; likewise.
        measured_in: seconds that measuring took.
        disturbed: share of the runs that took half as long again as others of the same.
    """

    processor: str
    device: str
    threads: int
    layer: str
    processors: int
    torch: str
    gnnscale: str
    tables: Mapping[str, Table]
    fixed: Mapping[str, float]
    batch: Mapping[str, float]
    copied: float
    fresh: float
    read: float
    cores: Mapping[int, float] = field(default_factory=lambda: {1: 1.0})
    alone: Mapping[int, float] = field(default_factory=lambda: {1: 1.0})
    latency: float | None = None
    sent: float | None = None
    measured_in: float = 0.0
    disturbed: float = 0.0

    def seconds(
        self, kernel: Kernel, sizes: Sizes, *, working: float = 0.0, wide: int = 0
    ) -> float:
        """What a kernel takes.

        Args:
            kernel: the kernel.
            sizes: of what it runs on.
            working: bytes that the step goes through; those of the kernel alone, at least.
            wide: columns of sparse features.
        """
        nodes, moved = max(sizes.nodes, 1.0), kernel.moved.of(sizes)
        work, working = kernel.work.of(sizes), max(working, moved, 1.0)
        gradient = kernel.depth.rows > 0
        if kernel.kind == "dense" and work:
            rows = max(1.0, work / max(1, kernel.columns[0] * kernel.columns[1]))
            name = "matrix gradient" if gradient else "dense"
            return work * self.tables[name].at(rows, *kernel.columns, working)
        if kernel.kind == "sparse" and work:
            # As it was measured: of every row its own is one more, beside what it gathers. Where P
            # has a diagonal, that one is in the work already.
            width = kernel.columns[0]
            own = min(kernel.work.node, width) * nodes
            degree = max((work - own) / max(1, width) / nodes, 1e-3)
            units = work - own + nodes * width
            return units * self.tables["sparse"].at(nodes, degree, width, working)
        if kernel.kind == "features" and work:
            width = kernel.columns[0]
            entries = work / max(1, width)
            name = "features gradient" if gradient else "features"
            # The matrix is turned forward, and filled back, whatever the entries.
            units = work + (nodes + wide) * width
            return units * self.tables[name].at(entries / nodes, width, max(wide, 1), working)
        return self.over(moved, working) if moved else 0.0

    def over(self, moved: float, working: float = 0.0, name: str = "rows") -> float:
        """What a pass over rows takes that reads and writes so many bytes."""
        if moved <= 0:
            return 0.0
        return moved * self.tables[name].at(moved, max(working, moved))

    def slower(self, threads: int, processes: int = 1) -> float:
        """How many times as long a process computes as was measured.

        Args:
            threads: that it has.
            processes: that compute at once on this host, it among them, of as many threads each.
        """
        alone, cores = _by_number(self.alone), _by_number(self.cores)
        every = threads * processes
        # What as many threads of one process lose to one another is in `alone`.
        beside = (cores.at(threads) / threads) / (cores.at(every) / every)
        return alone.at(self.threads) / alone.at(threads) * max(1.0, beside)

    @property
    def knows_messages(self) -> bool:
        """Whether messages between processes were timed."""
        return self.latency is not None and self.sent is not None

    def message(self, size: float, rounds: float = 1) -> float:
        """Seconds of messages that carry so many bytes, in so many rounds one after the other.

        Raises:
            InputError: none was timed.
        """
        if self.latency is None or self.sent is None:
            raise InputError("no message was timed on this machine: gnnscale machine --again")
        return rounds * self.latency + size * self.sent

    def to_json(self) -> dict[str, Any]:
        """What JSON keeps of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Machine:
        """Read what `to_json` gave.

        Raises:
            StoreError: it is none.
        """
        try:
            read = dict(content)
            read["tables"] = {k: Table.from_json(v) for k, v in read["tables"].items()}
            for name in ("cores", "alone"):
                read[name] = {int(k): float(v) for k, v in read[name].items()}
            return cls(**read)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise StoreError(f"these are no rates of a machine: {error!r}") from error


def _by_number(rates: Mapping[int, float]) -> Table:
    """Between the numbers that were measured the logarithms go straight; beyond, nothing more."""
    numbers = sorted(rates)
    return Table(("number",), (tuple(map(float, numbers)),), tuple(rates[n] for n in numbers))
