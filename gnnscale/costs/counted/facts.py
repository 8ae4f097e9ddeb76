"""Facts: what one phase of a block computes, moves and keeps, by the sizes of what it runs on.

A phase is a row of kernels forward, and one backward. Numbers alone, no torch: `phases` reads them
off the library's phases, `profiled` has those of layers that say nothing, and `model` adds them up.

Work is counted in multiply-adds, `total += factor * value`: one for every entry and column of a
sparse product, and for every row, column in and column out of a dense one; in an extremum over
neighbours, for every comparison. What else adds or maps values (biases, activations, norms,
softmax) is no work, and shows in the bytes that are moved; so does scaling an edge's coefficient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from gnnscale.costs.counted.amounts import Amount, Depth

INDEX, POINTER = 4, 8  # bytes of a column's number, and of where a row begins

NOTHING = Amount()

# What a kernel's work is in the paper's symbols; z are the entries of sparse features.
_SYMBOLS = {"dense": "nk²", "sparse": "mk", "features": "zk"}


class Kernel(NamedTuple):
    """One operation of a pass.

    Attributes:
        kind: a dense product of rows; a sparse one, of the adjacency or of sparse features; or a
            pass over rows.
        work: multiply-adds.
        moved: bytes that are read and written at least, were nothing found in a cache.
        columns: in and out, of a dense product; else of the rows that it goes through.
        depth: of it by itself.
        aside: whether what follows need not wait for it: a parameter's gradient, or what runs
            beside something longer.
    """

    kind: Literal["dense", "sparse", "features", "rows"]
    work: Amount
    moved: Amount
    columns: tuple[int, ...]
    depth: Depth
    aside: bool = False

    @property
    def symbol(self) -> str | None:
        """Its work in the paper's symbols; None where it is none, or of rows alone."""
        if self.kind == "dense" and self.work.edge:  # a network over edges, as EdgeConv's
            return "mk²"
        return _SYMBOLS.get(self.kind) if self.work != Amount() else None


@dataclass(frozen=True)
class Facts:
    """What a phase costs.

    Attributes:
        name: of the phase.
        width: columns of what it gives.
        forward: its kernels, in order.
        backward: those of its gradients, in order.
        keeps: bytes kept for the backward pass, beside what it takes and gives.
        keeps_inputs: whether it keeps what it takes: the slots, then the current rows.
        keeps_output: whether it keeps what it gives.
        workspace: most bytes at a time, forward, beside what it takes, gives and keeps.
        workspace_backward: likewise, beside gradients of what it takes and gives.
        learns: whether a gradient comes back through it.
        passes: which of its inputs it hands on as it is, by place; None where it makes values.
        is_exact: whether it is a sum over nodes, edges, self-loops and segments. A layer that
            draws, or pads to the greatest degree, is fitted as well as it goes.
        lists_edges: whether it is given edges in PyG's form, beside the adjacency.
        once: kernels that ran before training began: of a propagation computed ahead.
        reads: columns of neighbours' rows that it reads, hop by hop.
        ahead: columns of its rows that were computed before training began.
    """

    name: str
    width: int
    forward: tuple[Kernel, ...] = ()
    backward: tuple[Kernel, ...] = ()
    keeps: Amount = NOTHING
    keeps_inputs: tuple[bool, ...] = (False,)
    keeps_output: bool = False
    workspace: Amount = NOTHING
    workspace_backward: Amount = NOTHING
    learns: bool = False
    passes: int | None = None
    is_exact: bool = True
    lists_edges: bool = False
    once: tuple[Kernel, ...] = ()
    reads: tuple[int, ...] = ()
    ahead: int = 0

    def evaluated(self) -> Facts:
        """The same where nothing is trained: no gradient, and nothing kept for one."""
        return replace(
            self,
            backward=(),
            keeps=NOTHING,
            keeps_inputs=(False,) * len(self.keeps_inputs),
            keeps_output=False,
            workspace_backward=NOTHING,
            learns=False,
        )


def dense(wide: int, out: int, element: int) -> Kernel:
    """Rows times a matrix `[wide, out]`."""
    moved = Amount(node=element * (wide + out), fixed=element * wide * out)
    return Kernel("dense", Amount(node=wide * out), moved, (wide, out), Depth(1, (wide,)))


def features(out: int, element: int) -> Kernel:
    """Sparse features times a matrix of so many columns; a row of it is read for every entry."""
    moved = Amount(entry=element * (out + 1) + INDEX, node=element * out + POINTER)
    return Kernel("features", Amount(entry=out), moved, (out,), Depth(1, listed=1))


def weight_gradient(product: Kernel) -> Kernel:
    """The gradient of a product's matrix: a sum over rows, for which nothing waits."""
    return product._replace(depth=Depth(1, rows=1), aside=True)


def row_gradient(product: Kernel, element: int) -> Kernel:
    """The gradient of a dense product's rows: a product with the matrix turned."""
    wide, out = product.columns
    return dense(out, wide, element)


def hop(width: int, element: int, *, diagonal: bool, vectors: int = 1) -> Kernel:
    """One product with P = diag(l) A diag(r) + diag(d).

    Args:
        width: columns.
        element: bytes of a number.
        diagonal: whether P has a d of its own.
        vectors: how many of the weights of edges, l and r there are.
    """
    read = 2 if diagonal else 1  # rows at a node: its own, and that which is written
    moved = Amount(
        node=read * element * width + POINTER + element * diagonal,
        edge=element * (width + vectors) + INDEX,
    )
    work = Amount(edge=width, node=width * diagonal)
    return Kernel("sparse", work, moved, (width,), Depth(1, arriving=(int(diagonal),)))


def over_rows(width: int, element: int, passes: int = 2, multiplied: int = 0) -> Kernel:
    """A pass over rows.

    Args:
        width: columns.
        element: bytes of a number.
        passes: how often a value is read or written.
        multiplied: multiply-adds for every value.
    """
    moved = Amount(node=passes * element * width)
    return Kernel("rows", Amount(node=multiplied * width), moved, (width,), Depth(1))
