"""Adjacency: the structure of a graph as compressed sparse rows, rows being targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError
from gnnscale.kernels import CSR
from gnnscale.kernels.structure import asymmetry
from gnnscale.storage.mapped import is_mapped, read_rows, release

EDGE_VALUES = ("edge_weight", "edge_attr", "edge_type")  # of a graph, in the order of its edges
# Entries and rows of a block: what is derived of each takes tens of bytes, or a hundred.
_MOST, _MOST_ROWS = 1 << 18, 1 << 16
_ON_DEVICE = 1 << 22  # of either that are one block on a GPU, which then waits for no sizes


class Adjacency(CSR):
    """A square sparse matrix whose entry (i, j) is the edge j → i, its value the edge weight.

    Row i lists the sources of the edges that arrive at node i, so row lengths are in-degrees and
    `A @ x` is what message passing with sum aggregation computes. Multi-edges are kept.

    Attributes:
        indptr: int64 `[num_nodes + 1]`.
        indices: int32 or int64 `[num_edges]`, the sources, ascending in every row when made by
            `from_edge_index`.
        values: edge weights `[num_edges]`, or None where all are 1.
        cache: whatever is derived from this adjacency and worth keeping (propagation
            coefficients, for one), by key. Not carried over by `to`.
    """

    @choices_checked
    def __init__(
        self,
        indptr: Tensor,
        indices: Tensor,
        values: Tensor | None = None,
        shape: tuple[int, int] | None = None,
        *,
        symmetric: bool | None = None,
    ) -> None:
        num_nodes = indptr.numel() - 1
        super().__init__(indptr, indices, values, shape or (num_nodes, num_nodes))
        self._symmetric = symmetric
        self._edge_index: Tensor | None = None
        self.cache: dict[Any, Any] = {}

    @property
    def num_nodes(self) -> int:
        """Rows, which are also the columns."""
        return self.shape[0]

    @property
    def num_edges(self) -> int:
        """Directed edges: an undirected edge counts twice."""
        return self.nnz

    @property
    def edge_weight(self) -> Tensor | None:
        """`[num_edges]` in CSR order, None where all are 1."""
        return self.values

    @property
    def symmetric(self) -> bool:
        """Whether structure and weights equal their transpose. Checked once, then remembered.

        Entries are hashed with their transposes, rather than a transpose made: on the CPU nothing
        of the size of the edges is held, and the order within rows does not matter. That a matrix
        is wrongly found symmetric has a probability of 2^-64.
        """
        if self._symmetric is None:
            total = 0
            for start, _, block in row_blocks(self):
                total += asymmetry(block.indptr, block.indices, block.values, start)
            self._symmetric = total % 2**64 == 0
        return self._symmetric

    @property
    def edge_index(self) -> Tensor:
        """int64 `[2, num_edges]` in PyG's order: row 0 the sources, row 1 the targets."""
        if self._edge_index is None:
            self._edge_index = torch.stack([self.indices.long(), self.row_index])
        return self._edge_index

    @choices_checked
    def in_degree(self, weighted: bool = False) -> Tensor:
        """In-degrees `[num_nodes]`: edge counts, or sums of edge weights with `weighted`."""
        if not weighted or self.values is None:
            self.prove()
            return self.indptr.diff()
        # float64 keeps the sum independent of how rows are grouped into batches.
        total = torch.zeros(self.num_nodes, dtype=torch.float64, device=self.device)
        for start, stop, rows in row_blocks(self):
            assert rows.values is not None
            total[start:stop].index_add_(0, rows.row_index, rows.values.double())
        return total.to(self.values.dtype)

    @override
    def _apply(self, move: Callable[[Tensor], Tensor]) -> Adjacency:
        moved = super()._apply(move)
        moved._edge_index = None if self._edge_index is None else move(self._edge_index)
        moved.cache = {}
        return moved

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: int | None = None,
        edge_weight: Tensor | None = None,
    ) -> Adjacency:
        """Build from PyG's `edge_index` `[2, num_edges]` and weights `[num_edges]`.

        Raises:
            InputError: an index is negative or not below `num_nodes`, or a shape is wrong.
        """
        return cls.with_permutation(edge_index, num_nodes, edge_weight)[0]

    @classmethod
    def with_permutation(
        cls,
        edge_index: Tensor,
        num_nodes: int | None = None,
        edge_weight: Tensor | None = None,
    ) -> tuple[Adjacency, Tensor]:
        """As `from_edge_index`, with the position in `edge_index` of every stored edge."""
        from gnnscale.graph.checks import edge_index_faults

        faults = edge_index_faults(edge_index, num_nodes)
        if faults:
            raise InputError(faults)
        if num_nodes is None:
            num_nodes = int(edge_index.max()) + 1 if edge_index.numel() else 0
        num_nodes = int(num_nodes)  # a NumPy integer would print, and hash, as another shape
        edge_weight = as_weight(edge_weight)
        csr, permutation = CSR.from_coo(
            edge_index[1].long(), edge_index[0].long(), edge_weight, (num_nodes, num_nodes)
        )
        return cls(csr.indptr, csr.indices, csr.values, csr.shape), permutation


