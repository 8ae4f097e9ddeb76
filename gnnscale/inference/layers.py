"""Layers between the passes of an inference, in memory or in files, read and written in chunks.

Propagation reads a layer at random, so what it reads is in memory: a whole layer, or as many of its
columns as fit in the memory allowed. Every other read is of a range of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.costs.inference import Budget
from gnnscale.graph.adjacency import slice_rows
from gnnscale.inference.layer_file import Columns, LayerFile
from gnnscale.inference.ranks import Share, undivided
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import is_mapped, loaded, read_rows

_ALIGNED = 16  # float32 columns of a cache line

Chunks = Iterator[tuple[int, int, Tensor]]


class LayerInMemory:
    """A layer as a tensor `[num_rows, width]`.

    Attributes:
        changed: whether rows have been written that other ranks have not been given.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.blocks = [(0, values.shape[1])]
        self.changed = False

    def rows(self, start: int, stop: int, columns: Columns | None = None) -> Tensor:
        """Rows `start` to `stop`."""
        return self.values[start:stop]

    def put(self, start: int, rows: Tensor, columns: Columns | None = None) -> None:
        """Write rows from `start` on."""
        self.values[start : start + rows.size(0)] = rows
        self.changed = True

    def gather(self, nodes: Tensor) -> Tensor:
        """The rows `nodes`."""
        return self.values[nodes]


class FeatureLayer:
    """A graph's features as the layer that a model reads: in its type, perhaps out of a file."""

    changed = False  # every rank has them

    def __init__(self, x: Tensor | CSR, dtype: torch.dtype, blocks: list[Columns]) -> None:
        self.x = x
        self.shape, self.dtype = x.shape, dtype
        self.blocks = blocks

    def rows(self, start: int, stop: int, columns: Columns | None = None) -> Any:
        """Rows `start` to `stop`, sparse where the features are."""
        if isinstance(self.x, CSR):
            return _typed(slice_rows(self.x, start, stop), self.dtype)
        return read_rows(self.x, start, stop).to(self.dtype)

    @property
    def values(self) -> Tensor | None:
        """The features themselves where they are in memory as propagation reads them."""
        x = self.x
        if isinstance(x, CSR) or x.dtype != self.dtype or is_mapped(x):
            return None
        return x if len(self.blocks) == 1 else None

    def gather(self, nodes: Tensor) -> Tensor:
        """The dense rows `nodes`."""
        if isinstance(self.x, CSR):
            return _typed(self.x.select_rows(nodes), self.dtype).to_dense()
        return self.x[nodes].to(self.dtype)


Layer = LayerInMemory | LayerFile | FeatureLayer


