"""ClusterLoader: an epoch of cluster mini-batches, prepared ahead by a thread, resumable."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.choices import whole_faults
from gnnscale.errors import InputError, RunMismatch
from gnnscale.graph import ClusteredGraph
from gnnscale.kernels import CSR
from gnnscale.loader.batch import Assemble, Batch
from gnnscale.loader.device_assembler import DeviceAssembler, make_assembler

# What fixes a draw.
_DRAWS = ("clusters_drawn", "clusters_per_batch", "shuffle", "seed", "world_size", "stratify")


class ClusterLoader:
    """Iterates over the mini-batches of an epoch; the next iteration is the next epoch.

    A batch is the subgraph induced by `clusters_per_batch` clusters drawn without replacement,
    links between them included, so that degrees are those of the batch (Cluster-GCN, section 3.2).
    What an epoch draws depends on (seed, epoch) alone: not on prefetching, nor on the rank.
    Clusters without a node in the view are not drawn.

    Step t of an epoch takes the batches t·R … t·R + R − 1 for the R ranks. A rank that has none
    in the last step gets None.

    An iteration that is broken off leaves the epoch unfinished: the next one starts it again.

    Args:
        clustered: the clustered graph, or a view of it.
        clusters_per_batch: q; all clusters of the view at most.
        shuffle: draw at random; else take clusters in order.
        seed: of the draws.
        rank: of this process.
        world_size: number of processes, R.
        prefetch: batches prepared ahead by a thread; 0 prepares each when it is asked for.
        stratify: even out training nodes over the batches.
        device: where batches are wanted; None for the host. On a GPU they are put together there
            where the graph takes at most half of its free memory, and else copied from page-locked
            memory; either on a stream of its own, beside the steps.
        first_hop: rows over the nodes of the view, in its order, that batches carry: P·X, computed
            before training.

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(
        self,
        clustered: ClusteredGraph,
        clusters_per_batch: int = 20,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        prefetch: int = 2,
        *,
        stratify: bool = True,
        device: torch.device | str | None = None,
        first_hop: Tensor | CSR | None = None,
    ) -> None:
        faults = whole_faults("clusters_per_batch", clusters_per_batch, 1)
        faults += whole_faults("seed", seed, 0)
        faults += whole_faults("prefetch", prefetch, 0)
        of_ranks = whole_faults("rank", rank, 0) + whole_faults("world_size", world_size, 1)
        if not of_ranks and rank >= world_size:
            of_ranks = [f"rank={rank} must lie in [0, world_size={world_size})"]
        faults += of_ranks
        for name, flag in (("shuffle", shuffle), ("stratify", stratify)):
            if not isinstance(flag, bool | np.bool_):
                faults.append(f"{name}={flag!r} must be True or False")
        if faults:
            raise InputError(faults)
        self.clustered = clustered
        self._drawn = clustered.sizes.nonzero().squeeze(1)
        self.clusters_per_batch = min(clusters_per_batch, max(1, self.clusters_drawn))
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.prefetch = prefetch
        self.stratify = stratify
        self.device = None if device is None else torch.device(device)
        self.first_hop = first_hop
        self._counts = clustered.train_counts  # what a step's loss is divided by, of each cluster
        self._dress: Callable[[Assemble], Assemble] | None = None  # what batches get besides
        self._on_device: DeviceAssembler | None = None
        self.epoch = 0
        self.step = 0
        self._resume_at = 0

    @property
    def clusters_drawn(self) -> int:
        """Clusters that an epoch draws: those with nodes in the view."""
        return self._drawn.numel()

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, of all ranks."""
        return -(-self.clusters_drawn // self.clusters_per_batch)

    @override
    def __repr__(self) -> str:
        rank = "" if self.world_size == 1 else f", rank {self.rank} of {self.world_size}"
        return (
            f"{type(self).__name__}({self.num_batches:,} batches of {self.clusters_per_batch:,} of "
            f"{self.clusters_drawn:,} clusters, seed {self.seed}, epoch {self.epoch}, step "
            f"{self.step}{rank})"
        )

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return -(-self.num_batches // self.world_size)

    def __iter__(self) -> Iterator[Batch | None]:
        """Yield this epoch's batches from where the loader stands (the start, unless resumed)."""
        first, self._resume_at = self._resume_at, 0
        steps = self._steps(self.epoch)
        # Closed here, so that the thread ends with the loop that is broken off.
        with contextlib.closing(self._prepared(steps[first:])) as batches:
            for batch in batches:
                # Counted before the batch is used: a state taken while it is in use says "next".
                self.step = first = first + 1
                yield batch
        self.epoch += 1
        self.step = 0

    def steps(self, epoch: int) -> list[list[Tensor]]:
        """The clusters of every rank in every step of an epoch, without reading any data."""
        drawn = self._drawn
        batches = draw_batches(
            self.clustered.train_counts[drawn],
            self.clusters_per_batch,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=epoch,
            stratify=self.stratify,
        )
        batches = [drawn[batch] for batch in batches]
        size = self.world_size
        return [batches[start : start + size] for start in range(0, len(batches), size)]

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: the epoch, and the step that comes next."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "num_parts": self.clustered.num_parts,
            **{key: getattr(self, key) for key in _DRAWS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state: the next iteration yields what would have come next.

        Raises:
            RunMismatch: the state is of a loader that draws other batches.
        """
        mine = self.state_dict()
        differing = [
            f"{key}={state.get(key)} there, {mine[key]} here"
            for key in ("num_parts", *_DRAWS)
            if state.get(key) != mine[key]
        ]
        if differing:
            raise RunMismatch(f"the loader's state draws other batches: {'; '.join(differing)}")
        # At the end of an epoch nothing remains of it: the next iteration is empty and closes it.
        self.epoch, self.step = state["epoch"], state["step"]
        self._resume_at = self.step

    def _steps(self, epoch: int) -> list[tuple[int, Tensor | None, int]]:
        steps = []
        for number, of_ranks in enumerate(self.steps(epoch)):
            mine = of_ranks[self.rank] if self.rank < len(of_ranks) else None
            total = sum(int(self._counts[clusters].sum()) for clusters in of_ranks)
            steps.append((number, mine, total))
        return steps

    def _assembler(self) -> Assemble:
        """A new one on the host, since it owns scratch memory; on the device, the one there is."""
        if self._on_device is not None:
            return self._on_device
        assembler = make_assembler(self.clustered, self.first_hop, self.device)
        if isinstance(assembler, DeviceAssembler):
            self._on_device = assembler
        return assembler

    def _prepared(
        self, steps: list[tuple[int, Tensor | None, int]]
    ) -> Generator[Batch | None, None, None]:
        assemble = self._assembler()
        dressed = assemble if self._dress is None else self._dress(assemble)
        courier, epoch = Courier(dressed, self.device), self.epoch

        def prepare(number: int, clusters: Tensor | None, total: int) -> Prepared | None:
            if clusters is None:
                return None
            batch, ready = courier.prepare(clusters)
            batch = replace(batch, epoch=epoch, step=number, step_train_nodes=total)
            return Prepared(batch, ready)

        def hand_over(prepared: Prepared | None) -> Batch | None:
            return None if prepared is None else courier.hand_over(prepared)

        if self.prefetch == 0:
            yield from (hand_over(prepare(*step)) for step in steps)
            return
        # One thread: it owns the assembler's scratch, and batches come in order.
        pool = ThreadPoolExecutor(1, thread_name_prefix="gnnscale-loader")
        waiting: deque[Future] = deque()
        try:
            for step in steps:
                waiting.append(pool.submit(prepare, *step))
                if len(waiting) > self.prefetch:
                    yield hand_over(waiting.popleft().result())
            while waiting:
                yield hand_over(waiting.popleft().result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Prepared(NamedTuple):
    """A batch, and the event after which it is there (None: it is there)."""

    batch: Batch
    ready: torch.cuda.Event | None


class Courier:
    """Prepares batches on one thread and hands them over on another.

    The thread that prepares batches enqueues their copies (or, where the device holds the graph,
    their assembly) on a stream of its own; the computing stream waits for the event at its end, and
    the host for neither. Batches in page-locked memory are as many as are prepared ahead.

    Args:
        assemble: puts a batch together from its clusters, on the host or on the device.
        device: where batches are wanted; None leaves them where they were put together.
    """

    def __init__(self, assemble: Assemble, device: torch.device | None) -> None:
        self._assemble = assemble
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device is not None and device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            # What a device assembler reads was written on the stream of whoever made it.
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def prepare(self, clusters: Tensor) -> Prepared:
        """The batch of these clusters, perhaps still on its way."""
        if self._stream is None:
            batch = self._assemble(clusters)
            return Prepared(batch if self._device is None else batch.to(self._device), None)
        with torch.cuda.stream(self._stream):
            batch = self._assemble(clusters)
            if batch.adj.device.type == "cpu":
                batch = batch.pin_memory().to(self._stream.device, non_blocking=True)
            return Prepared(batch, self._stream.record_event())

    def hand_over(self, prepared: Prepared) -> Batch:
        """The batch, for use on the current stream."""
        if prepared.ready is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(prepared.ready)
            prepared.batch.record_stream(stream)
        return prepared.batch


def draw_batches(
    train_counts: Tensor,
    clusters_per_batch: int,
    *,
    shuffle: bool,
    seed: int,
    epoch: int,
    stratify: bool = True,
) -> list[Tensor]:
    """Deal all clusters into batches, each cluster into exactly one (Cluster-GCN, algorithm 1).

    With `stratify`, clusters are ranked by training nodes and cut into as many strata as a batch
    has clusters; a batch draws one from every stratum. Batches then have nearly equal numbers of
    training nodes; among clusters of equal counts the draw is uniform.

    Args:
        train_counts: training nodes of each cluster, int64 `[num_parts]`.
        clusters_per_batch: clusters a batch draws; where they do not divide evenly, batches of a
            shuffled epoch differ by one at most, and else the last is smaller.
        shuffle: draw at random; else take clusters in order.
        seed: with `epoch`, fixes the draw.
        epoch: the epoch.
        stratify: even out training nodes.

    Returns:
        The clusters of every batch, int64.
    """
    num_parts = train_counts.numel()
    num_batches = -(-num_parts // clusters_per_batch)
    if not shuffle:
        return list(torch.arange(num_parts).split(clusters_per_batch))
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(num_parts)
    if stratify:
        # Stable sort of a random order: ties stay in random order.
        order = order[np.argsort(-train_counts.numpy()[order], kind="stable")]
    strata = -(-num_parts // num_batches)
    takers = np.concatenate([generator.permutation(num_batches) for _ in range(strata)])[:num_parts]
    dealt = order[np.argsort(takers, kind="stable")]
    sizes = np.bincount(takers, minlength=num_batches)
    return list(torch.from_numpy(dealt).split(sizes.tolist()))
