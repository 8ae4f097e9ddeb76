"""The folder of a run: configuration, partition, checkpoint, report, curves, weights.

    run.json                what was asked for, of which model and graph
    partition.npz           the assignment used
    graph/                  the clustered graph, where nothing else could bring it back
    checkpoint.safetensors  everything needed to go on
    model.safetensors       the kept weights, once the run is complete
    report.json, curves.png
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from gnnscale.errors import RunMismatch, StoreError
from gnnscale.graph.files import read_json, write_json
from gnnscale.train.checkpoint import load_tree, save_tree
from gnnscale.train.config import TrainConfig
from gnnscale.train.report import Report

logger = logging.getLogger(__name__)

FORMAT = "gnnscale-run"
VERSION = 1


class RunFolder:
    """Reads and writes the folder of a run.

    Raises:
        StoreError: the folder cannot be made or written; found now, not after the first epoch.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        nearest = next(p for p in (self.path, *self.path.parents) if p.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise StoreError(f"the run folder {self.path} cannot be written ({nearest})")

    def __str__(self) -> str:
        return str(self.path)

    @property
    def partition(self) -> Path:
        return self.path / "partition.npz"

    @property
    def graph(self) -> Path:
        return self.path / "graph"

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
        return content

    def begin(self, identity: dict[str, Any], config: TrainConfig) -> None:
        """Start a run, removing what an earlier one left here."""
        for name in ("checkpoint.safetensors", "model.safetensors", "report.json", "curves.png"):
            (self.path / name).unlink(missing_ok=True)
        self.partition.unlink(missing_ok=True)
        if identity["data"]["source"] != str(self.graph):
            shutil.rmtree(self.graph, ignore_errors=True)
        content = {"format": FORMAT, "version": VERSION, **identity, "config": asdict(config)}
        write_json(self.path / "run.json", content)

    def resume(
        self, identity: dict[str, Any], config: TrainConfig, resume: str | bool
    ) -> dict[str, Any] | None:
        """The state to go on from, or None to start anew.

        Raises:
            RunMismatch: the run here is another one; what differs is named.
            StoreError: the checkpoint is damaged.
        """
        if resume is False:
            return None
        if not self.exists:
            if resume is True:
                raise RunMismatch(f"resume=True, but there is no run in {self.path}")
            return None
        content = self.describe()
        differences = config.differences(content["config"])
        for key in ("trainer", "task"):
            if content[key] != identity[key]:
                differences.append(f"{key}: {content[key]} in the run, {identity[key]} now")
        if content["data"]["fingerprint"] != identity["data"]["fingerprint"]:
            there, here = content["data"], identity["data"]
            differences.append(
                f"graph: {there['name']} ({there['fingerprint']}) in the run, {here['name']} "
                f"({here['fingerprint']}) now"
            )
        differences += _model_differences(content["model"], identity["model"])
        if differences:
            lines = "\n".join(f"  - {line}" for line in differences)
            raise RunMismatch(
                f"the run in {self.path} is another one:\n{lines}\nTake another run_dir, or "
                "resume=False to replace it"
            )
        if not (self.path / "checkpoint.safetensors").exists():
            return None  # stopped before its first checkpoint
        return load_tree(self.path / "checkpoint.safetensors")

    def checkpoint(self, state: dict[str, Any], report: Report) -> None:
        """Write the state to go on from, and the report so far."""
        tree = {**state, "finished": False, "report": dataclasses.asdict(report)}
        save_tree(self.path / "checkpoint.safetensors", tree)
        report.save(self.path / "report.json")

    def finish(self, weights: dict[str, Tensor], report: Report) -> None:
        """Write weights, report and curves of a complete run; the checkpoint shrinks to them."""
        save_tree(self.path / "model.safetensors", {"model": weights})
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
    differences = []
    before, now = there["parameters"], here["parameters"]
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            old, new = before.get(name, "absent"), now.get(name, "absent")
            differences.append(f"model: {name} is {old} in the run, {new} now")
    if there["phases"] != here["phases"] and not differences:
        differences.append("model: its layers differ in kind or order from the run's")
    return differences[:5] + (["…"] if len(differences) > 5 else [])