class Layers:
    """Where layers are kept, and how many of their rows are computed at once.

    Args:
        num_rows: rows of every layer.
        chunk_rows: rows at once.
        device: where chunks are computed.
        folder: for layers as files; None keeps them in memory on `device`.
        memory: bytes of a layer's columns that are in memory at a time where layers are files.
        share: which of the rows this rank computes; all when None.
        budget: what else may be in memory; None where no opaque convolution runs.
    """

    def __init__(
        self,
        num_rows: int,
        chunk_rows: int,
        device: torch.device,
        folder: Path | None,
        memory: int,
        share: Share | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.num_rows = num_rows
        self.chunk_rows = chunk_rows
        self.share = share or undivided(num_rows, chunk_rows)
        self.device = device
        # Layers in files are gathered from by the host, whatever computes the dense part.
        self.home = torch.device("cpu") if folder else device
        self.folder = folder
        self.memory = memory
        self.budget = budget
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The rows of every chunk that this rank computes."""
        return self.share.ranges()

    def complete(self, layer: Layer) -> None:
        """Give every rank all rows of a layer of which each has computed its own."""
        if not (self.share.split and layer.changed) or 0 in layer.shape:
            return
        for rank in range(len(self.share.bounds) - 1):
            for start, stop in self.share.ranges_of(rank):
                if isinstance(layer, LayerFile) and rank != comm.rank():
                    rows = torch.empty(stop - start, layer.shape[1], dtype=layer.dtype)
                    comm.broadcast_(rows.view(torch.uint8), src=rank)
                    layer.put(start, rows)
                else:
                    comm.broadcast_(layer.rows(start, stop).view(torch.uint8), src=rank)
        layer.changed = False

    def features(self, x: Tensor | CSR, dtype: torch.dtype) -> Layer:
        """The layer that a model begins with."""
        if self.folder is not None:
            whole = [(0, x.shape[1])]
            blocks = whole if isinstance(x, CSR) else self._blocks(x.shape[1], dtype)
            return FeatureLayer(x, dtype, blocks)
        if isinstance(x, CSR):
            return FeatureLayer(self.at_home(x), dtype, [(0, x.shape[1])])
        return LayerInMemory(loaded(x, self.home, dtype))

    def at_home(self, a: CSR) -> Any:
        """A matrix where layers are kept; in its file where it is read by range."""
        if not is_mapped(a.indices):
            return a.to(self.home)
        return a if self.home.type == "cpu" else a._apply(lambda array: loaded(array, self.home))

    def new(
        self, width: int, dtype: torch.dtype, whole_rows: bool = False
    ) -> LayerInMemory | LayerFile:
        """Room for a layer; `whole_rows` for one whose rows are gathered."""
        if self.folder is None or 0 in (self.num_rows, width):
            values = torch.empty(self.num_rows, width, dtype=dtype, device=self.home)
            return LayerInMemory(values)
        blocks = [(0, width)] if whole_rows else self._blocks(width, dtype)
        return LayerFile(self.folder, (self.num_rows, width), dtype, blocks)

    def store(self, chunks: Chunks, whole_rows: bool = False, reuse: Layer | None = None) -> Layer:
        """Keep chunks as a layer, in the place of `reuse` where it fits.

        Row-local passes may write where they read.
        """
        layer: LayerInMemory | LayerFile | None = None
        for start, _, h in chunks:
            if layer is None:
                fits = _fits(reuse, h, whole_rows)
                layer = reuse if fits else self.new(h.size(1), h.dtype, whole_rows)  # type: ignore
            assert layer is not None
            layer.put(start, h)
        assert layer is not None
        return layer

    def rows(self, layer: Layer, start: int, stop: int) -> Any:
        """Rows of a layer, on the device."""
        return layer.rows(start, stop).to(self.device)

    def gather(self, layer: Layer, nodes: Tensor) -> Tensor:
        """The dense rows `nodes` of a layer, on the device."""
        return layer.gather(nodes).to(self.device)

    def columns(self, layer: Layer, block: Columns) -> Tensor:
        """A block of a layer's columns `[num_rows, width]`, in memory until the next is asked for.

        One buffer serves all: fresh pages would cost as much as reading the block.
        """
        if not isinstance(layer, LayerFile) and layer.values is not None:
            return layer.values
        values = self._room(block[1] - block[0], layer.dtype)
        for start, stop in self.share.every_range():
            if isinstance(layer, LayerFile):
                layer.read(start, stop, block, values[start:stop])
            else:
                values[start:stop] = layer.rows(start, stop)[:, slice(*block)]
        return values

    def drop_columns(self) -> None:
        """Give the buffer of `columns` back, before something else takes its place."""
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def _room(self, width: int, dtype: torch.dtype) -> Tensor:
        size = self.num_rows * width * dtype.itemsize
        if self._buffer.numel() < size:
            self.drop_columns()
            self._buffer = torch.empty(size, dtype=torch.uint8)
        return self._buffer[:size].view(dtype).view(self.num_rows, width)

    def _blocks(self, width: int, dtype: torch.dtype) -> list[Columns]:
        """As few even blocks as fit in memory, in whole cache lines where that takes no more."""
        if 0 in (self.num_rows, width):
            return [(0, width)]
        most = max(1, self.memory // (self.num_rows * dtype.itemsize))
        even = -(-width // -(-width // most))
        step = min(most, -(-even // _ALIGNED) * _ALIGNED)
        return [(start, min(start + step, width)) for start in range(0, width, step)]


def _fits(layer: Layer | None, rows: Tensor, whole_rows: bool) -> bool:
    if layer is None or isinstance(layer, FeatureLayer) or (whole_rows and len(layer.blocks) > 1):
        return False
    return layer.shape[1] == rows.size(1) and layer.dtype == rows.dtype


def _typed(x: CSR, dtype: torch.dtype) -> CSR:
    if x.values is None or x.values.dtype == dtype:
        return x
    return CSR(x.indptr, x.indices, x.values.to(dtype), x.shape)
