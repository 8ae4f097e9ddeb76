"""What a propagation with its transform costs, in the order in which it computes them.

P(XW) or (PX)W, whichever is narrower; every hop of Pᴷ is a sparse product, of every power the
transform. On sparse features the transform comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gnnscale.costs.counted.amounts import Amount, Depth
from gnnscale.costs.counted.facts import (
    NOTHING,
    Facts,
    Kernel,
    dense,
    features,
    hop,
    over_rows,
    row_gradient,
    weight_gradient,
)
from gnnscale.costs.counted.model import Value
from gnnscale.costs.counted.rows import mapped_facts
from gnnscale.costs.counted.setting import Setting
from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR
from gnnscale.nn.convs.propagation import Propagation, is_plain_linear
from gnnscale.nn.convs.pyg_convs import SelfWeight
from gnnscale.nn.convs.stacked import Branched, Stacked


@dataclass(frozen=True)
class _Shapes:
    """The widths within a propagation.

    Attributes:
        wide: columns of X.
        out: columns that each weight gives; those of X where there is none.
        weights: how many there are: one, or one a power; 0 for the identity.
        branched: whether powers stay side by side.
        before: whether XW comes before the hops.
        hops: the hops that are computed.
        steps: additions that follow, one after the other: of a bias, of the root's rows.
    """

    wide: int
    out: int
    weights: int
    branched: bool
    before: bool
    hops: int
    steps: int

    @property
    def stacked(self) -> int:
        """Columns of all powers of X side by side; of PᴷX where there is one weight."""
        return self.wide * max(1, self.weights)

    @property
    def propagated(self) -> list[int]:
        """Columns that every hop propagates."""
        if not self.before:
            return [self.wide] * self.hops
        grows = self.branched  # a branch more goes with every hop
        return [self.out * (k + 1 if grows else 1) for k in range(self.hops)]

    def products(self, element: int) -> list[Kernel]:
        """The transform, after the hops or before them."""
        if not self.weights:
            return []
        if self.before:
            return [dense(self.wide, self.out * self.weights, element)]
        if self.branched:
            return [dense(self.wide, self.out, element)] * self.weights
        return [dense(self.stacked, self.out, element)]


def propagation_facts(p: Propagation, computed: bool, x: Value, setting: Setting) -> Facts:
    """What a propagation costs.

    Args:
        p: the propagation.
        computed: whether QX was computed before training.
        x: what it takes.
        setting: how it is run.
    """
    element = setting.element
    shapes = _shapes_of(p, computed, x)
    weights = [] if p.weight is None else [p.weight]
    weights = [*p.weights] if isinstance(p, Stacked) else weights
    learnt = any(weight.requires_grad for weight in weights)
    root = _root(p.root, x, setting)
    hops = _hops(p, shapes, setting)
    products = shapes.products(element)
    if shapes.before and x.sparse:
        products = [features(shapes.out * shapes.weights, element)]
    once, hops = (hops, []) if computed else ([], hops)
    forward = _ending([*products, *hops] if shapes.before else [*hops, *products], shapes.steps)
    gradients = [weight_gradient(kernel) for kernel in products] if learnt else []
    back = [row_gradient(product, element) for product in products] if x.learns else []
    through = hops[::-1] if x.learns or (shapes.before and learnt) else []
    backward = [*through, *gradients, *back] if shapes.before else [*gradients, *back, *through]
    if x.learns:  # its gradients from both ways add up
        backward = _ending(backward, root.adds)
    keeps = root.keeps
    if learnt and not shapes.before and not computed:
        keeps += Amount(node=element * shapes.stacked)
    joined = isinstance(p, Stacked) and (shapes.before or not shapes.branched)
    if joined and x.learns:  # the weights side by side, in an array of their own
        keeps += Amount(fixed=element * sum(weight.numel() for weight in weights))
    takes = (shapes.before and learnt and not x.sparse) or root.takes
    kept = setting.training and learnt and not computed
    beside = element * _workspace(shapes, x, kept, root.adds)
    beside_back = element * _workspace_backward(shapes, x, root.adds)
    width = sum(w.size(0) for w in weights) if shapes.branched else shapes.out
    if not weights and isinstance(p, Stacked):
        width = shapes.wide * (shapes.hops + 1)
    return Facts(
        "Propagate",
        width,
        (*root.forward, *forward),
        (*root.backward, *backward),
        keeps=keeps,
        keeps_inputs=(takes,),
        workspace=Amount(node=beside),
        workspace_backward=Amount(node=beside_back),
        learns=learnt or x.learns or root.learns,
        once=tuple(once),
        reads=() if computed else tuple(shapes.propagated),
        ahead=x.width * (p.hops + 1 if isinstance(p, Stacked) else 1) if computed else 0,
    )


def _shapes_of(p: Propagation, computed: bool, x: Value) -> _Shapes:
    like: Any = torch.empty(0)
    if x.sparse:
        like = CSR(torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32))
    weight = p.weight
    count = int(weight is not None)
    if isinstance(p, Stacked):
        weight, count = next(iter(p.weights), None), len(p.weights)
    before = not computed and p.transform_first(like)
    return _Shapes(
        wide=x.width,
        out=x.width if weight is None else weight.size(0),
        weights=count,
        branched=isinstance(p, Branched),
        before=before,
        hops=p.hops,
        steps=int(p.bias is not None) + int(p.root is not None),
    )


def _hops(p: Propagation, shapes: _Shapes, setting: Setting) -> list[Kernel]:
    """Products with P, each with the multiple of X that Horner's rule adds to it."""
    if not shapes.hops:
        return []
    two = Adjacency(torch.tensor([0, 1, 2]), torch.tensor([1, 0], dtype=torch.int32))
    left, right, diag, weighted = p.resolve().coefficients(two)
    vectors = (left is not None) + (right is not None) + (weighted and setting.weighted)
    found = []
    for width in shapes.propagated:
        product = hop(width, setting.element, diagonal=diag is not None, vectors=vectors)
        found.append(product)
        if p.powers is not None:
            found.append(over_rows(width, setting.element, 3, 1))
    return found


