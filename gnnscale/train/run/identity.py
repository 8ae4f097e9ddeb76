"""What ranks have to have alike: the run, their number, the state of a step, the clusters."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from gnnscale import comm
from gnnscale.errors import RunMismatch
from gnnscale.graph import ClusteredGraph, Graph, Partition, cluster, open_graph
from gnnscale.storage.memory import memory_bytes
from gnnscale.train.contracts import Signals
from gnnscale.train.options import OF_RANKS, TrainerOptions
from gnnscale.train.run.folder import RunFolder
from gnnscale.train.run.records import Description, State

_WRITING = 512 * 10**6  # bytes that writing a clustered graph to files takes at most

_NESTED = {"updates", "open", "sessions", "step"}  # of a checkpoint's state


def check_same_on_all_ranks(
    identity: Description, config: TrainerOptions, folder: RunFolder | None
) -> None:
    """Compare what ranks have been given.

    Args:
        identity: of this rank's run: trainer, data, model, task.
        config: of its trainer.
        folder: of its run, which may be at another place on another host.

    Raises:
        RunMismatch: on every rank, naming what differs.
    """
    if comm.world_size() == 1:
        return
    mine = {
        "graph": identity["data"]["fingerprint"],
        "trainer": identity["trainer"],
        "model": [identity["model"], identity["modules"]],
        "task": identity["task"],
        "a run_dir": folder is not None,
        **{k: v for k, v in config.saved().items() if k not in OF_RANKS},
    }
    every = comm.gather_objects(mine)
    differing = sorted(
        {name for other in every for name in other if other[name] != every[0].get(name)}
    )
    if differing:
        ranks = [rank for rank, other in enumerate(every) if other != every[0]]
        raise RunMismatch(
            f"rank {', '.join(map(str, ranks))} of {len(every)} and rank 0 were not given the same "
            f"({', '.join(differing)}): every rank runs the same script on the same graph"
        )


def check_world_size(state: State, folder: RunFolder | None) -> None:
    """Compare the number of ranks with that of the run.

    Raises:
        RunMismatch: it is another one.
    """
    there, here = 1 + len(state.get("other_ranks", ())), comm.world_size()
    if there != here:
        raise RunMismatch(
            f"the run in {folder} was begun by {there} rank{'s' * (there > 1)}, and now there "
            f"{'are' if here > 1 else 'is'} {here}: its steps would take other batches. Go on with "
            f"torchrun --nproc-per-node {there} (on one host), or resume=False to replace it"
        )


def with_own(state: State, own: State) -> State:
    """Rank 0's state with what another rank has of its own, wherever that stands in it."""
    nested = {
        key: with_own(state[key], value) if key in _NESTED else value for key, value in own.items()
    }
    return {**state, **nested}


def agree(
    own: float, takes_part: bool, signals: Signals, group: dist.ProcessGroup | None = None
) -> tuple[float, Signals, list[bool]]:
    """What ranks have to know of each other before a step, in one message.

    Args:
        own: the normaliser of this rank's batch.
        takes_part: whether it runs one.
        signals: of this rank.
        group: the ranks that share the batches; all when None.

    Returns:
        The normaliser of the step, the signals of all, and which ranks run a batch.
    """
    if comm.world_size(group) == 1:
        return own, signals, [takes_part]
    me = comm.rank(group)
    places = [takes_part and rank == me for rank in range(comm.world_size(group))]
    total, interrupted, stop, *taking = comm.sum_numbers(own, *signals, *places, group=group)
    return total, Signals(interrupted > 0, stop > 0), [part > 0 for part in taking]


@torch.no_grad()
def share_weights(model: nn.Module) -> None:
    """Give every rank the weights of rank 0: initial ones are drawn by each."""
    if comm.world_size() == 1:
        return
    for value in model.state_dict().values():
        whole = comm.broadcast_(value.contiguous())
        if whole is not value:
            value.copy_(whole)


def stored_once(
    graph: Graph, part: Partition, path: Path | None, split: str, memory: int | str = "auto"
) -> ClusteredGraph:
    """Cluster a graph: in memory on every rank; at a path on rank 0, whose files others open.

    Args:
        graph: the graph.
        part: its partition.
        path: where it is written; None for memory.
        split: whose training nodes come first in a cluster.
        memory: what that may take; "auto" takes no more than writing to files does.
    """
    bound = _WRITING if memory == "auto" else memory_bytes(memory)
    budget = max(1, min(_WRITING, bound // 2))
    if path is None or comm.world_size() == 1:
        return cluster(graph, part, path, split=split, memory=budget)

    def write() -> None:
        cluster(graph, part, path, split=split, memory=budget)

    comm.from_main(write)
    return open_graph(path)
