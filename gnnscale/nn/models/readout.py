"""GraphModel: one output a graph: blocks on nodes, a readout over each graph's nodes, the head."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import Aggregation, AttentionalAggregation
from torch_geometric.utils import segment
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.kernels import CSR, segment_sum
from gnnscale.nn.blocks.carried import check_carried
from gnnscale.nn.blocks.context import Context, entering
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.blocks.phases import Collect, Dropout, Phase, Read
from gnnscale.nn.blocks.widths import width_after
from gnnscale.nn.convert.pyg_models import as_layered
from gnnscale.nn.convs.propagation import densify
from gnnscale.nn.convs.taken import CARRIED
from gnnscale.nn.norms.segments import pointers_of, segment_of_rows

# Of dropouts, a block and a head have 64 streams each; that before the head takes the head's last.
_LAST_STREAM = 63


class ChannelReadout(nn.Module):
    """Sum, mean or max over the nodes of every graph; of a graph without nodes, 0.

    Args:
        reduce: "sum", "mean" or "max".

    Shapes: x `[num_nodes, channels]`, ptr int64 `[num_graphs + 1]` → `[num_graphs, channels]`.
    """

    def __init__(self, reduce: str) -> None:
        super().__init__()
        self.reduce = reduce

    @override
    def forward(self, x: Tensor, ptr: Tensor) -> Tensor:
        """Read out. Half precision is summed, and returned, in float32."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.reduce == "max":
            return segment(x, ptr, "max")
        total = segment_sum(x, ptr)
        if self.reduce == "sum":
            return total
        return total / ptr.diff().clamp(min=1).unsqueeze(1)

    @override
    def extra_repr(self) -> str:
        return self.reduce


