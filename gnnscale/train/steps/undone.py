"""What a call may change of a task, undone."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from gnnscale.nn.modules import draws_put_back

_GENERATORS = (torch.Generator, np.random.Generator)


@contextlib.contextmanager
def undone(task: object, modules: nn.Module, device: torch.device) -> Iterator[None]:
    """Put back what a loss may change: attributes, lists in them, parameters, buffers, generators.

    Other tensors among the attributes are not copied: they may be as large as the graph.
    """
    attributes = dict(getattr(task, "__dict__", {}))
    contents = [(v, v.copy()) for v in attributes.values() if isinstance(v, list | dict | set)]
    held = [(m, dict(m._buffers), dict(m._parameters)) for m in modules.modules()]
    values = [(v, v.detach().clone()) for v in (*modules.parameters(), *modules.buffers())]
    gradients = [(p, p.grad) for p in modules.parameters()]
    own = [(g, _state(g)) for g in attributes.values() if isinstance(g, _GENERATORS)]
    with draws_put_back([device]):
        _seed(device)
        try:
            yield
        finally:
            for generator, state in own:
                _set_state(generator, state)
            for container, before in contents:
                _refill(container, before)
            for module, buffers, parameters in held:
                _refill(module._buffers, buffers)
                _refill(module._parameters, parameters)
            with torch.no_grad():
                for tensor, known in values:
                    tensor.copy_(known)
            for parameter, gradient in gradients:
                parameter.grad = gradient
            if attributes:
                _refill(vars(task), attributes)


def _seed(device: torch.device) -> None:
    """Seed what is put back, and no other device; every rank finds the same."""
    torch.default_generator.manual_seed(0)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(0)


def _state(generator: Any) -> Any:
    drawn = isinstance(generator, torch.Generator)
    return generator.get_state() if drawn else copy.deepcopy(generator.bit_generator.state)


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state


def _refill(container: Any, before: Any) -> None:
    container.clear()
    container.extend(before) if isinstance(container, list) else container.update(before)
