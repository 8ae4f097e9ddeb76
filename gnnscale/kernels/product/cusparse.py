"""What CUDA tensors run on: Triton where it can be imported, cuSPARSE and plain PyTorch elsewhere.

The rule for the sparse product: Triton at every width, since it reads the factors of a propagation
in place; cuSPARSE where there is no Triton (Windows), on values that are kept with the matrix.
Neither waits for the device.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

from gnnscale.kernels.csr import CSR

_INT32_MAX = 2**31 - 1
_UP_TO_FLOAT32 = (torch.float32, torch.bfloat16, torch.float16)


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed: it comes with PyTorch's CUDA builds for Linux."""
    return importlib.util.find_spec("triton") is not None


def runs_on_triton(x: Tensor) -> bool:
    """Whether the dropout of ``x`` has a Triton kernel: a kernel takes its scale in float32."""
    return x.device.type == "cuda" and x.dtype in _UP_TO_FLOAT32 and has_triton()


def spmm_cuda(
    a: CSR,
    x: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    diag: Tensor | None,
    x_self: Tensor | None,
) -> Tensor:
    """Return what :func:`gnnscale.kernels.spmm` returns, of floating-point tensors on CUDA."""
    if has_triton() and x.dtype in (*_UP_TO_FLOAT32, torch.float64):
        from gnnscale.kernels import triton_spmm

        return triton_spmm.spmm(a, x, left, right, diag, x_self)
    return cusparse_spmm(a, x, left, right, diag, x_self)


def cusparse_spmm(
    a: CSR,
    x: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    diag: Tensor | None,
    x_self: Tensor | None,
) -> Tensor:
    """Return the same from torch's sparse product: cuSPARSE on CUDA, MKL on the CPU."""
    if not a.nnz or not x.shape[1]:
        product = x.new_zeros(a.shape[0], x.shape[1])
    else:
        with torch.autocast(x.device.type, enabled=False):  # it would round a float32 product
            product = _torch_csr(a, x.dtype, left, right) @ x.detach().contiguous()
    if diag is None:
        return product
    own = x if x_self is None else x_self
    return torch.addcmul(product, diag.to(x.dtype).unsqueeze(1), own.detach().to(x.dtype))


def _torch_csr(a: CSR, dtype: torch.dtype, left: Tensor | None, right: Tensor | None) -> Tensor:
    """Return ``diag(left) @ a @ diag(right)``, kept with ``a``: a step's layers share them."""
    key = (dtype, left, right)  # tensors hash by identity, and the key keeps them alive
    found = a.products.get(key)
    if found is None:
        # PyTorch wants pointers and columns of one integer type.
        narrow = a.indices.dtype == torch.int32 and a.nnz <= _INT32_MAX
        index = torch.int32 if narrow else torch.int64
        found = a.products[key] = torch.sparse_csr_tensor(
            a.indptr.to(index),
            a.indices.to(index),
            a.scaled_values(dtype, left, right),
            size=a.shape,
            check_invariants=False,
        )
    return found
