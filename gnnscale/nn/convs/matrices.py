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

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency
from gnnscale.graph.adjacency import row_blocks
from gnnscale.kernels import CSR, RowSums, row_sums


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


@dataclass(frozen=True)
class SymmetricNormalisation:
    """D^-1/2 (A + f·I) D^-1/2 of GCN (Kipf & Welling, ICLR 2017, eq. 2), as PyG normalises.

    Of several self-loops of a node the last counts. Without edge weights every self-loop weighs 1,
    whatever `fill` is.

    Attributes:
        fill: weight of the self-loop added where a node has none; None adds no self-loops.
    """

    fill: float | None = 1.0

    def coefficients(self, adj: Adjacency) -> Coefficients:
        """Degrees sum edge weights and self-loops. Where they are 0, rows are; below 0, NaN."""
        if self.fill is None:
            degree, added = adj.in_degree(weighted=True).double(), None
        else:
            loops, others, last, has_loop = diagonal_sums(adj)
            loop = torch.where(has_loop, last, self.fill)
            if adj.values is None:
                loop = torch.ones_like(loop)
            degree, added = others + loop, loop - loops
        scale = torch.where(degree == 0, 0.0, degree.rsqrt())
        diag = None if added is None else scale * scale * added
        return Coefficients(scale, scale, diag, weighted=True)


@dataclass(frozen=True)
class Mean:
    """D^-1 A: the mean over in-neighbours, 0 where there are none (GraphSAGE)."""

    weighted = False

    def coefficients(self, adj: Adjacency) -> Coefficients:
        """Edges count once each, whatever their weight."""
        degree = adj.in_degree().double()
        return Coefficients(1 / degree.clamp(min=1), None, None, weighted=False)


@dataclass(frozen=True)
class RowNormalisation:
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

    def coefficients(self, adj: Adjacency) -> Coefficients:
        """D sums edge weights. Rows that sum to 0 are 0, but for c."""
        # Both sums, neither a difference: a row of self-loops alone must come to exactly 0.
        loops, others, *_ = diagonal_sums(adj)
        degree = others + self.self_loop
        scale = torch.where(degree > 0, 1 / degree, 0.0)
        diag = (1 + self.diag_lambda) * (self.self_loop * scale + self.identity) - scale * loops
        return Coefficients(scale, None, diag, weighted=True)


@dataclass(frozen=True)
class Sum:
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

    def coefficients(self, adj: Adjacency) -> Coefficients:
        """No degree enters."""
        diag = None
        if self.self_weight:
            diag = torch.full(
                (adj.num_nodes,), self.self_weight, dtype=torch.float64, device=adj.device
            )
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
        left, right, diag, weighted = matrix.coefficients(adj)
        left, right, diag = (v if v is None else v.to(dtype) for v in (left, right, diag))
        found = Coefficients(left, right, diag, weighted)
        adj.cache[key] = found
    return found


def structure(adj: CSR, weighted: bool) -> CSR:
    """`adj` itself, or the same structure with all values 1."""
    if weighted or adj.values is None:
        return adj
    cache = getattr(adj, "cache", {})
    plain = cache.get("unweighted")
    if plain is None:
        plain = cache["unweighted"] = CSR(adj.indptr, adj.indices, None, adj.shape)
    return plain


def diagonal_sums(adj: Adjacency) -> RowSums:
    """Of every row of `adj`: its self-loops and its other edges, summed."""
    blocks = [row_sums(rows, start) for start, _, rows in row_blocks(adj)]
    return RowSums(*(torch.cat(parts) for parts in zip(*blocks, strict=True)))
