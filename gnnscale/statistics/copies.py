"""Nodes for validation or testing that are copies of a training node, by features or neighbours.

Rows of few values are equal by chance, and so are the neighbours of leaves on a hub. A row counts
as a copy where chance would not have it: where the product of how often each of its values occurs
(or, of neighbours, of how often an edge starts at each) makes another such row among all pairs
unlikely, by 14 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch

from gnnscale.graph import Graph
from gnnscale.graph.adjacency import row_blocks
from gnnscale.graph.reading.nodes import Split
from gnnscale.statistics.views import feature_rows, rows_at_once
from gnnscale.storage.mapped import loaded

_SAMPLED = 20_000  # rows that tell how common a value is
_LOOKED_AT = 4_000  # different rows that are looked at
_DISTINCT = 0.1  # of all rows: where fewer are, features are a few values
_BITS = 14


class Copies(NamedTuple):
    """Nodes for validation or testing, and a training node that each is equal to.

    Attributes:
        nodes: int64.
        originals: int64, of the same length.
    """

    nodes: np.ndarray
    originals: np.ndarray


def copied_features(graph: Graph, split: Split) -> Copies:
    """Nodes with exactly the features of a training node, where that is no chance."""
    marks = np.concatenate([_marks(rows) for _, rows in _blocks(graph)])
    nodes, originals = _matches(marks, split)
    if not nodes.size or np.unique(marks).size < _DISTINCT * marks.size:
        return Copies(nodes[:0], originals[:0])
    different, which = np.unique(originals, return_inverse=True)
    seldom = np.zeros(different.size, dtype=bool)
    looked = different[:_LOOKED_AT]
    seldom[: looked.size] = _bits(graph, looked) >= _needed(graph.num_nodes)
    return Copies(nodes[seldom[which]], originals[seldom[which]])


def copied_neighbours(graph: Graph, split: Split) -> Copies:
    """Nodes with exactly the in-neighbours of a training node, where that is no chance."""
    count, edges = graph.num_nodes, max(graph.num_edges, 1)
    starting = torch.zeros(count, dtype=torch.int64)
    for _, _, rows in row_blocks(graph.adj):
        source = rows.indices.long()
        starting.scatter_add_(0, source, torch.ones_like(source))
    seldom = (edges / starting.clamp(min=1).double()).log2()
    marks, bits = np.zeros(count, np.uint64), torch.zeros(count, dtype=torch.float64)
    for start, stop, rows in row_blocks(graph.adj):
        row, source = rows.row_index, rows.indices.long()
        marks[start:stop] = _sums(_mixed(source.numpy().astype(np.uint64)), rows.indptr.numpy())
        bits[start:stop].index_add_(0, row, seldom[source])
    degree = graph.adj.in_degree().double()
    bits -= torch.lgamma(degree + 1) / np.log(2)  # in any order
    nodes, originals = _matches(marks, split)
    kept = bits.numpy()[nodes] >= _needed(count)
    return Copies(nodes[kept], originals[kept])


def _needed(count: int) -> float:
    return 2 * np.log2(max(count, 2)) + _BITS


def _matches(marks: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Nodes outside training whose mark a training node has, and the first that has it."""
    train = loaded(split.train).nonzero().squeeze(1).numpy()
    others = (loaded(split.val) | loaded(split.test)).nonzero().squeeze(1).numpy()
    if not train.size or not others.size:
        return others[:0], others[:0]
    known, first = np.unique(marks[train], return_index=True)
    at = np.searchsorted(known, marks[others]).clip(max=known.size - 1)
    same = known[at] == marks[others]
    return others[same], train[first[at[same]]]


def _blocks(graph: Graph) -> Iterator[tuple[int, np.ndarray | scipy.sparse.csr_array]]:
    rows = max(1, rows_at_once(graph) // 4)  # the marks of an entry take eight bytes, twice
    for start in range(0, graph.num_nodes, rows):
        yield start, feature_rows(graph, start, min(start + rows, graph.num_nodes))


def _marks(rows: np.ndarray | scipy.sparse.csr_array) -> np.ndarray:
    """A number of 64 bits a row, equal for equal rows and hardly for others."""
    if isinstance(rows, np.ndarray):
        bits = (rows + np.float32(0)).view(np.uint32).astype(np.uint64)  # -0 is 0
        bits |= np.arange(rows.shape[1], dtype=np.uint64) << np.uint64(32)
        return _mixed(bits).sum(1, dtype=np.uint64)
    bits = (rows.data + np.float32(0)).view(np.uint32).astype(np.uint64)
    mixed = _mixed(bits | rows.indices.astype(np.uint64) << np.uint64(32))
    mixed[rows.data == 0] = 0
    return _sums(mixed, rows.indptr)


def _sums(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Of the values of every row, modulo 2^64."""
    totals = np.zeros(values.size + 1, np.uint64)
    np.cumsum(values, out=totals[1:])
    return totals[indptr[1:]] - totals[indptr[:-1]]


def _mixed(words: np.ndarray) -> np.ndarray:
    """Splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _bits(graph: Graph, nodes: np.ndarray) -> np.ndarray:
    """How seldom the rows of nodes are if columns are independent, float64 `[nodes]`, in bits."""
    every = max(1, graph.num_nodes // _SAMPLED)
    wanted, sampled = [], []
    for start, rows in _blocks(graph):
        stop = start + rows.shape[0]
        sampled.append(rows[(-start) % every :: every])
        wanted.append(rows[nodes[(nodes >= start) & (nodes < stop)] - start])
    if graph.x is not None and isinstance(wanted[0], np.ndarray):
        return _dense_bits(np.concatenate(wanted), np.concatenate(sampled))
    rows, sample = scipy.sparse.vstack(wanted, "csr"), scipy.sparse.vstack(sampled, "csr")
    count = sample.shape[0]
    often = np.bincount(sample.indices[sample.data != 0], minlength=sample.shape[1])
    share = (often + 1) / (count + 2)
    there, absent = -np.log2(share), -np.log2(1 - share)
    present = scipy.sparse.csr_array(
        ((rows.data != 0).astype(np.float64), rows.indices, rows.indptr), shape=rows.shape
    )
    return present @ (there - absent) + absent.sum()


def _dense_bits(rows: np.ndarray, sample: np.ndarray) -> np.ndarray:
    bits = np.zeros(len(rows))
    for column, wanted in zip(sample.T, rows.T, strict=True):
        ordered = np.sort(column)
        often = np.searchsorted(ordered, wanted, "right") - np.searchsorted(ordered, wanted, "left")
        bits -= np.log2(often.clip(min=1) / column.size)
    return bits
