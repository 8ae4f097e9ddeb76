"""A copy of a layer that may be tried out: the layer itself is left as it is."""

from __future__ import annotations

import copy
import random
import types
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from gnnscale.errors import UnsupportedModel
from gnnscale.nn.modules import OVERRIDABLE, draws_put_back

_DRAWN = 0.5  # what every row draws, of whatever is continuous
_DRAWS = {
    *("rand", "rand_like", "randn", "randn_like", "normal", "normal_", "uniform", "uniform_"),
    *("randint", "randint_like", "random", "random_", "exponential", "exponential_"),
    *("bernoulli", "bernoulli_", "native_dropout", "rrelu_with_noise", "rrelu_with_noise_"),
}


def copy_of(module: nn.Module) -> nn.Module:
    """A deep copy on the CPU, in which no tensor is of a graph of gradients.

    Raises:
        UnsupportedModel: it holds what cannot be copied.
    """
    # What a layer keeps of its last pass (attention, a loss) cannot be copied with its gradient.
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(module, memo).cpu()
    except Exception as error:
        raise UnsupportedModel(
            f"{type(module).__name__} cannot be copied, and the check that its output depends on "
            f"near nodes only runs on a copy ({type(error).__name__}: {error}); keep what cannot "
            "be copied (locks, files, generators) outside of it, or give it a __deepcopy__"
        ) from error


def redraw(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all parameters anew, and move buffers: a gate that starts at 0 hides its branch.

    Matrices are normal with a variance of one over their columns; vectors and numbers, which may be
    scales, variances or temperatures, lie in [0.5, 1.5].
    """
    _move(module.buffers(), generator)
    for parameter in filter(_is_drawn, module.parameters()):
        drawn = torch.randn if parameter.dim() > 1 else torch.rand
        values = drawn(parameter.shape, generator=generator, dtype=parameter.dtype)
        columns = max(1, parameter.size(-1)) if parameter.dim() else 1
        parameter.data.copy_(values / columns**0.5 if parameter.dim() > 1 else values + 0.5)


def move(module: nn.Module, generator: torch.Generator) -> None:
    """Move parameters and buffers, for a layer that takes no others than such as its own."""
    _move(module.buffers(), generator)
    _move(module.parameters(), generator)


def leave(module: nn.Module, generator: torch.Generator) -> None:
    """Leave all as it is, for a layer that takes nothing else."""


def _move(tensors: Iterable[Tensor], generator: torch.Generator) -> None:
    """Change values and keep their sign and magnitude, which some need: a variance is positive.

    What is 0 is in [0.25, 0.75] then. Integers and masks stay as they are.
    """
    for values in filter(_is_drawn, tensors):
        factor = torch.rand(values.shape, generator=generator, dtype=values.dtype) + 0.5
        values.data.copy_(torch.where(values == 0, factor / 2, values * factor))


def _is_drawn(values: Tensor) -> bool:
    return not is_lazy(values) and values.is_floating_point()  # lazy still: nothing uses it


def set_mode(module: nn.Module, training: bool) -> None:
    """Training or evaluation mode; norms with running statistics use them in both.

    In training they take those of the batch, as they are meant to, and evaluation is exact.
    """
    module.train(training)
    for part in module.modules():
        # By what they hold: one's own, and what torch.jit made of others, are of no known class.
        if all(getattr(part, name, None) is not None for name in ("running_mean", "running_var")):
            part.eval()


class KeptBuffers:
    """The buffers of a module, to be put back: some change them in every pass."""

    def __init__(self, module: nn.Module) -> None:
        self._buffers = [
            (part, name, value.clone())
            for part in module.modules()
            for name, value in part._buffers.items()
            if value is not None
        ]

    def restore(self) -> None:
        """Put the buffers back."""
        for part, name, value in self._buffers:
            part._buffers[name] = value.clone()


class SameDraws(TorchDispatchMode):
    """While it is on, every row draws the same: what dropout drops would depend on places.

    Attributes:
        chosen: whether some of all rows were chosen at random, which no row does by itself.
    """

    chosen = False

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.chosen |= name in ("randperm", "multinomial")
        if name in _DRAWS:
            first = out[0] if isinstance(out, tuple) else out
            if name == "native_dropout":
                first.copy_(args[0])
                out[1].fill_(True)
            elif name.startswith("rrelu"):
                first.copy_(torch.where(args[0] < 0, args[0] * _DRAWN, args[0]))
            elif name.startswith("bernoulli") or not first.is_floating_point():
                first.fill_(1)
            else:
                first.fill_(_DRAWN)
        return out


class InFull(TorchDispatchMode):
    """While it is on, what a layer casts to half precision is of another type, as its copy is."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("dtype") in (torch.float16, torch.bfloat16):
            kwargs = {**kwargs, "dtype": self._dtype}
        return func(*args, **kwargs)


@contextmanager
def undisturbed() -> Iterator[None]:
    """The random numbers of torch, NumPy and Python as they were; no autocast, nothing compiled."""
    with (
        draws_put_back(),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        torch.compiler.set_stance("force_eager"),
    ):
        yield


def seed_all(seed: int) -> None:
    """Seed torch, NumPy and Python, within `undisturbed`."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


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


def _of(value: object, seen: set[int]) -> Hashable:
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

    def __init__(self, value: object) -> None:
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
