"""What the phases of a model cost: read off what they compute, or profiled where nothing says it.

A layer of the user's (convolution, map of rows, norm, or the function of a join) may state its own
costs, by a method that is given the columns of its input and returns amounts by name, any of
"forward" and "backward" (multiply-adds), "keeps" and "workspace" (bytes). What it leaves out is
profiled.

    from gnnscale.costs.counted.amounts import Amount

    class MyConv(nn.Module):
        def gnnscale_costs(self, width):
            return {"forward": Amount(node=width * 64, edge=64)}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gnnscale.costs.counted.amounts import Amount, Depth, total
from gnnscale.costs.counted.facts import NOTHING, Facts, Kernel
from gnnscale.costs.counted.model import Value
from gnnscale.costs.counted.opaque import neighbourhood_facts
from gnnscale.costs.counted.propagations import propagation_facts
from gnnscale.costs.counted.rows import dropout_facts, joined_facts, mapped_facts, norm_facts
from gnnscale.costs.counted.setting import Setting
from gnnscale.errors import InputError
from gnnscale.nn.blocks.phases import (
    Collect,
    Dropout,
    Join,
    Neighbourhood,
    Phase,
    Propagate,
    Read,
    Rows,
    Save,
    Statistics,
    concatenate,
    maximum,
)

_STATED = {"forward", "backward", "keeps", "workspace"}


def facts_of(phase: Phase, inputs: Sequence[Value], setting: Setting) -> Facts:
    """What a phase costs.

    Args:
        phase: the phase.
        inputs: the slots' values that it takes, then the current rows.
        setting: how it is run.
    """
    found = _as_stated(phase, _facts_of(phase, inputs, setting), inputs[-1])
    if not setting.training:
        return found.evaluated()
    if not any(x.sparse and keeps for x, keeps in zip(inputs, found.keeps_inputs, strict=True)):
        return found
    # Sparse features are made dense for it, and that is what it keeps.
    width = sum(x.width for x in inputs if x.sparse)
    keeps = tuple(k and not x.sparse for x, k in zip(inputs, found.keeps_inputs, strict=True))
    rows = Amount(node=setting.element * width)
    return replace(found, keeps=found.keeps + rows, keeps_inputs=keeps)


def _facts_of(phase: Phase, inputs: Sequence[Value], setting: Setting) -> Facts:
    x = inputs[-1]
    match phase:
        case Propagate(propagation, first):
            ahead = setting.computed == "each" or (setting.computed == "first" and first)
            return propagation_facts(propagation, ahead, x, setting)
        case Neighbourhood():
            return neighbourhood_facts(phase, inputs, setting)
        case Dropout():
            return dropout_facts(phase, x, setting)
        case Statistics(norm):
            return norm_facts(norm, inputs, setting)
        case Rows(module):
            return mapped_facts(module, x, setting)
        case Collect(_, mode, first) if not first:
            return joined_facts(concatenate if mode == "cat" else maximum, inputs, setting)
        case Join(function):
            return joined_facts(function, inputs, setting)
    assert isinstance(phase, Save | Read | Collect)
    return Facts(type(phase).__name__, inputs[0].width, learns=inputs[0].learns, passes=0)


def _as_stated(phase: Phase, found: Facts, x: Value) -> Facts:
    """What a layer says of itself, in the place of what was found."""
    match phase:
        case Neighbourhood(layer) | Rows(layer) | Statistics(layer) | Join(layer):
            says = getattr(layer, "gnnscale_costs", None)
        case _:
            return found
    if not callable(says):
        return found
    called = f"{type(layer).__name__}.gnnscale_costs({x.width})"
    line = f"{{'forward': Amount(node=64, edge=8)}}, any of {', '.join(sorted(_STATED))}"
    try:
        given = says(x.width)
    except Exception as error:  # the user's own may raise anything
        raise InputError(
            f"{called} failed: {error!r}; it is given the columns of its input, and returns "
            f"amounts by name, as in {line}"
        ) from error
    sound = isinstance(given, dict) and all(isinstance(v, Amount) for v in given.values())
    if not sound or not set(given) <= _STATED:
        raise InputError(f"{called} returned {given!r}: amounts by name, as in {line}")
    forward, backward = found.forward, found.backward
    if "forward" in given:
        forward = _stated_kernels(given["forward"], forward, found.width)
    if "backward" in given and found.learns:
        backward = _stated_kernels(given["backward"], backward, found.width)
    return replace(
        found,
        forward=forward,
        backward=backward,
        keeps=given.get("keeps", found.keeps),
        workspace=given.get("workspace", found.workspace),
    )


def _stated_kernels(work: Amount, found: Sequence[Kernel], width: int) -> tuple[Kernel, ...]:
    """The work that is stated, of rows and of edges, with the bytes that were found."""
    of_edges = Amount(edge=work.edge, loop=work.loop)
    of_rows = replace(work, edge=0, loop=0)
    depths = {"dense": Depth(1), "sparse": Depth(1, arriving=(0,)), "rows": Depth(1)}
    depths |= {kernel.kind: kernel.depth for kernel in found}
    stated = []
    if of_rows != NOTHING:
        stated.append(Kernel("dense", of_rows, NOTHING, (width, width), depths["dense"]))
    if of_edges != NOTHING:
        stated.append(Kernel("sparse", of_edges, NOTHING, (width,), depths["sparse"]))
    moved = total(kernel.moved for kernel in found)
    depth = Depth(1) if stated else depths["rows"]
    return (Kernel("rows", NOTHING, moved, (width,), depth, aside=bool(stated)), *stated)
