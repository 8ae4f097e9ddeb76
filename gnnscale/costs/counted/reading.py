"""The costs of a model on a graph: its phases, one after the other, with what goes between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gnnscale.costs.counted.amounts import Amount, Sizes, total
from gnnscale.costs.counted.model import Crossing, ModelCosts, Placed, Value
from gnnscale.costs.counted.phases import facts_of
from gnnscale.costs.counted.setting import Setting
from gnnscale.graph import Adjacency, Graph
from gnnscale.graph.adjacency import EDGE_VALUES, row_blocks
from gnnscale.kernels import CSR
from gnnscale.nn import GraphModel, LayeredGNN
from gnnscale.nn.blocks.context import computed_in, type_of
from gnnscale.nn.blocks.crossing import crossing
from gnnscale.nn.blocks.phases import Collect, Phase, Read, Save, slots_of
from gnnscale.nn.modules import check_materialised

_EDGES_AT_ONCE = 1 << 16  # of which some ten numbers are made each


def costs_of(
    model: LayeredGNN | GraphModel,
    x: Tensor | CSR,
    carried: Mapping[str, Tensor] | None = None,
    *,
    training: bool = True,
    computed: Literal["none", "first", "each"] = "none",
) -> ModelCosts:
    """What a model's phases compute, move and keep, by sizes.

    Layers that do not state it are run once on some pieces of 40 nodes at most; the model is left
    as it was. Of a `GraphModel`, what runs on nodes.

    Args:
        model: the model, its lazy parameters materialised.
        x: features `[num_nodes, num_features]`, of which the columns and the type count.
        carried: values of edges and nodes by name: `Graph.carried`.
        training: whether it is trained, rather than evaluated.
        computed: which propagations are computed before: the model's first (`precompute=True`), or
            each before its block is trained by itself (`LayerwiseTrainer`).

    Raises:
        InputError: a parameter is lazy.
    """
    check_materialised(model, "costs")
    dtype = computed_in(model) or type_of(x)
    carried = {} if carried is None else dict(carried)
    setting = Setting(
        dtype,
        training,
        computed,
        isinstance(model, GraphModel),
        "edge_weight" in carried,
        carried,
    )
    width, own = int(x.shape[1]), type_of(x)
    element = setting.element if own.is_floating_point else own.itemsize
    whole = not own.is_floating_point
    features = Value(width, width * element, sparse=isinstance(x, CSR), whole=whole)
    reader = _Reader(setting, features)
    blocks = [reader.block(phases) for phases in model.phases]
    parts: Sequence[Any] = model.encoder.blocks if isinstance(model, GraphModel) else model.blocks
    if len(blocks) == len(parts):  # a `GraphModel` has its head elsewhere
        blocks.append(())
    parameters, seen = [], set[int]()  # what several blocks share is the first one's
    for part in (*parts, model):
        new = {id(p): p.numel() for p in part.parameters() if p.requires_grad}
        parameters.append(sum(size for key, size in new.items() if key not in seen))
        seen |= new.keys()
    return ModelCosts(
        tuple(blocks),
        tuple(reader.values),
        tuple(reader.crossings(model.phases)),
        tuple(parameters),
        setting.element,
        total(_carried(name, value) for name, value in carried.items()),
    )


def _carried(name: str, value: Tensor) -> Amount:
    """Bytes of a value of edges or nodes."""
    row = value[:1].numel() * value.element_size()
    return Amount(edge=row) if name in EDGE_VALUES else Amount(node=row)


def sizes_of_graph(graph: Graph) -> Sizes:
    """The sizes of a whole graph; of a stored one, block by block."""
    adj = graph.adj
    degree = loops = 0
    leaving = torch.zeros(graph.num_nodes, dtype=torch.int32, device=adj.device)
    for rows in walked(adj):
        degree = max(degree, int(rows.degrees.max()) if rows.degrees.numel() else 0)
        loops += int((rows.sources == rows.targets).sum())
        leaving.index_add_(0, rows.sources, torch.ones_like(rows.sources, dtype=torch.int32))
    return Sizes(
        graph.num_nodes,
        graph.num_edges,
        degree,
        loops,
        entries_of(graph),
        1 if graph.node_ptr is None else graph.num_graphs,
        int(leaving.max()) if leaving.numel() else 0,
        0 if adj.symmetric else graph.num_edges,
    )


def entries_of(graph: Graph) -> int:
    """Entries of sparse features; 0 of dense ones."""
    return graph.x.nnz if isinstance(graph.x, CSR) else 0


def halo_rows(adj: Adjacency, assignment: Tensor) -> tuple[int, int]:
    """What parts of a graph need of one another.

    Args:
        adj: the graph.
        assignment: int64 `[num_nodes]`, the part of every node.

    Returns:
        Rows, each once for every part that reads it from elsewhere; and edges between parts.
    """
    parts = int(assignment.max()) + 1 if assignment.numel() else 0
    pairs, cut = [], 0
    for rows in walked(adj):
        readers = assignment[rows.targets]
        away = assignment[rows.sources] != readers
        pairs.append((rows.sources[away] * parts + readers[away]).unique())
        cut += int(away.sum())
    return torch.cat(pairs).unique().numel() if pairs else 0, cut


class Edges(NamedTuple):
    """The edges that arrive at some nodes one after the other, and how many at each.

    Attributes:
        sources: int64 `[edges]`.
        targets: int64 `[edges]`.
        degrees: int64 `[nodes]`.
    """

    sources: Tensor
    targets: Tensor
    degrees: Tensor


def walked(adj: Adjacency) -> Iterator[Edges]:
    """All edges, block by block."""
    for start, stop, rows in row_blocks(adj, _EDGES_AT_ONCE):
        degrees = rows.indptr.diff()
        targets = torch.arange(start, stop, device=rows.device).repeat_interleave(degrees)
        yield Edges(rows.indices.long(), targets, degrees)


class _Reader:
    """Goes through phases with the values that they hand on."""

    def __init__(self, setting: Setting, features: Value) -> None:
        self._setting = setting
        self.values = [features]
        self._at = 0  # the current rows
        self._slots: dict[str, int] = {}
        self._after: list[dict[str, int]] = []

    def block(self, phases: Sequence[Phase]) -> tuple[Placed, ...]:
        """The phases of a block, placed."""
        if self._setting.computed == "each":  # what came before is trained, and no longer learns
            for at in (self._at, *self._slots.values()):
                self.values[at] = self.values[at]._replace(learns=False)
        placed = tuple(map(self._placed, phases))
        self._after.append({"x": self._at, **self._slots})
        return placed

    def _placed(self, phase: Phase) -> Placed:
        begins = isinstance(phase, Save) or (isinstance(phase, Collect) and phase.first)
        taken = () if begins else tuple(self._slots[name] for name in slots_of(phase))
        takes = taken if isinstance(phase, Read) else (*taken, self._at)
        facts = facts_of(phase, [self.values[value] for value in takes], self._setting)
        if facts.passes is None:
            self.values.append(
                Value(facts.width, facts.width * self._setting.element, facts.learns)
            )
            gives = len(self.values) - 1
        else:
            gives = takes[facts.passes]
        slot = phase.slot if isinstance(phase, Save | Collect) else ""
        if slot:
            self._slots[slot] = gives
        if not isinstance(phase, Collect):
            self._at = gives
        return Placed(facts, takes, gives, slot)

    def crossings(self, phases: Sequence[Sequence[Phase]]) -> list[Crossing]:
        """What goes from each block to the next: the rows, and the slots that are read later."""
        found = []
        for there, names in zip(self._after, crossing(phases), strict=False):
            going = frozenset(there[name] for name in names)
            values = [self.values[at] for at in going]
            found.append(
                Crossing(
                    going,
                    sum(value.row for value in values),
                    sum(value.row for value in values if value.learns),
                )
            )
        return found
