"""What a layer is given of the values that a graph carries for its edges and nodes.

By the names of its `forward`, after the graph's structure: `edge_weight` (or `edge_weights`,
`weight`, `weights`), `edge_attr` (`edge_attrs`, `edge_feat`, `edge_features`), `edge_type`,
`node_type` and `batch`, each also in the plural. A `forward` that hands on `*args` or `**kwargs`
is given what the convolutions inside it take, or what it names in its text (`kwargs.get("batch")`).
One without a default is needed; but a `batch`, which
is zeros where there is one graph.

PyG's convolutions all have `edge_attr` in their signature, and use it where they were built for it:
there the instance decides, as in PyG's own `model(x, edge_index)`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn import conv as pyg

from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.nn.modules import parameters

# What a layer may be given beside x and edge_index: values of edges, and values of nodes.
NODE_VALUES = ("node_type", "batch")
CARRIED = frozenset((*EDGE_VALUES, *NODE_VALUES))
_ALSO_CALLED = {
    "edge_weight": ("edge_weights", "weight", "weights"),
    "edge_attr": ("edge_attrs", "edge_feat", "edge_feats", "edge_feature", "edge_features"),
    "edge_type": ("edge_types",),
    "node_type": ("node_types",),
    "batch": (),
}
NEEDS, TAKES, NEVER = "needs", "takes", "never"


@dataclass(frozen=True)
class Taken:
    """What a layer takes.

    Attributes:
        names: what the layer calls each of `CARRIED` that it takes.
        needs: those that it cannot do without.
        by_place: its parameters in order, where it hands on what comes by place alone.
        width: the channels that `edge_attr` must have to be given; None for any.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    by_place: tuple[str, ...] = ()
    width: int | None = None

    def among(self, allowed: Iterable[str]) -> Taken:
        """What is left where no others may be given."""
        allowed = frozenset(allowed)
        names = {name: theirs for name, theirs in self.names.items() if name in allowed}
        return replace(self, names=names, needs=self.needs & allowed)

    def fits(self, name: str, value: Tensor) -> bool:
        """Whether the layer is given this value."""
        narrow = name == "edge_attr" and self.width is not None
        return name in self.names and not (narrow and value.shape[-1] != self.width)

    def arguments(self, x: Tensor, carried: Mapping[str, Tensor | None]) -> tuple[list, dict]:
        """What the layer is called with after x and the graph: by place, and by name.

        Floats are cast to the type of `x`: a float64 weight would turn float32 rows to float64.
        """
        given: dict[str, Any] = {}
        for name, value in carried.items():
            if value is not None and self.fits(name, value):
                floats = value.is_floating_point()
                given[self.names[name]] = value.to(x.dtype) if floats else value
        if "batch" in self.needs and self.names["batch"] not in given:
            given[self.names["batch"]] = torch.zeros(x.size(0), dtype=torch.int64, device=x.device)
        if not self.by_place:
            return [], given
        last = max((self.by_place.index(name) for name in given), default=-1)
        return [given.get(name) for name in self.by_place[: last + 1]], {}


def taken_by(layer: nn.Module, beside: int = 0) -> Taken:
    """What a layer takes; `beside`: how many slots it reads between x and the graph."""
    found = parameters(layer)
    kinds = [p.kind for p in found.values()]
    after = list(found)[_graph_at(list(found), beside) + 1 :]
    named = _named(after)
    needs = {name for name, own in named.items() if found[own].default is found[own].empty}
    taken = Taken(named, frozenset(needs))
    by_name = any(kind is kind.VAR_KEYWORD for kind in kinds)
    if by_name or any(kind is kind.VAR_POSITIONAL for kind in kinds):
        taken = _with_handed_on(layer, taken, by_name)
    for name, use in _of_pyg(layer).items():
        if isinstance(use, int):
            taken = replace(taken, width=use)
        elif use == NEVER:
            taken = taken.among(CARRIED - {name})
        elif use == NEEDS:
            taken = replace(taken, needs=taken.needs | {name})
    return taken


def places(layer: nn.Module, beside: int = 0) -> list[str | None]:
    """What each parameter after the graph stands for, by place; None for one that is not carried.

    Whether the layer was built for it does not matter here.
    """
    found = parameters(layer)
    names: list[str | None] = []
    after = list(found)[_graph_at(list(found), beside) + 1 :]
    called = {theirs: name for name, theirs in _named(after).items()}
    for name in after:
        kind = found[name].kind
        if kind is kind.VAR_POSITIONAL and len(inside := _inside(layer)) == 1:
            return [*names, *places(inside[0])]
        if kind is not kind.POSITIONAL_OR_KEYWORD:
            break
        names.append(called.get(name))
    return names


def usual_name(name: str) -> str:
    """What a value is called here; the name itself where it is none of `CARRIED`."""
    return next((own for own, also in _ALSO_CALLED.items() if name in also), name)


def _named(parameters: list[str]) -> dict[str, str]:
    """Which of some parameters stands for each of `CARRIED`."""
    found = {
        name: [own for own in (name, *also) if own in parameters]
        for name, also in _ALSO_CALLED.items()
    }
    return {name: own[0] for name, own in found.items() if own}


def _graph_at(names: list[str], beside: int) -> int:
    return names.index("edge_index") if "edge_index" in names else 1 + beside


