"""Files of runs that are missing, damaged or another run's; two writers; files with code in them.

Whatever happens to a file of a run, opening the run and going on with it give the bits that they
gave before, or an error of gnnscale.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import gnnscale as gs
from faults.life import graph_of
from gnnscale.data.pyg.reading import check_pickle, check_tensors
from gnnscale.train.controllers.policy import StopPolicy

Make = Callable[[Path], Any]


def foreign_campaign(trials: int, seed: int) -> dict[str, Any]:
    """Damage so many files of runs; a hundredth as many times, try two writers and evil files."""
    chance = random.Random(seed)
    counts: dict[str, Counter[str]] = {}
    findings: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="gnnscale-foreign-") as folder:
        root = Path(folder)
        for name, make in RUNS.items():
            counts[name] = Counter()
            tried = _damaged_runs(root / name, make, -(-trials // len(RUNS)), chance)
            for what, outcome in tried:
                counts[name][outcome] += 1
                if outcome not in ("named error", "same"):
                    findings.append({"run": name, "damage": what, "outcome": outcome})
        counts["two writers"], counts["files with code"] = Counter(), Counter()
        for number in range(-(-trials // 100)):
            outcome = _two_writers(root / f"writers{number}")
            counts["two writers"][outcome] += 1
            if outcome != "refused, then free":
                findings.append({"run": "two writers", "outcome": outcome})
        for what, outcome in _evil(root / "evil"):
            counts["files with code"][outcome] += 1
            if outcome != "named error":
                findings.append({"run": what, "outcome": outcome})
    return {**{name: dict(count) for name, count in counts.items()}, "findings": findings}


# --- runs -------------------------------------------------------------------------------------

_GIVEN: dict[str, Any] = {"evaluate_every": 1, "checkpoint_every": 1, "progress": False}


def _cluster_run(folder: Path, **options: Any) -> Any:
    torch.manual_seed(7)
    model = gs.nn.GCN(16, 4, 2, 4, dropout=0.3)
    given = {"num_parts": 6, "clusters_per_batch": 2, "epochs": 3, "method": "random"}
    return gs.ClusterTrainer(
        model, graph_of("memory"), run_dir=folder, **{**given, **_GIVEN, **options}
    )


def _layerwise_run(folder: Path, **options: Any) -> Any:
    torch.manual_seed(7)
    model = gs.nn.GCN(16, 4, 2, 4, dropout=0.3)
    given = {"epochs": 4, "controller": gs.LearnedController(StopPolicy(2, every=2, seed=3))}
    return gs.LayerwiseTrainer(
        model, graph_of("store"), run_dir=folder, **{**given, **_GIVEN, **options}
    )


RUNS: dict[str, Make] = {"clusters": _cluster_run, "learned controller": _layerwise_run}


class _Stop(gs.Callback):
    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt


def _trained(make: Make, folder: Path, stopped: bool) -> None:
    trainer = make(folder)
    if stopped:
        trainer.callbacks.append(_Stop())
    with contextlib.suppress(KeyboardInterrupt):
        trainer.fit()


def _damaged_runs(
    root: Path, make: Make, trials: int, chance: random.Random
) -> Iterator[tuple[str, str]]:
    for stopped in (False, True):
        run, other, copy = (root / f"{name}-{stopped}" for name in ("run", "other", "copy"))
        _trained(make, run, stopped)
        _trained(make, other, stopped)
        shutil.copytree(run, copy)
        opened = _weights(gs.load_run(copy).trainer)
        trainer = make(copy)
        trainer.fit()
        expected = {"load_run": opened, "resume": _weights(trainer)}
        files = sorted(
            path.relative_to(run)
            for path in run.rglob("*")
            if path.is_file() and path.name not in (".lock", "curves.png")
        )
        for _ in range(-(-trials // 2)):
            name = chance.choice(files)
            what, content = _damage(run / name, other / name, chance)
            for verb, weights in expected.items():
                shutil.rmtree(copy)
                shutil.copytree(run, copy)
                (copy / name).unlink()
                if content is not None:
                    (copy / name).write_bytes(content)
                yield f"{name}, {what}, {verb}", _outcome(make, copy, verb, weights)


def _damage(file: Path, other: Path, chance: random.Random) -> tuple[str, bytes | None]:
    whole = file.read_bytes()
    what = chance.choice(("missing", "cut", "flipped", "flipped", "another run's"))
    if what == "missing":
        return what, None
    if what == "cut":
        return what, whole[: chance.randrange(len(whole))]
    if what == "another run's" and other.exists():
        return what, other.read_bytes()
    flipped = bytearray(whole)
    flipped[place := chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    return f"byte {place} flipped", bytes(flipped)


def _outcome(make: Make, folder: Path, verb: str, expected: dict[str, torch.Tensor]) -> str:
    try:
        if verb == "load_run":
            trainer = gs.load_run(folder).trainer
        else:
            trainer = make(folder)
            trainer.fit()
    except gs.GnnscaleError:
        return "named error"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    found = _weights(trainer)
    same = all(torch.equal(value, expected[name]) for name, value in found.items())
    return "same" if same else "other weights"


def _weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


# --- writers ----------------------------------------------------------------------------------

_HOLD = """
import pathlib, sys, time
from gnnscale.train.run.lock import sole_writer
with sole_writer(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def _two_writers(folder: Path) -> str:
    """A second writer while the first lives, and at once after it was killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        _cluster_run(folder, epochs=1).fit()
        return "two wrote"
    except gs.RunInUse as error:
        if f"process {holder.pid} " not in str(error):
            return f"refused without its pid: {error}"
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    _cluster_run(folder, epochs=1).fit()
    return "refused, then free"


# --- files with code, and bombs ---------------------------------------------------------------


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return subprocess.getoutput, (f"touch {self.marker}",)


def _evil(root: Path) -> Iterator[tuple[str, str]]:
    root.mkdir()
    marker = root / "marker"
    for protocol in range(6):
        (root / "ind.x").write_bytes(pickle.dumps({1: [_Evil(marker)]}, protocol))
        yield f"pickle, protocol {protocol}", _refused(check_pickle, root / "ind.x", marker)
    torch.save({"x": _Evil(marker)}, root / "data.pt")
    yield "processed", _refused(check_tensors, root / "data.pt", marker)
    with (
        zipfile.ZipFile(root / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(1200):
            file.write(bytes(1 << 20))
    yield "bomb", _refused(gs.load, root / "bomb.npz", marker)


def _refused(read: Callable[[Path], Any], path: Path, marker: Path) -> str:
    try:
        read(path)
    except gs.GnnscaleError:
        return "executed" if marker.exists() else "named error"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read"
