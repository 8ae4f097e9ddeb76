"""What a layer costs that does not say so: run on small pieces, counted, and fitted by sizes.

What it keeps are the tensors that torch saves for its gradients (`saved_tensors_hooks`); dense work
is torch's own count of its products, sparse work the values that are scattered or added by index,
for which torch counts 0. All is counted, so that it is the same on every run, and exact for what
grows with nodes, edges, self-loops and segments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from typing_extensions import override

from gnnscale.costs.counted.amounts import Amount, Depth, Sizes, total
from gnnscale.costs.counted.facts import NOTHING, Facts, Kernel
from gnnscale.costs.counted.model import Value
from gnnscale.costs.counted.setting import Setting
from gnnscale.costs.peak import PeakBytes
from gnnscale.costs.seconds import fit
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.nn.invariance.stand_in import copy_of
from gnnscale.nn.modules import draws_put_back

_SCATTERED = frozenset(
    f"aten::{name}"
    for name in (
        *("scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_", "index_add"),
        *("index_add_", "index_reduce", "index_reduce_", "index_put", "index_put_"),
        *("_index_put_impl_", "embedding_dense_backward"),
    )
)

_EXACT = 7  # of what is counted: work, bytes moved and kept; workspaces are the most of several
# What is fitted is no less than 0 for any sizes: self-loops may count less than other edges.
_UNITS = {
    "node": Amount(node=1),
    "edge": Amount(edge=1, loop=-1),
    "loop": Amount(loop=1),
    "segment": Amount(segment=1),
    "fixed": Amount(fixed=1),
}


class Work(TorchDispatchMode):
    """Counts what torch's operations do within the block.

    Attributes:
        dense: multiply-adds of products.
        scattered: values added by index.
        moved: bytes of all that is read and written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dense = self.scattered = self.moved = 0

    @override
    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (flops := flop_registry.get(func._overloadpacket)) is not None:
            self.dense += flops(*args, **kwargs, out_val=out) // 2
        name = func._schema.name
        if name in _SCATTERED:
            self.scattered += next(v for v in reversed(args) if isinstance(v, Tensor)).numel()
        read, written = tree_leaves((args, kwargs)), tree_leaves(out)
        storages = {v.untyped_storage()._cdata for v in read if isinstance(v, Tensor)}
        fresh = [
            v
            for v in written
            if isinstance(v, Tensor) and v.untyped_storage()._cdata not in storages
        ]
        if fresh or name.endswith("_"):  # a view moves nothing
            self.moved += sum(v.nbytes for v in (*read, *fresh) if isinstance(v, Tensor))
        return out


class Sample(NamedTuple):
    """One run of a phase: what goes in, what comes out, and what is not its own.

    Attributes:
        inputs: the slots, then the current rows.
        call: the phase, on these.
        given: tensors that are there anyway: structure, values of edges, pointers.
    """

    inputs: Sequence[Tensor]
    call: Callable[[Sequence[Tensor]], Tensor]
    given: Sequence[Tensor]


class _Found(NamedTuple):
    amounts: list[float]
    keeps_inputs: tuple[bool, ...]
    keeps_output: bool
    passes: int | None
    width: int
    learns: bool


