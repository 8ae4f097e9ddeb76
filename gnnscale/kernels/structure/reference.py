"""Order, transpose and selection of compressed rows, in plain PyTorch; no device is waited for."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.kernels.words import shifted, signed


def index_type(size: int) -> torch.dtype:
    """int32 where it counts up to ``size``."""
    return torch.int32 if size < 2**31 else torch.int64


def pointers_of(counts: Tensor) -> Tensor:
    """Return the row pointers ``[rows + 1]`` of rows with these counts."""
    pointers = torch.zeros(counts.numel() + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=pointers[1:])
    return pointers


def row_index(indptr: Tensor, nnz: int) -> Tensor:
    """int64 ``[nnz]``: the row of each entry."""
    rows = torch.arange(indptr.numel() - 1, device=indptr.device)
    return torch.repeat_interleave(rows, indptr.diff(), output_size=nnz)


def row_positions(indptr: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pointers of the rows in ``index``, and int64 where their entries stand."""
    if index.dtype == torch.bool:
        index = index.nonzero().squeeze(1)
    first = indptr[index]
    counts = indptr[index + 1] - first
    pointers = pointers_of(counts)
    total = int(pointers[-1])
    positions = torch.repeat_interleave(first - pointers[:-1], counts, output_size=total)
    return pointers, positions.add_(torch.arange(total, device=indptr.device))


def sort_by(keys: Tensor, num_keys: int, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sort entries by key, stably, after ``order`` where it is given.

    Args:
        keys: integer ``[entries]``, from 0 to ``num_keys - 1``.
        num_keys: how many keys there may be.
        order: int64 ``[entries]``, a permutation of them.

    Returns:
        ``(pointers, positions)``: int64 ``[num_keys + 1]``, where each key begins, and int64
        ``[entries]``, which entry stands at each place.
    """
    keys = keys.long()
    # Not `bincount`, which stops the host for the greatest key.
    counts = keys.new_zeros(num_keys).scatter_add_(0, keys, torch.ones_like(keys))
    positions = torch.argsort(keys if order is None else keys[order], stable=True)
    return pointers_of(counts), positions if order is None else order[positions]


def transpose(indptr: Tensor, indices: Tensor, cols: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return pointers and columns of the transpose, and which entries those were, if known."""
    pointers, positions = sort_by(indices, cols)
    columns = row_index(indptr, indices.numel())[positions]
    return pointers, columns.to(index_type(indptr.numel() - 1)), positions


def select_rows(
    indptr: Tensor, indices: Tensor, values: Tensor | None, index: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return pointers, columns and values of some rows, int64 ``[k]`` or a mask ``[rows]``."""
    pointers, positions = row_positions(indptr, index)
    return pointers, indices[positions], None if values is None else values[positions]


def asymmetry(indptr: Tensor, indices: Tensor, values: Tensor | None, first: int) -> int:
    """See :func:`gnnscale.kernels.structure.asymmetry`."""
    row, col = row_index(indptr, indices.numel()) + first, indices.long()
    value = torch.zeros_like(col) if values is None else value_bits(values)
    return int((_hash(row, col, value) - _hash(col, row, value)).sum()) % 2**64


def value_bits(values: Tensor) -> Tensor:
    """int64: the bits of values in float64, those of -0.0 being 0.0's."""
    return (values.detach().double() + 0.0).view(torch.int64)


def _hash(row: Tensor, col: Tensor, value: Tensor) -> Tensor:
    # Two rounds of splitmix64's finaliser, the column and the value mixed in between.
    z = row * signed(0x9E3779B97F4A7C15) + value
    z = (z ^ shifted(z, 30)) * signed(0xBF58476D1CE4E5B9)
    z = (z ^ shifted(z, 27)) + col * signed(0x9FB21C651E98DF25)
    z = (z ^ shifted(z, 28)) * signed(0x94D049BB133111EB)
    return z ^ shifted(z, 31)
