"""Which clusters share a micro-batch, and in which order micro-batches enter a pipeline."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph
from gnnscale.loader import ClusterLoader


def balance_micro_batches(cluster_costs: Sequence[float], micro_batches: int) -> list[list[int]]:
    """Deal a step's clusters out to micro-batches of even cost.

    The dearest cluster first, each to the micro-batch that costs least so far (longest processing
    time first; Graham, 1969): the dearest micro-batch costs at most 4/3 of what the best
    assignment's does. No micro-batch is left empty; equal costs give the same assignment always.

    Args:
        cluster_costs: the estimated cost of every cluster, at least 0, in any unit.
        micro_batches: number of micro-batches.

    Returns:
        The places of the clusters in `cluster_costs`, ascending, by micro-batch.

    Raises:
        InputError: fewer clusters than micro-batches, or a cost below 0 or not a number.
    """
    if not 1 <= micro_batches <= len(cluster_costs):
        raise InputError(
            f"{len(cluster_costs)} clusters make 1 to {len(cluster_costs)} micro-batches, not "
            f"{micro_batches}; take more clusters a step or fewer micro-batches"
        )
    _check(cluster_costs)
    groups: list[list[int]] = [[] for _ in range(micro_batches)]
    # After its cost the number of its clusters: those that cost nothing are spread as well.
    loads = [(0.0, 0, group) for group in range(micro_batches)]
    for cluster in _dearest_first(cluster_costs):
        load, size, group = loads[0]
        groups[group].append(cluster)
        heapq.heapreplace(loads, (load + float(cluster_costs[cluster]), size + 1, group))
    return [sorted(group) for group in groups]


def order_micro_batches(costs: Sequence[float]) -> list[int]:
    """An order small–large–small: the dearest micro-batch in the middle, falling off to both ends.

    While the pipeline fills and drains, every device but those at work waits: what runs then should
    be short.

    Args:
        costs: the estimated cost of every micro-batch, at least 0, in any unit.

    Returns:
        A permutation: the micro-batch to run first, the one to run second, and so on.

    Raises:
        InputError: a cost below 0 or not a number.
    """
    _check(costs)
    rising = _dearest_first(costs)[::-1]
    return rising[::2] + rising[1::2][::-1]


class BalancedLoader(ClusterLoader):
    """Deals the clusters of an update anew, to micro-batches of even cost.

    The clusters of every update are those that `ClusterLoader` draws for it, so what is learnt from
    differs in which of them share a micro-batch alone, hence in the edges between them. With one
    cluster a micro-batch there is nothing to deal.

    Args:
        clustered: see `ClusterLoader`; likewise what is not named here.
        micro_batches: batches of an update, on every rank.
    """

    def __init__(
        self, clustered: ClusteredGraph, *arguments: Any, micro_batches: int, **options: Any
    ) -> None:
        super().__init__(clustered, *arguments, **options)
        self._micro_batches = micro_batches
        starts, indptr = clustered.offsets[:-1], clustered.graph.adj.indptr
        # Of a view, the edges that it leaves out count too: nobody has counted the others.
        edges = indptr[starts + clustered.sizes] - indptr[starts]
        self._costs = clustered.sizes + edges

    @override
    def steps(self, epoch: int) -> list[list[Tensor]]:
        """See `ClusterLoader`."""
        drawn, found = super().steps(epoch), []
        for start in range(0, len(drawn), self._micro_batches):
            update = drawn[start : start + self._micro_batches]
            clusters = torch.cat([batch for of_ranks in update for batch in of_ranks])
            costs = self._costs[clusters].tolist()
            dealt = iter(balance_micro_batches(costs, sum(map(len, update))))
            found += [[clusters[next(dealt)] for _ in of_ranks] for of_ranks in update]
        return found


def _dearest_first(costs: Sequence[float]) -> list[int]:
    return sorted(range(len(costs)), key=lambda place: (-costs[place], place))


def _check(costs: Sequence[float]) -> None:
    faults = [f"cost {place} is {cost}" for place, cost in enumerate(costs) if not cost >= 0]
    if faults:
        raise InputError(f"costs must be at least 0: {', '.join(faults[:8])}")
