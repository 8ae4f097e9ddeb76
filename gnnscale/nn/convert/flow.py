"""Flow: a model as operations on numbered values, and these as blocks with slots.

A value that is read again later, and not only by the operation right after it, is kept in a slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnscale.errors import UnsupportedModel
from gnnscale.nn.blocks.block import Chain
from gnnscale.nn.blocks.operations import Apply, Operation
from gnnscale.nn.blocks.phases import Join, Read, Save
from gnnscale.nn.blocks.widths import (
    channels,
    holds_matrix,
    joined_width,
    width_after_rows,
)
from gnnscale.nn.convs.propagation import is_convolution
from gnnscale.nn.convs.taken import CARRIED
from gnnscale.nn.modules import evaluation_mode


class _Value(NamedTuple):
    """How a value is made, out of the current one and others."""

    what: Any
    current: int
    others: tuple[int, ...]
    takes: frozenset[str] | None  # for a module; None for a joining function
    begins: bool  # a block

    def operation(self) -> Operation:
        slots = tuple(map(_slot, self.others))
        if self.takes is None:
            return Join(self.what, slots)
        return Apply(self.what, slots, self.takes)


class Flow:
    """Operations in the order in which they run. Value 0 is the model's input."""

    def __init__(self) -> None:
        self.widths: list[int | None] = [None]  # of the values, None where unknown
        self._operations: list[_Value] = []
        self._written_over: dict[int, int] = {}  # values, and what in-place modules made of them

    def rows(self, module: nn.Module, value: int) -> int:
        """Apply a row-local module; the number of its output.

        Whoever reads the input of one that works in place afterwards, reads its output.
        """
        value = self._now(value)
        self.widths[value] = self.widths[value] or channels(module, "in")
        width = width_after_rows(module, self.widths[value])
        output = self._add(module, value, (), CARRIED, width)
        if getattr(module, "inplace", False):
            self._written_over[value] = output
        return output

    def function(self, function: nn.Module, value: int, width: int | None) -> int:
        """Apply a row-local function of the user's; the number of its output."""
        return self._add(function, self._now(value), (), CARRIED, width)

    def convolution(self, conv: nn.Module, value: int, beside: list[int], takes: frozenset) -> int:
        """Apply a convolution, which takes other values after x; the number of its output."""
        value, *beside = map(self._now, [value, *beside])
        self.widths[value] = self.widths[value] or channels(conv, "in")
        return self._add(conv, value, tuple(beside), takes, channels(conv, "out"))

    def join(
        self, function: Callable[..., Tensor], values: list[int], width: int | None = None
    ) -> int:
        """Apply a row-local function of several values; the number of its output."""
        *others, current = values = list(map(self._now, values))
        width = width or joined_width(function, [self.widths[value] for value in values])
        return self._add(function, current, tuple(others), None, width)

    def as_one_block(self, first: int) -> None:
        """Let the operations from number `first` on be one block."""
        self._operations[first:] = [
            operation._replace(begins=i == 0)
            for i, operation in enumerate(self._operations[first:])
        ]

    def __len__(self) -> int:
        return len(self._operations)

    def _now(self, value: int) -> int:
        while value in self._written_over:
            value = self._written_over[value]
        return value

    def _add(
        self,
        what: Any,
        current: int,
        others: tuple[int, ...],
        takes: frozenset[str] | None,
        width: int | None,
    ) -> int:
        begins = takes is not None and (is_convolution(what) or holds_matrix(what))
        self._operations.append(_Value(what, current, others, takes, begins))
        self.widths.append(width)
        return len(self._operations)

    def chains(self, output: int) -> list[Chain]:
        """The operations as blocks: one begins at every convolution and every dense layer.

        Args:
            output: the value that the model returns.
        """
        output = self._now(output)
        # An operation's output is current when the next one runs, and has no other place.
        kept = {value for operation in self._operations for value in operation.others}
        kept |= {op.current for before, op in enumerate(self._operations) if op.current != before}
        kept |= {output} - {len(self._operations)}
        blocks: list[list[Operation]] = [[Save(_slot(0))] if 0 in kept else []]
        begun = False
        for before, operation in enumerate(self._operations):
            if operation.begins and begun:
                blocks.append([])
            begun = begun or operation.begins
            if operation.current != before:
                blocks[-1].append(Read(_slot(operation.current)))
            blocks[-1].append(operation.operation())
            if before + 1 in kept:
                blocks[-1].append(Save(_slot(before + 1)))
        if output != len(self._operations):
            blocks[-1].append(Read(_slot(output)))
        return [Chain(operations) for operations in blocks]


def _slot(value: int) -> str:
    return f"value{value}"


_ROWS, _WIDTH = 12, 8


@torch.no_grad()
def check_row_local(
    function: Callable[..., Any], widths: Sequence[int | None]
) -> Tensor | list[int]:
    """Run a function of rows on random rows and on some of them.

    Args:
        function: takes one tensor `[num_rows, width]` for each width.
        widths: channels of its arguments; None where unknown, and those of another are tried, or 8.

    Returns:
        Its output `[12, channels]`; or, where it returns a list of its own arguments, which.

    Raises:
        UnsupportedModel: it fails, mixes rows, draws random numbers or changes its arguments.
    """
    generator = torch.Generator().manual_seed(0)
    tried = next((width for width in widths if width is not None), _WIDTH)
    rows = [torch.randn(_ROWS, width or tried, generator=generator) for width in widths]
    some = torch.randperm(_ROWS, generator=generator)[: _ROWS // 2]
    given = [x.clone() for x in rows]
    with evaluation_mode(function if isinstance(function, nn.Module) else nn.Identity()):
        try:
            out, again = function(*given), function(*(x.clone() for x in rows))
            part = function(*(x[some] for x in rows))
        except Exception as error:
            raise _refusal(function, f"does not run on rows alone ({error!r})") from error
    if isinstance(out, list | tuple):
        which = [i for one in out for i, x in enumerate(given) if x is one]
        if len(which) < len(out):
            raise _refusal(function, "returns a list, and of other things than its arguments")
        return which
    if not (isinstance(out, Tensor) and out.dim() == 2 and out.size(0) == _ROWS):
        raise _refusal(function, "does not return one row for each row")
    changed = not all(torch.equal(x, y) for x, y in zip(given, rows, strict=True))
    if changed or not torch.equal(out, again):
        raise _refusal(function, "changes its arguments or draws random numbers (see nn.Dropout)")
    if part.shape != out[some].shape or not torch.allclose(part, out[some], 1e-4, 1e-5):
        raise _refusal(function, "mixes rows, which batches and chunks hold only some of")
    return out


def _refusal(function: object, fault: str) -> UnsupportedModel:
    name = getattr(function, "__name__", type(function).__name__)
    return UnsupportedModel(
        f"{name} between layers {fault}; use a module of torch or torch_geometric, or write the "
        "model as gs.nn.LayeredGNN([gs.nn.Block(conv), …])"
    )
