"""Runs killed at random moments: nothing half-written is accepted, and the result is the same.

A trial kills a life (see `faults.life`), looks at what it left, perhaps kills the next one that
goes on in the same folder too, and then lets one end. Kills are spread over the four phases; half
come at a random time of a phase, half just before a change of the file system: a file is opened,
flushed, renamed, removed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import gnnscale as gs
from faults.life import LIVES, PARTS, PHASES, graph_of
from gnnscale.partitioning.cache import read_entry
from gnnscale.storage.files import read_json
from gnnscale.train import Report
from gnnscale.train.run.checkpoint import load_tree
from gnnscale.train.run.folder import RunFolder

_TIMES = ("seconds", "nodes_per_second", "aggregate_seconds")


class ForkServer:
    """Has lives lived, and killed, in processes that have everything imported."""

    def __init__(self, temporary: Path) -> None:
        script = Path(__file__).with_name("life.py")
        quiet = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
        path = os.pathsep.join([str(script.parents[2]), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **quiet, "PYTHONPATH": path},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        if self._answers.readline().strip() != "ready":
            raise RuntimeError("the fork server did not start")

    def run(self, folder: Path, life: str, **kill: Any) -> dict[str, Any]:
        """Live, whole or until the kill: exit status and what was told on the way."""
        request = {"folder": str(folder), "life": life, "at_time": None, "at_change": None, **kill}
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return json.loads(self._answers.readline())

    def close(self) -> None:
        self._requests.close()
        self._process.wait(10)
        self._answers.close()


class Reference:
    """What an uninterrupted life ends with, how long its phases take, how much they write."""

    def __init__(self, server: ForkServer, folder: Path, life: str) -> None:
        whole = server.run(folder, life)
        if whole["status"]:
            raise RuntimeError(f"the uninterrupted life ended with status {whole['status']}")
        *marks, end = whole["told"]
        self.folder = folder
        self.durations: dict[str, list[float]] = {phase: [] for phase in PHASES}
        for mark, following in zip(marks, whole["told"][1:], strict=True):
            self.durations[mark["phase"]].append(following["time"] - mark["time"])
        self.phases = [phase for phase in PHASES if self.durations[phase]]
        self.changes: dict[str, int] = end["changes"]
        cached = _cached(folder)
        self.assignment = cached[0].assignment if cached else None
        self.fingerprints = _fingerprints(folder)
        self.ending = _ending(folder)

    def draw_kill(self, phase: str, chance: random.Random) -> dict[str, Any]:
        """A moment of the phase: before a change of the file system, or after a random time."""
        if chance.random() < 0.5 and self.changes.get(phase):
            return {"at_change": [phase, chance.randint(1, self.changes[phase])]}
        occurrence = chance.randrange(len(self.durations[phase]))
        return {
            "at_time": [phase, occurrence, chance.uniform(0, self.durations[phase][occurrence])]
        }


def kill_campaign(kills: int, seed: int) -> dict[str, Any]:
    """Kill at least so many times; what happened, and every finding with what reproduces it."""
    chance = random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="gnnscale-kills-"))
    temporary = root / "tmp"
    temporary.mkdir()
    server = ForkServer(temporary)
    phases: Counter[str] = Counter()
    lives: Counter[str] = Counter()
    counts: Counter[str] = Counter({"kills": 0, "trials": 0, "missed": 0})
    findings: list[dict[str, Any]] = []
    try:
        references = {life: Reference(server, root / f"whole-{life}", life) for life in LIVES}
        while counts["kills"] < kills:
            reference = references[life := LIVES[counts["trials"] % len(LIVES)]]
            folder = root / f"trial{counts['trials']}"
            # The phase that has been hit least: a kill may come late, in the next one.
            phase = min(reference.phases, key=lambda name: phases[name])
            history: list[Any] = []
            faults: list[str] = []
            while not history or chance.random() < 0.3:
                kill = reference.draw_kill(phase, chance)
                had_store = (folder / "store").exists()
                life_told = server.run(folder, life, **kill)
                history.append({**kill, "status": life_told["status"]})
                if life_told["status"] != -signal.SIGKILL:
                    counts["missed"] += 1
                    break
                counts["kills"] += 1
                lives[life] += 1
                phases[_last_phase(life_told["told"])] += 1
                faults += _half_written(folder, reference, counts)
                if had_store and not (folder / "store").exists():
                    faults.append("a store that was there is gone")
            counts["trials"] += 1
            faults += _wrong_ending(server, folder, life, reference)
            findings += [{"fault": fault, "life": life, "kills": history} for fault in faults]
            shutil.rmtree(folder, ignore_errors=True)
        orphans = len(list(temporary.glob("gnnscale-partition-*")))
    finally:
        server.close()
        shutil.rmtree(root, ignore_errors=True)
    return {
        **counts,
        "lives": dict(lives),
        "phases": {phase: phases[phase] for phase in PHASES},
        "work_folders_of_killed_partitioners": orphans,
        "findings": findings,
    }


def _last_phase(told: list[dict[str, Any]]) -> str:
    return next((mark["phase"] for mark in reversed(told) if "phase" in mark), PHASES[0])


# --- what a killed process leaves -------------------------------------------------------------


def _half_written(folder: Path, reference: Reference, counts: Counter[str]) -> list[str]:
    """What was taken for whole and is not; counts what there was."""
    faults = []
    for store in _stores(folder):
        try:
            found = gs.open_graph(store, verify=True).graph.fingerprint()
            counts["stores whole after a kill"] += 1
            if found != reference.fingerprints[str(store.relative_to(folder))]:
                faults.append(f"the store {store.name} opens with another content")
        except gs.StoreError as error:
            faults.append(f"the store {store.name} is there and cannot be opened: {error}")
    for part in _cached(folder):
        counts["partitions whole after a kill"] += 1
        if reference.assignment is None or not torch.equal(part.assignment, reference.assignment):
            faults.append("the cache gives another partition")
    readers = {
        "run.json": lambda path: RunFolder(path.parent).describe(),
        "partition.npz": gs.Partition.load,
        "checkpoint.safetensors": load_tree,
        "model.safetensors": load_tree,
        "report.json": Report.load,
    }
    for run, (name, read) in itertools.product(_runs(folder), readers.items()):
        if (run / name).exists():
            try:
                read(run / name)
                counts["files of the run whole after a kill"] += 1
            except gs.GnnscaleError as error:
                faults.append(f"{run.name}/{name} is there and cannot be read: {error}")
    counts["temporary files after a kill"] += len(_temporary(folder))
    return faults


def _wrong_ending(server: ForkServer, folder: Path, life: str, reference: Reference) -> list[str]:
    """Go on to the end: what differs from the uninterrupted life."""
    status = server.run(folder, life)["status"]
    if status:
        return [f"going on failed with status {status}"]
    wrong = [what for what, value in _ending(folder).items() if value != reference.ending[what]]
    faults = [f"after going on the {what} differ" for what in wrong]
    if _fingerprints(folder) != reference.fingerprints:
        faults.append("after going on a store differs")
    faults += [f"{name} stays behind" for name in _temporary(folder)]
    return faults


def _stores(folder: Path) -> list[Path]:
    return [path for path in (folder / "store", folder / "run" / "graph") if path.exists()]


def _fingerprints(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): gs.open_graph(path, verify=True).graph.fingerprint()
        for path in _stores(folder)
    }


def _runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("run.json"))


def _cached(folder: Path) -> list[gs.Partition]:
    entries = sorted((folder / "cache" / "partitions").glob("*.npz"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a damaged entry is a finding: renaming is atomic
        parts = [read_entry(entry, graph_of("store").num_nodes, PARTS) for entry in entries]
    return [part for part in parts if part is not None]


def _ending(folder: Path) -> dict[str, Any]:
    """Of every run: weights as bytes, and the report without times."""
    ending: dict[str, Any] = {"weights": {}, "rows": [], "metrics": []}
    for run in _runs(folder):
        weights = load_tree(run / "model.safetensors")
        report = read_json(run / "report.json")
        told = report["rows"] + report["layers"]
        ending["weights"][run.name] = {k: v.numpy().tobytes() for k, v in weights.items()}
        ending["rows"] += [{k: v for k, v in row.items() if k not in _TIMES} for row in told]
        ending["metrics"] += [report["final"], report["best_epoch"], report["stopped"]]
    return ending


def _temporary(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*.part"))
