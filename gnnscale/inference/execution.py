"""Execution: passes over all rows, with the slots and moments between them.

A pass reads the previous activations (through the graph where a convolution stands at its start),
runs the row-local phases that follow, and writes the next ones: transformed at once where the next
convolution narrows them before it propagates. A norm ends a pass: its moments are gathered while
activations are written, and applied at the start of the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale.graph import Adjacency, Graph
from gnnscale.graph.adjacency import release_all
from gnnscale.inference.activations import (
    Activations,
    ActivationsInMemory,
    ActivationStore,
    Chunks,
    GraphFeatures,
    Written,
)
from gnnscale.inference.hops import Hops
from gnnscale.inference.pieces import Pieces
from gnnscale.inference.ranks import Gathered
from gnnscale.kernels import CSR
from gnnscale.nn import Context
from gnnscale.nn.blocks.phases import (
    Collect,
    Dropout,
    Neighbourhood,
    Propagate,
    Save,
    Statistics,
    slots_of,
)
from gnnscale.nn.blocks.reach import Halo, run_on_halo
from gnnscale.nn.convs.propagation import Propagation, call_rows, densify
from gnnscale.nn.invariance.check import ROWS, Level, as_layer, check_invariance, first_rows
from gnnscale.nn.norms import statistics
from gnnscale.nn.norms.segments import segment_of_rows, segments_for

logger = logging.getLogger(__name__)


@dataclass
class Pass:
    """What happens between some activations and the next."""

    source: Propagate | Neighbourhood | Statistics | None = None
    rows: list[Any] = field(default_factory=list)
    moments_for: nn.Module | None = None  # the norm whose statistics are gathered on the way
    whole: Statistics | None = None  # a norm without a protocol, applied to all rows at once

    @property
    def row_local(self) -> bool:
        """Whether a row of what it reads is all that a row of what it gives needs."""
        return self.source is None or isinstance(self.source, Statistics)

    @property
    def changes_rows(self) -> bool:
        """Whether there are new activations, not only slots and moments to keep."""
        return self.source is not None or any(not isinstance(p, Save | Collect) for p in self.rows)


def plan_passes(phases: list[list[Any]]) -> list[Pass]:
    """Group a model's phases into passes over the rows."""
    passes = [Pass()]
    for phase in (phase for block in phases for phase in block):
        if isinstance(phase, Propagate | Neighbourhood):
            passes.append(Pass(source=phase))
        elif isinstance(phase, Statistics) and not phase.row_local_in_evaluation:
            if statistics.mergeable(phase.norm):
                passes[-1].moments_for = phase.norm
                passes.append(Pass(source=phase))
            else:
                passes[-1].whole = phase
                passes.append(Pass())
        elif not isinstance(phase, Dropout) or phase.act:  # dropout alone does nothing here
            passes[-1].rows.append(phase)
    needed = [p for p in passes[:-1] if p.source or p.rows or p.moments_for or p.whole]
    return [*needed, passes[-1]]


@dataclass(frozen=True)
class PassInput:
    """What a pass reads.

    Attributes:
        activations: X; X Wᵀ where the pass begins with a propagation that follows its transform.
        transformed: whether that is so.
        root: root(X), where that propagation adds it; its X is then gone.
        ours: whether the activations may be written to.
    """

    activations: Activations
    transformed: bool = False
    root: Activations | None = None
    ours: bool = True


