"""The life of a run (partition, build, train, write), in children that a fork server makes to kill.

Run as a script, this is the server: it imports everything once and forks a child for every line it
reads, instead of paying seconds of imports a child. The fork is safe because nothing has been
computed when it happens: no OpenMP region and no parallel kernel has run, so there is no pool of
threads that a child could miss, and no thread that could hold a lock. The native partitioner is
exec'd by the child, as always.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import gnnscale as gs
from gnnscale.benchmarking import BenchReport
from gnnscale.train import Report
from gnnscale.train.controllers.policy import StopPolicy
from gnnscale.train.run.folder import RunFolder

PHASES = ("partition", "build", "training", "checkpoint")
#: Trained on the store that was built; on the graph in memory, which the run then has to keep;
#: layer by layer under a learned controller; several seeds one after the other; by three ranks.
LIVES = ("store", "memory", "learned", "bench", "ranks")
PARTS = 12
RANKS = 3
_DATA = "synthetic:planted?nodes=600&classes=4&features=16"
_IMPORTED_BY_LIVES = (
    "gnnscale.data.loading",
    "gnnscale.graph.store.cluster_folder",
    "gnnscale.partitioning.dispatch",
    "gnnscale.train.steps.dry_run",
    "rich.progress",
    "safetensors.torch",
    "torch.distributed",
    "torch_geometric.nn",
)
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def graph_of(life: str) -> gs.Graph:
    """The graph of a life."""
    graph = gs.load(_DATA)
    return dataclasses.replace(graph, source=None) if life == "memory" else graph


def live(folder: Path, life: str, enter: Callable[[str], None]) -> None:
    """A whole life; the same call goes on where an interrupted one stopped."""
    enter("partition")
    graph = graph_of(life)
    if life in ("store", "memory"):
        part = gs.partition(graph, PARTS, "metis")
        enter("build")
        clustered = gs.cluster(graph, part, path=folder / "store")
    enter("training")
    torch.manual_seed(7)
    given: dict[str, Any] = {"evaluate_every": 1, "checkpoint_every": 2, "progress": False}
    if life == "learned":
        controller = gs.LearnedController(StopPolicy(2, every=2, seed=3))
        gs.LayerwiseTrainer(
            _model(), graph, controller=controller, epochs=6, run_dir=folder / "run", **given
        ).fit()
        return
    given |= {"clusters_per_batch": 2, "epochs": 4, "scheduler": "cosine"}
    whole = {"num_parts": PARTS, "method": "metis"}
    if life == "bench":
        gs.bench(graph, _model, folder / "bench", runs=2, **given, **whole)
        return
    data: dict[str, Any] = {"graph": clustered} if life == "store" else {"graph": graph, **whole}
    gs.ClusterTrainer(_model(), **data, run_dir=folder / "run", **given).fit()


def _model() -> Any:
    return gs.nn.GCN(16, 8, 2, 4, dropout=0.3, norm="batch_norm")


# --- a child ----------------------------------------------------------------------------------


class Watch:
    """Tells the server of every phase, counts changes of files, and kills at the one asked for."""

    def __init__(self, pipe: int, at_change: tuple[str, int] | None) -> None:
        self.pipe = pipe
        self.at_change = at_change
        self.phase = ""
        self.changes: Counter[str] = Counter()
        sys.addaudithook(self._audit)
        self._fsync, os.fsync = os.fsync, self._counted_fsync
        self._wrap("begin", "checkpoint", "finish")

    def enter(self, phase: str) -> None:
        self.phase = phase
        self.tell({"phase": phase, "time": time.monotonic()})

    def tell(self, message: dict[str, Any]) -> None:
        os.write(self.pipe, json.dumps(message).encode() + b"\n")

    def _change(self) -> None:
        self.changes[self.phase] += 1
        if (self.phase, self.changes[self.phase]) == self.at_change:
            os.killpg(os.getpgid(0), signal.SIGKILL)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wx"
        if writes or event in _CHANGES:
            self._change()

    def _counted_fsync(self, descriptor: int) -> None:
        self._change()
        self._fsync(descriptor)

    def _wrap(self, *names: str) -> None:
        """What writes into the run folder is the phase "checkpoint"."""
        for name in names:
            setattr(RunFolder, name, self._entering(getattr(RunFolder, name)))

    def _entering(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def entered(*arguments: Any) -> Any:
            self.enter("checkpoint")
            done = method(*arguments)
            self.enter("training")
            return done

        return entered


def _child(request: dict[str, Any], pipe: int) -> None:
    torch.set_num_threads(1)
    folder = Path(request["folder"])
    os.environ["GNNSCALE_CACHE"] = str(folder / "cache")
    for kind in (Report, BenchReport):
        kind.plot = lambda self, path: path  # type: ignore[method-assign]
    at = request["at_change"]
    others = _other_ranks() if request["life"] == "ranks" else []
    if others is None:  # this is one of them
        live(folder, request["life"], lambda phase: None)
        return
    watch = Watch(pipe, None if at is None else (at[0], at[1]))
    live(folder, request["life"], watch.enter)
    for other in others:
        if status := os.waitpid(other, 0)[1]:
            raise RuntimeError(f"another rank ended with status {status}")
    watch.tell({"changes": dict(watch.changes), "time": time.monotonic()})


def _other_ranks() -> list[int] | None:
    """Fork the other ranks, before anything has been computed; None in one of them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        GLOO_SOCKET_IFNAME="lo",
        WORLD_SIZE=str(RANKS),
        LOCAL_WORLD_SIZE=str(RANKS),
        GNNSCALE_TIMEOUT="60",
    )
    others = []
    for rank in (1, 2, 0):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        if rank:
            others.append(os.fork())
            if others[-1] == 0:
                return None
    return others


# --- the server -------------------------------------------------------------------------------


def _serve() -> None:
    torch.set_num_threads(1)
    for name in _IMPORTED_BY_LIVES:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        reads, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            _run_child(request, writes)
        os.close(writes)
        told = _follow(pid, reads, request["at_time"])
        os.close(reads)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"status": status, "told": told}), flush=True)


def _run_child(request: dict[str, Any], pipe: int) -> None:
    os.setpgid(0, 0)  # it is killed with its ranks and its partitioner
    status = 1
    try:
        _child(request, pipe)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _follow(pid: int, pipe: int, at_time: list[Any] | None) -> list[dict[str, Any]]:
    """Read what the child tells; kill it so many seconds after it has entered a phase again."""
    told: list[dict[str, Any]] = []
    deadline, rest = None, b""
    while True:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([pipe], [], [], wait)[0]:
            os.killpg(pid, signal.SIGKILL)
            deadline = None
            continue
        if not (read := os.read(pipe, 1 << 16)):
            return told
        *lines, rest = (rest + read).split(b"\n")
        told += map(json.loads, lines)
        if at_time is not None:
            phase, occurrence, delay = at_time
            entered = [mark["time"] for mark in told if mark.get("phase") == phase]
            if len(entered) > occurrence:
                deadline, at_time = entered[occurrence] + delay, None


if __name__ == "__main__":
    _serve()
