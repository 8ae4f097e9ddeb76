"""Subject: a stack of layers to be compared, and how PyG is asked for the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch_geometric.nn.models.basic_gnn import BasicGNN

import gnnscale as gs

WIDTH, OUT = 8, 5  # every stack maps 8 → 8 → 5
CHANNELS = {"edge_attr": 3}  # of the edges, where a subject says no other number
RELATIONS = NODE_TYPES = 3
Stack = Callable[[], list[nn.Module]]


@dataclass(frozen=True)
class Subject:
    """A stack of layers.

    Attributes:
        name: how it is called in results.
        stack: makes its modules, their parameters new.
        needs: what a graph must carry beside structure and features: "edge_attr", "edge_type" …
        takes: by the graph's names, what its layers call the values that the oracle hands them.
            Those of the same name in `forward` go without saying, `edge_attr` alone does not: most
            of PyG's layers take it only where they were built for it.
        attr_channels: width of `edge_attr`.
        initial: whether layers take what entered the first of them beside x (x_0).
        hops: the reach declared for each convolution, or None.
        float32: whether it computes in single precision by itself.
        by_target: whether PyG asks for edges in the order of their targets.
        lazy: whether its parameters have no shape until it is first run.
    """

    name: str
    stack: Stack
    needs: frozenset[str] = frozenset()
    takes: Mapping[str, str] = field(default_factory=dict)
    attr_channels: int = 3
    initial: bool = False
    hops: int | None = None
    float32: bool = False
    by_target: bool = False
    lazy: bool = False

    def model(self, stack: list[nn.Module]) -> gs.nn.LayeredGNN:
        """The stack as gnnscale runs it."""
        if not self.initial and self.hops is None:
            whole = len(stack) == 1 and isinstance(stack[0], BasicGNN)
            return gs.nn.as_layered(stack[0] if whole else stack)
        reads = "x0" if self.initial else None
        blocks = [
            gs.nn.Block(module, reads=reads, hops=self.hops) if is_layer(module) else module
            for module in stack
        ]
        if self.initial:
            blocks[0] = gs.nn.Block(stack[0], saves="x0")
        last = blocks[-1] if isinstance(blocks[-1], gs.nn.Block) else gs.nn.Block(blocks[-1])
        blocks[-1] = last
        last.act = None
        return gs.nn.LayeredGNN(blocks)

    def oracle(
        self, stack: list[nn.Module], x: Tensor, edge_index: Tensor, values: Mapping[str, Tensor]
    ) -> Tensor:
        """What PyG, or the user's own `forward`, gives."""
        initial: Tensor | None = None
        for i, module in enumerate(stack):
            if is_layer(module):
                beside = (initial,) if self.initial else ()
                x = module(x, *beside, edge_index, **self._given(module, values))
            else:
                x = module(x)
            if i < len(stack) - 1:
                x = x.relu()
            if i == 0:
                initial = x
        return x

    def _given(self, module: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = {name: name for name in inspect.signature(module.forward).parameters}
        if "edge_attr" not in self.needs:
            names.pop("edge_attr", None)
        names |= self.takes
        return {names[name]: value for name, value in values.items() if name in names}


def is_layer(module: nn.Module) -> bool:
    """Whether the oracle hands a module the edges: all but matrices."""
    return not isinstance(module, nn.Linear)


def two(make: Callable[[int, int], nn.Module]) -> Stack:
    """8 → 8 → 5 by two layers of a class."""
    return lambda: [make(WIDTH, WIDTH), make(WIDTH, OUT)]


def kept(make: Callable[[], nn.Module], width: int = WIDTH) -> Stack:
    """Two layers that keep their width, and a matrix."""
    return lambda: [make(), make(), nn.Linear(width, OUT)]


def after_matrix(make: Callable[[], nn.Module]) -> Stack:
    """The same with a matrix before them: what it gives is x_0."""
    return lambda: [nn.Linear(WIDTH, WIDTH), make(), make(), nn.Linear(WIDTH, OUT)]


def redraw(stack: list[nn.Module]) -> list[nn.Module]:
    """Parameters and running statistics moved from where they begin: what is 0 there shows."""
    with torch.no_grad():
        for module in stack:
            for value in (*module.parameters(), *module.buffers()):
                drawn = not isinstance(value, nn.parameter.UninitializedParameter)
                if drawn and value.is_floating_point() and value.numel():
                    value.add_(0.3 * torch.rand_like(value))
    return stack


def without_dropout(stack: list[nn.Module]) -> list[nn.Module]:
    """The same modules; nothing in them drops values."""
    for module in stack:
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
    return stack
