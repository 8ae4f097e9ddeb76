"""What layers have that are trained one by one, each on rows that were aggregated before."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gnnscale.costs.counted.memory import step_memory
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import read_rows

# Of a sparse product: what threads make by themselves, both put together, and in the types here.
_COPIES = 2
_LOOKED_AT = 200  # nodes
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
        product = 0.0
        if features and read.sparse:
            wide = _product_row(job, read.width, bool(block.once))
            product = _COPIES * wide * rows + 12 * (job.sizes.edges + nodes)
        last = number + 1 == len(costs.blocks) or not any(costs.parameters[number + 1 :])
        layer = 0.0 if features else wide * nodes
        aggregated = 0.0 if last or (features and read.sparse) else wide * nodes
        training = wide * rows + min(_SHUFFLED, wide * job.train_rows)
        step = step_memory(block, batch, states=0)
        trained = layer + aggregated + training + step.kept + step.workspace
        advanced = 0.0 if last else layer + aggregated + wide * rows + out * nodes
        stays = layer + aggregated + wide * rows + product
        whole = layer + aggregated + product + max(0.0, advanced - trained - product)
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


def _product_row(job: Job, columns: int, propagated: bool) -> float:
    """Bytes of a row of sparse features, or of what it and its neighbours' rows add up to."""
    entries = job.sizes.entries / max(1.0, job.sizes.nodes)
    x, adj = job.graph.x, job.graph.adj
    if propagated and isinstance(x, CSR) and adj.num_nodes:
        drawn = torch.Generator().manual_seed(0)
        rows = torch.randint(adj.num_nodes, (_LOOKED_AT,), generator=drawn)
        filled = (_filled(x, adj, row) for row in rows.tolist())
        entries = min(columns, sum(filled) / _LOOKED_AT)
    return 8 * entries


def _filled(x: CSR, adj: CSR, row: int) -> int:
    """Features that a node or any of its neighbours has."""
    near = read_rows(adj.indices, int(adj.indptr[row]), int(adj.indptr[row + 1])).long()
    nodes = torch.cat([near, torch.tensor([row])])
    return x.select_rows(nodes).indices.unique().numel()
