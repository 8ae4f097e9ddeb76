"""What a block runs on rows, as a layer that can be checked like one that reads edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn.dense.linear import Linear
from typing_extensions import override

from gnnscale.nn.blocks.phases import Neighbourhood, Rows, Statistics, is_activation
from gnnscale.nn.blocks.segments import pointers_of
from gnnscale.nn.convs.propagation import is_intercepted
from gnnscale.nn.convs.pyg_convs import Call
from gnnscale.nn.norms import statistics

_ROW_LOCAL = (nn.Linear, Linear, nn.Identity, nn.Dropout)


class OnRows(nn.Module):
    """A function of rows as a layer that takes edges and reads none."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    @property
    def called(self) -> str:
        """The name of the function or its class."""
        inner = self.function.function if isinstance(self.function, Call) else self.function
        return getattr(inner, "__name__", type(inner).__name__)

    @override
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.function(x)


class OnGraphs(OnRows):
    """A norm, given the graphs that its rows are of."""

    @override
    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:  # type: ignore[override]
        ptr = None if batch is None else pointers_of(batch, x.size(0))
        return statistics.normalise(self.function, x, ptr)


def as_layer(phase: Any, *, of_graphs: bool) -> Neighbourhood | None:
    """A phase as a layer to be checked; None where it is known, or reads what it should.

    Args:
        phase: any.
        of_graphs: whether a batch holds whole graphs: only then must norms keep to them.
    """
    if isinstance(phase, Neighbourhood):
        return phase
    if isinstance(phase, Rows) and not _is_known(phase.module):
        return Neighbourhood(OnRows(phase.module), 0, 1)
    if of_graphs and isinstance(phase, Statistics) and getattr(phase.norm, "over", "") != "batch":
        norm = phase.norm
        if not (statistics.is_registered(norm) or statistics.uses_running_statistics(norm)):
            return Neighbourhood(OnGraphs(norm), 0, 1)
    return None


def _is_known(function: Any) -> bool:
    plain = type(function) in _ROW_LOCAL or statistics.is_row_local(function)
    if plain and not is_intercepted(function):
        return True
    # A softmax may run over rows.
    return is_activation(function) and not hasattr(function, "dim")
