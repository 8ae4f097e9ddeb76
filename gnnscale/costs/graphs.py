"""Which graphs of a data set fit together within a bound, and which by themselves."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.passes import LARGEST, PassCost
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.kernels import CSR
from gnnscale.storage.memory import in_words, memory_bytes


def sizes_of(graph: Graph, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and edges of some graphs, int64 `[k]` each."""
    assert graph.node_ptr is not None
    starts = graph.node_ptr
    return starts.diff()[ids], graph.adj.indptr[starts].diff()[ids]


def sizes_of_some(graph: Graph, ids: Tensor) -> Sizes:
    """What there is in some graphs together."""
    nodes, edges = (int(sizes.sum()) for sizes in sizes_of(graph, ids))
    entries = 0
    if isinstance(graph.x, CSR):
        entries = int(graph.x.indptr[graph.node_ptr].diff()[ids].sum())
    return Sizes(nodes, edges, entries=entries, segments=ids.numel())


def cut(costs: Tensor, allowed: int) -> list[int]:
    """How many graphs, one after the other, fit together; each does alone."""
    total, counts, first = costs.cumsum(0), [], 0
    while first < costs.numel():
        before = int(total[first - 1]) if first else 0
        last = int(torch.searchsorted(total, before + allowed, right=True))
        counts.append(max(1, last - first))
        first += counts[-1]
    return counts


class Needs(NamedTuple):
    """What a run cannot do with less than: bytes, and what takes them."""

    evaluation: int = 0
    what: str = ""

    def refused(self, memory: int | str, least: int = 0) -> str | None:
        """Why a bound is too small; None where it is not."""
        if memory_bytes(memory) >= self.evaluation:
            return None
        bound = in_words(max(self.evaluation, least))
        return (
            f"memory={memory!r}: {self.what} takes {in_words(self.evaluation)} with what "
            f"is held beside it; give memory={bound!r} or more"
        )


def needs(graph: Graph, ids: Tensor, cost: PassCost, held: int) -> Needs:
    """What the evaluation of some graphs takes at least: that of the costliest, alone.

    Args:
        graph: the data set.
        ids: of the graphs, `[k]`.
        cost: of a pass over graphs.
        held: bytes that are taken beside.
    """
    costs = cost.of_graphs(*sizes_of(graph, ids))
    if not ids.numel() or int(costs.max()) < cost.tried:
        return Needs(held + cost.tried, f"the check of the model on {LARGEST} nodes")
    at = int(costs.argmax())
    nodes, edges = (int(size) for size in sizes_of(graph, ids[at]))
    what = f"graph {int(ids[at])} by itself ({nodes:,} nodes, {edges:,} edges)"
    return Needs(held + int(costs[at]), what)


def check_steps(
    costs: Tensor | None, wanted: int, memory: int | str, held: int, evaluation: Needs
) -> None:
    """Refuse a run that does not fit, the same on every rank.

    Args:
        costs: of a step on each graph; None where this rank has no bound.
        wanted: graphs of a batch.
        memory: the bound.
        held: bytes of it that are taken beside a step.
        evaluation: what evaluation takes.

    Raises:
        InputError: with the smallest bound that would do, and a `graphs_per_batch` that fits.
    """
    refusal = None
    if costs is not None:
        total = costs.sort(descending=True).values.cumsum(0) + held
        most = min(wanted, total.numel())
        needed, bound = int(total[most - 1]), memory_bytes(memory)
        refusal = evaluation.refused(memory, needed)
        if refusal is None and needed > bound:
            fit = int(torch.searchsorted(total, bound, right=True))
            least = in_words(max(int(total[0]), evaluation.evaluation))
            fewer = f"graphs_per_batch={fit}" if fit else f"{least!r} with graphs_per_batch=1"
            refusal = (
                f"memory={memory!r}: a step on {most} graphs takes up to {in_words(needed)} with "
                f"what the run holds; give memory={in_words(needed)!r}, or {fewer}"
            )
    if refused := next(filter(None, comm.gather_objects(refusal)), None):
        raise InputError(refusal or refused)