class Execution:
    """One inference: the stored activations, slots and moments between passes."""

    def __init__(
        self,
        graph: Graph,
        store: ActivationStore,
        slots: dict[str, list[Activations]] | None = None,
        segments: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.graph = graph
        of_graphs = {} if graph.node_ptr is None else {"graph": graph.node_ptr}
        self.segments: dict[str, Tensor] = {**of_graphs, **(segments or {})}
        self.store = store
        self.adj: Adjacency = store.at_home(graph.adj)
        self.slots: dict[str, list[Activations]] = {} if slots is None else slots
        self.slots_are_kept = slots is not None
        self.moments: Gathered | None = None

    def run(self, phases: list[list[Any]], stored: PassInput) -> Iterator[tuple[int, int, Tensor]]:
        """The rows that some blocks' phases make of stored activations, chunk by chunk."""
        passes = plan_passes(phases)
        last = passes[-1]
        last_use = {
            slot: at
            for at, step in enumerate(passes)
            for phase in (step.source, *step.rows)
            for slot in slots_of(phase)
        }
        stored = self._ready(stored, passes[0])
        for at, (step, following) in enumerate(pairwise(passes)):
            chunks = self._pass(stored, step)
            if step.whole is not None:
                whole = self._whole(step.whole, self.store.keep(chunks))
                stored = self._ready(PassInput(whole), following)
            elif step.changes_rows:
                reusable = stored.activations if step.row_local and stored.ours else None
                stored = self._store(chunks, following, reusable)
            else:
                for _ in chunks:
                    pass
                stored = self._ready(stored, following)
            if not self.slots_are_kept:
                self.slots = {k: v for k, v in self.slots.items() if last_use[k] > at}
        if last.whole is None:
            yield from self._pass(stored, last)
            return
        activations = self._whole(last.whole, self.store.keep(self._pass(stored, last)))
        for start, end in self.store.ranges():
            yield start, end, self.store.rows(activations, start, end)

    def _ready(self, stored: PassInput, following: Pass) -> PassInput:
        """What the next pass reads, made of activations as they stand."""
        phase, activations = following.source, stored.activations
        if not isinstance(phase, Propagate):
            return stored
        rows = ((a, b, self.store.rows(activations, a, b)) for a, b in self.store.ranges())
        if phase.propagation.transform_first(self.store.rows(activations, 0, 0)):
            return self._store(rows, following)
        sparse = isinstance(activations, GraphFeatures) and isinstance(activations.x, CSR)
        if sparse:
            return PassInput(self.store.keep((a, b, densify(h)) for a, b, h in rows))
        return stored

    def _store(
        self, chunks: Chunks, following: Pass, reuse: Activations | None = None
    ) -> PassInput:
        """Keep what the next pass reads, transformed at once where that makes it narrower."""
        phase = following.source
        if not isinstance(phase, Propagate):
            gathered = isinstance(phase, Neighbourhood)
            return PassInput(self.store.keep(chunks, gathered, reuse))
        propagation, kept = phase.propagation, Written(self.store, whole_rows=True)
        first = next(chunks)
        transformed = propagation.transform_first(first[2])

        def values() -> Chunks:
            for a, b, h in chain([first], chunks):
                if transformed and propagation.root is not None:
                    kept.put(a, call_rows(propagation.root, h))
                yield a, b, propagation.linear(h) if transformed else h

        activations = self.store.keep(values(), reuse=reuse)
        return PassInput(activations, transformed, kept.activations)

    def _pass(self, stored: PassInput, step: Pass) -> Chunks:
        norm, gathered = step.moments_for, None
        if norm is not None:
            gathered = Gathered(norm, segments_for(norm, self.segments), self.store.share)
        for start, end, h in self._source(stored, step.source):
            for phase in step.rows:
                if start == self.store.share.start:
                    self._check_rows(phase, h)
                h = self._row_phase(phase, h, start, end)
            h = densify(h)
            if gathered is not None:
                gathered.add(start, end, h)
            yield start, end, h
        if gathered is not None:
            gathered.complete()
        self.moments = gathered

    def _source(self, stored: PassInput, source: object) -> Iterator[tuple[int, int, Any]]:
        if isinstance(source, Propagate):
            yield from self._propagate(stored, source.propagation)
        elif isinstance(source, Neighbourhood):
            yield from self._neighbourhood(stored.activations, source)
        else:
            moments = self.moments
            for start, end in self.store.ranges():
                h = self.store.rows(stored.activations, start, end)
                if isinstance(source, Statistics):
                    assert moments is not None
                    h = moments.apply(start, end, densify(h))
                yield start, end, h

    def _propagate(self, stored: PassInput, propagation: Propagation) -> Chunks:
        hops, activations, root = Hops(self.adj, self.store), stored.activations, stored.root
        # The rows themselves are read only where a root needs them.
        overwrite = stored.ours and (stored.transformed or propagation.root is None)
        chunks = hops.propagate(propagation, activations, stored.transformed, overwrite)
        bare = replace(propagation, root=None)
        for start, end, rows in chunks:
            aggregated = rows.to(self.store.device)
            if stored.transformed:
                out = bare.finish(aggregated, aggregated)
                yield start, end, out if root is None else out + self.store.rows(root, start, end)
            else:
                rooted = propagation.root is not None
                own = self.store.rows(activations, start, end) if rooted else aggregated
                yield start, end, propagation.combine(aggregated, own)

    def _neighbourhood(self, activations: Activations, phase: Neighbourhood) -> Chunks:
        carried = {k: v for k, v in self.graph.carried.items() if k in phase.given}
        if "batch" in phase.given and self.graph.node_ptr is not None:
            carried["batch"] = segment_of_rows(self.graph.node_ptr, self.graph.num_nodes)
        kept = [self.slots[slot] for slot in phase.slots]
        store, beside = self.store, [sum(part.shape[1] for part in parts) for parts in kept]
        store.drop_columns()
        widths = [activations.shape[1], *beside]
        pieces = Pieces(phase, widths, activations.dtype, carried, self.adj, store)
        level: Level = "whole" if pieces.are_whole else "pieces"
        some = self._some_rows(activations, kept)
        check_invariance(phase, some, self.graph.adj, carried, level=level, training=False)
        pieces.check()
        carried = {name: value.to(store.home) for name, value in carried.items()}
        for part in (activations, *chain.from_iterable(kept)):
            store.complete(part)

        def run(around: Halo) -> Tensor:
            x, *slots = (
                _beside([store.gather(part, around.nodes) for part in parts])
                for parts in ([activations], *kept)
            )
            return run_on_halo(phase, x, around, carried, slots)

        for a, b in store.ranges():
            rows = pieces.rows(a, b, run)
            release_all(self.adj, *carried.values(), self.graph.x)
            yield a, b, rows

    def _check_rows(self, phase: object, h: Any) -> None:
        layer = as_layer(phase, of_graphs=False)
        if layer is not None:
            level: Level = "pieces" if self.store.chunk_rows < self.graph.num_nodes else "whole"
            some = [first_rows(h)]
            check_invariance(layer, some, self.graph.adj, level=level, training=False)

    def _some_rows(self, activations: Activations, kept: list[list[Activations]]) -> list[Tensor]:
        """The first rows that this rank has of activations and of slots."""
        start, stop = next(iter(self.store.ranges()), (0, 0))
        stop = min(stop, start + ROWS)
        return [
            _beside([first_rows(self.store.rows(part, start, stop)) for part in parts])
            for parts in ([activations], *kept)
        ]

    def _row_phase(self, phase: Any, h: Any, start: int, end: int) -> Any:
        if isinstance(phase, Save | Collect):
            self._keep(phase, densify(h), start, end)
            return h
        context = Context(self.adj, training=False, segments=self.segments)
        for slot in slots_of(phase):
            context.slots[slot] = _beside(
                [self.store.rows(p, start, end) for p in self.slots[slot]]
            )
        return phase(h, context)

    def _keep(self, phase: Save | Collect, h: Tensor, start: int, end: int) -> None:
        parts = self.slots.setdefault(phase.slot, [])
        if isinstance(phase, Collect) and phase.mode == "max" and not phase.first:
            h = torch.maximum(self.store.rows(parts[0], start, end), h)
        elif start == self.store.share.start:
            parts.append(self.store.new(h.size(1), h.dtype, whole_rows=True))
        kept = parts[-1]
        assert not isinstance(kept, GraphFeatures)
        kept.put(start, h)

    def _whole(self, phase: Statistics, activations: Activations) -> ActivationsInMemory:
        logger.info(
            "%s has no exact form in chunks: it is applied to all rows at once",
            type(phase.norm).__name__,
        )
        self.store.complete(activations)
        whole = activations.rows(0, self.store.num_rows).to(self.store.device)
        context = Context(self.adj, training=False, segments=self.segments)
        return ActivationsInMemory(phase(whole, context))


def _beside(parts: list[Tensor]) -> Tensor:
    """A slot's rows: those of jumping knowledge by concatenation are stored in parts."""
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
