"""Which files a newcomer goes through who follows one feature: a trace of the lines that run.

    python benchmarks/story.py a            # its files, in the order in which they are entered
    python benchmarks/story.py [--json]     # all five

a  `Graph.from_data`, partition, cluster, a GCN, `ClusterTrainer`, to the end of one gradient step
b  exact inference of a trained model on the whole graph: `evaluate` and `predict`
c  `gs.load` of a data set by its name, into a stored graph on disk; opened, and a batch read of it
d  `Graph.from_data`, a GCN, `LayerwiseTrainer.fit` of two layers with a run folder, the report
e  `gnnscale train` for one epoch, and `load_run` of its folder

The rule: a file is **entered** where a function of it is called, in whichever thread, and must be
**read** where nine or more of its lines run (where fewer do, the name of what is called says
enough; nine, so that a has the 78 files of issue 16, where that was filed). What only happens
because a module is imported for the first time does not count (its own code, class bodies,
decorators, registrations), nor does what runs in compiled kernels or in other processes (METIS and
KaMinPar have one). A story runs in a process of its own, with an empty cache. Beside a and b stand
the files of PyG in a loop written by hand: a with `ClusterData` (given an assignment: its METIS
needs a package that is not here), `ClusterLoader` and PyG's GCN, b with a call of that GCN.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch_geometric
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch_geometric.data import Data
from torch_geometric.loader import ClusterData, ClusterLoader

import gnnscale as gs
from gnnscale import cli

IMPORT = "<frozen importlib._bootstrap>"
READ = 9  # lines
SETS = ("train", "val", "test")
TraceFunction = Callable[[FrameType, str, Any], Any]


class Trace:
    """Within it, notes the lines that run in the functions of a package, by file."""

    def __init__(self, package: str) -> None:
        self._folder = f"{Path(package).resolve().parent}{os.sep}"
        self._lines: dict[str, set[int]] = {}  # in the order in which files are entered
        self._on = False

    def __enter__(self) -> Trace:
        self._on = True
        threading.settrace(self._call)
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def stop(self, *_: object) -> None:
        """What runs from now on is no longer of the story."""
        self._on = False

    def _call(self, frame: FrameType, event: str, _: object) -> TraceFunction | None:
        code = frame.f_code
        if not self._on or not code.co_filename.startswith(self._folder):
            return None
        # Functions are optimised code; the bodies of modules and classes are not.
        if not code.co_flags & CO_OPTIMIZED or imported(frame):
            return None
        lines = self._lines.setdefault(code.co_filename, set())

        def line(frame: FrameType, event: str, _: object) -> TraceFunction:
            if self._on and event == "line":
                lines.add(frame.f_lineno)
            return line

        return line

    @property
    def files(self) -> dict[str, int]:
        """Lines that ran, by the file's path in the package."""
        return {file.removeprefix(self._folder): len(lines) for file, lines in self._lines.items()}


