"""What `fit` adds to the process, by part and by moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gnnscale.costs.counted.memory import step_memory
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job


@dataclass(frozen=True)
class RunMemory:
    """Bytes that `fit` adds to this process and its children, of the rank that has most.

    Attributes:
        moments: what there is at each moment, by part: at "partition", "store", "step" and
            "evaluation", those that there are. Parts are "parameters", "gradients", "optimizer",
            "kept", "adjacency", "features", "workspace", "loading", "nodes" and "inference".
    """

    moments: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def moment(self) -> str:
        """The moment at which there is most."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def parts(self) -> Mapping[str, float]:
        """What there is at that moment."""
        return self.moments[self.moment]

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.parts.values())


def run_memory(job: Job, configuration: Configuration) -> RunMemory:
    """What `fit` adds."""
    batches = job.batches(configuration)
    costs = job.costs(computed=configuration.computed)
    step = step_memory(costs, batches.largest, states=job.optimizer_states)
    return RunMemory({"step": step._asdict()})