def _ending(kernels: list[Kernel], steps: int) -> list[Kernel]:
    """The same with so many additions after the last."""
    if not kernels or not steps:
        return kernels
    *others, last = kernels
    return [*others, last._replace(depth=last.depth._replace(steps=last.depth.steps + steps))]


def _workspace(shapes: _Shapes, x: Value, kept: bool, adds: int) -> int:
    """Most columns at a time, beside what is taken, given and kept."""
    wide, out, stacked = shapes.wide, shapes.out, shapes.out * max(1, shapes.weights)
    given = stacked if shapes.branched else out
    ending = given * (2 * adds or shapes.steps)  # rows of the root and a sum; a sum with the bias
    if shapes.before:
        # XW beside what hops give: the one that is read, and that which is written.
        beside = max(shapes.propagated, default=0) if shapes.hops > 1 or shapes.weights > 1 else 0
        beside *= 2 if shapes.branched else 1
        return max(stacked + beside, ending)
    made = wide * int(x.sparse)
    if not shapes.weights:
        return made + max(wide * int(shapes.hops > 1), ending)
    before = wide * (shapes.hops if shapes.weights > 1 else int(shapes.hops > 1))
    if kept:
        return made + max(before - given, ending - shapes.steps * given * (not adds), 0)
    return made + max(shapes.stacked + before - given, shapes.stacked + 2 * given * adds)


def _workspace_backward(shapes: _Shapes, x: Value, adds: int) -> int:
    """The same of gradients."""
    beside = shapes.wide * adds if x.learns else 0
    if shapes.before:
        # Of several powers each gives one as wide as all, for the columns that it took, to the sum.
        return shapes.out * (2 * shapes.weights if shapes.weights > 1 else 1) + beside
    return (shapes.stacked * int(shapes.weights > 0) + beside) if x.learns else 0


@dataclass(frozen=True)
class _Root:
    """What is added to a propagation, row by row: all beside the longer way through P."""

    forward: tuple[Kernel, ...] = ()
    backward: tuple[Kernel, ...] = ()
    keeps: Amount = NOTHING
    takes: bool = False
    learns: bool = False
    adds: int = 0


def _root(root: Any, x: Value, setting: Setting) -> _Root:
    if root is None:
        return _Root()
    element = setting.element
    backward: list[Kernel] = []
    if isinstance(root, SelfWeight):
        keeps, learns = Amount(fixed=element * x.learns), root.conv.eps.requires_grad
        scaled = over_rows(x.width, element, 3, 1)._replace(aside=True)
        summed = scaled._replace(depth=Depth(1, (x.width,), rows=1))
        backward += [summed] * learns + [scaled] * x.learns
        return _Root((scaled,), tuple(backward), keeps, learns, learns, 1)
    if is_plain_linear(root):
        out, learns = root.weight.size(0), root.weight.requires_grad
        product = features(out, element) if x.sparse else dense(x.width, out, element)
        backward += [weight_gradient(product)] if learns else []
        backward += [row_gradient(product, element)._replace(aside=True)] if x.learns else []
        beside = product._replace(aside=True)
        takes = learns and not x.sparse
        return _Root((beside,), tuple(backward), NOTHING, takes, learns, 1)
    own = mapped_facts(root, x, setting)
    forward, back = (
        tuple(kernel._replace(aside=True) for kernel in kernels)
        for kernels in (own.forward, own.backward)
    )
    kept = own.keeps + Amount(node=element * own.width * own.keeps_output)
    return _Root(forward, back, kept, own.keeps_inputs[-1], own.learns, 1)