def profiled(
    name: str,
    modules: Sequence[nn.Module],
    learns: Sequence[bool],
    runs: Mapping[Sizes, Sample],
    parts: Sequence[str],
    depth: Depth,
    *,
    gradients: bool = True,
) -> Facts:
    """Sample a phase on pieces of several sizes, and fit what it takes.

    Args:
        name: of the phase.
        modules: what it is made of; left as it was but for what it draws and keeps.
        learns: which inputs a gradient comes back for.
        runs: by the sizes of the piece.
        parts: of an `Amount`, those that the sizes tell apart.
        depth: of a forward pass, which no run tells.
        gradients: whether there is a backward pass.
    """
    try:
        found = [_counted(modules, learns, run, gradients) for run in runs.values()]
    except (GnnscaleError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a user's layer may raise anything
        raise InputError(
            f"{name} cannot run on a small piece of a graph, to learn what it costs: {error!r}"
        ) from error
    at = np.array([[_UNITS[part].of(sizes) for part in parts] for sizes in runs], float)
    measured = np.array([own.amounts for own in found], float)
    exact = measured[:, :_EXACT]
    fitted = np.array([fit(at, column) for column in exact.T])
    off = np.abs(at @ fitted.T - exact) > 1e-6 * exact + 1e-3
    amounts = [
        total(_UNITS[part].times(_rounded(value)) for part, value in zip(parts, row, strict=True))
        for row in fitted
    ]
    last = found[-1]
    return Facts(
        name,
        last.width,
        forward=_kernels(amounts[:3], last.width, depth),
        backward=_kernels(amounts[3:6], last.width, depth) if last.learns else (),
        keeps=amounts[6],
        keeps_inputs=last.keeps_inputs,
        keeps_output=last.keeps_output,
        workspace=_steepest(runs, measured[:, 7]),
        workspace_backward=_steepest(runs, measured[:, 8]),
        learns=last.learns,
        passes=last.passes,
        is_exact=not off.any(),
    )


def _rounded(value: float) -> float:
    whole = round(value)
    return whole if math.isclose(value, whole, rel_tol=1e-6, abs_tol=1e-3) else value


def _steepest(sizes: Iterable[Sizes], most: NDArray[np.float64]) -> Amount:
    """An amount that grows by edges as a peak does where there are many at a node.

    The most at a time is of one moment where nodes have few edges, and of another where they have
    many: no sum of nodes and edges, but below one. By nodes it grows as where it is steepest
    among pieces of as many edges a node.
    """
    by_edges = sorted(zip(sizes, most.tolist(), strict=True), key=lambda own: own[0].edges)
    (fewer, less), (more, greatest) = by_edges[-2:]
    edge = 0.0
    if more.edges > fewer.edges:
        edge = max(0.0, greatest - less) / (more.edges - fewer.edges)
    beside: dict[float, dict[float, float]] = {}  # by edges a node, and by nodes, at most
    for own, peak in by_edges:
        alike = beside.setdefault(own.edges / own.nodes, {})
        alike[own.nodes] = max(alike.get(own.nodes, 0.0), peak - edge * own.edges)
    pairs = (pair for alike in beside.values() for pair in pairwise(sorted(alike.items())))
    node = max([0.0, *((b - a) / (n - m) for (m, a), (n, b) in pairs)])
    over = (peak - node * nodes for alike in beside.values() for nodes, peak in alike.items())
    return Amount(node=node, edge=edge, fixed=max(0.0, *over))


def _kernels(work: Sequence[Amount], width: int, depth: Depth) -> tuple[Kernel, ...]:
    """The products, what is added up over edges, and the bytes of all beside them."""
    products, scattered, moved = work
    found = []
    if products != NOTHING:
        found.append(Kernel("dense", products, NOTHING, (width, width), Depth(1, depth.columns)))
    if scattered != NOTHING:
        sums = Depth(depth.steps, arriving=depth.arriving)
        found.append(Kernel("sparse", scattered, NOTHING, (width,), sums))
    over = Kernel("rows", NOTHING, moved, (width,), depth)
    return (over._replace(depth=Depth(1), aside=True), *found) if found else (over,)


def _counted(
    modules: Sequence[nn.Module], learns: Sequence[bool], run: Sample, gradients: bool
) -> _Found:
    """Bytes and operations of one run forward and back."""
    inputs = [x.detach().requires_grad_(own) for x, own in zip(run.inputs, learns, strict=True)]
    learnt = [p for module in modules for p in module.parameters() if p.requires_grad]
    buffers = [b for module in modules for b in (*module.parameters(), *module.buffers())]
    there = {_storage(v) for v in (*run.given, *buffers)}
    of_inputs = [_storage(x) for x in inputs]
    saved: dict[int, int] = {}
    holding: list[Tensor] = []  # or an address would be given out again

    def pack(value: Tensor) -> Tensor:
        holding.append(value.detach())
        saved[_storage(value)] = value.untyped_storage().nbytes()
        return value

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept)
    back, peak_back = Work(), 0
    with draws_put_back(), torch.set_grad_enabled(gradients):
        with hooks, PeakBytes() as forward, Work() as work:
            out = run.call(inputs)
        own = _storage(out)
        passes = next((at for at, x in enumerate(inputs) if _is_same(x, out)), None)
        kept = sum(size for k, size in saved.items() if k not in {*there, *of_inputs, own})
        workspace = forward.peak - kept - (0 if own in of_inputs else out.nbytes)
        wanted = [v for v in (*inputs, *learnt) if v.requires_grad]
        if out.requires_grad and wanted:
            gradient = torch.ones_like(out)
            with PeakBytes() as returned, back:
                given = torch.autograd.grad(out, wanted, gradient, allow_unused=True)
            peak_back = returned.peak - sum(g.nbytes for g in given if g is not None)
    amounts = [work.dense, work.scattered, work.moved]
    amounts += [back.dense, back.scattered, back.moved, kept, workspace, peak_back]
    return _Found(
        [float(amount) for amount in amounts],
        tuple(x in saved for x in of_inputs),
        own in saved and own not in of_inputs,
        passes,
        out.shape[1],
        out.requires_grad,
    )


def _is_same(x: Tensor, out: Tensor) -> bool:
    """Whether what comes out is what went in: not a view of some of it, nor in another order."""
    at, own = (x.data_ptr(), x.shape, x.stride()), (out.data_ptr(), out.shape, out.stride())
    return at == own


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def ones(value: Value, rows: int, setting: Setting) -> Tensor:
    """Numbers, and categories that every table has."""
    dtype = torch.int64 if value.whole else setting.dtype
    return torch.ones(rows, value.width, dtype=dtype)


def copies_of(modules: Sequence[nn.Module], setting: Setting) -> list[nn.Module]:
    """Copies on the CPU: a layer may keep what it sees, and count what it has seen.

    Norms over all ranks are of one: a rank that counts by itself waits for no other.
    """
    copies = [copy_of(module).train(setting.training) for module in modules]
    for part in (part for copied in copies for part in copied.modules()):
        if isinstance(part, nn.SyncBatchNorm):
            # Its own talks, and on GPUs alone.
            vars(part)["forward"] = partial(_BatchNorm.forward, part)
        elif hasattr(part, "synchronised"):
            vars(part)["synchronised"] = False
    return copies
