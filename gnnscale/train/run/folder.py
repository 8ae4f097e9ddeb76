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
model.safetensors       the model's kept weights, once the run is complete
report.json, curves.png
.lock                   who writes here, while it does
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
import shutil
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

from torch import Tensor
from typing_extensions import override

from gnnscale.errors import RunMismatch, StoreError
from gnnscale.graph import is_store
from gnnscale.graph.store.cluster_folder import store_checksum
from gnnscale.storage.files import (
    check_writable,
    checked_path,
    file_checksum,
    json_checksum,
    read_json,
    remove_abandoned,
    write_json,
)
from gnnscale.storage.formats import Format
from gnnscale.storage.pictures import plot_where_possible
from gnnscale.train.options import TrainerOptions
from gnnscale.train.run.checkpoint import read_tree, save_tree
from gnnscale.train.run.lock import sole_writer
from gnnscale.train.run.records import Description, State
from gnnscale.train.run.report import Report
from gnnscale.train.steps.learnt import of_model

logger = logging.getLogger(__name__)

FORMAT = Format(
    "gnnscale-run",
    3,
    "run's folder",
    "train with fit(resume=False) (its weights alone are what "
    "gnnscale.train.run.checkpoint.load_tree reads of model.safetensors)",
)

_CHECKPOINT, _WEIGHTS, _REPORT = "checkpoint.safetensors", "model.safetensors", "report.json"
# Written before the first step, and not changed after: the checkpoint names their checksums.
_ONCE = (
    "partition.npz",
    "stages.json",
    "store.json",
    "controller.safetensors",
)


