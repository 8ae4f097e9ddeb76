"""What a user would do with given arguments, and next: input that is taken must also work."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gnnscale as gs
from faults.odd_values import CLASSES, EDGES, FEATURES, NODES
from gnnscale.data import read_card
from gnnscale.storage.files import read_json
from gnnscale.train import Report
from gnnscale.train.run.checkpoint import load_tree

_random = np.random.default_rng(0)
_of = np.arange(NODES) % 3
#: Arguments of a graph that works.
GOOD: dict[str, Any] = {
    "edge_index": _random.integers(0, NODES, (2, EDGES)),
    "x": _random.normal(size=(NODES, FEATURES)).astype(np.float32),
    "y": np.arange(NODES) % CLASSES,
    "train_mask": _of == 0,
    "val_mask": _of == 1,
    "test_mask": _of == 2,
}
_fresh = itertools.count()


def a_graph() -> gs.Graph:
    return gs.Graph.from_arrays(**GOOD)


def a_path(suffix: str = "") -> Path:
    """A path that is not there yet, in the working directory (a temporary one)."""
    return Path(f"made{next(_fresh)}{suffix}").absolute()


def a_trainer(**arguments: Any) -> gs.ClusterTrainer:
    given = {
        "model": gs.nn.GCN(FEATURES, 4, 2, CLASSES),
        "graph": a_graph(),
        "num_parts": 3,
        "epochs": 1,
        "method": "contiguous",
        "progress": False,
        **arguments,
    }
    return gs.ClusterTrainer(**given)


# --- graphs and files -------------------------------------------------------------------------


def _use_graph(graph: gs.Graph) -> None:
    graph.check()
    graph.fingerprint()
    graph.to_data()
    if graph.num_nodes > 1:
        gs.cluster(graph, gs.partition(graph, max(2, graph.num_graphs), "contiguous"))


def from_arrays(arguments: dict[str, Any]) -> None:
    _use_graph(gs.Graph.from_arrays(**arguments))


def from_data(arguments: dict[str, Any]) -> None:
    from torch_geometric.data import Data

    _use_graph(gs.Graph.from_data(Data(**arguments)))


def npz(arguments: dict[str, Any]) -> None:
    path = a_path(".npz")
    path.write_bytes(npz_of({k: _plain(v) for k, v in arguments.items() if v is not None}))
    _use_graph(gs.load(path))


def npz_of(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _plain(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    if value.is_meta or value.dtype == torch.bfloat16:
        return np.zeros(tuple(value.shape), "V2")  # what NumPy makes of a type it does not know
    return (value.to_dense() if value.layout != torch.strided else value).detach().numpy()


READERS: dict[str, Callable[[Any], Any]] = {
    "load": gs.load,
    "open_graph": gs.open_graph,
    "load_run": gs.load_run,
    "partition": gs.Partition.load,
    "checkpoint": load_tree,
    "report": Report.load,
    "json": read_json,
    "card": read_card,
}


def files(arguments: tuple[str, str, bytes]) -> None:
    reader, suffix, content = arguments
    path = a_path(suffix)
    path.write_bytes(content)
    found = READERS[reader](path)
    if isinstance(found, gs.Graph):
        _use_graph(found)


def paths(arguments: tuple[str, Any]) -> None:
    READERS[arguments[0]](arguments[1])


def load(name: Any) -> None:
    gs.load(name)


def card(fields: dict[str, str]) -> None:
    folder = a_path() / "mine"
    folder.mkdir(parents=True)
    (folder / "a.npz").write_bytes(npz_of(GOOD))
    lines = "\n".join(f"{key} = {value}" for key, value in fields.items())
    (folder / "card.toml").write_text(lines, encoding="utf-8")
    _use_graph(gs.load("mine", root=folder.parent))


# --- partitions and batches -------------------------------------------------------------------


def partition(arguments: dict[str, Any]) -> None:
    gs.partition(a_graph(), **arguments).quality(a_graph())


def clusters(arguments: dict[str, Any]) -> None:
    given = gs.Partition(arguments["assignment"], arguments["num_parts"])
    where = {"path": arguments["path"]} if "path" in arguments else {}
    clustered = gs.cluster(a_graph(), given, split=arguments["split"], **where)
    for _ in gs.ClusterLoader(clustered.view(arguments["view"])):
        pass


def loader(arguments: dict[str, Any]) -> None:
    clustered = gs.cluster(a_graph(), gs.partition(a_graph(), 4, "contiguous"))
    batches = gs.ClusterLoader(clustered, **arguments)
    for _ in batches:
        batches.load_state_dict(batches.state_dict())


# --- models and training ----------------------------------------------------------------------


def model(arguments: dict[str, Any]) -> None:
    graph, build = a_graph(), getattr(gs.nn, arguments["model"])
    made = build(**{name: value for name, value in arguments.items() if name != "model"})
    made(graph.x, graph.adj)


def block(arguments: dict[str, Any]) -> None:
    from torch_geometric.nn import GCNConv

    graph = a_graph()
    gs.nn.LayeredGNN([gs.nn.Block(GCNConv(FEATURES, 4), **arguments)])(graph.x, graph.adj)


def forward(arguments: dict[str, Any]) -> None:
    gs.nn.GCN(FEATURES, 4, 2, CLASSES)(arguments["x"], arguments["adj"])


def trainer(arguments: dict[str, Any]) -> None:
    a_trainer(**arguments).fit()


def results(arguments: tuple[str, Any, Any]) -> None:
    verb, first, second = arguments
    made = a_trainer()
    if verb == "fit":
        made.fit(resume=first)
    elif verb == "evaluate":
        made.evaluate(first)
    else:
        made.predict(first, out=second)


def command(arguments: list[str]) -> None:
    """A mistake ends with code 2 and an error that is named; it is raised here as one."""
    from typer.testing import CliRunner

    from gnnscale.cli import app

    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code == 2 and done.stderr.startswith("error: "):
        raise gs.InputError(done.stderr)
    if done.exit_code:
        raise AssertionError(f"exit code {done.exit_code}: {done.output[-300:]}")
