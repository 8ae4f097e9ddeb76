"""Flipped bits, cut, grown and swapped files: what verification finds of them.

Stores hold every kind of array: dense and sparse features, weights, edge attributes, several
splits, several graphs. In a run folder a flip may change nothing that is read (the date of a file
inside an .npz); it is harmless if what is read is the same, and a finding if it is not.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from typer.testing import CliRunner

import gnnscale as gs
from gnnscale.graph import verify_store
from gnnscale.storage.files import read_json
from gnnscale.train.run.checkpoint import load_tree
from gnnscale.train.run.folder import RunFolder

_NODES = 60


def flip_campaign(flips: int, seed: int) -> dict[str, Any]:
    """Flip so many bits of stores, half as many of a run folder, and damage every file whole."""
    chance = random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="gnnscale-flips-"))
    try:
        stores = _stores(root)
        damages = [_flip_in(chance, stores) for _ in range(flips)] + _whole_file_damages(stores)
        in_stores, findings = _try_in_stores(damages)
        in_runs, more = _try_in_run(_run(root), flips // 2, chance)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return {"stores": in_stores, "run_folder": in_runs, "findings": findings + more}


# --- what is damaged --------------------------------------------------------------------------


def _stores(root: Path) -> list[Path]:
    random_numbers = np.random.default_rng(0)
    ids = np.arange(_NODES)
    edges = np.stack([ids, np.roll(ids, 1)])
    splits = {
        "default": {"train": ids % 3 == 0, "val": ids % 3 == 1, "test": ids % 3 == 2},
        "other": {"train": ids % 2 == 0, "test": ids % 2 == 1},
    }
    dense = gs.Graph.from_arrays(
        edges,
        random_numbers.normal(size=(_NODES, 5)).astype(np.float32),
        ids % 4,
        edge_weight=1.0 + ids,
        edge_attr=np.stack([ids, -ids], 1),
        splits=splits,
        name="dense \N{LATIN SMALL LETTER E WITH ACUTE}",
    )
    within = edges[:, edges[0] // 20 == edges[1] // 20]
    several = gs.Graph.from_arrays(
        within,
        scipy.sparse.random(_NODES, 30, 0.2, "csr", np.float32, 0),
        [0, 1, 0],
        node_ptr=[0, 20, 40, 60],
        y_level="graph",
        name="several graphs, sparse features",
    )
    for name, graph in (("dense", dense), ("several", several)):
        gs.cluster(graph, gs.partition(graph, 6, "contiguous"), root / name)
    return [root / "dense", root / "several"]


def _run(root: Path) -> Path:
    torch.manual_seed(0)
    graph = gs.load("synthetic:planted?nodes=200&classes=3&features=8&communities=6")
    graph.source = None  # so that the run keeps it
    model = gs.nn.GCN(8, 8, 2, 3, norm="batch_norm")
    gs.ClusterTrainer(
        model, graph, 6, 2, epochs=2, method="contiguous", run_dir=root / "run", progress=False
    ).fit()
    return root / "run"


Damage = tuple[Path, Path, str, bytes]  # the folder, the file, what was done, what it now holds


def _flip_in(chance: random.Random, folders: list[Path]) -> Damage:
    folder = chance.choice(folders)
    return _flip(chance, folder, chance.choice(_files(folder)))


def _flip(chance: random.Random, folder: Path, file: Path) -> Damage:
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content))
    # One bit, or any other byte: that may turn one white space into another.
    new = content[place] ^ (
        1 << chance.randrange(8) if chance.random() < 0.7 else chance.randint(1, 255)
    )
    content[place] = new
    return folder, file, f"byte {place} changed to {new}", bytes(content)


def _whole_file_damages(folders: list[Path]) -> list[Damage]:
    """Every file cut, emptied, grown, and in the place of another one of its store."""
    damages: list[Damage] = []
    for folder in folders:
        files = _files(folder)
        for file, other in zip(files, [*files[1:], files[0]], strict=True):
            whole = file.read_bytes()
            damages += [
                (folder, file, "cut by one byte", whole[:-1]),
                (folder, file, "emptied", b""),
                (folder, file, "grown by one byte", whole + b"\0"),
                (folder, file, f"replaced by {other.name}", other.read_bytes()),
            ]
    return [d for d in damages if d[1].read_bytes() != d[3]]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# --- what finds it ----------------------------------------------------------------------------


def _try_in_stores(damages: list[Damage]) -> tuple[dict[str, int], list[dict[str, str]]]:
    counts: Counter[str] = Counter()
    findings = []
    for number, damage in enumerate(damages):
        folder, file, what, _ = damage
        with _Damaged(damage):
            found = _raises(verify_store, folder)
            # The command costs more than the function behind it: every tenth.
            if found and number % 10 == 0:
                found = _command_finds(folder)
                counts["tried with gnnscale info --verify"] += 1
            counts["found" if found else "not found"] += 1
            if _raises(gs.open_graph, folder):
                counts["found by opening it already"] += 1
        if not found:
            findings.append({"file": f"{folder.name}/{file.name}", "damage": what})
    return {"damages": len(damages), **counts}, findings


def _try_in_run(
    run: Path, flips: int, chance: random.Random
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    files = [run / name for name in _RUN_READERS if (run / name).exists()]
    by_file: dict[str, Counter[str]] = {file.name: Counter() for file in files}
    findings = []
    for number in range(flips):
        damage = _flip(chance, run, file := files[number % len(files)])
        read = _RUN_READERS[file.name]
        before = read(file)
        with _Damaged(damage):
            if _command_finds(run):
                outcome = "found"
            elif _raises(read, file):
                outcome = "refused when it is read"
            else:
                outcome = "harmless" if _same(read(file), before) else "not found"
        by_file[file.name][outcome] += 1
        if outcome == "not found":
            findings.append({"file": f"run/{file.name}", "damage": damage[2]})
    return {"flips": flips, **{name: dict(count) for name, count in by_file.items()}}, findings


_RUN_READERS: dict[str, Callable[[Path], Any]] = {
    "run.json": lambda path: RunFolder(path.parent).describe(),
    "partition.npz": lambda path: gs.Partition.load(path).__dict__,
    "checkpoint.safetensors": load_tree,
    "model.safetensors": load_tree,
    "report.json": read_json,
}


class _Damaged:
    """The damage, undone at the end."""

    def __init__(self, damage: Damage) -> None:
        _, self.file, _, self.content = damage

    def __enter__(self) -> None:
        self.whole = self.file.read_bytes()
        self.file.write_bytes(self.content)

    def __exit__(self, *_: object) -> None:
        self.file.write_bytes(self.whole)


def _raises(read: Callable[[Path], Any], path: Path) -> bool:
    try:
        read(path)
    except gs.GnnscaleError:
        return True
    return False


def _command_finds(folder: Path) -> bool:
    from gnnscale.cli import app

    done = CliRunner().invoke(app, ["info", f"{folder}{os.sep}", "--verify"])
    if done.exit_code not in (0, 2):
        raise RuntimeError(done.output) from done.exception
    return done.exit_code == 2


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other
