"""What a layer's `forward` asks for."""

from __future__ import annotations

import functools
import inspect
import logging
from typing import Any

from torch import nn
from torch_geometric.nn import MessagePassing

from gnnscale.nn.convs.registry import is_registered

logger = logging.getLogger(__name__)

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def parameters(module: nn.Module) -> dict[str, inspect.Parameter]:
    """The parameters of a layer's `forward`, by name, without `self`."""
    if "forward" in module.__dict__:  # replaced on the instance
        return dict(inspect.signature(module.forward).parameters)
    return _of_class(type(module))  # type: ignore[arg-type]


@functools.cache
def _of_class(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    _, *rest = inspect.signature(cls.forward).parameters.items()
    return dict(rest)


def as_written(module: Any) -> Any:
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


def is_convolution(module: nn.Module) -> bool:
    """Whether a module takes the graph's structure beside the rows."""
    if isinstance(module, MessagePassing) or is_registered(module):
        return True
    places = [name for name in required(module) if parameters(module)[name].kind in _POSITIONAL]
    return len(places) >= 2 or "edge_index" in parameters(module)