class RunFolder:
    """Reads and writes the folder of a run.

    Attributes:
        path: where it is.
        partition: the assignment used.
        graph: the graph, where nothing else could bring it back.
        store: the clustered graph of a graph in files.
        stages: where a pipeline cuts the model.
        controller: the learned stop controller.
        fine_tune: the run that fine-tunes.

    Raises:
        StoreError: the folder cannot be made or written; found now, not after the first epoch.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = checked_path(path).absolute()
        self.partition, self.stages = self.path / "partition.npz", self.path / "stages.json"
        self.controller = self.path / "controller.safetensors"
        self.graph, self.store = self.path / "graph", self.path / "store"
        self.fine_tune = self.path / "fine_tune"
        self._id: str | None = None  # of the run, once it has begun or been read
        self._checksums: dict[str, str] = {}  # of its files that are written once
        if not self.exists:  # a run that is here may be read even where it cannot be written
            self.check_writable()

    def check_writable(self) -> None:
        """Find out, before anything long begins, whether files can be written here.

        Raises:
            StoreError: they cannot.
        """
        check_writable(self.path / "run.json", f"the run folder {self.path}")

    @override
    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether a run has begun here."""
        return os.path.exists(self.path / "run.json")  # False too where it may not be asked

    def describe(self) -> Description:
        """What `begin` wrote.

        Raises:
            StoreError: it is missing, damaged, or of another version.
        """
        content = read_json(self.path / "run.json")
        FORMAT.check(content, self.path)
        if content.pop("checksum", None) != json_checksum(content):
            raise StoreError(f"{self.path / 'run.json'} is damaged: its checksum differs")
        return content

    def hold(self, held: contextlib.ExitStack) -> None:
        """Be the only writer here until the block that `held` stands for is left.

        Raises:
            RunInUse: another one writes here.
        """
        held.enter_context(sole_writer(self.path))

    def begin(self, identity: Description, config: TrainerOptions) -> None:
        """Start a run, removing what an earlier one left here."""
        content = {
            **FORMAT.stamp,
            "id": secrets.token_hex(8),
            "within": self._surrounding_id(),
            **identity,
            "config": config.saved(),
        }
        # A process killed while it removes leaves a run that has not begun, not half of the old.
        self._write_description({**content, "begun": False})
        for name in (_CHECKPOINT, _WEIGHTS, _REPORT, "curves.png"):
            (self.path / name).unlink(missing_ok=True)
        for path in (self.partition, self._store_note, self.stages, self.controller):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.fine_tune, ignore_errors=True)
        if identity["data"]["source"] != str(self.graph):
            shutil.rmtree(self.graph, ignore_errors=True)
        self._write_description({**content, "begun": True})
        self._id, self._checksums = content["id"], {}

    def _write_description(self, content: Description) -> None:
        write_json(self.path / "run.json", {**content, "checksum": json_checksum(content)})

    def _surrounding_id(self) -> str | None:
        """The id of the run that this one is the fine-tuning of; None for any other."""
        around = RunFolder(self.path.parent) if self.path.name == "fine_tune" else None
        return str(around.describe()["id"]) if around is not None and around.exists else None

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
        self, identity: Description, config: TrainerOptions, resume: str | bool
    ) -> State | None:
        """The state to go on from, or None to start anew.

        Raises:
            RunMismatch: the run here is another one; what differs is named.
            StoreError: a file of the run is missing or damaged.
        """
        remove_abandoned(self.path, ".*.????????.part")
        if resume is False:
            return None
        if resume is True and not self.exists:
            raise RunMismatch(f"resume=True, but there is no run in {self.path}")
        there = [n for n in (_CHECKPOINT, _REPORT, _WEIGHTS) if (self.path / n).exists()]
        if not there or not self.describe()["begun"]:
            return None  # stopped before its first checkpoint: nothing to lose, nothing to compare
        if differences := self.differences(identity, config):
            lines = "\n".join(f"  - {line}" for line in differences)
            raise RunMismatch(
                f"the run in {self.path} is another one:\n{lines}\nTake another run_dir, or "
                "resume=False to replace it"
            )
        return self.state()

    def state(self) -> State:
        """The state of the run, every file of which is the one that it wrote.

        Raises:
            StoreError: a file of the run is missing or damaged; it is named.
            RunMismatch: a file is of another run.
        """
        content = self.describe()
        tree, about = read_tree(self.path / _CHECKPOINT)
        self._check_run(_CHECKPOINT, about.get("run"), content["id"])
        around = self._surrounding_id()
        if around is not None:
            self._check_run("run.json", content["within"], around)
        for name, checksum in about["files"].items():
            if file_checksum(self.path / name) != checksum:
                raise StoreError(
                    f"{self.path / name} is damaged or of another run: its checksum is not the one "
                    f"in {_CHECKPOINT}. {_REMEDY}"
                )
        if about["reported"]:
            report = Report.load(self.path / _REPORT)
            self._check_run(_REPORT, report.run.get("id"), content["id"])
        self._id = content["id"]
        self._checksums = {k: v for k, v in about["files"].items() if k in _ONCE}
        return tree

    def _check_run(self, name: str, found: object, expected: str) -> None:
        if found != expected:
            raise RunMismatch(
                f"{self.path / name} is of another run (id {found}; run.json here says "
                f"{expected}). {_REMEDY}"
            )

    def differences(self, identity: Description, config: TrainerOptions) -> list[str]:
        """What tells the run here from another one, in words; nothing where they are the same.

        Raises:
            StoreError: `run.json` is missing or damaged.
        """
        content = self.describe()
        differences = config.differences(content["config"])
        if content["trainer"] != identity["trainer"]:
            differences.append(_difference("trainer", content["trainer"], identity["trainer"]))
        differences += _task_differences(content["task"], identity["task"])
        there, here = content["data"], identity["data"]
        if there["fingerprint"] != here["fingerprint"]:
            old, new = (f"{data['name']} ({data['fingerprint']})" for data in (there, here))
            differences.append(_difference("graph", old, new))
        elif there["clusters"] != here["clusters"]:
            differences.append(_difference("clusters", there["clusters"], here["clusters"]))
        return differences + _model_differences(content, identity)

    def checkpoint(self, state: State, report: Report) -> None:
        """Write the state to go on from, and the report so far."""
        self._save_state({**state, "finished": False}, report)
        report.save(self.path / _REPORT)
        # What a complete run ended with, where it goes on: the checkpoint names it no more.
        (self.path / _WEIGHTS).unlink(missing_ok=True)

    def keep_config(self, config: TrainerOptions) -> None:
        """Write the configuration of a run that goes on: it may have more epochs than before."""
        content = self.describe()
        if content["config"] != (now := config.saved()):
            self._write_description({**content, "config": now})

    def finish(self, weights: dict[str, Tensor], state: State, report: Report) -> None:
        """Write weights, report and curves of a complete run, and what more epochs go on from."""
        report.run["id"] = self._id
        save_tree(self.path / _WEIGHTS, of_model(weights), {"run": self._id})
        report.save(self.path / _REPORT)
        plot_where_possible(report.plot, self.path / "curves.png")
        self._save_state({**state, "finished": True}, report)

    def _save_state(self, state: State, report: Report) -> None:
        """Write the checkpoint, which names the run that it is of and the run's other files."""
        report.run["id"] = self._id
        about = {
            "run": self._id,
            "files": self._named(state["finished"]),
            "reported": (self.path / _REPORT).exists(),  # not before the first checkpoint
        }
        tree = {**state, "report": dataclasses.asdict(report)}
        save_tree(self.path / _CHECKPOINT, tree, about)

    def _named(self, finished: bool) -> dict[str, str]:
        """The checksums of what is there beside checkpoint and report."""
        for name in _ONCE:
            if name not in self._checksums and (self.path / name).exists():
                self._checksums[name] = file_checksum(self.path / name)
        weights = {_WEIGHTS: file_checksum(self.path / _WEIGHTS)} if finished else {}
        return {**self._checksums, **weights}

    def weights(self) -> tuple[dict[str, Tensor], State]:
        """The best weights known (the kept ones, else the best so far, else the last), and report.

        Raises:
            StoreError: there is no checkpoint, or a file of the run is missing or damaged.
            RunMismatch: a file is of another run.
        """
        state = self.state()
        return state.get("best") or state["model"], state["report"]


_REMEDY = "Put the right file back, or train anew with fit(resume=False)"


def _task_differences(there: Description, here: Description) -> list[str]:
    before, now = (task.get("parameters", {}) for task in (there, here))
    lazy = {name for known in (before, now) for name, shape in known.items() if shape == "lazy"}
    return [
        *_named_differences("task ", there, here, {"parameters"}),
        *_named_differences("task: ", before, now, lazy),
    ]


def _model_differences(there: Description, here: Description) -> list[str]:
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
    prefix: str, there: Description, here: Description, leave_out: Iterable[str] = ()
) -> list[str]:
    return [
        _difference(f"{prefix}{name}", there.get(name, "absent"), here.get(name, "absent"))
        for name in sorted((there.keys() | here.keys()) - set(leave_out))
        if there.get(name, "absent") != here.get(name, "absent")
    ]


def _difference(name: str, there: object, here: object) -> str:
    return f"{name}: {there} in the run, {here} now"
