"""Blocks as a model of PyG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import Sequential
from typing_extensions import override

from gnnscale.errors import UnsupportedModel
from gnnscale.nn.blocks.block import Block, Chain
from gnnscale.nn.blocks.operations import Apply, Operation
from gnnscale.nn.blocks.phases import (
    Join,
    Read,
    Save,
    concatenate,
    maximum,
)
from gnnscale.nn.convs.propagation import is_convolution
from gnnscale.nn.convs.taken import Taken, taken_by
from gnnscale.nn.modules import is_intercepted, works_in_place


class BlocksSequential(Sequential):
    """A PyG `Sequential` whose layers are given what they take of edges' and nodes' values.

    It follows its headers itself. PyG writes a `forward` for each `Sequential`, under a random name
    that repeats where Python's `random` is seeded anew, and puts it on the class, where the next
    one finds it that could not have its own written: a model may run as another (PyG 2.8.1).

    Attributes:
        taken: what layers take beside what their headers say, by number.
    """

    def __init__(
        self, children: Sequence[tuple[Callable[..., Any], str]], taken: Mapping[int, Taken]
    ) -> None:
        super().__init__("x, edge_index", list(children))
        self.taken = dict(taken)

    @override
    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        *,
        edge_type: Tensor | None = None,
        node_type: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        """X `[num_nodes, in_channels]` → `[num_nodes, out_channels]`."""
        carried = {
            "edge_weight": edge_weight,
            "edge_attr": edge_attr,
            "edge_type": edge_type,
            "node_type": node_type,
            "batch": batch,
        }
        values = {"x": x, "edge_index": edge_index}
        for number, (name, given, (output,)) in enumerate(self._children):
            args, named = self.taken.get(number, Taken()).arguments(x, carried)
            call = getattr(self, name)
            x = values[output] = call(*(values[value] for value in given), *args, **named)
        return x


def to_sequential(
    model: nn.Module, blocks: Sequence[Block | Chain], head: nn.Module | None, jk: str | None
) -> BlocksSequential:
    """Write a model's blocks and head as a `Sequential`; see `LayeredGNN.to_pyg`."""
    for part in (model, *blocks):
        if is_intercepted(part):
            raise UnsupportedModel(
                f"{type(part).__name__} has hooks, which a Sequential of its modules would skip; "
                "put them on its convolutions"
            )
    writer = _Writer()
    after_blocks = []
    for i, block in enumerate(blocks):
        for operation in block.operations(i):
            writer.write(operation)
        after_blocks.append(writer.current)
    if jk is not None:
        writer.call(concatenate if jk == "cat" else maximum, after_blocks)
    if head is not None:
        writer.write(Apply(head))
    sequential = writer.sequential()
    sequential.training = model.training
    return sequential


class _Writer:
    """Modules with their headers; every value has a name of its own."""

    def __init__(self) -> None:
        self.current = "x"
        self._slots: dict[str, str] = {}
        self._children: list[tuple[Callable[..., Any], str]] = []
        self._taken: dict[int, Taken] = {}

    def write(self, operation: Operation) -> None:
        """Append a operation of a block."""
        match operation:
            case Save(slot):
                self._slots[slot] = self.current
            case Read(slot):
                self.current = self._slots[slot]
            case Join(function, slots):
                self.call(function, [*(self._slots[slot] for slot in slots), self.current])
            case Apply(module, slots) if is_convolution(module):
                beside = [self._slots[slot] for slot in slots]
                self._taken[len(self._children)] = taken_by(module, len(slots)).among(
                    operation.takes
                )
                self.call(module, [self.current, *beside, "edge_index"])
            case Apply(module):
                if works_in_place(module):
                    self.call(torch.clone, [self.current])  # others may read it later
                self.call(module, [self.current])

    def call(self, module: Callable[..., object], values: list[str]) -> None:
        """Append a module or function of named values; its output is current after it."""
        self.current = f"x{len(self._children) + 1}"
        self._children.append((module, f"{', '.join(values)} -> {self.current}"))

    def sequential(self) -> BlocksSequential:
        """The model; it returns what its last module does."""
        if self.current != f"x{len(self._children)}":
            self.call(nn.Identity(), [self.current])
        return BlocksSequential(self._children, self._taken)
