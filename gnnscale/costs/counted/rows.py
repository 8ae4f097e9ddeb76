"""What maps of rows cost: layers and activations, dropouts, joins and norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale.costs.counted.amounts import Amount, Depth, Sizes
from gnnscale.costs.counted.facts import (
    Facts,
    dense,
    features,
    over_rows,
    row_gradient,
    weight_gradient,
)
from gnnscale.costs.counted.model import Value
from gnnscale.costs.counted.profiled import Sample, copies_of, ones, profiled
from gnnscale.costs.counted.setting import Setting
from gnnscale.costs.passes import rings
from gnnscale.nn import Context
from gnnscale.nn.blocks.phases import Dropout, Rows, Statistics, concatenate
from gnnscale.nn.convs.networks import is_norm
from gnnscale.nn.convs.propagation import is_plain_linear

# Rows, and the segments among them, that a map of rows is run on.
_CUTS = ((8, 1), (16, 1), (16, 2), (32, 4))
_WHOLE = ((8, 1), (16, 1), (24, 1))
# A map is an operation; a norm has two sums, a mean's and a variance's, with what goes with them.
_MAP = Depth(1)


def mapped_facts(module: Any, x: Value, setting: Setting) -> Facts:
    """A map of rows: a linear layer and an identity as they are, all others as they run."""
    element, name = setting.element, type(module).__name__
    if is_plain_linear(module):
        out, learnt = module.weight.size(0), module.weight.requires_grad
        forward = features(out, element) if x.sparse else dense(x.width, out, element)
        if module.bias is not None:
            forward = forward._replace(depth=Depth(2, (x.width,)))
        backward = [weight_gradient(forward)] if learnt else []
        backward += [row_gradient(forward, element)] if x.learns else []
        return Facts(
            name,
            out,
            (forward,),
            tuple(backward),
            keeps_inputs=(learnt and not x.sparse,),
            learns=learnt or x.learns,
        )
    if isinstance(module, nn.Identity):
        return Facts(name, x.width, learns=x.learns, passes=0)
    context = Context(rings([1], 0), training=setting.training)
    modules = [module] if isinstance(module, nn.Module) else []

    def run(copies: Sequence[nn.Module]) -> Callable[..., Tensor]:
        own = copies[0] if copies else module
        return lambda rows, ptr: Rows(own)(rows[-1], context)

    depth = Depth(6, (x.width, x.width)) if is_norm(module) else _MAP
    return _measured(name, modules, [x], setting, run, depth=depth)


def dropout_facts(phase: Dropout, x: Value, setting: Setting) -> Facts:
    """Dropout, which keeps no mask, with the activation that comes before it."""
    own = Facts("Dropout", x.width, learns=x.learns, passes=0)
    if phase.act is not None:
        own = mapped_facts(phase.act, x, setting)
    elif x.sparse:  # of the entries that there are, whose structure stays
        return replace(own, workspace=Amount(entry=setting.element * setting.training))
    if not setting.training or phase.p == 0:
        return own
    element = setting.element
    over = over_rows(x.width, element)
    fused = phase.act is None or isinstance(phase.act, nn.ReLU)
    if isinstance(phase.act, nn.LeakyReLU) and phase.act.negative_slope > 0:
        fused = True
    back = (over_rows(x.width, element, 3 if phase.act is not None else 2),) if x.learns else ()
    if fused:
        keeps = phase.act is not None and x.learns
        return Facts("Dropout", x.width, (over,), back, keeps_output=keeps, learns=x.learns)
    own = replace(own, forward=(*own.forward, over), backward=(*back, *own.backward))
    if own.keeps_output:  # it is not written over: its own backward reads it
        row = Amount(node=element * x.width)
        return replace(own, name="Dropout", keeps=own.keeps + row, keeps_output=False)
    return replace(own, name="Dropout")


def joined_facts(function: Any, inputs: Sequence[Value], setting: Setting) -> Facts:
    """A function of slots' values and the current rows: sums and stacks keep nothing."""
    name = getattr(function, "__name__", type(function).__name__)
    if function in (torch.add, concatenate):
        widths = [value.width for value in inputs]
        width = sum(widths) if function is concatenate else widths[-1]
        learns = any(value.learns for value in inputs)
        over = over_rows(width, setting.element, 2 if function is concatenate else 3)
        back = (over,) if learns and function is concatenate else ()
        keeps = (False,) * len(inputs)
        return Facts(name, width, (over,), back, keeps_inputs=keeps, learns=learns)
    inside = getattr(function, "conv", None)  # GCNII's, whose weights it maps by
    owner = function if inside is None else inside
    modules = [owner] if isinstance(owner, nn.Module) else []

    def run(copies: Sequence[nn.Module]) -> Callable[..., Tensor]:
        own = function
        if copies:
            own = copies[0] if inside is None else type(function)(copies[0])
        return lambda rows, ptr: own(*rows)

    return _measured(name, modules, inputs, setting, run)


def norm_facts(norm: Any, inputs: Sequence[Value], setting: Setting) -> Facts:
    """A norm over rows, or over the rows of every segment."""
    segmented = setting.graphs or getattr(norm, "over", "batch") != "batch"

    def run(copies: Sequence[nn.Module]) -> Callable[..., Tensor]:
        def call(rows: Sequence[Tensor], ptr: Tensor) -> Tensor:
            segments = dict.fromkeys(("batch", "cluster", "graph"), ptr) if segmented else {}
            context = Context(rings([1], 0), training=True, segments=segments)
            return Statistics(copies[0])(rows[-1], context)

        return call

    cuts = _CUTS if segmented else _WHOLE
    return _measured(type(norm).__name__, [norm], inputs, setting, run, cuts, Depth(6, rows=2))


def _measured(
    name: str,
    modules: Sequence[nn.Module],
    inputs: Sequence[Value],
    setting: Setting,
    run: Callable[[Sequence[nn.Module]], Callable[..., Tensor]],
    cuts: Sequence[tuple[int, int]] = _WHOLE,
    depth: Depth = _MAP,
) -> Facts:
    """A map of rows, perhaps in segments, as it runs."""
    copies = copies_of(modules, setting)
    call = run(copies)
    runs = {}
    for rows, segments in cuts:
        ptr = torch.arange(segments + 1) * (rows // segments)
        values = [ones(value, rows, setting) for value in inputs]
        runs[Sizes(rows, 0, segments=segments)] = Sample(values, partial(call, ptr=ptr), [ptr])
    learns = [value.learns for value in inputs]
    parts = ("node", "fixed") if cuts is _WHOLE else ("node", "segment", "fixed")
    return profiled(name, copies, learns, runs, parts, depth, gradients=setting.training)
