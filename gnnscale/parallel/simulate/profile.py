"""Profile: what every block of a model costs on a batch of so many nodes and edges."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from torch import Tensor

from gnnscale.choices import whole_faults
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import ClusteredGraph
from gnnscale.kernels import CSR
from gnnscale.loader import Assembler, Batch
from gnnscale.nn import LayeredGNN
from gnnscale.nn.modules import evaluation_mode
from gnnscale.parallel.boundaries import Boundary, boundaries
from gnnscale.parallel.simulate.cuts import best_cuts
from gnnscale.parallel.stages import Stage, divide
from gnnscale.storage.files import read_json, write_json
from gnnscale.storage.formats import Format
from gnnscale.train.steps.contexts import training_context

FORMAT = Format(
    "gnnscale-profile", 1, "profile", "gnnscale.parallel.simulate.profile.profile(…).save(path)"
)
Loss = Callable[[Tensor, Batch], Tensor]

_SHARES = (0.25, 0.5, 1.0)  # of the clusters of a batch: none needs more memory than training does
_DRAWN = 2  # batches of clusters at random, which tell how large a batch is


class Costs(NamedTuple):
    """What a simulator is given of some cuts and micro-batches.

    Attributes:
        forward: seconds `[stages, micro_batches]`.
        backward: seconds `[stages, micro_batches]`.
        sent: bytes of activations over each boundary `[stages − 1, micro_batches]`.
        returned: bytes of gradients that come back.
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    sent: NDArray[np.int64]
    returned: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Profile:
    """Measured costs of a model's blocks: seconds = a · nodes + b · edges + c, none negative.

    Attributes:
        forward: a, b and c of every block's forward pass, `[num_blocks, 3]`; the last block's are
            those of the head and the loss too.
        backward: the same of its backward pass.
        boundaries: what goes from each block to the next.
        nodes: of a batch as it is trained on, in the mean.
        edges: likewise.
        error: median of |fitted / measured − 1| over blocks, directions and batches.
    """

    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    boundaries: list[Boundary]
    nodes: float
    edges: float
    error: float

    @property
    def num_blocks(self) -> int:
        return len(self.forward)

    @property
    def node_cost(self) -> float:
        """How many edges cost as much as a node, at least 1: what `partition` takes as `balance`.

        Where all clusters have as many edges a node, batches do not tell the two apart; where no
        time falls to edges, it is 10⁶.
        """
        nodes, edges, _ = (self.forward + self.backward).sum(0)
        return float(np.clip(nodes / edges if edges else np.inf, 1, 1e6))

    def cut(self, stages: int, bandwidth: float = float("inf")) -> list[int]:
        """The cuts whose slowest stage, with its traffic, takes least time on a batch.

        A stage's traffic is what goes and comes back over both its boundaries.

        Args:
            stages: how many.
            bandwidth: bytes a second between two devices.

        Raises:
            InputError: there are not so many blocks, or the bandwidth is not above 0.
        """
        if not bandwidth > 0:
            raise InputError(f"bandwidth={bandwidth}: bytes a second, above 0")
        size = np.array([self.nodes, self.edges, 1.0])
        traffic = [self.nodes * (b.bytes_forward + b.bytes_backward) for b in self.boundaries]
        return best_cuts(
            (self.forward + self.backward) @ size, np.array(traffic) / bandwidth, stages
        )

    def costs(self, cuts: Sequence[int], batches: Sequence[tuple[int, int]]) -> Costs:
        """What stages take for micro-batches.

        Args:
            cuts: the blocks with which a new stage begins.
            batches: nodes and edges of every micro-batch.
        """
        sizes = np.array([(nodes, edges, 1) for nodes, edges in batches], dtype=np.float64)
        begins = [0, *cuts]
        forward, backward = (
            np.add.reduceat(fitted @ sizes.T, begins, axis=0)
            for fitted in (self.forward, self.backward)
        )
        crossed = [self.boundaries[number - 1] for number in cuts]
        nodes = sizes[:, 0].astype(np.int64)
        sent, returned = (
            np.array(row_bytes, dtype=np.int64).reshape(-1, 1) * nodes
            for row_bytes in (
                [boundary.bytes_forward for boundary in crossed],
                [boundary.bytes_backward for boundary in crossed],
            )
        )
        return Costs(forward, backward, sent, returned)

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON."""
        content = {**FORMAT.stamp, **asdict(self)}
        content |= {name: getattr(self, name).tolist() for name in ("forward", "backward")}
        content["boundaries"] = [
            {**boundary._asdict(), "gradients": sorted(boundary.gradients)}
            for boundary in self.boundaries
        ]
        write_json(path, content)

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Read what `save` wrote.

        Raises:
            StoreError: it is missing or damaged.
        """
        content = FORMAT.unstamped(read_json(path), path)
        try:
            found = [
                Boundary(
                    tuple((name, width) for name, width in boundary["widths"]),
                    frozenset(boundary["gradients"]),
                    tuple((name, other) for name, other in boundary["same"]),
                    boundary["element"],
                )
                for boundary in content["boundaries"]
            ]
            fitted = {key: np.array(content[key], dtype=float) for key in ("forward", "backward")}
            return cls(**{**content, **fitted, "boundaries": found})
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path} is no profile: {error!r}; profile again") from error


