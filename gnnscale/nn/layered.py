"""LayeredGNN: a model as a list of blocks, a block a list of phases. What every trainer takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale.errors import InputError
from gnnscale.graph import as_adjacency
from gnnscale.kernels import CSR
from gnnscale.nn.block import Block, channels, row_phases
from gnnscale.nn.context import Context
from gnnscale.nn.phases import Add, Collect, Phase, Read, Save, fuse
from gnnscale.nn.propagation import is_intercepted


@dataclass(frozen=True)
class Slot:
    """A value that outlives the phase that makes it.

    Attributes:
        name: its key.
        width: channels, or None where they are known only at run time.
        first: the block that writes it first.
        last: the block (or, being the number of blocks, the head) that reads it last.
    """

    name: str
    width: int | None
    first: int
    last: int


class LayeredGNN(nn.Module):
    """A graph neural network as blocks and a head.

    Args:
        blocks: the blocks, in order.
        head: a row-local module after the last block, or None.
        jk: None, "cat" or "max": the head sees the outputs of all blocks, joined
            (jumping knowledge; Xu et al., ICML 2018).

    Shapes: x `[num_nodes, in_channels]` → `[num_nodes, out_channels]`.
    """

    def __init__(
        self,
        blocks: Sequence[Block | nn.Module],
        head: nn.Module | None = None,
        *,
        jk: str | None = None,
    ) -> None:
        super().__init__()
        if not blocks:
            raise InputError("a LayeredGNN needs at least one block")
        if jk not in (None, "cat", "max"):
            raise InputError(f"jk={jk!r}: jumping knowledge is None, 'cat' or 'max'")
        self._register(blocks, head)
        self.jk_mode = jk
        self.spec: dict[str, Any] | None = None
        self._compiled: tuple[Any, list[list[Phase]]] | None = None

    def _register(self, blocks: Sequence[Block | nn.Module], head: nn.Module | None) -> None:
        self.blocks: Any = nn.ModuleList(b if isinstance(b, Block) else Block(b) for b in blocks)
        self.head = head

    def forward(
        self,
        x: Tensor | CSR,
        adj: Any,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        *,
        context: Context | None = None,
    ) -> Tensor:
        """Run all blocks and the head.

        Args:
            x: `[num_nodes, in_channels]`, dense or sparse.
            adj: an `Adjacency`, `edge_index` `[2, num_edges]`, or a torch sparse tensor read as PyG
                reads it.
            edge_weight: `[num_edges]`, with an `edge_index` only.
            edge_attr: `[num_edges, channels]`, in the order of `adj`.
            context: what trainers pass: structure, randomness and slots of this pass.

        Returns:
            `[num_nodes, out_channels]`.
        """
        if context is None:
            context = self._context(x, adj, edge_weight, edge_attr)
        for phases in self.phases:
            for phase in phases:
                x = phase(x, context)
        return x  # type: ignore[return-value]

    def _context(
        self, x: Tensor | CSR, adj: Any, edge_weight: Tensor | None, edge_attr: Tensor | None
    ) -> Context:
        from gnnscale.graph import Adjacency

        if isinstance(adj, Tensor) and adj.layout == torch.strided:
            adj, order = Adjacency.with_permutation(
                adj.as_subclass(Tensor), x.shape[0], edge_weight
            )
            edge_attr = None if edge_attr is None else edge_attr[order]
        elif edge_weight is not None:
            raise InputError("edge_weight goes with an edge_index; an adjacency carries its own")
        return Context(as_adjacency(adj, x.shape[0]), self.training, edge_attr=edge_attr)

    @property
    def phases(self) -> list[list[Phase]]:
        """The phases of every block, and of the head last.

        Rebuilt when hooks come or go and when a module or a parameter is replaced, as
        `load_state_dict(assign=True)` does: phases refer to the parameters themselves.
        """
        state = self._state()
        if self._compiled is None or self._compiled[0] != state:
            built = [b.phases(i, self.jk_mode) for i, b in enumerate(self.blocks)]
            self._compiled = (state, [*built, self._head_phases()])
        return self._compiled[1]

    def _state(self) -> tuple[Any, ...]:
        parts = [part for part in (*self.blocks, self.head) if part is not None]
        modules = [module for part in parts for module in part.modules()]
        return (
            modules,
            [is_intercepted(module) for module in modules],
            # A lazy parameter stays the same object, and changes its class.
            [(id(p), type(p)) for module in modules for p in module._parameters.values()],
            [block.dropout.p > 0 for block in self.blocks],
        )

    def _head_phases(self) -> list[Phase]:
        phases: list[Phase] = [Read("jumping_knowledge")] if self.jk_mode else []
        if self.head is not None:
            first = len(self.blocks) * 64
            phases += row_phases(self.head, iter(range(first, first + 64)))
        return fuse(phases)

    @property
    def slots(self) -> list[Slot]:
        """The values that outlive a block's phases, with their widths and lifetimes."""
        seen: dict[str, list[int]] = {}
        widths: dict[str, int | None] = {}
        for i, phases in enumerate(self.phases):
            for phase in phases:
                if isinstance(phase, Save | Add | Collect | Read):
                    seen.setdefault(phase.slot, []).append(i)
                    if isinstance(phase, Collect):
                        new = channels(self.blocks[i].conv, "out")
                        old = widths.get(phase.slot, 0) if phase.mode == "cat" else 0
                        widths[phase.slot] = None if new is None or old is None else old + new
                    elif isinstance(phase, Save):
                        widths[phase.slot] = channels(self.blocks[i].conv, "in")
        return [Slot(name, widths.get(name), at[0], at[-1]) for name, at in seen.items()]

    @property
    def in_channels(self) -> int | None:
        """Features that the first block expects, or None where its convolution does not say."""
        return channels(self.blocks[0].conv, "in")

    def signature(self) -> dict[str, Any]:
        """Names, shapes and types of the parameters, and the kinds of the phases."""
        return {
            "parameters": {
                name: "lazy"
                if isinstance(value, nn.parameter.UninitializedParameter)
                else [list(value.shape), str(value.dtype).removeprefix("torch.")]
                for name, value in self.state_dict(keep_vars=True).items()
            },
            "phases": [[type(phase).__name__ for phase in phases] for phases in self.phases],
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}  # phases refer to this model's own modules
