"""One case of plan.py in processes of its own, watched from outside.

A measured process makes graph, model and trainer, says so and waits; what it adds from then on is
the trainer's. The watcher asks the system for anonymous PSS and dirty mapped pages of it and its
children as fast as answers come; what lasts less than that (milliseconds) is missed.

Time: an epoch's seconds are those of its steps, as the report has them, the median of those after
the first; of layers trained one by one the sum over layers. An exact evaluation's are the median
of those after the first, each after what is free has been given back, as the trainer does it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__)
SECONDS, EPOCHS = 1.0, 12  # of epochs that count, and the most of them
_LIMIT = 120.0  # seconds for a case, before it counts as failed
_PAUSE = 0.001
_CHILDREN = 0.02  # seconds between two questions for children


class Failed(Exception):
    """A measured process ended with an error; its last lines."""


# --- the watcher ------------------------------------------------------------------------------


class Peak(NamedTuple):
    """Bytes: what was there when the trainer stood, and the most that came on top of it."""

    before: int
    added: int


def measure(setting: dict[str, Any], *, watched: bool) -> list[tuple[dict[str, Any], Peak]]:
    """Run a case; of every rank what it tells, and its memory (0 where nobody watches).

    Args:
        setting: what `_measured` is told; "case" and what to do with it.
        watched: whether memory is asked for all the time, which takes a core.

    Raises:
        Failed: a rank ended with an error, or takes too long.
    """
    ranks = setting["case"]["ranks"]
    with ExitStack() as until:
        folder = Path(until.enter_context(tempfile.TemporaryDirectory()))
        started, port = [], _free_port()
        for number in range(ranks):
            process = _Process(setting, number, ranks, port, folder)
            until.callback(process.end)
            started.append(process)
        for process in started:
            process.hear("ready")
        before = [_held(process.pid) for process in started]
        for process in started:
            process.say("go")
        most, patience = list(before), _Patience()
        waiting = set(range(ranks))
        while waiting:
            for number in sorted(waiting):
                if watched:
                    most[number] = max(most[number], _held(started[number].pid))
                if started[number].told():
                    waiting.discard(number)
            patience.check("its outcome")
            time.sleep(_PAUSE if watched else 0.05)
        found = [process.outcome for process in started]
    peaks = [Peak(b, m - b) for b, m in zip(before, most, strict=True)]
    return list(zip(found, peaks, strict=True))


class _Patience:
    """Ends, of time in which this process ran: others may stop it to measure."""

    def __init__(self) -> None:
        self._left, self._asked = _LIMIT, time.monotonic()

    def check(self, word: str) -> None:
        now = time.monotonic()
        self._left -= min(now - self._asked, 1.0)
        self._asked = now
        if self._left < 0:
            raise Failed(f"nothing of {word!r} after {_LIMIT:g} s")


class _Process:
    """A measured process, and what it says."""

    def __init__(
        self, setting: dict[str, Any], rank: int, ranks: int, port: int, folder: Path
    ) -> None:
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        if setting.get("anew"):  # partitions are made, not read
            environment["GNNSCALE_CACHE"] = str(_without_partitions(folder))
        if ranks > 1:
            environment |= {
                "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            }  # fmt: skip
        self._errors = (folder / f"errors {rank}").open("w+")
        self._mine, theirs = socket.socketpair()
        command = [sys.executable, str(HERE), str(theirs.fileno()), json.dumps(setting)]
        self._process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdout=self._errors,
            stderr=self._errors,
            env=environment,
        )
        theirs.close()
        self._heard = b""
        self.pid = self._process.pid
        self.outcome: dict[str, Any] = {}

    def say(self, word: str) -> None:
        self._mine.sendall(f"{word}\n".encode())

    def hear(self, word: str) -> None:
        """Wait for a word."""
        patience = _Patience()
        while (line := self._line(0.05)) is None:
            patience.check(word)
        if line != word:
            raise Failed(f"{word} was expected, not {line}")

    def told(self) -> bool:
        """Whether it has told its outcome."""
        line = self._line(0)
        if line is not None:
            self.outcome = json.loads(line)
        return line is not None

    def _line(self, seconds: float) -> str | None:
        if select.select([self._mine], [], [], seconds)[0]:
            some = self._mine.recv(1 << 16)
            if not some:
                self._process.wait()
                self._errors.flush()
                self._errors.seek(0)
                raise Failed(" ".join(self._errors.read().strip().splitlines()[-6:])[-800:])
            self._heard += some
        line, newline, rest = self._heard.partition(b"\n")
        if not newline:
            return None
        self._heard = rest
        return line.decode()

    def end(self) -> None:
        """End it, however it stands."""
        self._mine.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def _without_partitions(folder: Path) -> Path:
    """A cache with all that the present one has but partitions."""
    from gnnscale.storage.files import cache_root

    own = folder / "cache"
    if not own.exists():
        own.mkdir()
        for entry in cache_root().iterdir():
            if entry.name != "partitions":
                (own / entry.name).symlink_to(entry)
    return own


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


_families: dict[int, tuple[float, list[int]]] = {}


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    asked, known = _families.get(pid, (0.0, []))
    now = time.monotonic()
    if now - asked > _CHILDREN:
        known, waiting = [], [pid]
        while waiting:
            one = waiting.pop()
            known.append(one)
            for task in Path(f"/proc/{one}/task").glob("*/children"):
                with suppress(OSError):
                    waiting += map(int, task.read_text().split())
        _families[pid] = (now, known)
    return known


def _held(pid: int) -> int:
    """Anonymous PSS and dirty mapped pages of a process and its descendants, in bytes."""
    return sum(map(_resident, _family(pid)))


def _resident(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
    except OSError:
        return 0
    kib = {}
    for line in text.splitlines()[1:]:
        key, _, rest = line.partition(b":")
        kib[key] = int(rest.split()[0])
    # What is dirty and not anonymous has been written into a mapped file and not yet out.
    anonymous = kib.get(b"Anonymous", 0)
    dirty = kib[b"Private_Dirty"] + kib[b"Shared_Dirty"]
    return 1024 * (kib.get(b"Pss_Anon", anonymous) + max(0, dirty - anonymous))


# --- the measured process ---------------------------------------------------------------------


def _measured(channel: socket.socket, setting: dict[str, Any]) -> None:
    from dataclasses import replace

    import torch
    from plan_cases import Case, build, given, stored

    from gnnscale import comm
    from gnnscale.storage.allocator import return_freed_memory

    case = Case(**setting["case"])
    if asked := setting.get("predict"):
        reader = channel.makefile("r")
        channel.sendall(b"ready\n")
        reader.readline()
        graph = given(case.graph, stored(case) if case.given == "store" else None)
        if "bound" in asked:
            outcome = choice(case, graph, asked["bound"], asked["others"])
        else:
            outcome = predicted(replace(case, **asked), graph)
        channel.sendall(f"{json.dumps(outcome)}\n".encode())
        reader.readline()
        return
    if case.ranks > 1:
        torch.set_num_threads(1)
    comm.start()
    with tempfile.TemporaryDirectory() as scratch:
        clock = Clock(setting["seconds"], evaluates=setting.get("evaluates", True))
        if setting.get("warm", False):
            _warm(case, Path(scratch, "warm"))
        graph = given(case.graph, stored(case) if case.given == "store" else None)
        model = build(case, getattr(graph, "graph", graph))
        trainer = make_trainer(case, model, graph, Path(scratch), clock, setting.get("more", {}))
        gc.collect()
        return_freed_memory()
        reader = channel.makefile("r")
        channel.sendall(b"ready\n")
        reader.readline()
        started = time.monotonic()
        took: dict[str, Any] = {}
        try:
            report = trainer.fit()
            took = clock.outcome(trainer, report, time.monotonic() - started)
            if setting.get("predicts"):
                trainer.predict()
        except ValueError as error:  # InputError: refused
            if not setting.get("may_refuse"):
                raise
            took = {"refused": str(error)}
        channel.sendall(f"{json.dumps(took)}\n".encode())
        reader.readline()


def predicted(case: Any, graph: Any) -> dict[str, Any]:
    """What is predicted of a case: seconds by the cached profile, where there is one; bytes."""
    from plan_cases import build, job_of

    from gnnscale.costs.machine.cached import known
    from gnnscale.costs.predicted.memory import run_memory
    from gnnscale.costs.predicted.seconds import run_seconds
    from gnnscale.costs.predicted.trial import try_steps
    from gnnscale.parallel.simulation.predicted import pipeline_seconds

    started = time.monotonic()
    job, configuration = job_of(case, graph, build(case, getattr(graph, "graph", graph)))
    memory = run_memory(job, configuration)
    found = {"memory": memory.total, "moment": memory.moment, "moments": memory.moments}
    if (machine := known()) is not None:
        clustered = configuration.trainer != "layerwise" and not configuration.is_full_batch
        tried = try_steps(job.model, job.graph, clustered=clustered)
        of = pipeline_seconds if configuration.trainer == "pipeline" else run_seconds
        seconds, tables = of(job, configuration, machine, tried), of(job, configuration, machine)
        found |= {name: getattr(seconds, name) for name in ("epoch", "evaluation", "setup")}
        found |= {"bound by": seconds.bound_by, "parts": dict(seconds.parts)}
        found |= {"by tables": tables.epoch}
    return {**found, "took": time.monotonic() - started}


def choice(case: Any, graph: Any, tight: float | None, others: int) -> dict[str, Any]:
    """What a plan recommends, and the next ones of its grid that fit and train as well.

    Args:
        case: graph and model.
        graph: the graph.
        tight: the bound, in the least that anything needs; None for no bound.
        others: how many.

    Returns:
        "grid": arguments and seconds predicted, the recommended one first; "bound", in bytes.
    """
    from plan_cases import build

    import gnnscale as gs
    from gnnscale.costs.machine.cached import known
    from gnnscale.planning.search import Search
    from gnnscale.planning.words import arguments

    model, here = build(case, graph), known()
    told: dict[str, Any] = {"trainers": ["cluster"], "ranks": 1, "machine": here}
    plan = gs.plan(graph, model, **told)
    bound = None
    if tight is not None:
        least = min(one.bytes for one in plan.predictions if one.configuration.ranks == 1)
        bound = int(tight * least)
        plan = gs.plan(graph, model, bound, **told)
    search = Search(plan.job, plan.asked, plan.here)
    fitting = [one for one in plan.predictions if search.fits(one) and search.is_near(one)]
    fitting = [one for one in fitting if plan.asked.runs(one.configuration) and one.seconds]
    fitting.sort(key=lambda one: one.seconds.epoch)
    grid = [plan.best, *(one for one in fitting if one is not plan.best)][: 1 + others]
    found = []
    for one in grid:
        told = {**arguments(one.configuration), "files": one.configuration.storage == "files"}
        found.append({"options": told, "predicted": one.seconds.epoch, "bytes": one.bytes})
    return {"grid": found, "bound": bound, "why": plan.why}


def make_trainer(
    case: Any, model: Any, graph: Any, scratch: Path, clock: Clock, more: dict[str, Any]
) -> Any:
    """The trainer of a case.

    Args:
        case: the case.
        model: its model.
        graph: its graph, or that in clusters.
        scratch: a folder for what is kept in files.
        clock: ends training.
        more: further arguments.
    """
    import gnnscale as gs
    from gnnscale.train.trainers import TRAINERS

    options = {**case.options, **more}
    files = options.pop("files", False)
    if case.given == "store":
        del options["num_parts"]
    if files:
        (scratch / "layers").mkdir(parents=True)
        options["storage"] = scratch / "layers"
        if case.trainer == "cluster":
            options["store"] = scratch / "store"
    if case.trainer == "layerwise":
        options |= {"controller": Controlled(clock.seconds), "evaluate_every": 10**6}
    else:
        options |= {"epochs": 10**4, "evaluate_every": 10**6, "keep": "last"}
    clock.layerwise = case.trainer == "layerwise"
    options |= {"progress": False, "callbacks": [clock]}
    if case.trainer == "graph":
        model = gs.nn.GraphModel(model, readout="mean")
    return TRAINERS[case.trainer](model, graph, **options)


def _warm(case: Any, folder: Path) -> None:
    """Import and load what such a run needs, with one on a small graph: it is no part of a run."""
    from dataclasses import replace

    from plan_cases import build, load

    small = {"graphs": "graphs:40", "wide": "wide:400"}.get(case.graph.split(":")[0], "path:400")
    if case.graph in ("wordnet", "debian"):
        small = "wide:400"
    options = {k: v for k, v in case.options.items() if k != "precompute"}
    if "num_parts" in options:
        options |= {"num_parts": 8, "clusters_per_batch": 1}
    tiny = replace(case, graph=small, width=8, options=options, given="graph")
    graph = load(small)
    clock = Clock(0.0, evaluates=True)
    trainer = make_trainer(tiny, build(tiny, graph), graph, folder, clock, {})
    trainer.fit()
    trainer.predict()


class Controlled:
    """Ends a layer when its epochs have had their share of the time.

    Args:
        seconds: of the epochs of all layers, beside the first of each.
    """

    needs_validation = False

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def begin(self, layer: int, layers: int) -> None:
        self._share, self._since = self._seconds / layers, time.monotonic()

    def decide(self, progress: Any) -> Any:
        from gnnscale import comm
        from gnnscale.train.controllers.stopping import Decision

        if progress.epoch == 1:
            self._since = time.monotonic()
        over = time.monotonic() - self._since >= self._share or progress.epoch > EPOCHS
        return Decision(comm.any_rank(progress.epoch > 1 and over), "time")

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"controller": "Controlled"}


class Clock:
    """A callback: takes the seconds of epochs, and ends training when there are enough.

    Args:
        seconds: of epochs that count.
        evaluates: whether the end is evaluated several times.
    """

    layerwise = False

    def __init__(self, seconds: float, *, evaluates: bool) -> None:
        self.seconds, self._evaluates = seconds, evaluates
        self._epochs: dict[int | None, list[float]] = {}
        self._evaluations: list[float] = []
        self._last: list[float] = []

    def on_fit_start(self, trainer: Any) -> None:
        pass

    def on_fit_end(self, trainer: Any, report: Any) -> None:
        pass

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        self._last = self._epochs.setdefault(row.get("layer"), [])
        self._last.append(row["seconds"])
        if self.layerwise:  # its controller ends it
            return
        if self._is_over():
            if self._evaluates:
                self._evaluate(trainer)
            trainer.stop = True

    def _is_over(self) -> bool:
        from gnnscale import comm

        counted = self._last[1:]
        enough = sum(counted) >= self.seconds or len(counted) >= EPOCHS
        return comm.any_rank(bool(counted) and enough)

    def _evaluate(self, trainer: Any) -> None:
        from gnnscale import comm
        from gnnscale.storage.allocator import return_freed_memory

        while len(self._evaluations) < 3:
            return_freed_memory()
            started = time.monotonic()
            trainer.evaluate(trainer.sets)
            self._evaluations.append(time.monotonic() - started)
            if comm.any_rank(len(self._evaluations) > 1 and sum(self._evaluations) > self.seconds):
                break

    def outcome(self, trainer: Any, report: Any, seconds: float) -> dict[str, Any]:
        """What was found."""
        if self._evaluates and self.layerwise:
            self._evaluate(trainer)
        every = [epochs[1:] for epochs in self._epochs.values()]
        return {
            "epoch": sum(map(statistics.median, every)),
            "epochs": sum(map(len, every)),
            "evaluation": statistics.median(self._evaluations[1:]) if self._evaluations else None,
            "fit": seconds,
            "by phase": report.seconds,
            "predicted": getattr(report, "predicted", None) or None,
        }


def main() -> None:
    """Be the measured process."""
    number, setting = int(sys.argv[1]), json.loads(sys.argv[2])
    with socket.socket(fileno=number) as channel:
        _measured(channel, setting)


if __name__ == "__main__":
    main()