def imported(frame: FrameType | None) -> bool:
    """Whether a call is part of importing a module."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORT:
            return True
        frame = frame.f_back
    return False


def pyg_data() -> Data:
    """A small undirected graph with features, labels and masks."""
    torch.manual_seed(0)
    nodes = 400
    edges = torch_geometric.utils.to_undirected(torch.randint(nodes, (2, 4 * nodes)))
    x, y = torch.randn(nodes, 8), torch.randint(4, (nodes,))
    sets = {f"{name}_mask": torch.arange(nodes) % 3 == i for i, name in enumerate(SETS)}
    return Data(x=x, edge_index=edges, y=y, **sets)


def gcn() -> gs.nn.LayeredGNN:
    """Two layers."""
    return gs.nn.GCN(8, 16, 2, 4, dropout=0.5)


def step(_: Path, traced: Trace) -> None:
    """Story a."""
    data = pyg_data()
    register_optimizer_step_post_hook(traced.stop)
    with traced:
        graph = gs.Graph.from_data(data)
        clustered = gs.cluster(graph, gs.partition(graph, num_parts=8))
        gs.ClusterTrainer(gcn(), clustered, clusters_per_batch=2, epochs=1, progress=False).fit()


def inference(_: Path, traced: Trace) -> None:
    """Story b."""
    graph = gs.Graph.from_data(pyg_data())
    trainer = gs.ClusterTrainer(gcn(), graph, 8, 2, epochs=1, progress=False)
    trainer.fit()
    with traced:
        trainer.evaluate("test")
        trainer.predict()


def stored(folder: Path, traced: Trace) -> None:
    """Story c."""
    with traced:
        graph = gs.load("wordnet")
        gs.cluster(graph, gs.partition(graph, num_parts=20), path=folder / "store")
        next(iter(gs.ClusterLoader(gs.open_graph(folder / "store"), clusters_per_batch=2)))


def layerwise(folder: Path, traced: Trace) -> None:
    """Story d."""
    data = pyg_data()
    with traced:
        graph, model = gs.Graph.from_data(data), gcn()
        run = {"run_dir": folder / "run", "progress": False}
        gs.LayerwiseTrainer(model, graph, controller=gs.FixedEpochs(2), **run).fit().table()


def command_line(folder: Path, traced: Trace) -> None:
    """Story e."""
    words = "train --dataset synthetic:planted?nodes=400 --epochs 1 --num-parts 8 --no-progress"
    with traced:
        cli.app([*words.split(), "--run-dir", str(folder / "run")], standalone_mode=False)
        gs.load_run(folder / "run")


def pyg_step(_: Path, traced: Trace) -> None:
    """Story a in PyG."""
    data = pyg_data()
    ClusterData._metis = lambda _, edges, nodes: torch.arange(nodes) % 8
    register_optimizer_step_post_hook(traced.stop)
    with traced:
        model = torch_geometric.nn.GCN(8, 16, 2, 4, dropout=0.5)
        optimizer = torch.optim.Adam(model.parameters())
        for batch in ClusterLoader(ClusterData(data, 8, log=False), batch_size=2, shuffle=True):
            out = model(batch.x, batch.edge_index)[batch.train_mask]
            torch.nn.functional.cross_entropy(out, batch.y[batch.train_mask]).backward()
            optimizer.step()


def pyg_inference(_: Path, traced: Trace) -> None:
    """Story b in PyG."""
    data, model = pyg_data(), torch_geometric.nn.GCN(8, 16, 2, 4).eval()
    with traced:
        model(data.x, data.edge_index)


STORIES = {"a": step, "b": inference, "c": stored, "d": layerwise, "e": command_line}
PYG = {"a": pyg_step, "b": pyg_inference}


def tell(name: str, library: str) -> None:
    """Tell a story, and print the lines that run in its files."""
    stories, package = (PYG, torch_geometric) if library == "pyg" else (STORIES, gs)
    traced = Trace(package.__file__)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GNNSCALE_CACHE"] = f"{folder}/cache"
        stories[name](Path(folder), traced)
    print(json.dumps(traced.files))


def told(name: str, library: str) -> dict[str, Any]:
    """What a story comes to, told in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, name, "--within", library]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    files = json.loads(out.splitlines()[-1])  # a story may print
    read = sum(lines >= READ for lines in files.values())
    return {"read": read, "entered": len(files), "lines": sum(files.values()), "files": files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("story", nargs="?", choices=STORIES, help="all where none is given")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--within", choices=["gnnscale", "pyg"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.within:
        return tell(given.story, given.within)
    stories = {}
    for name in given.story or STORIES:
        stories[name] = {"gnnscale": told(name, "gnnscale")}
        if name in PYG:
            stories[name]["pyg"] = told(name, "pyg")
    if given.json:
        return print(json.dumps(stories, indent=2))
    for name, libraries in stories.items():
        for library, story in libraries.items():
            for file, lines in story["files"].items() if given.story else ():
                print(f"{lines:5}  {file}")
            counts = "{read} files to read, {entered} entered, {lines} lines".format(**story)
            print(name, library, counts)


if __name__ == "__main__":
    main()
