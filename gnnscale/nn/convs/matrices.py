"""Propagation matrices P = diag(left)·A·diag(right) + diag(diag), from the degrees of a graph.

Degrees are those of the adjacency that is passed: of the batch while training on clusters, which
is Cluster-GCN's renormalisation (Chiang et al., KDD 2019, section 3.2), and of the whole graph in
inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency
from gnnscale.graph.adjacency import row_blocks
from gnnscale.kernels import CSR, row_sums


class Coefficients(NamedTuple):
    """P = diag(left)·A·diag(right) + diag(diag); each `[num_nodes]`, None for ones (diag: zeros).

    Attributes:
        weighted: whether A carries the edge weights; if not, all its values are 1.
    """

    left: Tensor | None
    right: Tensor | None
    diag: Tensor | None
    weighted: bool


@runtime_checkable
class Matrix(Protocol):
    """What turns an adjacency into coefficients. Hashable: coefficients are cached by it.

    One that leaves edge weights out says so by an attribute `weighted`, False.
    """

    def coefficients(self, adj: Adjacency) -> Coefficients:
        """The coefficients of P on `adj`, in float64."""


class RowByRow:
    """A matrix of which a row's coefficients follow from that row: they are made in blocks.

    What is derived on the way takes a hundred bytes a row, of a block rather than of all. A class
    that defines `coefficients` anew is asked for those, whatever its rows would have.
    """

    def of_rows(self, rows: CSR, first: int) -> Coefficients:
        """The coefficients of some rows in float64, of which `first` is the number of the first."""
        raise NotImplementedError

    def coefficients(self, adj: Adjacency) -> Coefficients:
        """The coefficients of P on `adj`, in float64."""
        return _in_blocks(self, adj, torch.float64)


@dataclass(frozen=True)
class SymmetricNormalisation(RowByRow):
    """D^-1/2 (A + f·I) D^-1/2 of GCN (Kipf & Welling, ICLR 2017, eq. 2), as PyG normalises.

    Of several self-loops of a node the last counts. Without edge weights every self-loop weighs 1,
    whatever `fill` is.

    Attributes:
        fill: weight of the self-loop added where a node has none; None adds no self-loops.
    """

    fill: float | None = 1.0

    @override
    def of_rows(self, rows: CSR, first: int) -> Coefficients:
        """Degrees sum edge weights and self-loops. Where they are 0, rows are; below 0, NaN."""
        if self.fill is None:
            degree, added = _row_lengths(rows, weighted=True), None
        else:
            loops, others, last, has_loop = row_sums(rows, first)
            loop = torch.where(has_loop, last, self.fill)
            if rows.values is None:
                loop = torch.ones_like(loop)
            degree, added = others + loop, loop - loops
        scale = torch.where(degree == 0, 0.0, degree.rsqrt())
        diag = None if added is None else scale * scale * added
        return Coefficients(scale, scale, diag, weighted=True)


@dataclass(frozen=True)
class Mean(RowByRow):
    """D^-1 A: the mean over in-neighbours, 0 where there are none (GraphSAGE)."""

    weighted = False

    @override
    def of_rows(self, rows: CSR, first: int) -> Coefficients:
        """Edges count once each, whatever their weight."""
        degree = _row_lengths(rows, weighted=False)
        return Coefficients(1 / degree.clamp(min=1), None, None, weighted=False)


@dataclass(frozen=True)
class RowNormalisation(RowByRow):
    """P + λ·diag(P) of P = (D + s·I)^-1 (A + s·I) + c·I, where A leaves out its own self-loops.

    Cluster-GCN's matrices (Chiang et al., KDD 2019): eq. 9 has s = 0 and c = 1, eq. 10 has s = 1,
    and eq. 11 (diagonal enhancement) has s = 1 and λ > 0.

    Attributes:
        self_loop: s, the weight of the one self-loop that every node has in the mean; 0 for none.
        identity: c.
        diag_lambda: λ.
    """

    self_loop: float = 1.0
    identity: float = 0.0
    diag_lambda: float = 0.0

    @override
    def of_rows(self, rows: CSR, first: int) -> Coefficients:
        """D sums edge weights. Rows that sum to 0 are 0, but for c."""
        # Both sums, neither a difference: a row of self-loops alone must come to exactly 0.
        loops, others, *_ = row_sums(rows, first)
        degree = others + self.self_loop
        scale = torch.where(degree > 0, 1 / degree, 0.0)
        diag = (1 + self.diag_lambda) * (self.self_loop * scale + self.identity) - scale * loops
        return Coefficients(scale, None, diag, weighted=True)


@dataclass(frozen=True)
class Sum(RowByRow):
    """A + s·I: the sum over in-neighbours, plus s times the node itself.

    Attributes:
        self_weight: s; GIN's 1 + ε (Xu et al., ICLR 2019, eq. 4.1).
        weighted: whether edge weights count.
    """

    self_weight: float = 0.0
    weighted: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.weighted, bool):
            raise InputError(f"weighted={self.weighted!r} must be True or False")

    @override
    def of_rows(self, rows: CSR, first: int) -> Coefficients:
        """No degree enters."""
        diag = None
        if self.self_weight:
            count, device = rows.shape[0], rows.device
            diag = torch.full((count,), self.self_weight, dtype=torch.float64, device=device)
        return Coefficients(None, None, diag, self.weighted)


@dataclass(frozen=True)
class Unweighted:
    """A matrix on the graph with all edge weights 1.

    Attributes:
        matrix: the matrix.
    """

    weighted = False
    matrix: Matrix

    def coefficients(self, adj: Adjacency) -> Coefficients:
        """Degrees count edges."""
        plain = Adjacency(adj.indptr, adj.indices)
        return self.matrix.coefficients(plain)._replace(weighted=False)


def coefficients(matrix: Matrix, adj: Adjacency, dtype: torch.dtype) -> Coefficients:
    """Coefficients of `matrix` on `adj` in `dtype`, kept in the adjacency's cache."""
    key = (matrix, dtype)
    found = adj.cache.get(key)
    if found is None:
        found = adj.cache[key] = _of_type(matrix, adj, dtype)
    return found


