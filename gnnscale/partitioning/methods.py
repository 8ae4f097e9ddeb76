"""The methods by name: each takes a job, cuts every graph of it and gives one assignment.

Parts are shared out over the graphs of a multi-graph data set: none spans two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnnscale.errors import InputError
from gnnscale.partitioning.native.libraries import Piece, kaminpar_pieces, metis_pieces
from gnnscale.partitioning.native.structure import Structure, undirected
from gnnscale.partitioning.repairs import cut_order, even_out, repair
from gnnscale.partitioning.streaming import run_streaming

Assignment = NDArray[np.int32]
_HEAVIEST = 1e6  # 10⁹ nodes of that weight are a sum that 64 bits hold


@dataclass(frozen=True)
class Job:
    """What a method needs to know: graph g owns nodes `starts[g]` to `starts[g + 1]`."""

    structure: Structure
    starts: NDArray[np.int64]
    shares: NDArray[np.int64]
    seed: int
    balance: str | float
    imbalance: float
    preset: str
    threads: int


def _pieces(job: Job, symmetric: bool) -> Iterator[tuple[int, Piece]]:
    """Yield each graph that is cut into more than one part, with its first node."""
    for start, stop, share in zip(job.starts[:-1], job.starts[1:], job.shares, strict=True):
        if share <= 1:
            continue
        a, b = job.structure.indptr[start], job.structure.indptr[stop]
        indptr = job.structure.indptr[start : stop + 1]
        indptr = indptr - a if a else indptr
        indices = job.structure.indices[a:b]
        if len(job.shares) > 1:
            indices = indices - np.int32(start)
            if len(indices) and (indices.min() < 0 or indices.max() >= stop - start):
                raise InputError(
                    f"an edge leaves the graph of nodes {start} to {stop - 1}: correct node_ptr"
                )
        piece = (undirected if symmetric else Structure)(indptr, indices)
        yield int(start), Piece(piece, int(share), node_weights(job.balance, piece.degree()))


def _assemble(
    job: Job,
    cut: Callable[[list[Piece]], list[Assignment]],
    symmetric: bool,
    imbalance: float = math.inf,
) -> Assignment:
    """Cut every graph, repair and even out what came back and number the parts through."""
    first_part = (np.cumsum(job.shares) - job.shares).astype(np.int32)
    out = np.repeat(first_part, np.diff(job.starts))
    pieces = list(_pieces(job, symmetric))
    parts = cut([piece for _, piece in pieces])
    for (start, piece), part in zip(pieces, parts, strict=True):
        about = piece.num_parts, piece.structure, piece.node_weight
        if not np.bincount(part, minlength=piece.num_parts).all():
            part = repair(part, *about)
        part = even_out(part, *about, imbalance)
        out[start : start + len(part)] += part
    return out


def _kaminpar(job: Job) -> Assignment:
    def cut(pieces: list[Piece]) -> list[Assignment]:
        return kaminpar_pieces(
            pieces,
            seed=job.seed,
            imbalance=job.imbalance,
            preset=job.preset,
            threads=job.threads,
        )

    return _assemble(job, cut, symmetric=True, imbalance=job.imbalance)


def _metis(job: Job) -> Assignment:
    def cut(pieces: list[Piece]) -> list[Assignment]:
        return metis_pieces(pieces, seed=job.seed, imbalance=job.imbalance)

    return _assemble(job, cut, symmetric=True, imbalance=job.imbalance)


def _streaming(job: Job) -> Assignment:
    def cut(pieces: list[Piece]) -> list[Assignment]:
        return [
            run_streaming(
                *piece.structure,
                piece.num_parts,
                seed=job.seed,
                imbalance=job.imbalance,
                node_weight=piece.node_weight,
            )
            for piece in pieces
        ]

    return _assemble(job, cut, symmetric=False, imbalance=job.imbalance)


def _random(job: Job) -> Assignment:
    def cut(pieces: list[Piece]) -> list[Assignment]:
        return [random_parts(_weight(piece), piece.num_parts, job.seed) for piece in pieces]

    return _assemble(job, cut, symmetric=False)


def _contiguous(job: Job) -> Assignment:
    def cut(pieces: list[Piece]) -> list[Assignment]:
        return [contiguous_parts(_weight(piece), piece.num_parts) for piece in pieces]

    return _assemble(job, cut, symmetric=False)


RUNNERS: dict[str, Callable[[Job], Assignment]] = {
    "kaminpar": _kaminpar,
    "metis": _metis,
    "streaming": _streaming,
    "random": _random,
    "contiguous": _contiguous,
}


def _weight(piece: Piece) -> NDArray[np.int64]:
    if piece.node_weight is not None:
        return piece.node_weight
    return np.ones(piece.structure.num_nodes, np.int64)


def random_parts(
    node_weight: NDArray[np.int64], num_parts: int, seed: int = 0
) -> NDArray[np.int32]:
    """Deal the nodes out at random to parts of about equal weight.

    Args:
        node_weight: positive `[n]`.
        num_parts: at most `n`; no part is empty.
        seed: the same seed gives the same parts.

    Returns:
        int32 `[n]`; with equal weights, sizes differ by one at most.
    """
    order = np.random.default_rng(seed).permutation(len(node_weight))
    part = np.empty(len(node_weight), np.int32)
    part[order] = cut_order(node_weight[order], num_parts)
    return part


def contiguous_parts(node_weight: NDArray[np.int64], num_parts: int) -> NDArray[np.int32]:
    """Cut the nodes, in their own order, into stretches of about equal weight.

    Args:
        node_weight: positive `[n]`.
        num_parts: at most `n`; no part is empty.

    Returns:
        int32 `[n]`, rising; with equal weights, sizes differ by one at most.
    """
    return cut_order(node_weight, num_parts)


def balance_faults(balance: Any) -> list[str]:
    """What is wrong with a `balance`, in words."""
    number = isinstance(balance, Real) and not isinstance(balance, bool)
    if balance in ("nodes", "edges") or (number and 1 <= balance <= _HEAVIEST):
        return []
    return [
        f"balance={balance!r} must be 'nodes', 'edges' or a number from 1 to {_HEAVIEST:.0f}: how "
        "many edges cost as much as a node"
    ]


def node_weights(balance: str | float, degree: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """What nodes weigh.

    Args:
        balance: "nodes", "edges", or how many edges cost as much as a node.
        degree: int64 `[n]`.

    Returns:
        int64 `[n]`: the degree, plus that number in whole edges, which is 1 for "edges"; None where
        all weigh the same.
    """
    if isinstance(balance, str):
        return degree + 1 if balance == "edges" else None
    return degree + math.floor(balance + 0.5)


def share_parts(graph_sizes: NDArray[np.int64], num_parts: int) -> NDArray[np.int64]:
    """Share parts out in proportion to nodes: largest remainder, at least one part each.

    Args:
        graph_sizes: nodes of each graph, int64 `[graphs]`; a graph without nodes gets no part.
        num_parts: at most the number of nodes.

    Returns:
        int64 `[graphs]`, summing to `num_parts`, never more than a graph has nodes.

    Raises:
        InputError: fewer parts than graphs with nodes, or more than nodes.
    """
    least, total = np.minimum(graph_sizes, 1), int(graph_sizes.sum())
    graphs = int(least.sum())
    if not graphs <= num_parts <= total:
        raise InputError(
            f"num_parts is {num_parts}; this data set has {graphs} graphs with {total} nodes, and "
            f"a part never spans two graphs: choose between {graphs} and {total}"
        )
    quota = graph_sizes * (num_parts / total)
    shares = np.clip(np.floor(quota).astype(np.int64), least, graph_sizes)
    while (missing := num_parts - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        able = shares < graph_sizes if missing > 0 else shares > least
        owed = np.where(able, step * (quota - shares), -np.inf)
        chosen = np.argsort(-owed, kind="stable")[: min(abs(missing), int(able.sum()))]
        shares[chosen] += step
    return shares
