"""How long the blocks of a model take on a batch of so many nodes and edges."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from torch import Tensor, nn

from gnnscale.choices import whole_faults
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph
from gnnscale.kernels import CSR
from gnnscale.loader import Assembler, Batch
from gnnscale.nn import Context, LayeredGNN
from gnnscale.nn.blocks.context import entering, run_phases
from gnnscale.nn.convs.propagation import densify
from gnnscale.nn.modules import draws_put_back, evaluation_mode

Loss = Callable[[Tensor, Batch], Tensor]

_SHARES = (0.25, 0.5, 1.0)  # of the clusters of a batch: none needs more memory than training does
_DRAWN = 2  # batches of clusters at random, which tell how large a batch is


class BlockSeconds(NamedTuple):
    """Measured seconds of a model's blocks: a · nodes + b · edges + c, none negative.

    Attributes:
        forward: a, b and c of every block's forward pass, `[num_blocks, 3]`; the last block's are
            those of the head and the loss too.
        backward: the same of its backward pass.
        nodes: of a batch as it is trained on, in the mean.
        edges: likewise.
        error: median of |fitted / measured − 1| over blocks, directions and batches.
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    nodes: float
    edges: float
    error: float


def block_seconds(
    model: LayeredGNN,
    clustered: ClusteredGraph,
    clusters_per_batch: int,
    *,
    loss: Loss | None = None,
    repeats: int = 5,
    seed: int = 0,
) -> BlockSeconds:
    """Time forward and backward of every block on batches of several sizes, and fit its seconds.

    Each block runs by itself, its input detached, so that no more than one block's activations are
    held. Batches and blocks take turns, after a first round that is not counted; of the repeats the
    median is taken. Weights, gradients, running statistics and generators are left as they were.

    Args:
        model: the model, on the device that is measured, its lazy parameters materialised.
        clustered: the clusters, or a view of them.
        clusters_per_batch: of a batch as it is trained on; a quarter and half of it are run as
            well.
        loss: of the output and the batch, counted with the last block; None leaves it out.
        repeats: rounds that count.
        seed: of the draws.

    Raises:
        InputError: an argument is out of range, or the graph has no features.
    """
    faults = whole_faults("clusters_per_batch", clusters_per_batch, 1)
    faults += whole_faults("repeats", repeats, 1) + whole_faults("seed", seed, 0)
    if clustered.graph.x is None:
        faults.append("the graph has no features x to run the model on")
    if faults:
        raise InputError(faults)
    batches = _draw(clustered, clusters_per_batch, seed, model)
    with left_as_it_was(model):
        model.train()
        rounds = [
            [_measure(model, batch, loss, seed) for batch in batches] for _ in range(repeats + 1)
        ]
    seconds = np.median(np.array(rounds[1:]), axis=0)  # [batches, blocks, 2]
    sizes = np.array([(batch.num_nodes, batch.adj.num_edges, 1) for batch in batches], float)
    forward, backward = (
        np.array([fit(sizes, seconds[:, block, way]) for block in range(seconds.shape[1])])
        for way in (0, 1)
    )
    ran = seconds > 0
    fitted = np.stack([sizes @ forward.T, sizes @ backward.T], axis=2)
    off = np.abs(fitted[ran] / seconds[ran] - 1)
    nodes, edges, _ = sizes[-_DRAWN:].mean(0)
    return BlockSeconds(forward, backward, float(nodes), float(edges), float(np.median(off)))


def _draw(clustered: ClusteredGraph, most: int, seed: int, model: LayeredGNN) -> list[Batch]:
    """Batches of several sizes, the last ones drawn at random, on the device of the model.

    The others take the clusters of fewest and those of most edges a node: in clusters at random
    nodes and edges grow alike, and no fit tells their costs apart.
    """
    there = clustered.sizes.nonzero().squeeze(1)
    most = min(most, len(there))
    ends, begins = clustered.ends[there], clustered.offsets[there]
    arriving = clustered.graph.adj.indptr[ends] - clustered.graph.adj.indptr[begins]
    by_density = there[(arriving / (ends - begins)).argsort(stable=True)]
    chosen = []
    for number in sorted({max(1, round(share * most)) for share in _SHARES}):
        chosen += [by_density[:number], by_density[-number:]]
    random = torch.Generator().manual_seed(seed)
    chosen += [there[torch.randperm(len(there), generator=random)[:most]] for _ in range(_DRAWN)]
    assemble = Assembler(clustered)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return [assemble(clusters).to(device) for clusters in chosen]


def _measure(
    model: LayeredGNN, batch: Batch, loss: Loss | None, seed: int
) -> list[tuple[float, float]]:
    """Seconds of the forward and backward pass of every block on a batch."""
    seconds = []
    context = Context.of(batch, training=True, seed=seed, epoch=batch.epoch, step=batch.step)
    assert batch.x is not None  # a batch of a model's
    x: Any = entering(batch.x, model)
    *before, head = model.phases
    for number, (block, phases) in enumerate(zip(model.blocks, before, strict=True), start=1):
        started = _now(batch)
        x = run_phases(block, phases, x, context)
        if number == len(before):
            x = run_phases(None, head, x, context)
            x = x if loss is None else loss(x, batch)
        else:
            x = densify(x)
        forward = _now(batch) - started
        read = {slot.name for slot in model.slots if slot.first < number <= slot.last}
        values = {name: v for name, v in context.slots.items() if name in read} | {"x": x}
        roots = [v for v in {id(v): v for v in values.values()}.values() if v.requires_grad]
        ones = [torch.ones_like(root) for root in roots]
        started = _now(batch)
        if roots:
            torch.autograd.backward(roots, ones)
        seconds.append((forward, _now(batch) - started if roots else 0.0))
        # One value under two names stays one, and its gradients add up.
        leaves = {id(v): _leaf(v) for v in values.values()}
        context.slots = {name: leaves[id(v)] for name, v in values.items()}
        x = context.slots.pop("x")
    return seconds


def _leaf(value: Tensor | CSR) -> Tensor | CSR:
    if isinstance(value, CSR):
        return value
    return value.detach().requires_grad_(value.requires_grad)


def _now(batch: Batch) -> float:
    """Seconds on a clock, once the device is done."""
    if batch.adj.device.type == "cuda":
        torch.cuda.synchronize(batch.adj.device)
    return time.perf_counter()


@contextlib.contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Put gradients, buffers, modes and generators back afterwards."""
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    try:
        with evaluation_mode(model), draws_put_back({p.device for p in gradients}):
            for parameter in gradients:
                parameter.grad = None
            yield
    finally:
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers.items():
                buffer.copy_(before)


def fit(sizes: NDArray[np.float64], measured: ArrayLike) -> NDArray[np.float64]:
    """What there is of each size, by non-negative least squares of relative errors.

    Where nothing was measured the error counts as beside the least that was; zeros for what never
    was.
    """
    measured = np.asarray(measured, float)
    if not measured.any():
        return np.zeros(sizes.shape[1])
    scale = sizes.max(0)
    scale[scale == 0] = 1
    weight = 1 / np.where(measured > 0, measured, measured[measured > 0].min())
    return nnls(sizes / scale * weight[:, None], measured * weight)[0] / scale
