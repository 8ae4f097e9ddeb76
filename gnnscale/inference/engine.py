"""Exact full-graph inference: phase by phase, every phase in chunks of rows.

Memory is that of one chunk and two layers of activations (plus the slots a model keeps, and the
K + 1 powers of a layer that weighs each by itself, as TAG does), in memory or in files; never that
of the computation graph. Work is one forward pass, whatever the depth.

A pass reads the previous layer (through the graph where a convolution stands at its start), runs
the row-local phases that follow, and writes the next layer. A norm ends a pass: its moments are
gathered while the layer is written, and applied at the start of the next one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, Graph
from gnnscale.inference.hops import Hops
from gnnscale.inference.layers import Layer, Layers
from gnnscale.inference.mapped import temporary_folder
from gnnscale.inference.passes import Pass, plan_passes
from gnnscale.kernels import CSR
from gnnscale.nn import Context, LayeredGNN, statistics
from gnnscale.nn.modes import evaluation_mode
from gnnscale.nn.phases import Collect, Neighbourhood, Propagate, Save, Statistics, slots_of
from gnnscale.nn.propagation import densify
from gnnscale.nn.reach import check_reach, halo, run_on_halo

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 8 << 20  # of a chunk's widest activation: beyond the caches, fresh pages cost more


@torch.no_grad()
def stream(
    model: LayeredGNN,
    graph: Graph,
    *,
    device: torch.device | str = "cpu",
    chunk_rows: int | None = None,
    storage: str | Path | None = None,
    head: bool = True,
) -> Iterator[tuple[int, int, Tensor]]:
    """Run a model exactly over a whole graph and yield its output in chunks of rows.

    Args:
        model: the model; used in evaluation mode and set back after.
        graph: the graph, in whatever order; rows come in that order.
        device: where to compute. Layers are kept there too unless `storage` is given.
        chunk_rows: rows computed at once; chosen by size when not given.
        storage: a folder for the layers, as temporary files, instead of memory.
        head: run the head. Without it, yield what the head reads (embeddings): the output of the
            last block, or of the last but one where the last block is the output layer.

    Yields:
        `(start, end, out)`: the output `[end - start, channels]` of rows `start` to `end`, on
        `device`. Use or copy it before the next one is taken.

    Raises:
        InputError: the graph has no features, or of another width than the model's.
        InexactConvolution: a convolution reaches further than the one hop that it is taken to reach
            where nothing is declared.
        StoreError: `storage` cannot be written.
    """
    check_features(model, graph)
    if chunk_rows is not None and chunk_rows < 1:
        raise InputError(f"chunk_rows={chunk_rows}: at least one row is computed at once")
    with contextlib.ExitStack() as stack:
        folder = None
        if storage is not None:
            folder = Path(stack.enter_context(temporary_folder(storage)))
        stack.enter_context(evaluation_mode(model))
        runner = _Runner(model, graph, torch.device(device), chunk_rows, folder)
        yield from runner.run(model.phases if head else _before_the_output(model))


def check_features(model: LayeredGNN, graph: Graph) -> None:
    """Compare the graph's features with what the model's first layer expects.

    Raises:
        InputError: there are none, or their number differs.
    """
    if graph.x is None:
        raise InputError("the graph has no features x; give some (degrees, positions, embeddings)")
    expected = model.in_channels
    if expected is not None and expected != graph.num_features:
        raise InputError(
            f"the model's first layer takes {expected} features, the graph has {graph.num_features}"
            f": build it with in_channels={graph.num_features}"
        )


class _Runner:
    """One inference: the stored layers, slots and moments between passes."""

    def __init__(
        self,
        model: LayeredGNN,
        graph: Graph,
        device: torch.device,
        chunk_rows: int | None,
        folder: Path | None,
    ) -> None:
        self.graph = graph
        chunk_rows = chunk_rows or _default_chunk_rows(model, graph)
        self.layers = Layers(graph.num_nodes, chunk_rows, device, folder)
        self.adj: Adjacency = graph.adj.to(self.layers.home)
        self.dtype = next((p.dtype for p in model.parameters()), _dtype(graph))
        self.slots: dict[str, list[Tensor]] = {}
        self.moments: statistics.Moments | None = None
        self._local: Tensor | None = None

    def run(self, phases: list[list[Any]]) -> Iterator[tuple[int, int, Tensor]]:
        passes = plan_passes(phases)
        *before, last = passes
        last_use = {
            slot: at
            for at, step in enumerate(passes)
            for phase in (step.source, *step.rows)
            for slot in slots_of(phase)
        }
        layer = self._input()
        for at, step in enumerate(before):
            chunks = self._pass(layer, step)
            if step.changes_rows:
                reusable = layer if step.row_local and layer is not self.graph.x else None
                layer = self.layers.store(chunks, reusable)
            else:
                for _ in chunks:
                    pass
            if step.whole is not None:
                layer = self._whole(step.whole, self.layers.dense(layer))
            self.slots = {k: v for k, v in self.slots.items() if last_use[k] > at}
        if last.whole is None:
            yield from self._pass(layer, last)
            return
        layer = self._whole(last.whole, self.layers.store(self._pass(layer, last)))
        for start, end in self.layers.ranges():
            yield start, end, self.layers.rows(layer, start, end)

    def _input(self) -> Layer:
        x = self.graph.x
        assert x is not None
        values = x.values if isinstance(x, CSR) else x
        if values is None or values.dtype == self.dtype:
            return x if x.device == self.layers.home else x.to(self.layers.home)
        if isinstance(x, CSR):
            return CSR(x.indptr, x.indices, values.to(self.dtype), x.shape).to(self.layers.home)
        return self.layers.store((a, b, x[a:b].to(self.dtype)) for a, b in self.layers.ranges())

    def _pass(self, layer: Layer, step: Pass) -> Iterator[tuple[int, int, Tensor]]:
        gathered: statistics.Moments | None = None
        for start, end, h in self._source(layer, step.source):
            for phase in step.rows:
                h = self._row_phase(phase, h, start, end)
            h = densify(h)
            if step.moments_for is not None:
                moments = statistics.partial(step.moments_for, h)
                gathered = moments if gathered is None else gathered.merge(moments)
            yield start, end, h
        if step.moments_for is not None:
            self.moments = gathered

    def _source(self, layer: Layer, source: Any) -> Iterator[tuple[int, int, Any]]:
        if isinstance(source, Propagate):
            yield from self._propagate(layer, source)
        elif isinstance(source, Neighbourhood):
            yield from self._neighbourhood(layer, source)
        else:
            moments = self.moments
            for start, end in self.layers.ranges():
                h = self.layers.rows(layer, start, end)
                if isinstance(source, Statistics):
                    assert moments is not None
                    h = statistics.apply(source.norm, densify(h), moments)
                yield start, end, h

    def _propagate(self, layer: Layer, phase: Propagate) -> Iterator[tuple[int, int, Tensor]]:
        propagation = phase.propagation
        first = propagation.transform_first(layer)
        if first:
            linear = (
                (a, b, propagation.linear(self.layers.rows(layer, a, b)))
                for a, b in self.layers.ranges()
            )
            value = self.layers.store(linear)
        else:
            value = self.layers.dense(layer)
        complete = propagation.finish if first else propagation.combine
        hops = Hops(self.adj, self.layers.ranges, self.layers.store)
        for start, end, rows in hops.propagate(propagation, value, first):
            aggregated = rows.to(self.layers.device)
            # The rows themselves are read only where a root needs them.
            own = aggregated if propagation.root is None else self.layers.rows(layer, start, end)
            yield start, end, complete(aggregated, own)

    def _neighbourhood(
        self, layer: Layer, phase: Neighbourhood
    ) -> Iterator[tuple[int, int, Tensor]]:
        if self._local is None:
            self._local = torch.full((self.adj.num_nodes,), -1, device=self.layers.home)
        edge_attr = self.graph.edge_attr
        kept = [self.slots[slot] for slot in phase.slots]
        if self.layers.chunk_rows < self.graph.num_nodes and not phase.is_certain:
            widths = [sum(part.shape[1] for part in parts) for parts in kept]
            check_reach(
                phase,
                layer.shape[1],
                self.graph.adj,
                edge_attr,
                beside=widths,
                device=self.layers.device,
            )
        edge_attr = None if edge_attr is None else edge_attr.to(self.layers.home)
        for a, b in self.layers.ranges():
            rows = torch.arange(a, b, device=self.layers.home)
            around = halo(self.adj, rows, phase.hops, self._local)
            x = self.layers.gather(layer, around.nodes)
            beside = [
                _beside([self.layers.gather(part, around.nodes) for part in parts])
                for parts in kept
            ]
            out = run_on_halo(phase, x, self.adj, around, edge_attr, beside)
            yield a, b, out[: b - a]

    def _row_phase(self, phase: Any, h: Any, start: int, end: int) -> Any:
        if isinstance(phase, Save | Collect):
            self._keep(phase, densify(h), start, end)
            return h
        context = Context(self.adj)
        for slot in slots_of(phase):
            context.slots[slot] = _beside(
                [self.layers.rows(p, start, end) for p in self.slots[slot]]
            )
        return phase(h, context)

    def _keep(self, phase: Save | Collect, h: Tensor, start: int, end: int) -> None:
        parts = self.slots.setdefault(phase.slot, [])
        if isinstance(phase, Collect) and phase.mode == "max" and not phase.first:
            h = torch.maximum(self.layers.rows(parts[0], start, end), h)
        elif start == 0:
            parts.append(self.layers.buffer(h))
        parts[-1][start:end] = h

    def _whole(self, phase: Statistics, layer: Tensor) -> Tensor:
        logger.info(
            "%s has no exact form in chunks: it is applied to the whole layer at once",
            type(phase.norm).__name__,
        )
        return phase.norm(layer.to(self.layers.device)).to(self.layers.home)


def _beside(parts: list[Tensor]) -> Tensor:
    """A slot's rows: those of jumping knowledge by concatenation are stored in parts."""
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def _before_the_output(model: LayeredGNN) -> list[list[Any]]:
    if model.jk_mode is not None:
        return [*model.phases[:-1], model.phases[-1][:1]]  # the head begins by reading its slot
    if model.head is not None or len(model.blocks) == 1:
        return model.phases[:-1]
    return model.phases[: len(model.blocks) - 1]


def _default_chunk_rows(model: LayeredGNN, graph: Graph) -> int:
    # Outputs only: the input may be sparse and very wide, and is then never made dense.
    widest = max((p.size(0) for p in model.parameters() if p.dim() > 1), default=256)
    if isinstance(graph.x, Tensor):
        widest = max(widest, graph.num_features)
    return max(1024, min(1 << 16, _CHUNK_BYTES // (4 * widest)))


def _dtype(graph: Graph) -> torch.dtype:
    """What a model without parameters computes in: the features' type."""
    values = graph.x.values if isinstance(graph.x, CSR) else graph.x
    return values.dtype if values is not None and values.is_floating_point() else torch.float32
