"""Models that are cut into sections, and a walk over their sections, for the layer-wise tests."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg

import gnnscale as gs
import gnnscale.nn as gsnn
from gnnscale.graph import Graph, Split
from gnnscale.inference.engine import activation_type, store_for
from gnnscale.nn import Block, Context, LayeredGNN
from gnnscale.train.layerwise.sections import Section, sections_of
from gnnscale.train.layerwise.streams import AGGREGATED, SectionInput, Stream
from tests.helpers.memory import few_columns

IN, HIDDEN, CLASSES = 5, 4, 3  # narrower than the features


class OwnConv(nn.Module):
    """A user's layer, registered as a propagation: x Wᵀ + A x."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.near, self.far = (nn.Linear(in_channels, out_channels) for _ in range(2))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        source, target = edge_index
        weight = x.new_ones(source.numel()) if edge_weight is None else edge_weight
        sums = torch.zeros_like(x).index_add(0, target, weight.unsqueeze(1) * x[source])
        return self.far(sums) + self.near(x)


def _own(conv: OwnConv) -> gsnn.Propagation:
    matrix = gsnn.Sum(weighted=True)
    return gsnn.Propagation(matrix, weight=conv.far.weight, bias=conv.far.bias, root=conv.near)


gsnn.register(OwnConv, propagation=_own)


def _blocks(conv: Any, layers: int = 3, **arguments: Any) -> LayeredGNN:
    order = arguments.pop("order", "conv-norm-act-dropout")
    hidden = [
        Block(conv(IN if i == 0 else HIDDEN, HIDDEN), order=order, **arguments)
        for i in range(layers - 1)
    ]
    return LayeredGNN([*hidden, Block(conv(HIDDEN, CLASSES), act=None)])


def _wide(name: str, **arguments: Any) -> Any:
    """Widens first and narrows last: both orders of propagation and transform."""
    return lambda: getattr(gsnn, name)(IN, 2 * IN, 3, CLASSES, dropout=0.4, **arguments)


def _narrow(name: str, **arguments: Any) -> Any:
    return lambda: getattr(gsnn, name)(IN, 3, 3, CLASSES, dropout=0.4, **arguments)


def _tail() -> LayeredGNN:
    layers = [nn.Linear(IN, IN), nn.Linear(IN, CLASSES), pyg.APPNP(3, 0.2)]
    return LayeredGNN([Block(layers[0]), Block(layers[1], act=None), Block(layers[2], act=None)])


def _sequential() -> LayeredGNN:
    return gsnn.as_layered(
        pyg.Sequential(
            "x, edge_index",
            [
                (pyg.GCNConv(IN, HIDDEN), "x, edge_index -> a"),
                nn.ReLU(),
                (pyg.SAGEConv(HIDDEN, HIDDEN), "a, edge_index -> b"),
                (lambda a, b: a + b, "a, b -> c"),
                nn.Dropout(0.3),
                (pyg.GCNConv(HIDDEN, CLASSES), "c, edge_index -> d"),
            ],
        )
    )


