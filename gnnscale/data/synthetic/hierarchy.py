"""Nested communities with degree correction: edges drawn chunk by chunk, each chunk by itself.

Nodes are put in a row, their *places*, so that at every level a community is a range of places: the
first level is all of them, every further level cuts the ranges of the one before into smaller ones.
An edge leaves a source drawn by weight and picks a level by its share, then a target by weight in
the source's range of that level: the stochastic block model with degree correction (Karrer and
Newman, 2011, arXiv 1008.3926), its blocks nested as in Peixoto (2014, arXiv 1310.4377).

Sources are drawn in strata, edge e from the e-th of `num_edges` equal shares of the weight, so a
chunk walks the places in order and its ranges stay in the cache. Random numbers hash (seed, edge,
draw), so that a chunk is the same whatever was drawn before it, and by how many processes.

Floor: a target is a binary search in the cumulative weights of its range, log2(range) reads, nearly
all in cache but for the widest level; 16 bytes are written an edge. Memory: 8 bytes a node (the
cumulative weights), and one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

from gnnscale.kernels.threads import njit_serial

# splitmix64 (Steele et al., OOPSLA 2014): its increment and multipliers.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_TO_UNIT = 2.0**-53


def divide(bounds: np.ndarray, least: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Cut every range into pieces of log-uniform size.

    Args:
        bounds: int64 `[ranges + 1]`, ascending: range i is `bounds[i]` up to `bounds[i + 1]`.
        least: least size of a piece; a shorter range stays whole.
        most: greatest size of a piece. What is left at the end of a range and shorter than `least`
            joins the piece before it.
        rng: draws the sizes.

    Returns:
        int64 `[pieces + 1]`, the bounds among them.
    """
    cuts = [0]
    for stop in bounds[1:].tolist():
        while True:
            size = round(float(np.exp(rng.uniform(np.log(least), np.log(most)))))
            if stop - cuts[-1] - size < least:
                break
            cuts.append(cuts[-1] + size)
        cuts.append(stop)
    return np.asarray(cuts)


def power_law_weights(
    count: int, exponent: float, most: float, rng: np.random.Generator
) -> np.ndarray:
    """Weights whose density falls off as weight^-exponent from 1 up, cut at `most`; `[count]`."""
    weight = rng.random(count)
    np.subtract(1, weight, out=weight)
    weight **= -1 / (exponent - 1)
    return np.minimum(weight, most, out=weight)


def draw_edges(
    weight: np.ndarray,
    levels: tuple[np.ndarray, ...],
    shares: tuple[float, ...],
    num_edges: int,
    seed: int,
    chunk: int = 1 << 21,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw undirected edges between places; a pair may come more than once, a self-loop never does.

    Args:
        weight: `[places]`, positive: expected degree up to a factor. At least two places.
        levels: bounds of the ranges, the first `[0, places]`, each among those of the next.
        shares: of the edges, one a level; they add up to 1.
        num_edges: edges to draw.
        seed: of the edges.
        chunk: edges at once.

    Yields:
        (source, target), int64 `[edges of the chunk]`, sources ascending.
    """
    cumulative = np.concatenate([[0.0], np.cumsum(weight)])
    thresholds = np.cumsum(shares)
    key = np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    for start in range(0, num_edges, chunk):
        edges = np.empty((2, min(chunk, num_edges - start)), dtype=np.int64)
        _draw_chunk(cumulative, levels, thresholds, num_edges, key, start, edges)
        yield edges[0], edges[1]


@numba.njit(inline="always")
def _uniform(key: Any, counter: Any) -> Any:
    """Return a number of [0, 1) that depends on nothing but the key and the counter."""
    bits = key + (np.uint64(counter) + np.uint64(1)) * _GOLDEN
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX2
    bits ^= bits >> np.uint64(31)
    return np.float64(bits >> np.uint64(11)) * _TO_UNIT


@numba.njit(inline="always")
def _find(cumulative: Any, point: Any, start: Any, stop: Any) -> Any:
    """Return the place of [start, stop) whose share of the weight holds the point."""
    while stop - start > 1:
        middle = (start + stop) >> 1
        if cumulative[middle] <= point:
            start = middle
        else:
            stop = middle
    return start


@njit_serial
def _draw_chunk(
    cumulative: Any,
    levels: Any,
    thresholds: Any,
    num_edges: Any,
    key: Any,
    start: Any,
    edges: Any,
) -> None:
    places, deepest = cumulative.size - 1, len(levels) - 1
    step = cumulative[places] / num_edges
    source = _find(cumulative, start * step, 0, places)
    home = np.empty(len(levels), dtype=np.int64)  # the range that the source is in, by level
    for level in range(len(levels)):
        home[level] = np.searchsorted(levels[level], source, side="right") - 1
    for at in range(edges.shape[1]):
        # Draws of an edge: its source, its level, its target; a repeated target hashes on.
        counter = np.uint64(start + at) * np.uint64(16)
        point = (start + at + _uniform(key, counter)) * step
        while source < places - 1 and cumulative[source + 1] <= point:
            source += 1
        for level in range(len(levels)):
            while levels[level][home[level] + 1] <= source:
                home[level] += 1
        which, level = _uniform(key, counter + np.uint64(1)), 0
        while level < deepest and thresholds[level] <= which:
            level += 1
        target, draw = source, np.uint64(2)
        while target == source:
            low, high = levels[level][home[level]], levels[level][home[level] + 1]
            width = cumulative[high] - cumulative[low]
            point = cumulative[low] + _uniform(key, counter + draw) * width
            target = _find(cumulative, point, low, high)
            draw += np.uint64(1)
            level = max(level - 1, 0)  # a node that met itself looks around more widely
        edges[0, at], edges[1, at] = source, target
