"""Which implementation of an operation runs: the one place here that looks at a device.

An operation is a folder. `reference` holds it in plain PyTorch, for every device and type; the
files beside it hold the same functions, with the same arguments, for some: `cpu` (numba), `cuda`
(Triton) and `cusparse` (torch's sparse product, where there is no Triton). A file is imported when
it is first needed, so that none of what it needs has to be there before.

An operation is known by its reference, which makes a call read, and be checked, as one of it:
``dispatch(reference.spmm, x.device, x.dtype)(a, x)``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
Types = tuple[torch.dtype, ...]

_ALL: Types = ()  # of any type
_HALF = (torch.bfloat16, torch.float16)
_FULL = (torch.float32, torch.float64)
_FLOATS = (*_FULL, *_HALF)
_UP_TO_FLOAT32 = (torch.float32, *_HALF)  # a kernel of dropout takes its scale in float32

#: The files beside an operation's reference, the preferred one first, and the types each takes.
OPERATIONS: dict[str, dict[str, Types]] = {
    "structure.sort_by": {"cpu": _ALL},
    "structure.transpose": {"cpu": _ALL},
    "structure.select_rows": {"cpu": (torch.int64,)},
    "structure.asymmetry": {"cpu": _ALL},
    "diagonal.row_sums": {"cpu": _FULL},
    "induced.induced_subgraph": {"cpu": _ALL},
    "product.spmm": {"cpu": _FLOATS, "cuda": _FLOATS, "cusparse": _FLOATS},
    "product.transposed_product": {"cpu": _FULL},
    "extrema.extremum": {"cpu": _FLOATS, "cuda": _FLOATS},
    "extrema.extremum_gradient": {"cpu": _FLOATS, "cuda": _FLOATS},
    "hash_dropout.dropout": {"cpu": _FLOATS, "cuda": _UP_TO_FLOAT32},
    "hash_dropout.dropout_entries": {"cpu": _FULL},
    "hash_dropout.mask_in_place": {"cpu": _FULL},
    "hash_dropout.relu_gradient": {"cpu": _FULL, "cuda": _UP_TO_FLOAT32},
    "hash_dropout.leaky_gradient": {"cpu": _FULL},
    "moments.segment_sum": {"cpu": _FULL},
    "moments.segment_moments": {"cpu": _FLOATS},
    "normalization.graph_norm": {"cpu": _FULL},
    "normalization.graph_norm_gradient": {"cpu": _FULL},
    "rows.sort_rows": {"cpu": _ALL},
    "rows.sorting_order": {"cpu": _ALL},
    "rows.order_by_part": {"cpu": _ALL},
    "rows.copy_rows": {"cpu": _ALL},
    "rows.renumber": {"cpu": _ALL},
    "rows.spread_edges": {"cpu": _ALL},
    "rows.sort_edges": {"cpu": _ALL},
    "rows.edge_asymmetry": {"cpu": _ALL},
    "rows.every_second": {"cpu": _ALL},
    "rows.merge_equal": {"cpu": _ALL},
}
_DEVICE_OF = {"cpu": "cpu", "cuda": "cuda", "cusparse": "cuda"}


def dispatch(
    operation: Callable[P, R], device: torch.device, dtype: torch.dtype | None = None
) -> Callable[P, R]:
    """Return what an operation runs on: its reference where there is nothing of its own.

    Args:
        operation: its reference.
        device: where the tensors are.
        dtype: the type of those that it computes with, where that matters.
    """
    return _found(operation, device, dtype)


@functools.cache  # by whole devices: to ask one for its kind takes longer than all else here
def _found(operation: Any, device: torch.device, dtype: torch.dtype | None) -> Callable[..., Any]:
    room, name = operation.__module__.rpartition(".")[0], operation.__name__
    for file, types in OPERATIONS[f"{room.rpartition('.')[2]}.{name}"].items():
        fits = _DEVICE_OF[file] == device.type and (types == _ALL or dtype in types)
        if fits and (file != "cuda" or has_triton()):
            return getattr(importlib.import_module(f"{room}.{file}"), name)
    return operation


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed: it comes with PyTorch's CUDA builds for Linux."""
    return importlib.util.find_spec("triton") is not None


def is_on(here: torch.device, device: torch.device) -> bool:
    """Whether `device`, which may leave open which of its kind, is met by `here`."""
    return device.type == here.type and device.index in (None, here.index)
