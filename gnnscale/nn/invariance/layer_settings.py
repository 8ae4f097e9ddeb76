"""What a layer is apart from the values of its parameters: the key of what was found out of it."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from gnnscale.nn.convs.propagation import OVERRIDABLE

_PLAIN = (
    *(bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device),
    *(np.number, np.bool_, range),  # to which there are no weak references
)
# Made of a class, or changed by a mode.
_FEW = 64
_SHARED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_OMITTED = {"inspector", "training", "_parameters", "_buffers", "_modules"}


def settings_of(module: nn.Module) -> Hashable:
    """Class, arguments, shapes and hooks of a module and what it contains, by weak references.

    Of methods, the functions themselves: a class that is defined again, or patched, is another.
    """
    return _of_module(module, set())


def _of_module(module: nn.Module, seen: set[int]) -> Hashable:
    if id(module) in seen:
        return "seen"
    seen.add(id(module))
    cls = type(module)
    own = {k: v for k, v in vars(module).items() if k not in _OMITTED}
    tensors = {**module._parameters, **module._buffers}
    tensors.pop("num_batches_tracked", None)
    return (
        _Same(cls),
        tuple(_of(getattr(cls, name, None), seen) for name in OVERRIDABLE),
        _of(own, seen),
        tuple((name, _of(value, seen)) for name, value in tensors.items()),
        tuple((name, _of(part, seen)) for name, part in module._modules.items()),
    )


def _of(value: Any, seen: set[int]) -> Hashable:
    if isinstance(value, _PLAIN):
        return (type(value).__name__, value)
    if isinstance(value, nn.Module):
        return _of_module(value, seen)
    if isinstance(value, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer):
        return "lazy"
    if isinstance(value, Tensor):
        # Whole numbers are settings (a size, a place), and few.
        whole = not (value.is_floating_point() or value.is_complex() or value.is_meta)
        few = tuple(value.flatten().tolist()) if whole and 0 < value.numel() <= _FEW else ()
        return (value.shape, value.dtype, few)
    if isinstance(value, Mapping):
        return tuple((_of(k, seen), _of(v, seen)) for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return (type(value).__name__, *(_of(part, seen) for part in value))
    if isinstance(value, types.MethodType):
        return (_of(value.__func__, seen), _of(value.__self__, seen))
    own = getattr(value, "__dict__", None)
    if own and not isinstance(value, _SHARED) and id(value) not in seen:
        seen.add(id(value))  # settings in an object of the user's may change
        return (_Same(value), _of(own, seen))
    return _Same(value)


class _Same:
    """Equal for the same object while it is there; what cannot be referred to equals nothing."""

    def __init__(self, value: Any) -> None:
        self._id = id(value)
        try:
            self._referred: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self._referred = lambda: None

    @override
    def __hash__(self) -> int:
        return self._id

    @override
    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        value = self._referred()
        return value is not None and isinstance(other, _Same) and other._referred() is value
