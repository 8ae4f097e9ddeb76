"""The structure a native partitioner may be given: simple, undirected, rows sorted.

METIS and KaMinPar do not check their input: an asymmetric, unsorted or out-of-range structure is a
segmentation fault. Everything on its way to them passes here. Checking reads the indices twice, in
blocks; a structure that is sound already is handed on where it lies, be that a file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gnnscale.errors import InputError
from gnnscale.kernels import CSR, njit_serial
from gnnscale.partitioning.derived import symmetrised
from gnnscale.partitioning.rows import RowBlocks, entry_blocks, let_go
from gnnscale.storage.mapped import is_mapped

_INT32_MAX = 2**31 - 1

IntArray = NDArray[np.integer]


class Structure(NamedTuple):
    """Compressed sparse rows as numpy arrays: indptr int64 `[n + 1]`, indices int32 `[m]`."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]

    @property
    def num_nodes(self) -> int:
        """Rows."""
        return len(self.indptr) - 1

    def degree(self) -> NDArray[np.int64]:
        """Neighbours of each node, int64 `[n]`."""
        return np.diff(self.indptr)


def as_structure(indptr: IntArray, indices: IntArray) -> Structure:
    """Read two integer arrays as a square structure; only shapes and ranges are checked.

    Raises:
        InputError: not integer arrays of one dimension, `indptr` does not rise from 0 to the
            length of `indices`, or an index lies outside the nodes.
    """
    faults = []
    indptr, indices = np.asarray(indptr), np.asarray(indices)
    for name, array in (("indptr", indptr), ("indices", indices)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            faults.append(
                f"{name} must be an integer array of one dimension, got {array.dtype} "
                f"{list(array.shape)}"
            )
    if faults:
        raise InputError(faults)
    num_nodes = len(indptr) - 1
    if num_nodes < 0:
        raise InputError("indptr is empty; it has one entry more than there are nodes")
    if num_nodes > _INT32_MAX:
        raise InputError(f"{num_nodes} nodes; partitioning handles at most {_INT32_MAX}")
    if indptr[0] != 0 or indptr[-1] != len(indices):
        faults.append(
            f"indptr must run from 0 to the number of entries {len(indices)}, it runs from "
            f"{indptr[0]} to {indptr[-1]}"
        )
    if num_nodes and bool((indptr[1:] < indptr[:-1]).any()):
        faults.append("indptr must not fall from one row to the next")
    faults += _range_faults(indices, num_nodes)
    if faults:
        raise InputError(faults)
    # One dtype and writable memory, so that each kernel is compiled once.
    return Structure(
        np.require(indptr, np.int64, ["C", "W"]), np.require(indices, np.int32, ["C", "W"])
    )


def _range_faults(indices: IntArray, num_nodes: int) -> list[str]:
    low, high = num_nodes, -1
    for block in entry_blocks(indices):
        low, high = min(low, int(block.min())), max(high, int(block.max()))
    if low >= 0 and high < num_nodes:
        return []
    return [
        f"indices span [{low}, {high}]; with {num_nodes} nodes they must lie in "
        f"[0, {num_nodes - 1}]"
    ]


def check_undirected(indptr: IntArray, indices: IntArray) -> Structure:
    """Return the structure if METIS and KaMinPar can be given it as it is.

    Raises:
        InputError: also where rows are unsorted, or hold duplicates, self-loops or an edge whose
            reverse is missing. All faults are listed.
    """
    structure = as_structure(indptr, indices)
    unsorted, duplicates, loops, one_way = _irregular(structure)
    remedy = "; gnnscale.partitioning.undirected(indptr, indices) makes it so"
    faults = []
    if unsorted:
        faults.append(f"rows must be sorted: {unsorted} entries are smaller than the one before")
    if duplicates:
        faults.append(f"an edge must be stored once: {duplicates} duplicates in a row")
    if loops:
        faults.append(f"self-loops must be absent: there are {loops}")
    if not faults and one_way:
        faults.append(
            "the structure must be symmetric: a neighbour of node "
            f"{_lone_node(*structure)} does not list it back"
        )
    if faults:
        raise InputError([fault + remedy for fault in faults])
    return structure


def check_request(
    num_nodes: int, num_parts: int, node_weight: IntArray | None
) -> NDArray[np.int64] | None:
    """Return the node weights, int64 `[num_nodes]`, or None where none are given.

    Raises:
        InputError: more parts than nodes or fewer than one; weights that are not positive integers,
            one for each node.
    """
    faults = []
    if not 1 <= num_parts <= num_nodes:
        faults.append(
            f"num_parts is {num_parts}; with {num_nodes} nodes it must lie in [1, {num_nodes}]"
        )
    weight = None if node_weight is None else np.asarray(node_weight)
    if weight is not None and (
        weight.shape != (num_nodes,) or weight.dtype.kind not in "iu" or (weight < 1).any()
    ):
        faults.append(
            f"node_weight must be positive integers [{num_nodes}], got {weight.dtype} "
            f"{list(weight.shape)}"
        )
    if faults:
        raise InputError(faults)
    return None if weight is None else np.require(weight, np.int64, ["C", "W"])


def undirected(indptr: IntArray, indices: IntArray) -> Structure:
    """Return the pattern of A + Aᵀ, duplicates merged, self-loops removed, rows sorted.

    A structure that is so already is returned as it is, without working memory. Of one that lies in
    a file, the result does too; of one in memory, that takes at most three times the indices given.

    Raises:
        InputError: as `as_structure`.
        PartitionError: a scratch file cannot be written.
    """
    structure = as_structure(indptr, indices)
    unsorted, duplicates, loops, one_way = _irregular(structure)
    if not (unsorted or duplicates or loops or one_way):
        return structure
    if is_mapped(torch.from_numpy(structure.indices)):
        return Structure(*symmetrised(*structure))
    backward = _transposed(structure)
    # A transpose lists its rows in ascending order, so two of them sort.
    forward = _transposed(backward) if unsorted else structure
    starts, out = np.zeros_like(structure.indptr), np.empty(0, np.int32)
    _merge(*forward, *backward, starts, out)
    out = np.empty(starts[-1], np.int32)
    _merge(*forward, *backward, starts, out)
    let_go(*structure)
    return Structure(starts, out)


def _irregular(structure: Structure) -> tuple[int, int, int, bool]:
    """Count falls, repeats and self-loops, and say whether an edge has no reverse.

    Symmetry is told by two sums of hashes, one over the edges with i < j and one over those with
    i > j turned round: a pass in order, where looking for each reverse is a random access. Sums of
    different sets of edges are equal with probability 2^-64. It holds where nothing repeats.
    """
    found, sums = np.zeros(3, np.int64), np.zeros(2, np.uint64)
    for start, indptr, indices in RowBlocks(*structure):
        _scan(start, indptr, indices, found, sums)
    unsorted, duplicates, loops = (int(count) for count in found)
    return unsorted, duplicates, loops, bool(sums[0] != sums[1])


@njit_serial
def _scan(start, indptr, indices, found, sums):
    for r in range(len(indptr) - 1):
        i, previous = start + r, -1
        for e in range(indptr[r] - indptr[0], indptr[r + 1] - indptr[0]):
            j = np.int64(indices[e])
            found[0] += j < previous
            found[1] += j == previous
            previous = j
            if i == j:
                found[2] += 1
            elif i < j:
                sums[0] += _hash(i, j)
            else:
                sums[1] += _hash(j, i)


@njit_serial
def _hash(i, j):
    """Mix a pair of 32-bit ids: splitmix64 (Steele, Lea and Flood, 2014)."""
    z = (np.uint64(i) << np.uint64(32) | np.uint64(j)) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit_serial
def _lone_node(indptr, indices):
    """Return a node with a neighbour that does not list it back, or -1.

    In a sorted, simple, symmetric structure, visiting the edges row by row meets the entries of
    every other row in their own order, so one cursor a row does.
    """
    cursor = indptr[:-1].copy()
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if cursor[j] == indptr[j + 1] or indices[cursor[j]] != i:
                return i
            cursor[j] += 1
    return -1


def _transposed(structure: Structure) -> Structure:
    """The transpose, by counting sort."""
    indptr, indices = map(torch.from_numpy, structure)
    turned = CSR(indptr, indices).t()
    return Structure(turned.indptr.numpy(), turned.indices.numpy())


@njit_serial
def _merge(aptr, aind, bptr, bind, starts, out):
    """Merge sorted rows into `out`; where that is empty, count them into `starts`."""
    position = 0
    for i in range(len(aptr) - 1):
        a, b, last = aptr[i], bptr[i], -1
        while a < aptr[i + 1] or b < bptr[i + 1]:
            if b == bptr[i + 1] or (a < aptr[i + 1] and aind[a] <= bind[b]):
                j = aind[a]
                a += 1
            else:
                j = bind[b]
                b += 1
            if j != last and j != i:
                if len(out):
                    out[position] = j
                position += 1
            last = j
        starts[i + 1] = position