def profile(
    model: LayeredGNN,
    clustered: ClusteredGraph,
    clusters_per_batch: int,
    *,
    loss: Loss | None = None,
    repeats: int = 5,
    seed: int = 0,
) -> Profile:
    """Time forward and backward of every block on batches of several sizes, and fit its costs.

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
        InputError: an argument is out of range, the graph has no features, or a parameter is lazy.
    """
    faults = whole_faults("clusters_per_batch", clusters_per_batch, 1)
    faults += whole_faults("repeats", repeats, 1) + whole_faults("seed", seed, 0)
    if clustered.graph.x is None:
        faults.append("the graph has no features x to run the model on")
    if faults:
        raise InputError(faults)
    batches = _draw(clustered, clusters_per_batch, seed, model)
    crossing = boundaries(model, batches[0])
    stages = divide(model, range(1, len(model.blocks)), crossing)
    with _left_as_it_was(model):
        model.train()
        rounds = [
            [_measure(stages, batch, loss, seed) for batch in batches] for _ in range(repeats + 1)
        ]
    seconds = np.median(np.array(rounds[1:]), axis=0)  # [batches, blocks, 2]
    sizes = np.array([(batch.num_nodes, batch.adj.num_edges, 1) for batch in batches], float)
    forward, backward = (
        np.array([_fit(sizes, seconds[:, block, way]) for block in range(len(stages))])
        for way in (0, 1)
    )
    ran = seconds > 0
    fitted = np.stack([sizes @ forward.T, sizes @ backward.T], axis=2)
    off = np.abs(fitted[ran] / seconds[ran] - 1)
    nodes, edges, _ = sizes[-_DRAWN:].mean(0)
    error = float(np.median(off))
    return Profile(forward, backward, crossing, float(nodes), float(edges), error)


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
    stages: Sequence[Stage], batch: Batch, loss: Loss | None, seed: int
) -> list[tuple[float, float]]:
    """Seconds of the forward and backward pass of every block on a batch."""
    seconds = []
    values: dict[str, Any] = {"x": batch.x}
    for stage in stages:
        given = {
            name: _leaf(value, name in stage.returns_gradients_for)
            for name, value in values.items()
        }
        context = training_context(batch, seed)
        started = _now(batch)
        values = stage(given, context)
        if stage.last and loss is not None:
            values = {"loss": loss(values["x"], batch)}
        forward = _now(batch) - started
        roots = [value for value in values.values() if value.requires_grad]
        ones = [torch.ones_like(root) for root in roots]
        started = _now(batch)
        if roots:
            torch.autograd.backward(roots, ones)
        seconds.append((forward, _now(batch) - started if roots else 0.0))
    return seconds


def _leaf(value: Tensor | CSR, needs_gradient: bool) -> Tensor | CSR:
    return value if isinstance(value, CSR) else value.detach().requires_grad_(needs_gradient)


def _now(batch: Batch) -> float:
    """Seconds on a clock, once the device is done."""
    if batch.adj.device.type == "cuda":
        torch.cuda.synchronize(batch.adj.device)
    return time.perf_counter()


@contextlib.contextmanager
def _left_as_it_was(model: LayeredGNN) -> Iterator[None]:
    """Put gradients, buffers, modes and generators back afterwards."""
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    devices = {p.device for p in gradients if p.device.type == "cuda"}
    try:
        with evaluation_mode(model), torch.random.fork_rng(devices=list(devices)):
            for parameter in gradients:
                parameter.grad = None
            yield
    finally:
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers.items():
                buffer.copy_(before)


def _fit(sizes: NDArray[np.float64], seconds: ArrayLike) -> NDArray[np.float64]:
    """a, b and c by non-negative least squares of relative errors; zeros for what never ran."""
    seconds = np.asarray(seconds)
    if not seconds.all():
        return np.zeros(sizes.shape[1])
    scale = sizes.max(0)
    scale[scale == 0] = 1
    return nnls(sizes / scale / seconds[:, None], np.ones(len(seconds)))[0] / scale
