"""What the phases of a model cost: read off what they compute, or profiled where nothing says it.

A layer of the user's may state its own costs, by a method that is given the columns of its input
and returns amounts by name, any of "forward" and "backward" (multiply-adds), "keeps" and
"workspace" (bytes); what it leaves out is profiled::

    class MyConv(nn.Module):
        def costs(self, width):
            return {"forward": Amount(node=width * 64, edge=64)}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import conv as pyg

from gnnscale.costs.amounts import Amount, Depth, Sizes, total
from gnnscale.costs.facts import (
    NOTHING,
    POINTER,
    Facts,
    Kernel,
    dense,
    features,
    hop,
    over_rows,
    row_gradient,
    weight_gradient,
)
from gnnscale.costs.model import Value
from gnnscale.costs.passes import repeated, rings
from gnnscale.costs.profiled import Run, profiled
from gnnscale.costs.propagations import propagation_facts
from gnnscale.costs.setting import Setting
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency
from gnnscale.graph.graph import EDGE_VALUES
from gnnscale.nn import Context
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
from gnnscale.nn.convs.networks import is_norm
from gnnscale.nn.convs.propagation import is_plain_linear
from gnnscale.nn.convs.pyg_convs import sage_by_extremum
from gnnscale.nn.invariance.stand_in import copy_of

# Rows, and the segments among them, that a map of rows is run on.
_CUTS = ((8, 1), (16, 1), (16, 2), (32, 4))
_WHOLE = ((8, 1), (16, 1))
# A map is an operation; a norm has two sums, a mean's and a variance's, with what goes with them.
_MAP = Depth(1)
# Nodes, edges that arrive at each, and nodes with self-loops, that a layer is run on.
_PIECES = ((8, 1, 0), (16, 1, 0), (8, 2, 0), (16, 2, 4), (8, 1, 3))
_STATED = {"forward", "backward", "keeps", "workspace"}


def facts_of(phase: Phase, inputs: Sequence[Value], setting: Setting) -> Facts:
    """What a phase costs.

    Args:
        phase: the phase.
        inputs: the slots' values that it takes, then the current rows.
        setting: how it is run.
    """
    found = _facts_of(phase, inputs, setting)
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
        case Neighbourhood(module):
            return _as_stated(module, _neighbourhood(phase, inputs, setting), x)
        case Dropout():
            return _dropout(phase, x, setting)
        case Statistics(norm):
            return _norm(norm, inputs, setting)
        case Rows(module):
            return _as_stated(module, _mapped(module, x, setting), x)
        case Collect(_, mode, first) if not first:
            return _joined(concatenate if mode == "cat" else maximum, inputs, setting)
        case Join(function):
            return _joined(function, inputs, setting)
    assert isinstance(phase, Save | Read | Collect)
    return Facts(type(phase).__name__, inputs[0].width, learns=inputs[0].learns, passes=0)


# --- rows ---------------------------------------------------------------------------------------


def _mapped(module: Any, x: Value, setting: Setting) -> Facts:
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
            keeps_inputs=(learnt and setting.training and not x.sparse,),
            learns=learnt or x.learns,
        )
    if isinstance(module, nn.Identity):
        return Facts(name, x.width, learns=x.learns, passes=0)
    context = Context(_piece(1, 0, 0), training=setting.training)

    def run(copies: Sequence[nn.Module]) -> Callable[..., Tensor]:
        return lambda rows, ptr: Rows(copies[0])(rows[-1], context)

    depth = Depth(6, (x.width, x.width)) if is_norm(module) else _MAP
    return _measured(name, [module], [x], setting, run, depth=depth)


def _dropout(phase: Dropout, x: Value, setting: Setting) -> Facts:
    """Dropout, which keeps no mask, with the activation that comes before it."""
    own = Facts("Dropout", x.width, learns=x.learns, passes=0)
    if phase.act is not None:
        own = _mapped(phase.act, x, setting)
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


def _joined(function: Any, inputs: Sequence[Value], setting: Setting) -> Facts:
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


def _norm(norm: Any, inputs: Sequence[Value], setting: Setting) -> Facts:
    """A norm over rows, or over the rows of every segment."""
    segmented = setting.graphs or getattr(norm, "over", "batch") != "batch"

    def run(copies: Sequence[nn.Module]) -> Callable[..., Tensor]:
        def call(rows: Sequence[Tensor], ptr: Tensor) -> Tensor:
            segments = dict.fromkeys(("batch", "cluster", "graph"), ptr) if segmented else {}
            context = Context(_piece(1, 0, 0), training=True, segments=segments)
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
    copies = _copies(modules, setting)
    call = run(copies or modules)
    runs = {}
    for rows, segments in cuts:
        ptr = torch.arange(segments + 1) * (rows // segments)
        values = [_ones(value, rows, setting) for value in inputs]
        runs[Sizes(rows, 0, segments=segments)] = Run(values, partial(call, ptr=ptr), [ptr])
    learns = [value.learns and setting.training for value in inputs]
    parts = ("node", "fixed") if cuts is _WHOLE else ("node", "segment", "fixed")
    return profiled(name, copies, learns, runs, parts, depth, gradients=setting.training)


def _ones(value: Value, rows: int, setting: Setting) -> Tensor:
    """Numbers, and categories that every table has."""
    dtype = torch.int64 if value.whole else setting.dtype
    return torch.ones(rows, value.width, dtype=dtype)


def _copies(modules: Sequence[nn.Module], setting: Setting) -> list[nn.Module]:
    """Copies on the CPU: a layer may keep what it sees, and count what it has seen."""
    return [copy_of(module).train(setting.training) for module in modules]


# --- opaque convolutions ------------------------------------------------------------------------


def _neighbourhood(phase: Neighbourhood, inputs: Sequence[Value], setting: Setting) -> Facts:
    (copied,) = _copies([phase.module], setting)
    runs = {}
    own = replace(phase, module=copied)
    if phase.on_adjacency is not None:
        own = replace(own, on_adjacency=sage_by_extremum(copied))
    for nodes, each, loops in _PIECES:
        piece = _piece(nodes, each, loops)
        there: dict[str, Any] = {
            key: repeated(value, piece.nnz if key in EDGE_VALUES else nodes).cpu()
            for key, value in setting.carried.items()
            if key in phase.given
        }
        weights = there.pop("edge_weight", None)
        piece = Adjacency(piece.indptr, piece.indices, weights)
        context = Context(piece, setting.training, **there)
        given = [v for v in (*there.values(), weights) if v is not None]
        given += [piece.edge_index, piece.indptr, piece.indices]
        values = [_ones(value, nodes, setting) for value in inputs]
        runs[Sizes(nodes, piece.nnz, loops=loops)] = Run(values, partial(_run, own, context), given)
    depth = Depth(own.hops, (inputs[-1].width,), (0,) * own.hops)
    learns = [value.learns and setting.training for value in inputs]
    found = profiled(
        type(phase.module).__name__, [copied], learns, runs, ("node", "edge", "loop", "fixed"),
        depth, gradients=setting.training,
    )  # fmt: skip
    if own.on_adjacency is not None:
        return _by_extremum(phase.module, found, setting)
    return _attention(phase.module, found, inputs[-1], setting)


def _run(phase: Neighbourhood, context: Context, inputs: Sequence[Tensor]) -> Tensor:
    *beside, x = inputs
    context.slots.update(zip(phase.slots, beside, strict=True))
    return phase(x, context)


def _piece(nodes: int, each: int, loops: int) -> Adjacency:
    """A ring, the first nodes of which have a self-loop more."""
    ring = rings([nodes], each)
    if not loops:
        return ring
    more = torch.arange(loops).expand(2, -1)
    edges = torch.cat([ring.edge_index, more], dim=1)
    return Adjacency.from_edge_index(edges, nodes)


def _attention(module: Any, found: Facts, x: Value, setting: Setting) -> Facts:
    """GAT's work (Veličković et al., ICLR 2018), whose scores are products that torch hides.

    One projection of rows, two scores a head, and a message for every edge; a node's own takes
    the place of its self-loops.
    """
    if type(module) is not pyg.GATConv or module.edge_dim is not None or module.lin is None:
        return found
    element, wide = setting.element, module.heads * module.out_channels
    arriving = Amount(node=1, edge=1, loop=-1) if module.add_self_loops else Amount(edge=1)
    own = int(module.add_self_loops)
    after = (module.bias is not None) + (not module.concat) + (module.res is not None)
    project = dense(x.width, wide, element)
    scores = over_rows(wide, element, 2, 2)._replace(depth=Depth(1, (module.out_channels,)))
    message = Kernel(
        "sparse",
        arriving.times(wide),
        arriving.times(element * (wide + module.heads) + 2 * POINTER),
        (wide,),
        # Two scores are added and mapped, made a softmax (its largest, its sum), and weigh rows;
        # a bias is added, or the mean over heads taken.
        Depth(6 + after, () if module.concat else (module.heads,), (own, own, own)),
    )
    beside = [] if module.res is None else [dense(x.width, module.res.weight.size(0), element)]
    forward = [
        found.forward[0],
        *(kernel._replace(aside=True) for kernel in beside),
        project,
        scores,
        message,
    ]
    backward: list[Kernel] = []
    if found.backward:
        # Back to the weights of messages, through the softmax to the scores, and to the rows.
        backward = [
            found.backward[0],
            message._replace(depth=Depth(1, (module.out_channels,))),
            scores._replace(depth=Depth(6, arriving=(own, own))),
            message._replace(depth=Depth(1, arriving=(own,)), aside=True),
            scores._replace(depth=Depth(1, rows=1), aside=True),
            *map(weight_gradient, (*beside, project)),
        ]
        if x.learns:
            rows = [row_gradient(kernel, element) for kernel in (*beside, project)]
            backward += [*(kernel._replace(aside=True) for kernel in rows[:-1]), rows[-1]]
    return replace(found, forward=tuple(forward), backward=tuple(backward))


def _by_extremum(module: Any, found: Facts, setting: Setting) -> Facts:
    """GraphSAGE's extremum over neighbours: a comparison an entry, and two walks back."""
    walk = hop(module.lin_l.weight.size(1), setting.element, diagonal=False, vectors=0)
    back = (walk, walk) if found.backward and found.keeps_inputs[-1] else ()
    return replace(found, forward=(walk, *found.forward), backward=(*found.backward, *back))


