"""The group of ranks: joining it, and who this process is in it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import math
import os
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from gnnscale.comm.watch import Watch
from gnnscale.errors import InputError, RankFailure

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

logger = logging.getLogger(__name__)

_TIMEOUT = 300.0  # seconds
_watch: Watch | None = None


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank(group: ProcessGroup | None = None) -> int:
    """This process's rank, in a group of ranks or in all; 0 without a process group."""
    return distributed.get_rank(group) if _distributed() else 0


def world_size(group: ProcessGroup | None = None) -> int:
    """How many processes train together, in a group or in all; 1 without a process group."""
    return distributed.get_world_size(group) if _distributed() else 1


def ranks_here() -> int:
    """How many processes that train together are on this host."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world_size() > 1 else 1


def is_main() -> bool:
    """Whether this is rank 0, which writes and prints."""
    return rank() == 0


def timeout() -> float:
    """Seconds that a rank waits for one that is silent: $GNNSCALE_TIMEOUT, else five minutes.

    Raises:
        InputError: the variable holds no such number.
    """
    text = os.environ.get("GNNSCALE_TIMEOUT", str(_TIMEOUT))
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if seconds > 0 and math.isfinite(seconds):
            return seconds
    raise InputError(f"GNNSCALE_TIMEOUT={text!r} must be a number of seconds above 0")


def start() -> None:
    """Join the ranks that torchrun's environment describes (RANK, WORLD_SIZE, MASTER_ADDR, …).

    Does nothing where there is none, or one rank alone, or where it has been done. A process group
    that a script has set up itself is used as it is. Gloo carries what is on the CPU, NCCL what is
    on CUDA (gloo where ranks of a host share a GPU); a rank's device is that of LOCAL_RANK.

    Raises:
        RankFailure: the others do not come within the timeout.
        InputError: the group that there is carries nothing that is on the CPU.
    """
    global _watch
    if _watch is not None or (not _distributed() and int(os.environ.get("WORLD_SIZE", "1")) == 1):
        return
    if not _distributed():
        _join()
    if world_size() == 1:
        return
    if "gloo" not in str(distributed.get_backend_config()):
        raise InputError(
            f"the process group's backend is {distributed.get_backend()}; ranks also agree on what "
            "is on the CPU: init_process_group('cpu:gloo,cuda:nccl')"
        )
    store = distributed.distributed_c10d._get_default_store()
    _watch = Watch(store, rank(), world_size(), timeout())
    distributed.barrier(group=None)  # every rank has said that it lives
    _watch.begin()
    hook = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if _watch is not None and not isinstance(error, RankFailure):
            _watch.publish(error)
        hook(kind, error, trace)

    sys.excepthook = tell
    atexit.register(_end)
    logger.info("rank %d of %d", rank(), world_size())


def _join() -> None:
    at = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    me = f"rank {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']}"
    backend = "gloo"
    if torch.cuda.is_available():
        local, devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        torch.cuda.set_device(local % devices)
        alone = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= devices
        nccl = alone and distributed.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if nccl else "cpu:gloo,cuda:gloo"
    limit = timedelta(seconds=timeout())
    try:
        store, rank, size = next(distributed.rendezvous("env://", timeout=limit))
        attempt = _meet(store, rank, size)
        store = distributed.PrefixStore(f"attempt {attempt}", store)
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=limit
        )
    except (RuntimeError, ValueError) as error:
        raise RankFailure(
            f"{me} could not join the others at {at} within {timeout():.0f} s: {error}. See that "
            "every host runs torchrun with the same endpoint and can reach it ($GNNSCALE_TIMEOUT "
            "is the time in seconds)"
        ) from error


def _meet(store: Any, rank: int, size: int) -> int:
    """Agree on the number of this attempt.

    torchrun restarts ranks with the store that they had, where gloo would find the addresses of
    those that are dead. Rank 0 counts, and answers every other's token: a number without an answer
    was left by a rank 0 that is dead too.

    Raises:
        DistStoreError: a rank does not come within the timeout.
    """
    store = distributed.PrefixStore("gnnscale attempts", store)
    if rank == 0:
        attempt = store.add("count", 1)
        asking = [f"{attempt} asked by {other}" for other in range(1, size)]
        store.wait(asking, timedelta(seconds=timeout()))
        for key in asking:
            store.set(f"{attempt} answers {store.get(key).decode()}", "")
        return attempt
    token, end = uuid.uuid4().hex, time.monotonic() + timeout()
    while time.monotonic() < end:
        attempt = store.add("count", 0)
        store.set(f"{attempt} asked by {rank}", token)
        time.sleep(0.02)
        if store.check([f"{attempt} answers {token}"]):
            return attempt
    raise distributed.DistStoreError("rank 0 does not answer")


def _end() -> None:
    global _watch
    if _watch is not None:
        _watch.end()
        _watch = None
    if _distributed():
        distributed.destroy_process_group()


def watch() -> Watch:
    """Who looks after the ranks of this group, once there are several."""
    if _watch is None:
        start()
    assert _watch is not None
    return _watch


@functools.cache
def group_of(*ranks: int) -> Any:
    """A group of some ranks, made once: all ranks ask for it, and for others, in one order.

    Messages in it wait as long as those among all (see `timeout`), not for torch's half an hour.
    """
    return distributed.new_group(list(ranks), timedelta(seconds=timeout()))


@functools.cache
def mesh_of(device_type: str, shape: tuple[int, ...], names: tuple[str, ...]) -> DeviceMesh:
    """All ranks as a mesh, made once, like `group_of`."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device_type, shape, mesh_dim_names=names)
    for name in names:
        limit = timedelta(seconds=timeout())
        distributed.distributed_c10d._set_pg_timeout(limit, mesh.get_group(name))
    return mesh


def doing(what: str) -> contextlib.AbstractContextManager[None]:
    """Let the others know what this rank does, for where they do not all do the same."""
    return contextlib.nullcontext() if _watch is None else _watch.doing(what)


@contextlib.contextmanager
def telling_the_others() -> Iterator[None]:
    """Tell all ranks of an error that leaves this block, so that none waits for this one."""
    try:
        yield
    except RankFailure:
        raise
    except Exception as error:
        if _watch is not None:
            _watch.publish(error)
        raise