class AggregationReadout(nn.Module):
    """A PyG aggregation over the nodes of every graph.

    Args:
        aggregation: any of `torch_geometric.nn.aggr`.

    Shapes: as of `ChannelReadout`; how many channels leave it the aggregation says.
    """

    def __init__(self, aggregation: Aggregation) -> None:
        super().__init__()
        self.aggregation = aggregation

    @override
    def forward(self, x: Tensor, ptr: Tensor) -> Tensor:
        """Read out, in float32 at least."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        index = segment_of_rows(ptr, x.size(0))
        return self.aggregation(x, index=index, dim_size=ptr.numel() - 1)


READOUTS = ("sum", "mean", "max", "attention")


class GraphModel(nn.Module):
    """A network that gives one output a graph: blocks, readout, dropout, head.

    The readout stands between a network's blocks and its head. Where the head sees all layers
    (`jk="cat"`), so does the readout: h_G = ‖ₖ READOUT({hᵥ⁽ᵏ⁾ : v ∈ G}) (Xu et al., ICLR 2019,
    eq. 4.2), and a linear head on that is the sum of one linear classifier a layer, as GIN has.
    Where there is no head, the last block's outputs are read out and are the result. For the
    features too as a layer of their own (k = 0), begin with `Block(nn.Identity(), act=None)`.

    Args:
        encoder: a `LayeredGNN`, a PyG model or a list of convolutions (see `as_layered`).
        readout: "sum", "mean" or "max" over a graph's nodes; "attention": their mean, weighted by
            the softmax of a learned linear gate (Li et al., ICLR 2016, eq. 7); a PyG
            `Aggregation`; or a module of your own, `forward(x, ptr)` with int64 ptr
            `[num_graphs + 1]`, that gives one row a graph.
        dropout: probability in [0, 1], between readout and head.

    Shapes: x `[num_nodes, in_channels]` → `[num_graphs, out_channels]`.

    Raises:
        InputError: there is no such readout, the dropout is no probability, or the encoder is a
            `GraphModel` already.

    Example:
        GIN with GraphNorm as in Cai et al. (ICML 2021), on a graph of two triangles:

        >>> import torch
        >>> from gnnscale.nn import GIN, GraphModel
        >>> gin = GIN(7, 64, num_layers=5, out_channels=2, norm="graph_norm", jk="cat")
        >>> model = GraphModel(gin, readout="sum", dropout=0.5)
        >>> edge_index = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]])
        >>> model(torch.randn(6, 7), edge_index, ptr=torch.tensor([0, 3, 6])).shape
        torch.Size([2, 2])
    """

    def __init__(self, encoder: object, readout: object = "mean", dropout: float = 0.0) -> None:
        super().__init__()
        if isinstance(encoder, GraphModel):
            raise InputError("the encoder is a GraphModel already: give its own encoder")
        number = isinstance(dropout, int | float) and not isinstance(dropout, bool)
        if not number or not 0 <= dropout <= 1:
            raise InputError(f"dropout={dropout!r}: a probability lies in [0, 1]")
        self.encoder: LayeredGNN = as_layered(encoder)
        self.readout = _as_readout(readout, self.encoder)
        self.dropout = nn.Dropout(dropout)
        self._before_head = Dropout(self.dropout, len(self.encoder.blocks) * 64 + _LAST_STREAM)
        self._named = readout if isinstance(readout, str) else None

    @override
    def forward(
        self,
        x: Tensor | CSR,
        adj: Any,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        *,
        edge_type: Tensor | None = None,
        node_type: Tensor | None = None,
        batch: Tensor | None = None,
        ptr: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Run blocks, readout and head.

        Args:
            x: `[num_nodes, in_channels]`, the nodes of a graph side by side.
            adj: see `LayeredGNN`.
            edge_weight: see `LayeredGNN`.
            edge_attr: see `LayeredGNN`.
            edge_type: see `LayeredGNN`.
            node_type: see `LayeredGNN`.
            batch: int64 `[num_nodes]`, the graph of every node, ascending, as PyG's batches have
                it; graphs after the last node's are not seen.
            ptr: int64 `[num_graphs + 1]`, where each graph begins, in place of `batch`. Without
                either, all nodes are one graph.
            context: what trainers pass; the graphs are its segments "graph".

        Returns:
            `[num_graphs, out_channels]`.
        """
        if context is None:
            context = self.encoder._context(x, adj, edge_weight, edge_attr, edge_type, node_type)
            pointers = _pointers(batch, ptr, context.adj.num_nodes)
            context.segments = {"graph": pointers.to(context.adj.device)}
            check_carried(self, context.carried(CARRIED))
        return self.predict(self.embed(x, context), context)

    def embed(self, x: Tensor | CSR, context: Context) -> Tensor:
        """Run blocks and readout: `[num_graphs, channels]`, what dropout and head are given."""
        ptr = context.segments["graph"]
        # Graphs are here whole: whatever a norm runs over, it is one of them.
        context.segments = dict.fromkeys(("batch", "graph", "cluster"), ptr)
        encoder, layers = self.encoder, []
        x = entering(x, self)
        for block, phases in zip(encoder.blocks, self.phases, strict=True):
            x = context.runner(block, phases, x, context)
            if self._reads_layers:
                layers.append(self.readout(densify(x), ptr))
        if self._reads_layers:
            return torch.cat(layers, 1)
        nodes = x if encoder.jk_mode is None else context.slots["jumping_knowledge"]
        return self.readout(densify(nodes), ptr)

    def predict(self, graphs: Tensor, context: Context) -> Tensor:
        """Run dropout and head on what `embed` gave.

        Args:
            graphs: `[num_graphs, channels]`.
            context: that `embed` was given.
        """
        head = [phase for phase in self.encoder.phases[-1] if not isinstance(phase, Read)]
        ids = context.ids(context.adj.num_nodes, graphs.device)
        if ids.numel():  # a graph is known by its first node (one without nodes by the next one's)
            ids = ids[context.segments["graph"][:-1].clamp(max=ids.numel() - 1)]
        else:
            ids = ids.new_zeros(graphs.size(0))
        of_graphs = dataclasses.replace(context, node_id=ids, segments={}, slots={})
        return context.runner(None, [self._before_head, *head], graphs, of_graphs)

    @property
    def phases(self) -> list[list[Phase]]:
        """The phases of every block: what runs on nodes."""
        blocks = self.encoder.phases[:-1]
        if not self._reads_layers:
            return blocks
        return [[phase for phase in block if not isinstance(phase, Collect)] for block in blocks]

    @property
    def _reads_layers(self) -> bool:
        """Whether layers are read out one by one, rather than side by side: channels do not mix."""
        return self.encoder.jk_mode == "cat" and isinstance(self.readout, ChannelReadout)

    @property
    def in_channels(self) -> int | None:
        """Features that the first block expects, or None where its convolution does not say."""
        return self.encoder.in_channels

    @property
    def spec(self) -> dict[str, Any] | None:
        """What `from_spec` builds it from again; None where a part of it has no name."""
        if self.encoder.spec is None or self._named is None:
            return None
        arguments = {
            "encoder": self.encoder.spec,
            "readout": self._named,
            "dropout": self.dropout.p,
        }
        return {"model": "GraphModel", "arguments": arguments}

    def signature(self) -> dict[str, Any]:
        """Names, shapes and types of the parameters, and the kinds of the phases."""
        return {**self.encoder.signature(), "readout": self._readout_signature()}

    def _readout_signature(self) -> dict[str, Any]:
        lazy = nn.parameter.UninitializedParameter
        state = self.readout.state_dict(keep_vars=True)
        return {
            "kind": self._named or type(self.readout).__name__,
            "parameters": {
                k: None if isinstance(v, lazy) else [*v.shape] for k, v in state.items()
            },
        }


def _as_readout(readout: object, encoder: LayeredGNN) -> nn.Module:
    if isinstance(readout, Aggregation):
        return AggregationReadout(readout)
    if isinstance(readout, nn.Module):
        return readout
    if not isinstance(readout, str) or readout not in READOUTS:
        raise InputError(
            f"readout={readout!r}: one of {', '.join(READOUTS)}, a PyG Aggregation or a module "
            "with forward(x, ptr)"
        )
    if readout != "attention":
        return ChannelReadout(readout)
    width = encoder.in_channels
    slots: dict[str, int | None] = {}
    for phases in encoder.phases[:-1]:
        for phase in phases:
            width = width_after(phase, width, slots)
    width = slots.get("jumping_knowledge", width)
    gate = nn.LazyLinear(1) if width is None else nn.Linear(width, 1)
    return AggregationReadout(AttentionalAggregation(gate))


def _pointers(batch: Tensor | None, ptr: Tensor | None, num_nodes: int) -> Tensor:
    if batch is not None and ptr is not None:
        raise InputError("batch and ptr say the same: give one")
    if batch is not None:
        return pointers_of(batch, num_nodes)
    if ptr is None:
        return torch.tensor([0, num_nodes])
    bad = ptr.dim() != 1 or ptr.numel() < 2 or int(ptr[0]) != 0 or int(ptr[-1]) != num_nodes
    if bad or bool((ptr.diff() < 0).any()):
        raise InputError(f"ptr runs from 0 up to the {num_nodes} nodes, [num_graphs + 1]")
    return ptr
