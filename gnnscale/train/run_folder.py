"""The folder of a run: configuration, partition, checkpoint, report, curves, weights.

run.json                what was asked for, of which model and graph
partition.npz           the assignment used
graph/                  the clustered graph, where nothing else could bring it back
store/                  the clustered graph of a graph in files, where no other place is given
stages.json             where a pipeline cuts the model
store.json              which one that is, wherever it is
controller.safetensors  the learned stop controller of a run layer by layer
fine_tune/              a run of its own: its layers trained together at the end
checkpoint.safetensors  everything needed to go on
model.safetensors       the kept weights, once the run is complete
report.json, curves.png
.lock                   who writes here, while it does
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import override

from gnnscale.errors import RunMismatch, StoreError
from gnnscale.graph import is_store
from gnnscale.graph.files import (
    checked_path,
    json_checksum,
    read_json,
    remove_abandoned,
    write_json,
)
from gnnscale.graph.store import store_checksum
from gnnscale.train.checkpoint import load_tree, save_tree
from gnnscale.train.config import TrainConfig
from gnnscale.train.report import Report
from gnnscale.train.run_lock import sole_writer

logger = logging.getLogger(__name__)

FORMAT = "gnnscale-run"
VERSION = 1


class RunFolder:
    """Reads and writes the folder of a run.

    Raises:
        StoreError: the folder cannot be made or written; found now, not after the first epoch.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = checked_path(path).absolute()
        if not self.exists:  # a run that is here may be read even where it cannot be written
            self.check_writable()

    def check_writable(self) -> None:
        """Find out, before anything long begins, whether files can be written here.

        Raises:
            StoreError: they cannot.
        """
        nearest = next(p for p in (self.path, *self.path.parents) if p.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise StoreError(f"the run folder {self.path} cannot be written ({nearest})")

    @override
    def __str__(self) -> str:
        return str(self.path)

    @property
    def partition(self) -> Path:
        return self.path / "partition.npz"

    @property
    def graph(self) -> Path:
        return self.path / "graph"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def stages(self) -> Path:
        return self.path / "stages.json"

    @property
    def controller(self) -> Path:
        return self.path / "controller.safetensors"

    @property
    def fine_tune(self) -> Path:
        return self.path / "fine_tune"

    @property
    def exists(self) -> bool:
        return (self.path / "run.json").exists()

    def describe(self) -> dict[str, Any]:
        """What `begin` wrote.

        Raises:
            StoreError: it is missing, damaged, or of another version.
        """
        content = read_json(self.path / "run.json")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise StoreError(f"{self.path} is not the folder of a run")
        if content.get("version") != VERSION:
            raise StoreError(
                f"{self.path} was written by another version (format {content.get('version')}, "
                f"this one reads {VERSION})"
            )
        if content.pop("checksum", None) != json_checksum(content):
            raise StoreError(f"{self.path / 'run.json'} is damaged: its checksum differs")
        return content

    def hold(self, held: contextlib.ExitStack) -> None:
        """Be the only writer here until the block that `held` stands for is left.

        Raises:
            RunInUse: another one writes here.
        """
        held.enter_context(sole_writer(self.path))

    def begin(self, identity: dict[str, Any], config: TrainConfig) -> None:
        """Start a run, removing what an earlier one left here."""
        for name in ("checkpoint.safetensors", "model.safetensors", "report.json", "curves.png"):
            (self.path / name).unlink(missing_ok=True)
        for path in (self.partition, self._store_note, self.stages, self.controller):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.fine_tune, ignore_errors=True)
        if identity["data"]["source"] != str(self.graph):
            shutil.rmtree(self.graph, ignore_errors=True)
        content = {"format": FORMAT, "version": VERSION, **identity, "config": asdict(config)}
        write_json(self.path / "run.json", {**content, "checksum": json_checksum(content)})

    @property
    def _store_note(self) -> Path:
        return self.path / "store.json"

    def keep_store(self, store: Path) -> None:
        """Note what the store holds that the graph of this run was clustered into."""
        write_json(self._store_note, {"checksum": store_checksum(store)})

    def is_store_of_run(self, store: Path) -> bool:
        """Whether a store is there that holds what was noted; another run may have replaced it."""
        if not is_store(store) or not self._store_note.exists():
            return False
        return read_json(self._store_note) == {"checksum": store_checksum(store)}

    def resume(
        self, identity: dict[str, Any], config: TrainConfig, resume: str | bool
    ) -> dict[str, Any] | None:
        """The state to go on from, or None to start anew.

        Raises:
            RunMismatch: the run here is another one; what differs is named.
            StoreError: the checkpoint is damaged.
        """
        remove_abandoned(self.path, ".*.????????.part")
        if resume is False:
            return None
        if resume is True and not self.exists:
            raise RunMismatch(f"resume=True, but there is no run in {self.path}")
        if not (self.path / "checkpoint.safetensors").exists():
            return None  # stopped before its first checkpoint: nothing to lose, nothing to compare
        if differences := self.differences(identity, config):
            lines = "\n".join(f"  - {line}" for line in differences)
            raise RunMismatch(
                f"the run in {self.path} is another one:\n{lines}\nTake another run_dir, or "
                "resume=False to replace it"
            )
        return load_tree(self.path / "checkpoint.safetensors")

    def differences(self, identity: dict[str, Any], config: TrainConfig) -> list[str]:
        """What tells the run here from another one, in words; nothing where they are the same.

        Raises:
            StoreError: `run.json` is missing or damaged.
        """
        content = self.describe()
        differences = config.differences(content["config"])
        if content["trainer"] != identity["trainer"]:
            differences.append(_difference("trainer", content["trainer"], identity["trainer"]))
        differences += _named_differences("task ", content["task"], identity["task"])
        there, here = content["data"], identity["data"]
        if there["fingerprint"] != here["fingerprint"]:
            old, new = (f"{data['name']} ({data['fingerprint']})" for data in (there, here))
            differences.append(_difference("graph", old, new))
        return differences + _model_differences(content, identity)

    def checkpoint(self, state: dict[str, Any], report: Report) -> None:
        """Write the state to go on from, and the report so far."""
        tree = {**state, "finished": False, "report": dataclasses.asdict(report)}
        save_tree(self.path / "checkpoint.safetensors", tree)
        report.save(self.path / "report.json")

    def finish(self, weights: dict[str, Tensor], report: Report) -> None:
        """Write weights, report and curves of a complete run; the checkpoint shrinks to them."""
        save_tree(self.path / "model.safetensors", weights)
        report.save(self.path / "report.json")
        report.plot(self.path / "curves.png")
        tree = {"model": weights, "finished": True, "report": dataclasses.asdict(report)}
        save_tree(self.path / "checkpoint.safetensors", tree)

    def weights(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The best weights known (the kept ones, else the best so far, else the last), and report.

        Raises:
            StoreError: there is no checkpoint, or it is damaged.
        """
        state = load_tree(self.path / "checkpoint.safetensors")
        return state.get("best") or state["model"], state["report"]


def _model_differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    before, now = there["model"]["parameters"], here["model"]["parameters"]
    # A parameter that is not materialised yet takes any shape.
    lazy = {name for known in (before, now) for name, shape in known.items() if shape == "lazy"}
    differences = _named_differences("model: ", before, now, lazy)
    if not differences and not lazy and there["model"]["phases"] != here["model"]["phases"]:
        differences.append("model: its layers differ in kind or order from the run's")
    if not differences and there["spec"] and here["spec"]:
        old, new = there["spec"]["arguments"], here["spec"]["arguments"]
        differences += _named_differences("model: ", old, new)
    elif not differences and not lazy:
        # No list of arguments to compare: what its modules say of themselves (dropout, heads, …).
        lines = zip_longest(there["modules"], here["modules"], fillvalue="absent")
        differences += [_difference("model", a.strip(), b.strip()) for a, b in lines if a != b]
    return differences[:5] + (["…"] if len(differences) > 5 else [])


def _named_differences(
    prefix: str, there: dict[str, Any], here: dict[str, Any], leave_out: Iterable[str] = ()
) -> list[str]:
    return [
        _difference(f"{prefix}{name}", there.get(name, "absent"), here.get(name, "absent"))
        for name in sorted((there.keys() | here.keys()) - set(leave_out))
        if there.get(name, "absent") != here.get(name, "absent")
    ]


def _difference(name: str, there: Any, here: Any) -> str:
    return f"{name}: {there} in the run, {here} now"
