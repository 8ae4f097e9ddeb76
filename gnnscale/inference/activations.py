"""Activations: what a layer gives for all nodes, between the passes of an inference.

They are in memory or in files, read and written in chunks of rows. Propagation reads at random, so
that what it reads is in memory: all columns, or as many as fit in the memory allowed. Every other
read is of a range of rows.
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
from gnnscale.inference.activation_file import ActivationsInFile, Columns
from gnnscale.inference.ranks import Share, undivided
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import is_mapped, loaded, read_rows

_ALIGNED = 16  # float32 columns of a cache line

Chunks = Iterator[tuple[int, int, Tensor]]


class ActivationsInMemory:
    """Activations as a tensor `[num_rows, width]`.

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


class GraphFeatures:
    """A graph's features as the model reads them: in its type, perhaps out of a file."""

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


Activations = ActivationsInMemory | ActivationsInFile | GraphFeatures


class ActivationStore:
    """Where activations are kept, and how many of their rows are computed at once.

    Args:
        num_rows: rows of all activations.
        chunk_rows: rows at once.
        device: where chunks are computed.
        folder: for files of them; None keeps them in memory on `device`.
        memory: bytes of columns that are in memory at a time where they are in files.
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
        # Activations in files are gathered from by the host, whatever computes the dense part.
        self.home = torch.device("cpu") if folder else device
        self.folder = folder
        self.memory = memory
        self.budget = budget
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The rows of every chunk that this rank computes."""
        return self.share.ranges()

    def complete(self, activations: Activations) -> None:
        """Give every rank all rows of activations of which each has computed its own."""
        if not (self.share.split and activations.changed) or 0 in activations.shape:
            return
        for rank in range(len(self.share.bounds) - 1):
            for start, stop in self.share.ranges_of(rank):
                if isinstance(activations, ActivationsInFile) and rank != comm.rank():
                    rows = torch.empty(stop - start, activations.shape[1], dtype=activations.dtype)
                    comm.broadcast_(rows.view(torch.uint8), src=rank)
                    activations.put(start, rows)
                else:
                    comm.broadcast_(activations.rows(start, stop).view(torch.uint8), src=rank)
        activations.changed = False

    def features(self, x: Tensor | CSR, dtype: torch.dtype) -> Activations:
        """What a model begins with."""
        if self.folder is not None:
            whole = [(0, x.shape[1])]
            blocks = whole if isinstance(x, CSR) else self._blocks(x.shape[1], dtype)
            return GraphFeatures(x, dtype, blocks)
        if isinstance(x, CSR):
            return GraphFeatures(self.at_home(x), dtype, [(0, x.shape[1])])
        return ActivationsInMemory(loaded(x, self.home, dtype))

    def at_home(self, a: CSR) -> Any:
        """A matrix where activations are kept; in its file where it is read by range."""
        if not is_mapped(a.indices):
            return a.to(self.home)
        return a if self.home.type == "cpu" else a._apply(lambda array: loaded(array, self.home))

    def new(
        self, width: int, dtype: torch.dtype, whole_rows: bool = False
    ) -> ActivationsInMemory | ActivationsInFile:
        """Activations that are yet to be written; `whole_rows` where rows will be gathered."""
        if self.folder is None or 0 in (self.num_rows, width):
            values = torch.empty(self.num_rows, width, dtype=dtype, device=self.home)
            return ActivationsInMemory(values)
        blocks = [(0, width)] if whole_rows else self._blocks(width, dtype)
        return ActivationsInFile(self.folder, (self.num_rows, width), dtype, blocks)

    def keep(
        self, chunks: Chunks, whole_rows: bool = False, reuse: Activations | None = None
    ) -> Activations:
        """Keep chunks as activations, in the place of `reuse` where it fits.

        Row-local passes may write where they read.
        """
        written = Written(self, whole_rows, reuse)
        for start, _, h in chunks:
            written.put(start, h)
        assert written.activations is not None
        return written.activations

    def rows(self, activations: Activations, start: int, stop: int) -> Any:
        """Rows of activations, on the device."""
        return activations.rows(start, stop).to(self.device)

    def gather(self, activations: Activations, nodes: Tensor) -> Tensor:
        """The dense rows `nodes` of activations, on the device."""
        return activations.gather(nodes).to(self.device)

    def columns(self, activations: Activations, block: Columns) -> Tensor:
        """A block of columns `[num_rows, width]`, in memory until the next is asked for.

        One buffer serves all: fresh pages would cost as much as reading the block.
        """
        if not isinstance(activations, ActivationsInFile) and activations.values is not None:
            return activations.values
        values = self._buffer_for(block[1] - block[0], activations.dtype)
        for start, stop in self.share.every_range():
            if isinstance(activations, ActivationsInFile):
                activations.read(start, stop, block, values[start:stop])
            else:
                values[start:stop] = activations.rows(start, stop)[:, slice(*block)]
        return values

    def drop_columns(self) -> None:
        """Give the buffer of `columns` back, before something else takes its place."""
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def _buffer_for(self, width: int, dtype: torch.dtype) -> Tensor:
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


class Written:
    """Activations that are made when their first rows are there; see `ActivationStore.keep`.

    Attributes:
        activations: what has been written; None before.
    """

    def __init__(
        self, store: ActivationStore, whole_rows: bool = False, reuse: Activations | None = None
    ) -> None:
        self._store, self._whole_rows = store, whole_rows
        self._reuse = None if isinstance(reuse, GraphFeatures) else reuse
        self.activations: ActivationsInMemory | ActivationsInFile | None = None

    def put(self, start: int, rows: Tensor) -> None:
        """Write rows from `start` on."""
        if self.activations is None:
            old, width = self._reuse, rows.size(1)
            fits = old is not None and (old.shape[1], old.dtype) == (width, rows.dtype)
            if old is None or not fits or (self._whole_rows and len(old.blocks) > 1):
                old = self._store.new(width, rows.dtype, self._whole_rows)
            self.activations = old
        self.activations.put(start, rows)


def _typed(x: CSR, dtype: torch.dtype) -> CSR:
    if x.values is None or x.values.dtype == dtype:
        return x
    return CSR(x.indptr, x.indices, x.values.to(dtype), x.shape)
