"""Layers between the passes of an inference: in memory or in files, read and written in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale.inference.mapped import new_layer
from gnnscale.kernels import CSR

Layer = Tensor | CSR
Chunks = Iterator[tuple[int, int, Tensor]]


class Layers:
    """Where layers are kept, and how many of their rows are computed at once.

    Args:
        num_rows: rows of every layer.
        chunk_rows: rows at once.
        device: where chunks are computed.
        folder: for layers as files; None keeps them on `device`.
    """

    def __init__(
        self, num_rows: int, chunk_rows: int, device: torch.device, folder: Path | None
    ) -> None:
        self.num_rows = num_rows
        self.chunk_rows = chunk_rows
        self.device = device
        # Layers in files are gathered from by the host, whatever computes the dense part.
        self.home = torch.device("cpu") if folder else device
        self._folder = folder
        self._files = 0

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Start and end of every chunk; one, empty, where there are no rows."""
        for start in range(0, max(self.num_rows, 1), self.chunk_rows):
            yield start, min(start + self.chunk_rows, self.num_rows)

    def rows(self, layer: Layer, start: int, end: int) -> Any:
        """Rows of a layer, on the device."""
        if isinstance(layer, CSR):
            return layer.slice_rows(start, end).to(self.device)
        return layer[start:end].to(self.device)

    def gather(self, layer: Layer, nodes: Tensor) -> Tensor:
        """The dense rows `nodes` of a layer, on the device."""
        chosen = layer.select_rows(nodes).to_dense() if isinstance(layer, CSR) else layer[nodes]
        return chosen.to(self.device)

    def buffer(self, like: Tensor) -> Tensor:
        """Room for a layer of the width and type of `like`."""
        shape = (self.num_rows, like.shape[1])
        if self._folder is None or 0 in shape:
            return torch.empty(shape, dtype=like.dtype, device=self.home)
        self._files += 1
        return new_layer(self._folder / f"layer{self._files}", shape, like.dtype)

    def store(self, chunks: Chunks, reuse: Layer | None = None) -> Tensor:
        """Keep chunks as a layer, in the place of `reuse` where it fits."""
        layer: Tensor | None = None
        for start, end, h in chunks:
            if layer is None:
                # Row-local passes may write where they read.
                fits = isinstance(reuse, Tensor) and reuse.shape[1] == h.shape[1]
                layer = reuse if fits and reuse.dtype == h.dtype else self.buffer(h)  # type: ignore
                assert layer is not None
            layer[start:end] = h
        assert layer is not None
        return layer

    def dense(self, layer: Layer) -> Tensor:
        """The layer itself, or a dense copy of a sparse one."""
        if isinstance(layer, CSR):
            return self.store((a, b, self.rows(layer, a, b).to_dense()) for a, b in self.ranges())
        return layer
