"""ClusterLoader: an epoch of cluster mini-batches, prepared ahead by a thread, resumable."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.choices import whole_faults
from gnnscale.errors import InputError, RunMismatch
from gnnscale.graph import ClusteredGraph
from gnnscale.kernels import CSR
from gnnscale.loader.batch import Batch
from gnnscale.loader.courier import Assemble, Courier, Prepared, make_assembler
from gnnscale.loader.device_assembler import DeviceAssembler
from gnnscale.loader.drawing import draw_batches

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
        counts = self.clustered.train_counts
        steps = []
        for number, of_ranks in enumerate(self.steps(epoch)):
            mine = of_ranks[self.rank] if self.rank < len(of_ranks) else None
            total = sum(int(counts[clusters].sum()) for clusters in of_ranks)
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
        courier, epoch = Courier(self._assembler(), self.device), self.epoch

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
