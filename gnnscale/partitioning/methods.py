"""The methods by name: each takes a job, cuts every graph of it and gives one assignment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnnscale.errors import InputError
from gnnscale.partitioning.balance import even_out
from gnnscale.partitioning.native.libraries import Piece, kaminpar_pieces, metis_pieces
from gnnscale.partitioning.native.structure import Structure, undirected
from gnnscale.partitioning.plain import contiguous_parts, random_parts
from gnnscale.partitioning.repair import repair
from gnnscale.partitioning.streaming import run_streaming
from gnnscale.partitioning.weights import node_weights

Assignment = NDArray[np.int32]


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
        part = even_out(repair(part, *about), *about, imbalance)
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
