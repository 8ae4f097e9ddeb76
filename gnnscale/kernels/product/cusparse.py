"""The sparse–dense product of torch: cuSPARSE on CUDA, where there is no Triton, MKL on the CPU.

Triton reads the factors of a propagation in place, at every width; here they are multiplied into
values, which are kept with the matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.product.reference import Given


def spmm(a: CSR, x: Tensor, left: Given, right: Given, diag: Given, x_self: Given) -> Tensor:
    """See :func:`gnnscale.kernels.spmm`."""
    if not a.nnz or not x.shape[1]:
        product = x.new_zeros(a.shape[0], x.shape[1])
    else:
        with torch.autocast("cuda", enabled=False):  # it would round a float32 product
            product = _torch_csr(a, x.dtype, left, right) @ x.detach().contiguous()
    if diag is None:
        return product
    own = x if x_self is None else x_self
    return torch.addcmul(product, diag.to(x.dtype).unsqueeze(1), own.detach().to(x.dtype))


def _torch_csr(a: CSR, dtype: torch.dtype, left: Given, right: Given) -> Tensor:
    """Return ``diag(left) @ a @ diag(right)``, kept with ``a``: a step's layers share them."""
    key = (dtype, left, right)  # tensors hash by identity, and the key keeps them alive
    found = a.products.get(key)
    if found is None:
        # PyTorch wants pointers and columns of one integer type.
        narrow = a.indices.dtype == torch.int32 and a.nnz < 2**31
        index = torch.int32 if narrow else torch.int64
        found = a.products[key] = torch.sparse_csr_tensor(
            a.indptr.to(index),
            a.indices.to(index),
            a.scaled_values(dtype, left, right),
            size=a.shape,
            check_invariants=False,
        )
    return found
