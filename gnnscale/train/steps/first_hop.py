"""The first hop P·X, computed once over the whole graph of a view (Cluster-GCN, section 6.2).

X does not change during training, so neither does P·X, and its degrees are those of the view rather
than of a batch. Kept in memory, or inside the store of a graph on disk.

P acts on every column by itself: a pass takes as many columns as fit in memory, and reads X and the
adjacency in sequence. Rows gathered from a file larger than memory would cost a page an edge.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.errors import DamagedStore, InputError, StoreError
from gnnscale.graph import Adjacency, ClusteredGraph, subgraph
from gnnscale.graph.adjacency import release_all
from gnnscale.graph.store.cluster_folder import (
    FOLDER,
    open_first_hop,
    store_checksum,
    write_first_hop,
)
from gnnscale.inference.activations import (
    Activations,
    ActivationsInMemory,
    ActivationStore,
    GraphFeatures,
)
from gnnscale.inference.hops import Hops
from gnnscale.kernels import CSR
from gnnscale.nn import Propagation
from gnnscale.storage.mapped import read_ranges

logger = logging.getLogger(__name__)

_PASS_BYTES = 256 << 20  # of the columns of one pass
_CHUNK_BYTES = 8 << 20  # of the rows that are propagated at once


@torch.no_grad()
def first_hop(seen: ClusteredGraph, propagation: Propagation) -> Tensor | CSR:
    """P·X over the nodes of a view, with the degrees of the view.

    Args:
        seen: the view. Where it is on disk, the result is kept there and found again by the same
            features and the same P, whatever P is made of.
        propagation: P, or several powers of it.

    Returns:
        `[seen.num_nodes, num_features]` in the order of the view (several powers side by side),
        sparse where the features are; memory-mapped where the graph is on disk.

    Raises:
        InputError: there are no features, or the result is larger than a quarter of the memory.
        StoreError: the store cannot be written.
    """
    graph = seen.graph
    if graph.x is None or not graph.num_features:
        raise InputError("precompute=True: the graph has no features x to propagate")
    rows, adj = None, graph.adj
    if seen.view_name == "train":
        split = graph.split(seen.split)
        assert split is not None
        rows = split.train.nonzero().squeeze(1)
        bare = dataclasses.replace(
            graph, x=None, y=None, edge_attr=None, edge_type=None, node_type=None
        )
        adj = subgraph(bare, split.train).adj
        release_all(graph.adj)
    if seen.path is None:
        hop = _compute(propagation, adj, graph.x, rows, None)
        return hop if isinstance(hop, CSR) else _joined(hop, adj.num_nodes)
    folder = seen.path / FOLDER / _key(seen, propagation, adj)
    try:
        found = open_first_hop(folder)
    except DamagedStore as error:
        if folder.exists():
            logger.warning("the first hop at %s is computed again: %s", folder, error)
    except StoreError:
        if folder.exists():  # and may be sound
            raise
    else:
        logger.info("first hop read from %s", folder)
        return found
    try:
        folder.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"could not write the first hop into the store {seen.path}: "
            f"{error.strerror or error}. Copy the store to where you may write, or leave "
            "precompute=True out"
        ) from error
    hop = _compute(propagation, adj, graph.x, rows, folder.parent)
    write_first_hop(folder, hop, adj.num_nodes, {"view": seen.view_name})
    return open_first_hop(folder)


def _key(seen: ClusteredGraph, propagation: Propagation, adj: Adjacency) -> str:
    """Names the content: the store's checksum, the view, and what P does to random numbers."""
    assert seen.path is not None
    random = torch.Generator().manual_seed(0)
    probe = torch.rand(adj.num_nodes, 1, dtype=torch.float64, generator=random)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{store_checksum(seen.path)} {seen.view_name}".encode())
    for rows in _propagated(propagation, adj, ActivationsInMemory(probe)):
        digest.update(rows.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _compute(
    propagation: Propagation,
    adj: Adjacency,
    x: Tensor | CSR,
    rows: Tensor | None,
    folder: Path | None,
) -> Iterator[Tensor] | CSR:
    """P·X, of dense features in chunks of rows, in `folder` where it does not fit in memory."""
    if isinstance(x, CSR):
        hop = _sparse(propagation, adj, x if rows is None else x.select_rows(rows))
        release_all(x)
        return hop
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    layers = _layers(adj, x.size(1), folder)
    layer = layers.features(x, dtype)
    if isinstance(layer, ActivationsInMemory):
        layer = layer if rows is None else ActivationsInMemory(layer.gather(rows))
    elif rows is not None:
        layer = SomeRows(x, rows, dtype, layer.blocks)
    return _propagated(propagation, adj, layer, layers)


class SomeRows(GraphFeatures):
    """Some rows of dense features, ascending."""

    values = None

    def __init__(
        self, x: Tensor, rows: Tensor, dtype: torch.dtype, blocks: list[tuple[int, int]]
    ) -> None:
        super().__init__(x, dtype, blocks)
        self._rows = rows
        self.shape = (rows.numel(), x.size(1))

    @override
    def rows(self, start: int, stop: int, columns: tuple[int, int] | None = None) -> Tensor:
        """Rows `start` to `stop`; the training nodes of a cluster lie together."""
        assert isinstance(self.x, Tensor)
        chosen = self._rows[start:stop]
        ends = (chosen.diff() != 1).nonzero().squeeze(1) + 1
        runs = chosen.tensor_split(ends)
        ranges = [(int(run[0]), int(run[-1]) + 1) for run in runs if run.numel()]
        return read_ranges(self.x, ranges or [(0, 0)]).to(self.dtype)


def _layers(adj: Adjacency, width: int, folder: Path | None) -> ActivationStore:
    at_once = max(1, _CHUNK_BYTES // (8 * width))
    return ActivationStore(adj.num_nodes, at_once, torch.device("cpu"), folder, _PASS_BYTES)


def _propagated(
    propagation: Propagation,
    adj: Adjacency,
    layer: Activations,
    layers: ActivationStore | None = None,
) -> Iterator[Tensor]:
    """P·X in chunks of rows, the adjacency read by range."""
    hops = Hops(adj, layers or _layers(adj, layer.shape[1], None))
    for _, _, rows in hops.propagate(propagation, layer, transformed=False, overwrite=False):
        yield rows


def _joined(chunks: Iterator[Tensor], num_rows: int) -> Tensor:
    """All rows, in memory."""
    first = next(chunks)
    _check_memory(num_rows * first.size(1) * first.element_size())
    joined = first.new_empty(num_rows, first.size(1))
    end = 0
    for rows in chain([first], chunks):
        start, end = end, end + rows.size(0)
        joined[start:end] = rows
    return joined


def _sparse(propagation: Propagation, adj: Adjacency, x: CSR) -> CSR:
    """P·X of sparse features: columns are dense a pass at a time, their product never whole."""
    width = x.shape[1]
    x.prove()
    of_column = CSR(x.indptr, x.indices, x.values, x.shape).t()  # a copy: x would keep it
    dtype = torch.float32 if x.values is None else x.values.dtype
    found: list[list[CSR]] = []
    taken = 0
    for start, end in _passes(adj.num_nodes, width, dtype):
        columns = of_column.slice_rows(start, end).to_dense(dtype).t().contiguous()
        product = torch.cat(list(_propagated(propagation, adj, ActivationsInMemory(columns))))
        blocks = [CSR.from_dense(block.t()) for block in product.split(end - start, dim=1)]
        taken += sum(block.nnz for block in blocks) * (4 + dtype.itemsize)
        _check_memory(taken)
        found.append(blocks)
    pieces = [block for of_power in zip(*found, strict=True) for block in of_power]
    counts = torch.cat([piece.indptr.diff() for piece in pieces])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    indices = torch.cat([piece.indices for piece in pieces])
    values = torch.cat([piece.values for piece in pieces if piece.values is not None])
    return CSR(indptr, indices, values, (counts.numel(), adj.num_nodes)).t()


def _passes(rows: int, width: int, dtype: torch.dtype) -> Iterator[tuple[int, int]]:
    at_once = max(1, _PASS_BYTES // max(1, rows * dtype.itemsize))
    for start in range(0, width, at_once):
        yield start, min(start + at_once, width)


def _check_memory(needed: int) -> None:
    """Refuse what takes more than a quarter of the machine's memory.

    Raises:
        InputError: with the figures and the remedy.
    """
    bound = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    if needed > bound:
        raise InputError(
            f"precompute=True: the first hop takes {needed:,} bytes or more, and a quarter of this "
            f"machine's memory is {bound:,}. Dense features of a graph stored with "
            "gnnscale.cluster(graph, part, path=…) are computed on disk; else leave precompute out"
        )
