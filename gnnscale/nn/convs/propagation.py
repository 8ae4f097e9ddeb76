"""Propagation: a fixed sparse product and a dense transform; and the registry of which are one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR, propagate, sparse_linear
from gnnscale.nn.convs.matrices import Matrix, Unweighted, coefficients, structure
from gnnscale.nn.modules import OVERRIDABLE, has_lazy, is_intercepted, parameters, required

Operator = tuple[CSR, Tensor | None, Tensor | None, Tensor | None]  # A, left, right, diag


@dataclass(frozen=True, eq=False)
class Propagation:
    """A convolution read as  x ↦ then( Q x Wᵀ + b + root(x) )  with Q = Pᴷ or Q = Σₖ cₖ Pᵏ.

    Because Q and W commute, whichever order is narrower is computed; the layer-wise trainer
    aggregates Q x once; and inference needs no halo.

    Attributes:
        matrix: P, or a function that returns it (where a buffer of the convolution enters it).
        hops: K, at least 1.
        weight: W `[out_channels, in_channels]`, or None for the identity.
        bias: b `[out_channels]`, or None.
        root: a row-local map of the input that is added, or None.
        then: modules that follow, each row-local or a norm.
        join: a row-local function of a slot's values and the propagated rows, before `then`
            (GCNII's initial residual), or None.
        powers: c_0 … c_K, or None for Pᴷ alone.

    Raises:
        InputError: `hops` or the number of `powers` is wrong.
    """

    matrix: Matrix | Callable[[], Matrix]
    hops: int = 1
    weight: nn.Parameter | None = None
    bias: nn.Parameter | None = None
    root: Callable[[Tensor], Tensor] | None = None
    then: Sequence[nn.Module] = ()
    join: Callable[..., Tensor] | None = None
    powers: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.hops < 1:
            raise InputError(f"hops={self.hops}: a propagation takes at least 1")
        if self.powers is not None and len(self.powers) != self.hops + 1:
            raise InputError(
                f"{len(self.powers)} powers for hops={self.hops}: give one for each of the "
                f"{self.hops + 1} from the identity to P^{self.hops}"
            )

    def width(self, width: int | None) -> int | None:
        """Channels after it, given those before; None where unknown."""
        return width if self.weight is None else self.weight.size(0)

    def unweighted(self) -> Propagation:
        """The same convolution where it is not given the graph's edge weights."""
        return replace(self, matrix=lambda: Unweighted(self.resolve()))

    @property
    def takes_weights(self) -> bool:
        """Whether the graph's edge weights enter P."""
        return getattr(self.resolve(), "weighted", True)

    def transform_first(self, x: Tensor | CSR) -> bool:
        """Whether P(XW) is taken rather than (PX)W: the narrower, and always on sparse features."""
        return self.weight is not None and narrows(self.weight, x)

    def resolve(self) -> Matrix:
        """P's description, as the convolution stands now."""
        # A Matrix is recognised by its method: it may itself be callable.
        return self.matrix if hasattr(self.matrix, "coefficients") else self.matrix()

    def operator(self, adj: Adjacency, dtype: torch.dtype) -> Operator:
        """P on a graph, for rows of a type."""
        wide = torch.promote_types(dtype, torch.float32)  # degrees have more digits than a half
        left, right, diag, weighted = coefficients(self.resolve(), adj, wide)
        return structure(adj, weighted), left, right, diag

    def horner(self, x: Tensor, adj: Adjacency) -> Tensor:
        """The hops by Horner's rule, y ← P y + cₖ x, differentiable in x."""
        operator = self.operator(adj, x.dtype)
        out = self.start(x)
        needs_gradient = torch.is_grad_enabled() and out.requires_grad
        symmetric = needs_gradient and adj.symmetric  # looked up only for a backward pass
        for k in reversed(range(self.hops)):
            out = self.hop(k, propagate(out, *operator, symmetric), x)
        return out

    def start(self, x: Tensor) -> Tensor:
        """What the first hop of Horner's rule propagates."""
        return x

    def hop(self, k: int, propagated: Tensor, x: Tensor) -> Tensor:
        """What follows a hop of Horner's rule, row by row; `propagated` may be written to.

        Args:
            k: counts down from K − 1 to 0.
            propagated: P y.
            x: the rows that the hops began with.
        """
        if self.powers is None:
            return propagated
        if k == self.hops - 1:
            propagated = propagated.mul_(self.powers[-1])
        return propagated.add_(x, alpha=self.powers[k])

    def aggregate(self, x: Tensor, adj: Adjacency) -> Tensor:
        """Q x, differentiable in x. `x`: `[num_nodes, channels]`."""
        return self.horner(x, adj)

    def linear(self, x: Tensor | CSR) -> Tensor:
        """X Wᵀ, without bias."""
        assert self.weight is not None
        return linear_rows(x, self.weight)

    def combine(self, aggregated: Tensor | CSR, x: Tensor | CSR) -> Tensor:
        """(Q X) Wᵀ + b + root(X), given Q X: the row-local rest, what L-GCN trains alone."""
        if self.weight is not None:
            return self.finish(linear_rows(aggregated, self.weight, self.bias), x, False)
        return self.finish(densify(aggregated), x)

    def finish(self, out: Tensor, x: Tensor | CSR, add_bias: bool = True) -> Tensor:
        """Add the bias and root(x) to the propagated and transformed values."""
        if add_bias and self.bias is not None:
            out = out + self.bias
        return out if self.root is None else out + call_rows(self.root, x)

    def __call__(self, x: Tensor | CSR, adj: Adjacency) -> Tensor:
        """The convolution up to `then`."""
        if self.transform_first(x):
            return self.finish(self.horner(self.linear(x), adj), x)
        dense = densify(x)
        return self.combine(self.aggregate(dense, adj), dense)


def narrows(weight: Tensor, x: Tensor | CSR) -> bool:
    """Whether a transform `[out_channels, in_channels]` is best made before propagation."""
    return isinstance(x, CSR) or weight.size(0) < weight.size(1)


def linear_rows(x: Tensor | CSR, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X Wᵀ + b of dense or sparse rows."""
    if isinstance(x, CSR):
        return sparse_linear(x, weight, bias)
    return functional.linear(x, weight, bias)


def densify(x: Tensor | CSR) -> Tensor:
    """The dense rows of a batch."""
    return x.to_dense() if isinstance(x, CSR) else x


def call_rows(module: Any, x: Tensor | CSR) -> Tensor:
    """Apply a row-local module; a linear layer takes sparse rows without making them dense."""
    if not isinstance(x, CSR):
        return module(x)
    weight = getattr(module, "weight", None)
    if is_plain_linear(module) and isinstance(weight, Tensor):
        return sparse_linear(x, weight, module.bias)
    return module(x.to_dense())


def is_plain_linear(module: Any) -> bool:
    """Whether a module is x Wᵀ + b and nothing else: exact type, no hooks, no parametrizations."""
    return type(module) in (nn.Linear, Linear) and not is_intercepted(module)


Reading = Callable[[Any], Propagation | None]
Reach = int | Callable[[Any], int | None]


class _Entry(NamedTuple):
    reading: Reading | None
    hops: Reach | None
    symmetric: bool


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_REGISTERED: dict[type, _Entry] = {}


@choices_checked
def register(
    cls: type[nn.Module],
    *,
    propagation: Reading | None = None,
    hops: Reach | None = None,
    symmetric: bool = False,
) -> type[nn.Module]:
    """Tell gnnscale what a convolution class is.

    Args:
        cls: the class.
        propagation: for a convolution that is a fixed propagation and a dense transform: a function
            from an **instance** to its `Propagation`, or to None where its arguments make it
            something else. Such a layer gets the fast sparse kernels.
        hops: for one that runs as it is: how far an output row reaches. 1 if it depends on the
            node, its in-neighbours and the edges between; 2 if, like a layer that computes the
            degrees of its neighbours, it needs the edges that arrive at them; and so on. Used for
            exact inference in chunks. Beside `propagation`, for instances that do not read as one.
            Where arguments decide (K, the number of layers), a function from an instance to its
            reach, or to None where it is not known. Declared or not, it is checked before use.
        symmetric: the reach holds on symmetric graphs only, since edges that leave a node count
            (out-degrees), and chunks are read with the edges that arrive.

    Returns:
        The class, so that this serves as a decorator through `functools.partial`.

    Raises:
        InputError: neither is given, or `hops` is not a positive integer.
    """
    if propagation is None and hops is None:
        raise InputError("register a convolution with propagation=…, with hops=…, or with both")
    if hops is not None and not callable(hops):
        check_hops(hops)
    _REGISTERED[cls] = _Entry(propagation, hops, symmetric)
    return cls


def check_hops(hops: Any) -> None:
    """Raise InputError for a reach that is not a positive integer."""
    if not isinstance(hops, int) or isinstance(hops, bool) or hops < 1:
        raise InputError(f"hops={hops!r}: the reach of a convolution is a whole number from 1 on")


def propagation_of(conv: nn.Module) -> Propagation | None:
    """How an instance reads as a propagation, or None where it must run as it is.

    None for a subclass that overrides any of `forward`, `message`, `message_and_aggregate`,
    `aggregate`, `update`, `edge_update`, `propagate`; for an instance with hooks, parametrizations
    or patched methods on it or on what it contains; and before lazy parameters have a shape.
    """
    entry = _entry_for(type(conv))
    if entry is None or entry.reading is None or not is_transparent(conv):
        return None
    return entry.reading(conv)


def is_transparent(conv: nn.Module) -> bool:
    """Whether nothing in an instance watches or replaces the calls that a fast path skips."""
    return not any(is_intercepted(module) for module in conv.modules()) and not has_lazy(conv)


def reach_of(conv: nn.Module) -> int | None:
    """The reach declared for an opaque convolution, in hops; None where none was declared."""
    entry = _entry_for(type(conv))
    if entry is None or entry.hops is None:
        return None
    hops = entry.hops(conv) if callable(entry.hops) else entry.hops
    # Against the edges, a neighbour's edge back to the row arrives one hop further out.
    return hops if hops is None or not _runs_backwards(conv) else hops + 1


def needs_symmetry(conv: nn.Module) -> bool:
    """Whether edges that leave a node count, so that its reach holds on symmetric graphs only."""
    entry = _entry_for(type(conv))
    return _runs_backwards(conv) or (entry is not None and entry.symmetric)


def _runs_backwards(conv: nn.Module) -> bool:
    return getattr(conv, "flow", "source_to_target") != "source_to_target"


def is_registered(conv: nn.Module) -> bool:
    """Whether the class of `conv`, or a parent of it, has been registered."""
    return any(cls in _REGISTERED for cls in type(conv).__mro__)


def is_convolution(module: nn.Module) -> bool:
    """Whether a module takes the graph's structure beside the rows."""
    if isinstance(module, MessagePassing) or is_registered(module):
        return True
    places = [name for name in required(module) if parameters(module)[name].kind in _POSITIONAL]
    return len(places) >= 2 or "edge_index" in parameters(module)


def _entry_for(cls: type) -> _Entry | None:
    parent = next((parent for parent in cls.__mro__ if parent in _REGISTERED), None)
    return None if parent is None or _overrides(cls, parent) else _REGISTERED[parent]


def _overrides(cls: type, parent: type) -> bool:
    """Whether a class between `cls` and `parent` replaces what `parent` was registered for."""
    for klass in cls.__mro__:
        if klass is parent:
            return False
        if any(_defines(klass, name) for name in OVERRIDABLE):
            return True
    return False


def _defines(cls: type, name: str) -> bool:
    # PyG writes a generated `propagate`, a plain function, into every class it instantiates.
    method = cls.__dict__.get(name)
    generated = (
        name == "propagate"
        and getattr(method, "__qualname__", "") == "propagate"
        and method.__module__.endswith("_propagate")
    )
    return method is not None and not generated
