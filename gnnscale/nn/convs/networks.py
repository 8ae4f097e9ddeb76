"""Networks of rows taken apart into their modules, so that a norm inside is a phase of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import MLP
from torch_geometric.nn import norm as pyg_norm
from typing_extensions import override

from gnnscale.nn.modules import is_intercepted
from gnnscale.nn.norms import statistics


def row_modules(module: nn.Module) -> list[nn.Module] | None:
    """A row-local network as its modules, norms among them; None where it cannot be read.

    PyG's `MLP` and `nn.Sequential` are taken apart, so that a norm inside becomes a phase of its
    own; anything else, and one with hooks of its own, is one of them, provided it holds no norm.
    """
    if type(module) is MLP and not is_intercepted(module):
        return _of_mlp(module)
    if type(module) is nn.Sequential and not is_intercepted(module):
        modules: list[nn.Module] = []
        for child in module:
            inner = row_modules(child)
            if inner is None:
                return None
            modules += inner
        return modules
    hidden = any(is_norm(child) for child in module.modules() if child is not module)
    return [module] if is_norm(module) or not hidden else None


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalization layer: of torch, of PyG, or one that is registered."""
    kinds = tuple(getattr(pyg_norm, name) for name in pyg_norm.__all__)
    torch_kinds = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    return isinstance(module, kinds + torch_kinds) or statistics.is_registered(module)


def _of_mlp(mlp: Any) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for i, lin in enumerate(mlp.lins):
        modules.append(lin)
        plain = mlp.plain_last and i == len(mlp.lins) - 1
        if not plain:
            act = [] if mlp.act is None else [_module(mlp.act)]
            norm = [mlp.norms[i]] if i < len(mlp.norms) else []
            modules += act + norm if mlp.act_first else norm + act
        if mlp.dropout[i]:
            modules.append(nn.Dropout(mlp.dropout[i]))
    return [own for own in modules if not isinstance(own, nn.Identity)]


class Call(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _module(function: Any) -> nn.Module:
    return function if isinstance(function, nn.Module) else Call(function)
