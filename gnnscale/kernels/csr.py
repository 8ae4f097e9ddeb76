"""Compressed sparse rows: the one sparse structure of gnnscale (adjacency and sparse features)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.kernels.dispatch import dispatch, is_on
from gnnscale.kernels.structure import reference
from gnnscale.kernels.structure.reference import index_type, pointers_of


class CSR:
    """A sparse matrix ``[rows, cols]`` in compressed rows; duplicates are allowed and add up.

    The constructor checks nothing and copies nothing: one is made for every mini-batch. Use
    :meth:`from_coo` for input that is not known to be sound.

    Args:
        indptr: int64 ``[rows + 1]``, where each row starts; the first entry is 0.
        indices: int32 or int64 ``[nnz]``, the column of each entry.
        values: float32 or float64 ``[nnz]``, or None where all entries are one.
        shape: ``(rows, cols)``; square where it is not given.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor | None
    shape: tuple[int, int]

    def __init__(
        self,
        indptr: Tensor,
        indices: Tensor,
        values: Tensor | None = None,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self.indptr = indptr
        self.indices = indices
        self.values = values
        self.shape = (indptr.numel() - 1, indptr.numel() - 1) if shape is None else shape
        self._row_index: Tensor | None = None
        self._t: CSR | None = None
        self._t_permutation: Tensor | None = None
        self.is_reused = False  # whether a gradient has gone through it: a transpose would pay
        self.products: dict[Any, Tensor] = {}  # this matrix with factors, as cuSPARSE takes it
        # Of a matrix in files, which may be damaged: raises where it is.
        self.unproven: Callable[[], None] | None = None

    # ---------------------------------------------------------------- making one

    @classmethod
    def from_coo(
        cls, row: Tensor, col: Tensor, values: Tensor | None, shape: tuple[int, int]
    ) -> tuple[CSR, Tensor]:
        """Return the matrix of entries ``(row, col)`` and the permutation that sorted them.

        Entries are sorted by row, then column; equal ones keep their order and are not merged.

        Args:
            row: integer ``[nnz]``.
            col: integer ``[nnz]``.
            values: ``[nnz]`` or None (all ones).
            shape: ``(rows, cols)``.

        Returns:
            ``(csr, permutation)``: entry ``k`` of ``csr`` was entry ``permutation[k]``, so
            ``attributes[permutation]`` follows it. Indices are int32 where the columns fit.

        Raises:
            InputError: an index is out of range, or lengths differ.
        """
        rows, cols = int(shape[0]), int(shape[1])
        faults = []
        if row.shape != col.shape or row.dim() != 1:
            faults.append(
                f"row and col must be vectors of one length, not {[*row.shape]} and {[*col.shape]}"
            )
        if values is not None and values.shape != row.shape:
            faults.append(f"values has shape {[*values.shape]}, expected {[*row.shape]}")
        for name, index, limit in (("row", row, rows), ("column", col, cols)):
            if index.numel():
                low, high = (int(bound) for bound in index.aminmax())
                if low < 0 or high >= limit:
                    worst = low if low < 0 else high
                    faults.append(f"{name} index {worst} is outside 0..{limit - 1}")
        if faults:
            raise InputError(faults)
        sort_by = dispatch(reference.sort_by, row.device)
        indptr, order = sort_by(row, rows, sort_by(col, cols)[1])
        indices = col[order].to(index_type(cols))
        return CSR(indptr, indices, None if values is None else values[order], (rows, cols)), order

    @classmethod
    def from_dense(cls, x: Tensor) -> CSR:
        """Return the non-zero entries (NaN included) of a dense ``[rows, cols]`` tensor."""
        row, col = x.nonzero(as_tuple=True)
        indptr = pointers_of(torch.bincount(row, minlength=x.shape[0]))
        return CSR(indptr, col.to(index_type(x.shape[1])), x[row, col], (x.shape[0], x.shape[1]))

    # ---------------------------------------------------------------- reading it

    @property
    def nnz(self) -> int:
        """Number of stored entries, duplicates included."""
        return self.indices.numel()

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.indices.device

    def prove(self) -> None:
        """Find out, once, whether pointers and indices are sound: native code does not look.

        Raises:
            StoreError: they come from a file that is damaged.
        """
        if self.unproven is not None:
            self.unproven()
            self.unproven = None

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Pointers and indices for native code; on the CPU.

        Raises:
            StoreError: as `prove`.
        """
        self.prove()
        return self.indptr.numpy(), self.indices.numpy()

    @property
    def row_index(self) -> Tensor:
        """int64 ``[nnz]``: the row of each entry (made on first use, then kept)."""
        if self._row_index is None:
            self.prove()
            self._row_index = reference.row_index(self.indptr, self.nnz)
        return self._row_index

    def scaled_values(
        self, dtype: torch.dtype, left: Tensor | None = None, right: Tensor | None = None
    ) -> Tensor:
        """Return ``[nnz]``: the entries of ``diag(left) @ self @ diag(right)``."""
        if self.values is None:
            values = torch.ones(self.nnz, dtype=dtype, device=self.device)
        else:
            values = self.values.to(dtype)
        # Multiplied before they are rounded: the factors may be wider than half-precision rows.
        if left is not None:
            values = values * left.index_select(0, self.row_index)
        if right is not None:
            values = values * right.index_select(0, self.indices)
        return values.to(dtype)

    def t(self) -> CSR:
        """Return the transpose, made on first use and kept; entries of a row keep their order."""
        if self._t is None:
            self.prove()
            transpose = dispatch(reference.transpose, self.device)
            indptr, indices, order = transpose(self.indptr, self.indices, self.shape[1])
            if self._t_permutation is None:
                self._t_permutation = order
            values = None if self.values is None else self.values[self.t_permutation]
            self._t = CSR(indptr, indices, values, (self.shape[1], self.shape[0]))
        return self._t

    @property
    def t_permutation(self) -> Tensor:
        """int64 ``[nnz]``: where each entry of ``t()`` stands in this matrix."""
        if self._t_permutation is None:
            self.prove()
            sort_by = dispatch(reference.sort_by, self.device)
            self._t_permutation = sort_by(self.indices, self.shape[1])[1]
        return self._t_permutation

    def slice_rows(self, a: int, b: int) -> CSR:
        """Return rows ``a`` to ``b`` (exclusive); indices and values are views."""
        pointers = self.indptr[a : b + 1]
        start, stop = int(pointers[0]), int(pointers[-1])
        values = None if self.values is None else self.values[start:stop]
        indptr = pointers - start if start else pointers
        return CSR(indptr, self.indices[start:stop], values, (b - a, self.shape[1]))

    def select_rows(self, index: Tensor) -> CSR:
        """Return the rows in ``index`` (int64 ``[k]``, or bool ``[rows]``), in that order."""
        self.prove()
        select = dispatch(reference.select_rows, self.device, index.dtype)
        indptr, indices, values = select(self.indptr, self.indices, self.values, index)
        return CSR(indptr, indices, values, (indptr.numel() - 1, self.shape[1]))

    def row_positions(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pointers of ``select_rows(index)`` and, int64, its entries' places here."""
        self.prove()
        return reference.row_positions(self.indptr, index)

    def to_dense(self, dtype: torch.dtype | None = None) -> Tensor:
        """Return the dense ``[rows, cols]`` tensor; duplicates are summed."""
        if dtype is None:
            dtype = torch.float32 if self.values is None else self.values.dtype
        out = torch.zeros(self.shape, dtype=dtype, device=self.device)
        if self.values is None:
            values = torch.ones(self.nnz, dtype=dtype, device=self.device)
        else:
            values = self.values.to(dtype)
        return out.index_put_((self.row_index, self.indices.long()), values, accumulate=True)

    # ---------------------------------------------------------------- moving it

    def _apply(self, move: Callable[[Tensor], Tensor]) -> Any:
        """Return a copy, of this class, with ``move`` applied to every tensor (and the transpose).

        A subclass that keeps further tensors extends it.
        """
        moved = copy.copy(self)
        moved.products = {}
        for name in ("indptr", "indices", "values", "_row_index", "_t_permutation"):
            tensor = getattr(self, name)
            setattr(moved, name, None if tensor is None else move(tensor))
        moved._t = None if self._t is None else self._t._apply(move)
        return moved

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Any:
        """Return this matrix on ``device``: itself where it is there already."""
        target = torch.device(device)
        if is_on(self.device, target):
            return self
        self.prove()
        return self._apply(lambda tensor: tensor.to(target, non_blocking=non_blocking))

    def pin_memory(self) -> Any:
        """Return a copy in page-locked memory, for transfers that do not block."""
        self.prove()
        return self._apply(Tensor.pin_memory)

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the tensors' memory, which another CUDA stream filled, until this one is done."""

        def kept(tensor: Tensor) -> Tensor:
            tensor.record_stream(stream)
            return tensor

        self._apply(kept)

    @override
    def __repr__(self) -> str:
        kind = "ones" if self.values is None else str(self.values.dtype).removeprefix("torch.")
        index = str(self.indices.dtype).removeprefix("torch.")
        return (
            f"{type(self).__name__}({self.shape[0]} x {self.shape[1]}, nnz={self.nnz}, "
            f"values={kind}, indices={index}, device='{self.device}')"
        )
