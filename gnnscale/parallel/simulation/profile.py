"""Profile: what every block of a model takes, what goes between them, and where to cut them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from gnnscale.costs.counted.epochs import StageCosts
from gnnscale.costs.seconds import Loss, block_seconds
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import ClusteredGraph
from gnnscale.loader import Assembler
from gnnscale.nn import LayeredGNN
from gnnscale.nn.modules import check_materialised
from gnnscale.parallel.boundaries import Boundary, boundaries
from gnnscale.storage.files import read_json, write_json
from gnnscale.storage.formats import Format

FORMAT = Format(
    "gnnscale-profile", 1, "profile", "gnnscale.parallel.simulation.profile.profile(…).save(path)"
)


@dataclass(frozen=True, eq=False)
class Profile:
    """Measured seconds of a model's blocks, see `BlockSeconds`, and the traffic between them.

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
        """Blocks of the model."""
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

    def costs(self, cuts: Sequence[int], batches: Sequence[tuple[int, int]]) -> StageCosts:
        """What stages take for micro-batches, in seconds.

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
        return StageCosts(forward.tolist(), backward.tolist(), sent.tolist(), returned.tolist())

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
    """Measure a model's blocks: see `costs.seconds.block_seconds`, which has the arguments.

    Raises:
        InputError: an argument is out of range, the graph has no features, or a parameter is lazy.
    """
    check_materialised(model, "stages")
    measured = block_seconds(
        model, clustered, clusters_per_batch, loss=loss, repeats=repeats, seed=seed
    )
    there = clustered.sizes.nonzero()[:1, 0]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    sample = Assembler(clustered)(there).to(device)
    forward, backward, nodes, edges, error = measured
    return Profile(forward, backward, boundaries(model, sample), nodes, edges, error)


def best_cuts(seconds: ArrayLike, traffic: ArrayLike, stages: int) -> list[int]:
    """The cuts of a row of blocks whose slowest stage takes least time. Exact.

    A stage takes the seconds of its blocks, and those of the traffic over both its boundaries. By
    dynamic programming over the last stage's first block (as PipeDream's partitioning, Narayanan et
    al., SOSP 2019, section 3.1, without replication): O(stages · num_blocks²).

    Args:
        seconds: of every block, `[num_blocks]`.
        traffic: seconds of what crosses between each block and the next, `[num_blocks − 1]`.
        stages: how many, each of one block or more.

    Returns:
        The blocks with which the second and later stages begin, `[stages − 1]`.

    Raises:
        InputError: there are fewer blocks than stages, or no stage.
    """
    seconds, traffic = np.asarray(seconds, float), np.asarray(traffic, float)
    blocks = len(seconds)
    if not 1 <= stages <= blocks:
        raise InputError(
            f"{stages} stages of a model with {blocks} blocks: choose from 1 to {blocks}"
        )
    before = np.concatenate([[0.0], seconds.cumsum()])
    crossing = np.concatenate([[0.0], traffic, [0.0]])
    # The slowest of the stages so far, if they end before block j; and where the last one begins.
    slowest = np.full(blocks + 1, np.inf)
    slowest[0] = 0.0
    begins: list[Sequence[int]] = []
    for _ in range(stages):
        # [first block, end] of one stage more.
        stage = before[None, :] - before[:, None] + crossing[None, :] + crossing[:, None]
        stage[np.tril_indices(blocks + 1)] = np.inf  # of one block at least
        worst = np.maximum(slowest[:, None], stage)
        begins.append(worst.argmin(0).tolist())
        slowest = worst.min(0)
    cuts, end = [], blocks
    for begin in reversed(begins[1:]):
        end = begin[end]
        cuts.append(end)
    return cuts[::-1]