MODELS: dict[str, Any] = {
    "GCN": _wide("GCN"),
    "GCN, narrow": _narrow("GCN", norm="batch_norm"),
    "SAGE": _wide("GraphSAGE", norm="graph_norm"),
    "SAGE, narrow": _narrow("GraphSAGE", normalize=True),
    "GIN": _wide("GIN", norm="batch_norm"),
    "GIN, trained eps": _wide("GIN", train_eps=True),
    "SGC": _wide("SGC", K=3),
    "Cluster-GCN": _wide("ClusterGCN", diag_lambda=0.5),
    "Cluster-GCN, concatenated": _wide(
        "ClusterGCN", propagation="mean", concatenated=True, propagated_dropout=0.3, bias=False,
        norm="layer_norm", norm_kwargs={"mode": "node"},
    ),
    "TAG": lambda: _blocks(pyg.TAGConv),
    "TAG, wide": _wide("TAGCN"),
    "SIGN": lambda: gsnn.SIGN(IN, HIDDEN, 3, CLASSES, dropout=0.3, hops=2),
    "SIGN, wide": lambda: gsnn.SIGN(IN, 2 * IN, 3, CLASSES, dropout=0.3, norm="batch_norm"),
    "GCNII": lambda: gsnn.GCNII(IN, HIDDEN, 3, CLASSES, dropout=0.3),
    "DeepGCN": lambda: gsnn.DeepGCN(IN, HIDDEN, 3, CLASSES, dropout=0.3),
    "residual": _wide("GraphSAGE", residual=True),
    "dense residual": lambda: LayeredGNN(
        [
            Block(pyg.SAGEConv(IN, HIDDEN), residual="dense"),
            Block(pyg.GCNConv(IN + HIDDEN, HIDDEN), residual="dense", dropout=0.3),
            Block(pyg.GCNConv(IN + 2 * HIDDEN, CLASSES), act=None),
        ]
    ),
    "JK cat": _narrow("GCN", jk="cat"),
    "JK max": _wide("GIN", jk="max"),
    "pre-activation": lambda: _blocks(
        pyg.GCNConv, order="norm-act-dropout-conv", norm="layer_norm", dropout=0.3
    ),
    "activation and dropout first": lambda: _blocks(
        pyg.SAGEConv, order="act-dropout-conv", act="elu", dropout=0.3
    ),
    "dropout first": lambda: _blocks(
        pyg.SAGEConv, order="dropout-conv-norm-act", norm="batch_norm", dropout=0.3
    ),
    "residual, dropout first": lambda: LayeredGNN(
        [
            Block(
                pyg.GINConv(nn.Linear(IN, IN)), dropout=0.3, order="dropout-conv-act", residual=True
            ),
            Block(pyg.GCNConv(IN, CLASSES), act=None),
        ]
    ),
    "pair norm": _wide("GCN", norm="pair_norm"),
    "graph-wise layer norm": _wide("GraphSAGE", norm="layer_norm"),
    "Sequential": _sequential,
    "APPNP tail": _tail,
    "perceptron first": lambda: LayeredGNN(
        [Block(nn.Linear(IN, IN), dropout=0.2), Block(pyg.GCNConv(IN, HIDDEN))],
        head=nn.Linear(HIDDEN, CLASSES),
    ),
    "user's": lambda: _blocks(OwnConv),
    "no parameters first": lambda: LayeredGNN(
        [Block(pyg.APPNP(2, 0.1)), Block(pyg.SAGEConv(IN, CLASSES), act=None)]
    ),
    "head": lambda: LayeredGNN(
        [Block(pyg.GCNConv(IN, HIDDEN), norm="graph_norm")], head=nn.Linear(HIDDEN, CLASSES)
    ),
}  # fmt: skip


def stream_of(model: LayeredGNN, graph: Graph, rows: Any = torch.float32, **options: Any) -> Stream:
    layers = store_for(model, graph, **options)
    assert graph.x is not None
    features = layers.features(graph.x, activation_type(model, graph))
    return Stream(graph, layers, features, rows)


@contextlib.contextmanager
def place_of(place: str, graph: Graph) -> Iterator[dict[str, Any]]:
    """Options that keep layers in memory, in files, or in files a column or two at a time."""
    with tempfile.TemporaryDirectory() as folder:
        if place == "memory":
            yield {}
        else:
            few = few_columns(10 * max(graph.num_nodes, 1))
            with few if place == "columns" else contextlib.nullcontext():
                yield {"storage": folder}


def kept(rows: SectionInput, slot: str) -> Any:
    """The rows that are kept for a slot, dense."""
    part = rows.parts[slot]
    if hasattr(part, "to_dense"):
        return part.to_dense()
    return part.rows(0, len(rows))


def run_rows(section: Section, rows: SectionInput, graph: Graph) -> Tensor:
    """A separable section on the rows that were collected for it, in evaluation mode."""
    context = Context(graph.adj, False)
    for slot in rows.parts:
        if slot != AGGREGATED:
            context.slots[slot] = kept(rows, slot)
    x = kept(rows, AGGREGATED)
    for phase in section.trained_phases:
        x = phase(x, context)
    return x


def walked(
    model: LayeredGNN, stream: Stream, wanted: list[Tensor]
) -> Iterator[tuple[Section, list[SectionInput]]]:
    """Every section with the rows collected for it, as the trainer goes through them."""
    sections = sections_of(model)
    for section in sections:
        found = stream.collect(section, wanted)
        yield section, found
        later = [other for other in sections if other.index > section.index]
        stream.advance(section, {slot for other in later for slot in other.earlier_slots})


def layerwise(
    model: Any, graph: Any, controller: Any = None, **options: Any
) -> gs.LayerwiseTrainer:
    controller = gs.FixedEpochs(2) if controller is None else controller
    settings = {"batch_rows": 8, "progress": False, **options}
    return gs.LayerwiseTrainer(model, graph, controller, **settings)


def sage(**arguments: Any) -> LayeredGNN:
    torch.manual_seed(1)
    return gs.nn.GraphSAGE(IN, HIDDEN, 2, CLASSES, dropout=0.3, **arguments)


def split_of(graph: Graph, split: Split) -> Graph:
    return dataclasses.replace(graph, splits={"default": split})
