"""What modules are to those who run them: watched or patched, in which mode, given what."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import random
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gnnscale.errors import InputError

logger = logging.getLogger(__name__)

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_CONV_HOOKS = tuple(
    f"_{step}_forward_{when}"
    for step in ("propagate", "message", "aggregate", "message_and_aggregate", "edge_update")
    for when in ("pre_hooks", "hooks")
)
# What a subclass or an instance may replace, and a fast path would then bypass.
OVERRIDABLE = (
    "forward",
    "message",
    "message_and_aggregate",
    "aggregate",
    "update",
    "edge_update",
    "propagate",
)
_BYPASSED = frozenset(OVERRIDABLE)


def check_materialised(model: nn.Module, what: str) -> None:
    """Refuse lazy parameters, whose widths ``what`` (a plural) needs.

    Raises:
        InputError: naming them.
    """
    names = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if names:
        raise InputError(
            f"{what} need the widths of the model, and {', '.join(names)} have none yet: build it "
            "with in_channels=, the number of features, or run it on one batch first"
        )


def has_lazy(module: nn.Module) -> bool:
    """Whether a parameter or buffer of a module has no shape yet."""
    return any(map(is_lazy, (*module.parameters(), *module.buffers())))


def is_intercepted(module: nn.Module) -> bool:
    """Whether hooks, parametrizations or patched methods see calls that a fast path would skip."""
    state = module.__dict__
    return (
        "parametrizations" in state["_modules"]
        or has_hooks(module)
        or not _BYPASSED.isdisjoint(state)
        # Only what aggregates has these: every module of a model is looked at in every step.
        or ("_propagate_forward_hooks" in state and any(map(state.get, _CONV_HOOKS)))
        or bool(state.get("_explain"))
    )


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has forward or backward hooks of its own."""
    return any(map(module.__dict__.__getitem__, _HOOKS))


def works_in_place(module: object) -> bool:
    """Whether a module, or one inside it, may write over its input."""
    inside = module.modules() if isinstance(module, nn.Module) else ()
    return any(getattr(part, "inplace", False) for part in inside)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every module's own mode is set back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def draws_put_back(devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """The generators of torch, NumPy and Python are afterwards as they were.

    Args:
        devices: those whose generators may be drawn from; only those of CUDA count.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    on_cuda = [device for device in devices if device.type == "cuda"]
    with torch.random.fork_rng(devices=on_cuda):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)


def parameters(module: nn.Module) -> dict[str, inspect.Parameter]:
    """The parameters of a layer's `forward`, by name, without `self`."""
    if "forward" in module.__dict__:  # replaced on the instance
        return dict(inspect.signature(module.forward).parameters)
    cls: type = type(module)
    return _of_class(cls)


@functools.cache
def _of_class(cls: type) -> dict[str, inspect.Parameter]:
    _, *rest = inspect.signature(cast(type[nn.Module], cls).forward).parameters.items()
    return dict(rest)


def as_written(module: object) -> Any:
    """What `torch.compile` made a module of: what it makes hides the layers and what they take."""
    original = getattr(module, "_orig_mod", None)
    if not isinstance(original, nn.Module):
        return module
    logger.warning(
        "%s is run as it is written, not as torch.compile made it; trainers compile with "
        "compile=True",
        type(original).__name__,
    )
    return original


def required(module: nn.Module) -> list[str]:
    """The parameters that have no default, in order; those by keyword alone come last."""
    return [
        name
        for name, p in parameters(module).items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def settle_unused(model: nn.Module) -> None:
    """Give no values to lazy parameters and buffers that are lazy still: nothing that runs is
    theirs.
    """
    for module in model.modules():
        for own in (module._parameters, module._buffers):
            for name, value in own.items():
                if value is not None and is_lazy(value):
                    # The rows that PyG's Linear looks for when weights are loaded.
                    rows = (module.out_channels,) if hasattr(module, "out_channels") else ()
                    value.materialize((*rows, 0))
                    logger.info("%s.%s is not used and stays empty", type(module).__name__, name)


class _Filling(Protocol):
    """What torch has as a module whose attribute is a property, which no checker sees."""

    fill_uninitialized_memory: bool


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Have torch add up in a fixed order on the CPU, so that a run that goes on ends the same.

    It matters to what is not ours, in a layer or a loss: the backward pass of `x[index]` adds rows
    in the order in which threads come. On a GPU many operations have no fixed order.
    """
    if device.type != "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    memory = cast(_Filling, torch.utils.deterministic)
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=warned if before else True)
    memory.fill_uninitialized_memory = filled and before
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        memory.fill_uninitialized_memory = filled
