"""What layers have that are trained one by one, each on rows that were aggregated before."""

from __future__ import annotations

from collections.abc import Iterator

from gnnscale.costs.counted.memory import step_memory
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job

_SHUFFLED = 16 << 20  # bytes of rows that are shuffled among each other


def sections(job: Job, configuration: Configuration) -> Iterator[tuple[dict[str, float], float]]:
    """By layer, the parts of what there is, and how much of it is there all along.

    The layer that is read is there for all nodes, its aggregated rows for those that are trained
    on and validated, and for all where the next layer is made of them; then the next layer is
    written.
    """
    costs, nodes = job.costs(computed="each"), job.sizes.nodes
    batch = job.batches(configuration).largest
    rows = job.train_rows + job.validated_rows
    for number in range(len(costs.blocks)):
        block = costs.of_blocks(number, number + 1)
        if not any(costs.parameters[number : number + 1]):
            continue
        first = block.placed[0]
        read = costs.values[first.takes[-1]]
        features = first.takes[-1] == 0
        wide, out = float(read.row), costs.values[block.placed[-1].gives].row
        if features and read.sparse:
            wide = 8 * job.sizes.entries / max(1.0, nodes)
        last = number + 1 == len(costs.blocks) or not any(costs.parameters[number + 1 :])
        layer = 0.0 if features else wide * nodes
        aggregated = 0.0 if last or (features and read.sparse) else wide * nodes
        training = wide * rows + min(_SHUFFLED, wide * job.train_rows)
        step = step_memory(block, batch, states=0)
        trained = layer + aggregated + training + step.kept + step.workspace
        advanced = 0.0 if last else layer + aggregated + wide * rows + out * nodes
        stays = layer + aggregated + wide * rows
        whole = layer + aggregated + (advanced and max(0.0, advanced - trained))
        yield (
            {
                "nodes": 0.0,
                "inference": whole,
                "features": training,
                "kept": step.kept,
                "workspace": step.workspace,
            },
            stays,
        )
