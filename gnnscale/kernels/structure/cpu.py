"""Order, transpose and selection of compressed rows: counting sorts, each in one pass or two."""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.kernels.structure.reference import index_type, value_bits
from gnnscale.kernels.threads import njit_parallel, njit_serial, num_threads


def sort_by(keys: Tensor, num_keys: int, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """See the reference."""
    pointers = torch.zeros(num_keys + 1, dtype=torch.int64)
    positions = torch.empty(keys.numel(), dtype=torch.int64)
    before = positions if order is None else order  # a dummy: one compiled variant, not two
    arrays = (keys.contiguous(), before, pointers, positions)
    _counting_sort(order is not None, *(array.numpy() for array in arrays))
    return pointers, positions


def transpose(indptr: Tensor, indices: Tensor, cols: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """See the reference; the places are not known."""
    pointers = torch.zeros(cols + 1, dtype=torch.int64)
    columns = torch.empty(indices.numel(), dtype=index_type(indptr.numel() - 1))
    _transpose(indptr.numpy(), indices.numpy(), pointers.numpy(), columns.numpy())
    return pointers, columns, None


def select_rows(
    indptr: Tensor, indices: Tensor, values: Tensor | None, index: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """See the reference; in one pass, as a batch of sparse features is a few thousand entries.

    Raises:
        InputError: there is no such row.
    """
    pointers = torch.empty(index.numel() + 1, dtype=torch.int64)
    begins, rows = indptr.numpy(), index.contiguous().numpy()
    if not _count_rows(begins, rows, pointers.numpy()):
        raise InputError(f"a row to select is outside 0..{indptr.numel() - 2}")

    def copied(entries: Tensor) -> Tensor:
        out = entries.new_empty(int(pointers[-1]))
        _copy_rows(begins, rows, entries.detach().numpy(), out.numpy())
        return out

    return pointers, copied(indices), None if values is None else copied(values)


def asymmetry(indptr: Tensor, indices: Tensor, values: Tensor | None, first: int) -> int:
    """See the reference."""
    bits = value_bits(values) if values is not None else torch.empty(0, dtype=torch.int64)
    totals = np.zeros(num_threads(), np.uint64)
    _asymmetry(indptr.numpy(), indices.numpy(), bits.numpy().view(np.uint64), first, totals)
    return int(totals.sum(dtype=np.uint64))


@njit_serial
def _counting_sort(ordered, keys, order, pointers, positions):
    count = keys.shape[0]
    for k in range(count):
        pointers[keys[k] + 1] += 1
    for key in range(1, pointers.shape[0]):
        pointers[key] += pointers[key - 1]
    # pointers serves as the cursor of each key and is shifted back at the end.
    for k in range(count):
        entry = order[k] if ordered else k
        key = keys[entry]
        positions[pointers[key]] = entry
        pointers[key] += 1
    for key in range(pointers.shape[0] - 1, 0, -1):
        pointers[key] = pointers[key - 1]
    pointers[0] = 0


@njit_serial
def _transpose(indptr, indices, t_indptr, t_indices):
    for k in range(indices.shape[0]):
        t_indptr[indices[k] + 1] += 1
    for col in range(1, t_indptr.shape[0]):
        t_indptr[col] += t_indptr[col - 1]
    for row in range(indptr.shape[0] - 1):
        for k in range(indptr[row], indptr[row + 1]):
            col = indices[k]
            t_indices[t_indptr[col]] = row
            t_indptr[col] += 1
    for col in range(t_indptr.shape[0] - 1, 0, -1):
        t_indptr[col] = t_indptr[col - 1]
    t_indptr[0] = 0


@njit_serial
def _count_rows(indptr, index, pointers):
    pointers[0] = 0
    for k in range(index.shape[0]):
        row = index[k]
        if row < 0 or row >= indptr.shape[0] - 1:
            return False
        pointers[k + 1] = pointers[k] + indptr[row + 1] - indptr[row]
    return True


@njit_serial
def _copy_rows(indptr, index, entries, out):
    at = 0
    for k in range(index.shape[0]):
        for entry in range(indptr[index[k]], indptr[index[k] + 1]):
            out[at] = entries[entry]
            at += 1


@njit_parallel
def _asymmetry(indptr, indices, bits, first, totals):
    """A block of rows for each of ``totals``, uint64 zeros; no ``bits`` where all values are 1."""
    rows, blocks = indptr.shape[0] - 1, totals.shape[0]
    size = (rows + blocks - 1) // blocks
    weighted = bits.shape[0] > 0
    base = indptr[0]
    for block in numba.prange(blocks):
        total = np.uint64(0)
        for i in range(block * size, min((block + 1) * size, rows)):
            for k in range(indptr[i] - base, indptr[i + 1] - base):
                value = bits[k] if weighted else np.uint64(0)
                row, col = np.uint64(first + i), np.uint64(indices[k])
                total += hash_entry(row, col, value) - hash_entry(col, row, value)
        totals[block] = total


@njit_serial
def hash_entry(row, col, value):
    """A number of 64 bits for an entry of a matrix; all are uint64."""
    # Two rounds of splitmix64's finaliser, the column and the value mixed in between.
    z = row * np.uint64(0x9E3779B97F4A7C15) + value
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) + col * np.uint64(0x9FB21C651E98DF25)
    z = (z ^ (z >> np.uint64(28))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
