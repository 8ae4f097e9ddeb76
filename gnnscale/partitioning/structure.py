"""The structure a native partitioner may be given: simple, undirected, rows sorted.

METIS and KaMinPar do not check their input: an asymmetric, unsorted or out-of-range structure is a
segmentation fault. Everything on its way to them passes here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gnnscale.errors import InputError
from gnnscale.kernels.threads import njit_serial

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
    if len(indices):
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= num_nodes:
            faults.append(
                f"indices span [{low}, {high}]; with {num_nodes} nodes they must lie in "
                f"[0, {num_nodes - 1}]"
            )
    if faults:
        raise InputError(faults)
    # One dtype and writable memory, so that each kernel is compiled once.
    return Structure(
        np.require(indptr, np.int64, ["C", "W"]), np.require(indices, np.int32, ["C", "W"])
    )


def check_undirected(indptr: IntArray, indices: IntArray) -> Structure:
    """Return the structure if METIS and KaMinPar can be given it as it is.

    Raises:
        InputError: also where rows are unsorted, or hold duplicates, self-loops or an edge whose
            reverse is missing. All faults are listed.
    """
    structure = as_structure(indptr, indices)
    unsorted, duplicates, loops, lone = (int(n) for n in _irregular(*structure))
    remedy = "; gnnscale.partitioning.undirected(indptr, indices) makes it so"
    faults = []
    if unsorted:
        faults.append(f"rows must be sorted: {unsorted} entries are smaller than the one before")
    if duplicates:
        faults.append(f"an edge must be stored once: {duplicates} duplicates in a row")
    if loops:
        faults.append(f"self-loops must be absent: there are {loops}")
    if lone >= 0:
        faults.append(
            f"the structure must be symmetric: a neighbour of node {lone} does not list it back"
        )
    if faults:
        raise InputError([fault + remedy for fault in faults])
    return structure


def check_request(
    num_nodes: int, num_parts: int, node_weight: IntArray | None
) -> NDArray[np.int64]:
    """Return the node weights, int64 `[num_nodes]`, ones where None is given.

    Raises:
        InputError: more parts than nodes or fewer than one; weights that are not positive integers,
            one for each node.
    """
    faults = []
    if not 1 <= num_parts <= num_nodes:
        faults.append(
            f"num_parts is {num_parts}; with {num_nodes} nodes it must lie in [1, {num_nodes}]"
        )
    weight = np.ones(num_nodes, np.int64) if node_weight is None else np.asarray(node_weight)
    if weight.shape != (num_nodes,) or weight.dtype.kind not in "iu" or (weight < 1).any():
        faults.append(
            f"node_weight must be positive integers [{num_nodes}], got {weight.dtype} "
            f"{list(weight.shape)}"
        )
    if faults:
        raise InputError(faults)
    return np.require(weight, np.int64, ["C", "W"])


def undirected(indptr: IntArray, indices: IntArray) -> Structure:
    """Return the pattern of A + Aᵀ, duplicates merged, self-loops removed, rows sorted.

    A structure that is so already is returned as it is. Working memory is at most three times the
    indices given.

    Raises:
        InputError: as `as_structure`.
    """
    structure = as_structure(indptr, indices)
    unsorted, duplicates, loops, lone = _irregular(*structure)
    if not (unsorted or duplicates or loops or lone >= 0):
        return structure
    backward = _transposed(*structure)
    # A transpose lists its rows in ascending order, so two of them sort.
    forward = _transposed(*backward) if unsorted else structure
    (aptr, aind), (bptr, bind) = forward, backward
    starts = _merged_starts(aptr, aind, bptr, bind)
    return Structure(starts, _merged(aptr, aind, bptr, bind, starts))


@njit_serial
def _irregular(indptr, indices):
    """Count falls, repeats and self-loops; the last figure is a node not listed back, or -1.

    Symmetry costs one cursor a row: in a sorted, simple, symmetric structure, visiting the edges
    row by row meets the entries of every other row in their own order.
    """
    n = len(indptr) - 1
    unsorted, duplicates, loops, lone = 0, 0, 0, -1
    for i in range(n):
        for e in range(indptr[i], indptr[i + 1]):
            loops += indices[e] == i
            if e > indptr[i]:
                unsorted += indices[e] < indices[e - 1]
                duplicates += indices[e] == indices[e - 1]
    if unsorted == 0 and duplicates == 0:
        cursor = indptr[:-1].copy()
        for i in range(n):
            for e in range(indptr[i], indptr[i + 1]):
                j = indices[e]
                if cursor[j] == indptr[j + 1] or indices[cursor[j]] != i:
                    return unsorted, duplicates, loops, i
                cursor[j] += 1
    return unsorted, duplicates, loops, lone


@njit_serial
def _transposed(indptr, indices):
    """Return the transpose by counting sort."""
    n = len(indptr) - 1
    starts = np.zeros(n + 1, np.int64)
    for e in range(len(indices)):
        starts[indices[e] + 1] += 1
    for i in range(n):
        starts[i + 1] += starts[i]
    cursor = starts[:-1].copy()
    out = np.empty(len(indices), np.int32)
    for i in range(n):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            out[cursor[j]] = i
            cursor[j] += 1
    return starts, out


@njit_serial
def _merged_starts(aptr, aind, bptr, bind):
    n = len(aptr) - 1
    starts = np.zeros(n + 1, np.int64)
    for i in range(n):
        a, b, last, count = aptr[i], bptr[i], -1, 0
        while a < aptr[i + 1] or b < bptr[i + 1]:
            if b == bptr[i + 1] or (a < aptr[i + 1] and aind[a] <= bind[b]):
                j = aind[a]
                a += 1
            else:
                j = bind[b]
                b += 1
            if j != last and j != i:
                count += 1
            last = j
        starts[i + 1] = starts[i] + count
    return starts


@njit_serial
def _merged(aptr, aind, bptr, bind, starts):
    n = len(aptr) - 1
    out = np.empty(starts[n], np.int32)
    position = 0
    for i in range(n):
        a, b, last = aptr[i], bptr[i], -1
        while a < aptr[i + 1] or b < bptr[i + 1]:
            if b == bptr[i + 1] or (a < aptr[i + 1] and aind[a] <= bind[b]):
                j = aind[a]
                a += 1
            else:
                j = bind[b]
                b += 1
            if j != last and j != i:
                out[position] = j
                position += 1
            last = j
    return out
