"""Which propagation of a model can be computed once, before training."""

from __future__ import annotations

from typing import Any

from torch import nn

from gnnscale.errors import UnsupportedModel
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.blocks.phases import Dropout, Neighbourhood, Propagate, Rows, Save, Statistics
from gnnscale.nn.convs.propagation import Propagation


def first_propagation(model: LayeredGNN) -> Propagation:
    """The propagation that begins a model: of the raw features, which training does not change.

    Raises:
        UnsupportedModel: something comes before it, or the first convolution is opaque.
    """
    phases = [phase for block in model.phases for phase in block]
    first = next(phase for phase in phases if not isinstance(phase, Save))
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        raise UnsupportedModel(
            "precompute=True needs the widths of the model: build it with in_channels=, the number "
            "of features"
        )
    if not isinstance(first, Propagate):
        raise UnsupportedModel(
            f"precompute=True needs a model that begins with a propagation of the features; this "
            f"one begins with {_name(first)}. Leave precompute out, or {_remedy(first)}"
        )
    if sum(isinstance(phase, Propagate) and phase.first for phase in phases) > 1:
        raise UnsupportedModel(
            "precompute=True needs one propagation in the first block, and there are several: "
            "leave precompute out, or make a block of each"
        )
    return first.propagation


def _name(phase: Any) -> str:
    if isinstance(phase, Dropout):
        return "dropout"
    if isinstance(phase, Neighbourhood):
        return f"{type(phase.module).__name__}, an opaque convolution"
    if isinstance(phase, Statistics):
        return type(phase.norm).__name__
    return type(phase.module if isinstance(phase, Rows) else phase).__name__


def _remedy(phase: Any) -> str:
    if isinstance(phase, Neighbourhood):
        return "begin with one that is a fixed propagation (GCN, GraphSAGE, GIN, ClusterGCN, SGC)"
    return "let the first block begin with its convolution (order='conv-norm-act-dropout')"