def _of_type(matrix: Matrix, adj: Adjacency, dtype: torch.dtype) -> Coefficients:
    if isinstance(matrix, Unweighted):
        plain = Adjacency(adj.indptr, adj.indices)
        return _of_type(matrix.matrix, plain, dtype)._replace(weighted=False)
    if isinstance(matrix, RowByRow) and type(matrix).coefficients is RowByRow.coefficients:
        return _in_blocks(matrix, adj, dtype)
    return _typed(matrix.coefficients(adj), dtype)


def _in_blocks(matrix: RowByRow, adj: Adjacency, dtype: torch.dtype) -> Coefficients:
    found: Coefficients | None = None
    for start, stop, rows in row_blocks(adj):
        part = _typed(matrix.of_rows(rows, start), dtype)
        if found is None and stop == adj.num_nodes:
            return part
        if found is None:
            room = {id(v): v.new_empty(adj.num_nodes) for v in part[:3] if v is not None}
            left, right, diag = (None if v is None else room[id(v)] for v in part[:3])
            found = Coefficients(left, right, diag, part.weighted)
        for whole, some in zip(found[:3], part[:3], strict=True):
            if whole is not None and some is not None:
                whole[start:stop] = some
    assert found is not None  # of no rows there is a block, too
    return found


def _typed(found: Coefficients, dtype: torch.dtype) -> Coefficients:
    """In another type; what stands on both sides is held once."""
    left, right, diag, weighted = found
    scale = None if left is None else left.to(dtype)
    other = scale if right is left else None if right is None else right.to(dtype)
    return Coefficients(scale, other, None if diag is None else diag.to(dtype), weighted)


def structure(adj: CSR, weighted: bool) -> CSR:
    """`adj` itself, or the same structure with all values 1."""
    if weighted or adj.values is None:
        return adj
    cache = getattr(adj, "cache", {})
    plain = cache.get("unweighted")
    if plain is None:
        plain = cache["unweighted"] = CSR(adj.indptr, adj.indices, None, adj.shape)
    return plain


def _row_lengths(rows: CSR, weighted: bool) -> Tensor:
    """Entries of every row, or their sum in the digits that weights have; in float64."""
    if not weighted or rows.values is None:
        return rows.indptr.diff().double()
    # float64 keeps the sum independent of how rows are grouped into batches.
    total = torch.zeros(rows.shape[0], dtype=torch.float64, device=rows.device)
    total.index_add_(0, rows.row_index, rows.values.double())
    return total.to(rows.values.dtype).double()
