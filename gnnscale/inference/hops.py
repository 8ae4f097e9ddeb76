"""A whole layer propagated hop by hop, each hop in chunks of rows: no halo, whatever the hops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnscale.graph import Adjacency
from gnnscale.kernels import spmm
from gnnscale.nn.propagation import Propagation
from gnnscale.nn.stacked import Stacked

Chunks = Iterator[tuple[int, int, Tensor]]


@dataclass(frozen=True)
class Hops:
    """What propagation takes of an inference.

    Attributes:
        adj: the whole graph, on the device where layers are kept.
        ranges: the rows of every chunk.
        store: keeps chunks as a layer.
    """

    adj: Adjacency
    ranges: Callable[[], Iterator[tuple[int, int]]]
    store: Callable[[Chunks], Tensor]

    def propagate(self, propagation: Propagation, layer: Tensor, transformed: bool) -> Chunks:
        """The propagated rows of a layer, which has been through `linear` if `transformed`."""
        if isinstance(propagation, Stacked) and not transformed:
            return self._stack(propagation, layer)
        return self._horner(propagation, layer)

    def _horner(self, propagation: Propagation, layer: Tensor) -> Chunks:
        value = propagation.start(layer)
        if value is not layer:  # columns of it
            value = self.store((a, b, value[a:b]) for a, b in self.ranges())
        for k in reversed(range(1, propagation.hops)):
            value = self.store(self._step(propagation, k, value, layer))
        yield from self._step(propagation, 0, value, layer)

    def _step(self, propagation: Propagation, k: int, value: Tensor, layer: Tensor) -> Chunks:
        for a, b, h in self._product(propagation, value):
            yield a, b, propagation.step(k, h, layer[a:b])

    def _stack(self, propagation: Propagation, layer: Tensor) -> Chunks:
        powers = [layer]
        for _ in range(propagation.hops - 1):
            powers.append(self.store(self._product(propagation, powers[-1])))
        for a, b, h in self._product(propagation, powers[-1]):
            yield a, b, torch.cat([*(power[a:b] for power in powers), h], dim=1)

    def _product(self, propagation: Propagation, value: Tensor) -> Chunks:
        adj, left, right, diag = propagation.operator(self.adj, value.dtype)
        for a, b in self.ranges():
            scale, own = (None if v is None else v[a:b] for v in (left, diag))
            yield a, b, spmm(adj.slice_rows(a, b), value, scale, right, own, value[a:b])