# --- the user's layers --------------------------------------------------------------------------


def _as_stated(module: Any, found: Facts, x: Value) -> Facts:
    """What a layer says of itself, in the place of what was found."""
    says = getattr(module, "costs", None)
    if not callable(says):
        return found
    given = says(x.width)
    name = type(module).__name__
    sound = isinstance(given, dict) and all(isinstance(v, Amount) for v in given.values())
    if not sound or not set(given) <= _STATED:
        raise InputError(
            f"{name}.costs({x.width}) returned {given!r}: amounts by name, as in "
            f"{{'forward': Amount(node=64, edge=8)}}, any of {', '.join(sorted(_STATED))}"
        )
    kernels = {
        way: _stated_kernels(given[way], getattr(found, way), found.width)
        for way in ("forward", "backward")
        if way in given
    }
    return replace(found, **{**given, **kernels})


def _stated_kernels(work: Amount, found: Sequence[Kernel], width: int) -> tuple[Kernel, ...]:
    """The work that is stated, of rows and of edges, with the bytes that were found."""
    of_edges = Amount(edge=work.edge, loop=work.loop)
    of_rows = replace(work, edge=0, loop=0)
    depths = {"dense": Depth(1), "sparse": Depth(1, arriving=(0,))}
    depths |= {kernel.kind: kernel.depth for kernel in found}
    moved = total(kernel.moved for kernel in found)
    return (
        Kernel("dense", of_rows, moved, (width, width), depths["dense"]),
        Kernel("sparse", of_edges, NOTHING, (width,), depths["sparse"]),
    )