def as_weight(values: Tensor | None) -> Tensor | None:
    """Edge weights in a type that the kernels take: float32, or float64 where they are that."""
    return values if values is None or values.dtype == torch.float64 else values.float()


def as_adjacency(adj: object, num_nodes: int | None = None) -> Adjacency:
    """Read an adjacency as PyG reads it.

    Args:
        adj: an `Adjacency`; `edge_index` `[2, num_edges]` (a tensor or PyG's `EdgeIndex`); or a
            torch sparse tensor (COO, CSR or CSC), whose rows are targets.
        num_nodes: the number of nodes; needed for an `edge_index` whose last nodes are isolated.

    Raises:
        InputError: it is none of these, its indices are out of range, or it has another number
            of nodes.
    """
    if isinstance(adj, Tensor) and adj.layout != torch.strided:
        adj = _from_torch_sparse(adj)
    if isinstance(adj, Adjacency):
        if num_nodes is not None and adj.num_nodes != num_nodes:
            raise InputError(f"the adjacency has {adj.num_nodes} nodes; {num_nodes} are expected")
        return adj
    if isinstance(adj, Tensor) and adj.dim() == 2 and adj.size(0) == 2:
        return Adjacency.from_edge_index(adj.as_subclass(Tensor), num_nodes)
    what = f"{type(adj).__name__} of shape {tuple(getattr(adj, 'shape', ()))}"
    raise InputError(
        f"cannot read {what} as an adjacency: give an Adjacency, an edge_index [2, num_edges] or "
        "a torch sparse tensor"
    )


def _from_torch_sparse(adj: Tensor) -> Adjacency:
    if adj.dim() != 2 or adj.size(0) != adj.size(1):
        raise InputError(f"an adjacency is square; this one has shape {tuple(adj.shape)}")
    if adj.layout == torch.sparse_csr:
        weight = _unless_ones(adj.values())
        return Adjacency(adj.crow_indices().long(), adj.col_indices(), weight)
    coo = adj.to_sparse_coo().coalesce()
    row, col = coo.indices()
    edge_index = torch.stack([col, row])
    return Adjacency.from_edge_index(edge_index, adj.size(0), _unless_ones(coo.values()))


def _unless_ones(values: Tensor) -> Tensor | None:
    return None if bool((values == 1).all()) else as_weight(values)


def slice_rows(a: CSR, start: int, stop: int) -> CSR:
    """Rows `start` to `stop` (exclusive) of a matrix, which may lie in a file."""
    pointers = read_rows(a.indptr, start, stop + 1)
    first, last = int(pointers[0]), int(pointers[-1])
    values = None if a.values is None else read_rows(a.values, first, last)
    indptr = pointers - first if first else pointers
    return CSR(indptr, read_rows(a.indices, first, last), values, (stop - start, a.shape[1]))


def release_all(*values: torch.Tensor | CSR | None) -> None:
    """Let go of the resident pages of whatever lies in files among these."""
    for value in values:
        if isinstance(value, CSR):
            release_all(value.indptr, value.indices, value.values)
        elif value is not None:
            release(value)


def row_blocks(a: CSR, most: int | None = None) -> Iterator[tuple[int, int, CSR]]:
    """Yield `(start, stop, rows)` over a matrix, in blocks of 2^18 entries at most, or of one row.

    What takes several bytes an entry stays small that way, whatever the graph; `most` entries where
    it takes many.
    """
    most = most or _MOST
    rows, start = a.shape[0], 0
    small = rows <= _MOST_ROWS and a.nnz <= most
    if small or (a.device.type != "cpu" and max(rows, a.nnz) <= _ON_DEVICE):
        yield 0, rows, a if not is_mapped(a.indices) else slice_rows(a, 0, rows)
        return
    while start < rows:
        room = int(a.indptr[start]) + most
        stop = int(torch.searchsorted(a.indptr, room, right=True)) - 1
        stop = min(max(stop, start + 1), start + _MOST_ROWS, rows)
        yield start, stop, slice_rows(a, start, stop)
        start = stop
