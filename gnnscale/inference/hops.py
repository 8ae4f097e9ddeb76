"""Activations propagated hop by hop, each hop in chunks of rows: no halo, whatever the hops.

P acts on every column by itself: what does not fit in memory is propagated a block of columns
at a time, and the adjacency walked in row order once for each. Every column is summed in
the same order whatever the blocks, so the result is the same bit for bit.

Floor of a hop, in bytes: the activations read once, 4 for every edge and block, and, with b blocks,
the share (b − 1) / b of the product written and read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnscale.graph import Adjacency
from gnnscale.graph.adjacency import slice_rows
from gnnscale.inference.activation_file import ActivationsInFile
from gnnscale.inference.activations import Activations, ActivationStore, Chunks, GraphFeatures
from gnnscale.kernels import CSR, spmm
from gnnscale.nn.convs.propagation import Operator, Propagation
from gnnscale.nn.convs.stacked import Stacked
from gnnscale.storage.mapped import is_mapped, read_rows

_EDGES_AT_ONCE = 1 << 18  # read out of a file, beside those of the largest node


@dataclass(frozen=True)
class Hops:
    """What propagation takes of an inference.

    Attributes:
        adj: the whole graph, on the device where activations are kept.
        store: where activations are kept.
    """

    adj: Adjacency
    store: ActivationStore

    def propagate(
        self, propagation: Propagation, activations: Activations, transformed: bool, overwrite: bool
    ) -> Chunks:
        """The propagated rows.

        Args:
            propagation: what is computed.
            activations: what it is computed of.
            transformed: whether they have been through `linear`.
            overwrite: whether nothing else reads them.
        """
        if isinstance(propagation, Stacked) and not transformed:
            return self._stack(propagation, activations)
        return self._horner(propagation, activations, overwrite)

    def _horner(
        self, propagation: Propagation, activations: Activations, overwrite: bool
    ) -> Chunks:
        sample = activations.rows(0, min(1, self.store.num_rows))
        value = activations
        if propagation.start(sample) is not sample:  # columns of it
            value = self.store.keep(
                (a, b, propagation.start(activations.rows(a, b))) for a, b in self.store.ranges()
            )
        plain = propagation.powers is None and not isinstance(propagation, Stacked)
        for k in reversed(range(propagation.hops)):
            own = value is not activations or (overwrite and plain)
            chunks = self._product(propagation, value, own)
            if not plain:
                chunks = (
                    (a, b, propagation.hop(k, h, activations.rows(a, b))) for a, b, h in chunks
                )
            if k == 0:
                yield from chunks
            else:
                value = self.store.keep(chunks)

    def _stack(self, propagation: Propagation, activations: Activations) -> Chunks:
        powers = [activations]
        for _ in range(propagation.hops - 1):
            powers.append(self.store.keep(self._product(propagation, powers[-1], False)))
        for a, b, h in self._product(propagation, powers[-1], False):
            yield a, b, torch.cat([*(power.rows(a, b) for power in powers), h], dim=1)

    def _product(self, propagation: Propagation, value: Activations, overwrite: bool) -> Chunks:
        operator = propagation.operator(self.adj, value.dtype)
        self.store.complete(value)
        *before, last = value.blocks
        if not before:
            yield from self._block(operator, self.store.columns(value, last))
            return
        in_place = overwrite and not isinstance(value, GraphFeatures)
        product = value if in_place else self.store.new(value.shape[1], value.dtype)
        assert isinstance(product, ActivationsInFile)  # what has several blocks
        for block in before:
            for a, _, h in self._block(operator, self.store.columns(value, block)):
                product.put(a, h, block)
        for a, b, h in self._block(operator, self.store.columns(value, last)):
            yield a, b, torch.cat([*product.pieces(a, b, (0, last[0])), h], dim=1)

    def _block(self, operator: Operator, columns: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        a, left, right, diag = operator
        for start, stop in self.store.ranges():
            parts = []
            for first, last in _cut(a, start, stop):
                scale, own = (None if v is None else v[first:last] for v in (left, diag))
                rows = slice_rows(a, first, last)
                parts.append(spmm(rows, columns, scale, right, own, columns[first:last]))
            yield start, stop, torch.cat(parts) if len(parts) > 1 else parts[0]


def _cut(a: CSR, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Rows `start` to `stop`, of a matrix in a file in pieces of few edges, which are copied."""
    if not is_mapped(a.indices):
        yield start, stop
        return
    while start < stop:
        ends = read_rows(a.indptr, start, stop + 1)
        last = int(torch.searchsorted(ends, int(ends[0]) + _EDGES_AT_ONCE, right=True)) - 1
        last = start + max(1, min(last, stop - start))
        yield start, last
        start = last
