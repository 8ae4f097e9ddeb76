"""Streams: what the layers trained so far make of a graph, layer after layer.

The rows that a stage trains on are aggregated once, over the whole graph, as exact inference
aggregates them. Where propagation comes before the transform, all aggregated rows are kept until
the stage is trained, and the next layer is made of them row by row; where the transform narrows, or
the features are sparse, only the wanted rows are kept, and the next layer is P(XW). Either way a
layer replaces the one before it.

Floor of a stage, in bytes: its layer read and written once, 4 for every edge, and the wanted rows
written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gnnscale.graph import Graph
from gnnscale.graph.row_blocks import release_all
from gnnscale.inference.engine import advance
from gnnscale.inference.hops import Hops
from gnnscale.inference.layers import Chunks, FeatureLayer, Layer, Layers
from gnnscale.kernels import CSR
from gnnscale.nn.phases import Propagate
from gnnscale.train.layerwise.sparse import sparse_product
from gnnscale.train.layerwise.stages import Stage

AGGREGATED = "aggregated rows"


@dataclass
class Rows:
    """What a stage reads of some nodes.

    Attributes:
        nodes: int64 `[num_rows]`, ascending, their places in the graph.
        parts: arrays of so many rows, by slot; `AGGREGATED` is what its phases begin with.
    """

    nodes: Tensor
    parts: dict[str, Layer | CSR]

    def __len__(self) -> int:
        return self.nodes.numel()


class Stream:
    """The values of a graph's nodes between two stages.

    Args:
        graph: the graph; only its edges are read.
        layers: where layers are kept.
        layer: the features, as the first stage reads them.
        rows_dtype: of the rows that a stage trains on, as they are kept.
    """

    def __init__(self, graph: Graph, layers: Layers, layer: Layer, rows_dtype: torch.dtype) -> None:
        self.graph = graph
        self.layers = layers
        self.layer = layer
        self.slots: dict[str, list[Layer]] = {}
        self._rows_dtype = rows_dtype
        self._aggregated: Layer | None = None

    def collect(self, stage: Stage, wanted: Sequence[Tensor]) -> list[Rows]:
        """Aggregate for a stage, once.

        Args:
            stage: a separable stage, the next of this stream.
            wanted: sets of nodes, each int64 and ascending.

        Returns:
            What the stage reads of each set.
        """
        found = [Rows(nodes, {}) for nodes in wanted]
        if self._is_sparse:
            for rows in found:
                rows.parts[AGGREGATED] = self._sparse_rows(stage, rows.nodes)
        else:
            chunks = self._picked(self._aggregate(stage), AGGREGATED, found)
            if self._keeps(stage):
                self._aggregated = self.layers.store(chunks)
            else:
                for _ in chunks:
                    pass
        for slot in stage.input_slots & stage.slots_read:
            self._pick(slot, [self.layer], found)
        for slot in stage.earlier_slots:
            self._pick(slot, self.slots[slot], found)
        return found

    def advance(self, stage: Stage, live: set[str]) -> None:
        """Replace the layer by what the stage, now trained, makes of it.

        Args:
            stage: the next of this stream; its modules are in evaluation mode.
            live: slots that later stages read.
        """
        if self._aggregated is None:
            phases, layer, ours = stage.phases, self.layer, not isinstance(self.layer, FeatureLayer)
        else:
            phases, layer, ours = stage.row_phases, self._aggregated, True
            for slot in stage.input_slots:
                self.slots[slot] = [self.layer]
        # In a file the layer before is gone only when nothing refers to it.
        self._aggregated = None
        kept = any(layer in parts for parts in self.slots.values())
        self.layer = advance(phases, self.graph, self.layers, layer, self.slots, ours=ours and not kept)
        self.slots = {slot: parts for slot, parts in self.slots.items() if slot in live}
        release_all(self.graph.adj)

    @property
    def _is_sparse(self) -> bool:
        return isinstance(self.layer, FeatureLayer) and isinstance(self.layer.x, CSR)

    def _keeps(self, stage: Stage) -> bool:
        """Whether all aggregated rows are kept: what the next layer is made of."""
        if stage.last or not isinstance(stage.source, Propagate):
            return False
        return not stage.source.propagation.transform_first(self.layers.rows(self.layer, 0, 0))

    def _aggregate(self, stage: Stage) -> Chunks:
        if not isinstance(stage.source, Propagate):
            for start, end in self.layers.ranges():
                yield start, end, self.layers.rows(self.layer, start, end)
            return
        hops = Hops(self.layers.at_home(self.graph.adj), self.layers)
        propagation = stage.source.propagation
        yield from hops.propagate(propagation, self.layer, transformed=False, overwrite=False)

    def _sparse_rows(self, stage: Stage, nodes: Tensor) -> CSR:
        x = self.layer.x  # type: ignore[union-attr]
        assert isinstance(x, CSR)
        if not isinstance(stage.source, Propagate):
            return x.select_rows(nodes.to(x.device))
        propagation = stage.source.propagation
        return sparse_product(propagation, self.graph.adj, x, nodes).to(self.layers.device)

    def _pick(self, slot: str, layers: list[Layer], found: list[Rows]) -> None:
        if len(layers) == 1 and isinstance(layers[0], FeatureLayer) and isinstance(layers[0].x, CSR):
            for rows in found:
                rows.parts[slot] = layers[0].x.select_rows(rows.nodes.to(layers[0].x.device))
            return

        def chunks() -> Chunks:
            for start, end in self.layers.ranges():
                parts = [self.layers.rows(layer, start, end) for layer in layers]
                yield start, end, torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

        for _ in self._picked(chunks(), slot, found):
            pass

    def _picked(self, chunks: Chunks, slot: str, found: list[Rows]) -> Chunks:
        """Pass chunks on, keeping the rows of the wanted nodes."""
        ends = [0] * len(found)
        for start, end, rows in chunks:
            for i, wanted in enumerate(found):
                low = ends[i]
                ends[i] = high = int(torch.searchsorted(wanted.nodes, end))
                if slot not in wanted.parts:
                    wanted.parts[slot] = self._room(len(wanted), rows)
                if high > low:
                    chosen = (wanted.nodes[low:high] - start).to(rows.device)
                    wanted.parts[slot].put(low, rows.index_select(0, chosen))  # type: ignore
            yield start, end, rows

    def _room(self, count: int, rows: Tensor) -> Any:
        layers, dtype = self.layers, rows.dtype
        if dtype == torch.float32:
            dtype = self._rows_dtype
        room = Layers(count, layers.chunk_rows, layers.device, layers.folder, layers.memory)
        return room.new(rows.size(1), dtype, whole_rows=True)

