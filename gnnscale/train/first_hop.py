"""The first hop P·X, computed once over the whole graph of a view (Cluster-GCN, section 6.2).

X does not change during training, so neither does P·X, and its degrees are those of the view rather
than of a batch. Kept in memory, or inside the store of a graph on disk.

P acts on every column by itself: a pass takes as many columns as memory bears and reads X in
sequence. Rows gathered from a file larger than memory would cost a page an edge.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Adjacency, ClusteredGraph, subgraph
from gnnscale.graph.files import read_json
from gnnscale.graph.first_hop import FOLDER, open_first_hop, write_first_hop
from gnnscale.inference.mapped import new_layer, temporary_folder
from gnnscale.kernels import CSR
from gnnscale.nn import Propagation

logger = logging.getLogger(__name__)

_PASS_BYTES = 512 << 20  # of the columns of one pass, before and after propagation


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
        bare = dataclasses.replace(graph, x=None, y=None, edge_attr=None)
        adj = subgraph(bare, split.train).adj
    if seen.path is None:
        return _compute(propagation, adj, graph.x, rows, None)
    folder = seen.path / FOLDER / _key(seen, propagation, adj)
    try:
        found = open_first_hop(folder)
    except StoreError as error:
        if folder.exists():
            logger.warning("the first hop at %s is computed again: %s", folder, error)
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
    with temporary_folder(folder.parent) as beside:
        hop = _compute(propagation, adj, graph.x, rows, Path(beside))
        write_first_hop(folder, hop, {"view": seen.view_name})
    return open_first_hop(folder)


def _key(seen: ClusteredGraph, propagation: Propagation, adj: Adjacency) -> str:
    """Names the content: the store's checksum, the view, and what P does to random numbers."""
    assert seen.path is not None
    random = torch.Generator().manual_seed(0)
    probe = torch.rand(adj.num_nodes, 1, dtype=torch.float64, generator=random)
    digest = hashlib.blake2b(digest_size=16)
    checksum = read_json(seen.path / "meta.json")["checksum"]
    digest.update(f"{checksum} {seen.view_name}".encode())
    digest.update(propagation.aggregate(probe, adj).contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _compute(
    propagation: Propagation,
    adj: Adjacency,
    x: Tensor | CSR,
    rows: Tensor | None,
    folder: Path | None,
) -> Tensor | CSR:
    if isinstance(x, CSR):
        return _sparse(propagation, adj, x if rows is None else x.select_rows(rows))
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    width = x.size(1)
    hop: Tensor | None = None
    for start, end in _passes(adj.num_nodes, width, dtype):
        columns = x[:, start:end] if rows is None else x[:, start:end].index_select(0, rows)
        product = propagation.aggregate(columns.to(dtype).contiguous(), adj)
        powers = product.size(1) // (end - start)
        if hop is None:
            shape = (adj.num_nodes, powers * width)
            if folder is None or 0 in shape:
                _check_memory(shape[0] * shape[1] * dtype.itemsize)
                hop = torch.empty(shape, dtype=dtype)
            else:
                hop = new_layer(folder / "first_hop", shape, dtype)
        for power, block in enumerate(product.split(end - start, dim=1)):
            hop[:, power * width + start : power * width + end] = block
    assert hop is not None
    return hop


def _sparse(propagation: Propagation, adj: Adjacency, x: CSR) -> CSR:
    """P·X of sparse features: columns are dense a pass at a time, their product never whole."""
    width = x.shape[1]
    of_column = CSR(x.indptr, x.indices, x.values, x.shape).t()  # a copy: x would keep it
    dtype = torch.float32 if x.values is None else x.values.dtype
    found: list[list[CSR]] = []
    taken = 0
    for start, end in _passes(adj.num_nodes, width, dtype):
        columns = of_column.slice_rows(start, end).to_dense(dtype).t().contiguous()
        product = propagation.aggregate(columns, adj)
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
    at_once = max(1, _PASS_BYTES // max(1, 2 * rows * dtype.itemsize))
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
