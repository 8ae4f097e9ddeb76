"""What a graph carries against what a model's layers take: refused, warned of, or hinted at."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

from gnnscale.errors import InputError
from gnnscale.graph.checks import bounds
from gnnscale.nn.blocks.phases import Neighbourhood, Propagate, lacking, opaque_of

logger = logging.getLogger(__name__)

_SPOKEN_OF: WeakSet[nn.Module] = WeakSet()  # models whose weights were spoken of


def check_carried(model: Any, carried: Mapping[str, Tensor]) -> None:
    """Check that layers are given what they need, and speak of weights that none takes, once.

    Args:
        model: a `LayeredGNN` or `GraphModel`.
        carried: by name, values of a graph's edges and nodes.

    Raises:
        InputError: naming each layer, what it needs, and what is wrong with what there is.
    """
    opaque, checks = opaque_of(model.phases), (lacking, _type_faults)
    if faults := [fault for of in checks for phase in opaque for fault in of(phase, carried)]:
        raise InputError(list(dict.fromkeys(faults)))
    if not carried or model in _SPOKEN_OF:
        return
    phases = [phase for block in model.phases for phase in block]
    if (words := _about_weights(phases, carried)) is not None:
        _SPOKEN_OF.add(model)
        logger.warning(words)


def _type_faults(phase: Neighbourhood, carried: Mapping[str, Tensor]) -> list[str]:
    """Types beyond what a layer was built for: some layers leave such edges out in silence."""
    types = carried.get("edge_type")
    known = [getattr(part, "num_relations", None) for part in phase.module.modules()]
    limits = [number for number in known if isinstance(number, int)]
    if types is None or "edge_type" not in phase.given or not limits or not types.numel():
        return []
    low, high = bounds(types)
    if low >= 0 and high < min(limits):
        return []
    name = type(phase.module).__name__
    return [
        f"{name} was built with num_relations={min(limits)}, and edge_type goes from {low} to "
        f"{high}: build it with num_relations={high + 1}"
    ]


def _about_weights(phases: list[Any], carried: Mapping[str, Tensor]) -> str | None:
    """What is to be said of weights that no layer takes, or that stand where none is looked for."""
    takers: list[str] = []
    others: list[str] = []
    reads_attributes = False
    for phase in phases:
        if isinstance(phase, Propagate):
            weighted = phase.propagation.takes_weights
            (takers if weighted else others).append(phase.name)
        elif isinstance(phase, Neighbourhood):
            weighted = "edge_weight" in phase.given and phase.on_adjacency is None
            (takers if weighted else others).append(type(phase.module).__name__)
            reads_attributes |= "edge_attr" in phase.given
    if "edge_weight" in carried and others and not takers:
        return (
            f"edge_weight is not used: {', '.join(dict.fromkeys(others))} take none. Layers that "
            "do are GCNConv, GraphConv, SGConv, TAGConv and others whose forward has edge_weight; "
            "leave edge_weight out of the graph if it is not meant for them"
        )
    attr = carried.get("edge_attr")
    column = attr is not None and attr.is_floating_point() and attr.shape[1:].numel() == 1
    if column and takers and not reads_attributes and "edge_weight" not in carried:
        return (
            "edge_attr has one column, which no layer takes: if it holds weights (as PyG's GDC "
            "leaves them), give it as edge_weight=edge_attr.view(-1), edge_attr=None"
        )
    return None
