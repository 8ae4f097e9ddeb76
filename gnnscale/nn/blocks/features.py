"""Features in the type that a model computes in: cast where they enter it, a batch at a time."""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor, nn

from gnnscale.kernels import CSR


def computed_in(model: nn.Module) -> torch.dtype | None:
    """The type of a model's parameters; None where it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def entering(x: Tensor | CSR, model: nn.Module) -> Tensor | CSR:
    """Features in the type of a model's parameters, whatever they are kept in."""
    dtype = computed_in(model)
    return x if dtype is None else of_type(x, dtype)


@overload
def of_type(x: Tensor, dtype: torch.dtype) -> Tensor: ...
@overload
def of_type(x: CSR, dtype: torch.dtype) -> CSR: ...


def of_type(x: Tensor | CSR, dtype: torch.dtype) -> Tensor | CSR:
    """Rows in a type; themselves where they have it already, or are no floats."""
    if type_of(x) == dtype or not type_of(x).is_floating_point:
        return x
    if isinstance(x, CSR):
        return x._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)
    return x.to(dtype)


def type_of(x: Tensor | CSR) -> torch.dtype:
    """The type of rows; of a CSR without values, which are ones, float32."""
    values = x.values if isinstance(x, CSR) else x
    return torch.float32 if values is None else values.dtype
