"""What layers have that are trained one by one, each on rows that were aggregated before."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gnnscale.costs.counted.memory import rows_of, step_memory
from gnnscale.costs.counted.model import ModelCosts
from gnnscale.costs.predicted.arrays import labels_of
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
    rows = job.train_rows + job.validated_rows
    for number in range(len(costs.blocks)):
        block = costs.of_blocks(number, number + 1)
        if not any(costs.parameters[number : number + 1]):
            continue
        if job.is_opaque(number):
            yield _on_clusters(job, configuration, costs, number)
            continue
        batch = job.layer_batches(configuration, number).largest
        first = block.placed[0]
        read = costs.values[first.takes[-1]]
        features = first.takes[-1] == 0
        wide, out = float(read.row), costs.values[block.placed[-1].gives].row
        product = 0.0
        if features and read.sparse:
            wide = _product_row(job, read.width, bool(block.once))
            product = _COPIES * wide * rows + 12 * (job.sizes.edges + nodes)
        last = _is_last(costs, number)
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


def _is_last(costs: ModelCosts, number: int) -> bool:
    return not any(costs.parameters[number + 1 :])


def _on_clusters(
    job: Job, configuration: Configuration, costs: ModelCosts, number: int
) -> tuple[dict[str, float], float]:
    """The same of a layer that is trained on clusters of the rows that it reads."""
    block, batches = costs.of_blocks(number, number + 1), job.layer_batches(configuration, number)
    read = costs.values[block.placed[0].takes[-1]]
    out = costs.values[block.placed[-1].gives].row
    features = block.placed[0].takes[-1] == 0
    layer = 0.0 if features else read.row * job.sizes.nodes
    step = step_memory(block, batches.largest, states=0)
    # A batch has the rows that it reads, of whichever layer.
    rows = rows_of(block, batches.largest) if features else read.row * batches.largest.nodes
    structure = step.adjacency + labels_of(job.graph, batches.largest.nodes)
    waiting = min(configuration.prefetch, max(0, batches.number - 1)) * (rows + structure)
    trained = rows + structure + waiting + step.kept + step.workspace
    advanced = 0.0 if _is_last(costs, number) else out * job.sizes.nodes
    return (
        {
            "nodes": 0.0,
            "inference": layer + max(0.0, advanced - trained),
            "features": rows,
            "adjacency": structure,
            "loading": waiting,
            "kept": step.kept,
            "workspace": step.workspace,
        },
        layer,
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