def _with_handed_on(layer: nn.Module, own: Taken, by_name: bool) -> Taken:
    """What the layers inside take as well, where all that are there take it."""
    inside = _inside(layer)
    taken = [taken_by(child) for child in inside]
    if not inside:
        read = CARRIED
        if isinstance(layer, MessagePassing):
            read = _read_by_messages(layer) | _named_in(layer.forward)
        taken = [Taken({name: name for name in CARRIED & read})]
    first, *others = taken
    names = {
        name: theirs
        for name, theirs in first.names.items()
        if name not in own.names and all(t.names.get(name) == theirs for t in others)
    }
    needs = frozenset[str]().union(*(t.needs for t in taken)) & names.keys()
    width = next((t.width for t in taken if t.width is not None), None)
    if by_name:
        return Taken({**own.names, **names}, own.needs | needs, width=width)
    if len(inside) != 1 or own.names:  # by place, what comes is read as the one layer inside does
        return own
    after = list(parameters(inside[0]))
    return Taken(names, needs, tuple(after[_graph_at(after, 0) + 1 :]), width)


def _inside(layer: nn.Module) -> list[nn.Module]:
    """The convolutions that a layer holds itself, in lists or not."""
    found: list[nn.Module] = []
    for child in layer.children():
        if isinstance(child, MessagePassing) or "edge_index" in parameters(child):
            found.append(child)
        elif isinstance(child, nn.ModuleList | nn.ModuleDict | nn.Sequential):
            found += _inside(child)
    return found


def _read_by_messages(layer: MessagePassing) -> frozenset[str]:
    """What `message` and its like ask for: `propagate` takes no more."""
    return frozenset(
        name
        for method in (layer.message, layer.edge_update, layer.aggregate, layer.update)
        for name in method.__code__.co_varnames[: method.__code__.co_argcount]
    )


def _named_in(forward: object) -> frozenset[str]:
    """What a `forward` names in its text, as `kwargs.get("edge_weight")` does."""
    consts = getattr(getattr(forward, "__code__", None), "co_consts", ())
    return frozenset(value for value in consts if isinstance(value, str))


def _by_edge_dim(then: str) -> Callable[[Any], dict[str, Any]]:
    return lambda conv: {"edge_attr": NEVER if conv.edge_dim is None else then}


def _relational_attention(conv: pyg.RGATConv) -> dict[str, Any]:
    return {"edge_type": NEEDS, **_by_edge_dim(TAKES)(conv)}


def _gen(conv: pyg.GENConv) -> dict[str, Any]:
    # Without a map of their own, attributes are added to the messages, of whose width they are.
    return {"edge_attr": TAKES if hasattr(conv, "lin_edge") else conv.out_channels}


def _film(conv: pyg.FiLMConv) -> dict[str, Any]:
    return {"edge_type": NEEDS if conv.num_relations > 1 else NEVER}


_IN_PYG: dict[type, Callable[[Any], dict[str, Any]]] = {
    pyg.GATConv: _by_edge_dim(TAKES),
    pyg.GATv2Conv: _by_edge_dim(TAKES),
    pyg.TransformerConv: _by_edge_dim(NEEDS),
    pyg.PNAConv: _by_edge_dim(NEEDS),
    pyg.ResGatedGraphConv: _by_edge_dim(NEEDS),
    pyg.GENConv: _gen,
    pyg.GeneralConv: lambda conv: {"edge_attr": TAKES if hasattr(conv, "lin_edge") else NEVER},
    pyg.CGConv: lambda conv: {"edge_attr": NEEDS if conv.dim else NEVER},
    **dict.fromkeys(
        (pyg.GINEConv, pyg.NNConv, pyg.GMMConv, pyg.SplineConv, pyg.HEATConv),
        lambda conv: {"edge_attr": NEEDS},
    ),
    **dict.fromkeys((pyg.RGCNConv, pyg.FastRGCNConv), lambda conv: {"edge_type": NEEDS}),
    pyg.RGATConv: _relational_attention,
    pyg.FiLMConv: _film,
}


def _of_pyg(layer: nn.Module) -> dict[str, Any]:
    """How PyG's own forward uses attributes and types; nothing where it is not PyG's."""
    cls = next(cls for cls in type(layer).__mro__ if "forward" in cls.__dict__)
    known = _IN_PYG.get(cls)
    return {} if known is None or "forward" in layer.__dict__ else known(layer)


_PADDED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class Padded(NamedTuple):
    """What a layer is given: see `Neighbourhood.run`."""

    rows: list[Tensor]
    edge_index: Tensor
    carried: dict[str, Tensor]


def pad_pieces_of(module: nn.Module, needed: bool) -> None:
    """Say whether a layer is to be given padded pieces."""
    (_PADDED.add if needed else _PADDED.discard)(module)


def takes_padded(module: nn.Module) -> bool:
    """Whether a layer is to be given padded pieces."""
    return module in _PADDED


def padded(rows: Sequence[Tensor], edge_index: Tensor, carried: Mapping[str, Tensor]) -> Padded:
    """Two nodes more at either end, and the edges between them.

    They have the values of the first node and edge, which are in whatever range a layer wants.
    """
    pair = torch.tensor([[1, 0], [0, 1]], device=edge_index.device)
    last = pair + rows[0].size(0) + 2
    values = {name: _longer(value) for name, value in carried.items()}
    if "batch" in carried:
        own = carried["batch"] + 1
        behind = own.max() + 1 if own.numel() else own.new_ones(())
        values["batch"] = torch.cat([own.new_zeros(2), own, behind.expand(2)])
    edge_index = torch.cat([pair, edge_index + 2, last], dim=1)
    return Padded([_longer(x) for x in rows], edge_index, values)


def without_padding(out: Tensor) -> Tensor:
    """The rows of the piece itself."""
    return out[2:-2]


def _longer(values: Tensor) -> Tensor:
    if values.size(0):
        more = values[:1].detach()
    else:
        whole = not values.is_floating_point()
        more = (values.new_zeros if whole else values.new_ones)(1, *values.shape[1:])
    more = more.expand(2, *values.shape[1:])
    return torch.cat([more, values, more])
