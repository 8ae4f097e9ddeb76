"""A case of `tests.helpers.bounded`, run as a process: graph, model and trainer by their names."""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric import nn as pyg

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.kernels import CSR
from gnnscale.train.graphs import as_graphs
from tests.helpers.bounded import trimmed


def graph_of(kind: str, nodes: int = 20_000, width: int = 16, each: int = 8, **more: Any) -> Graph:
    """A graph by the name of its shape; any other name is a data set's."""
    random = np.random.default_rng(0)
    ids = np.arange(nodes)
    if kind == "star":
        edges = np.stack([np.zeros(nodes - 1, np.int64), ids[1:]])
        edges = np.concatenate([edges, edges[::-1]], 1)
    elif kind == "path":
        edges = np.stack([ids[:-1], ids[1:]])
        edges = np.concatenate([edges, edges[::-1]], 1)
    elif kind in ("random", "sparse"):
        edges = random.integers(0, nodes, (2, nodes * each // 2))
        edges = np.concatenate([edges, edges[::-1]], 1)
    elif kind == "few":  # edges
        edges = random.integers(0, nodes, (2, nodes // 100))
    else:
        return gs.load(kind)
    x: Any = torch.from_numpy(random.standard_normal((nodes, width), np.float32))
    if kind == "sparse":
        count = 20
        indices = random.integers(0, width, (nodes, count)).astype(np.int32)
        indices.sort(1)
        x = CSR(
            torch.arange(nodes + 1) * count, torch.from_numpy(indices.reshape(-1)),
            torch.ones(nodes * count), (nodes, width),
        )  # fmt: skip
    parts = random.integers(0, 4, nodes)
    masks = {"train_mask": parts < 2, "val_mask": parts == 2, "test_mask": parts == 3}
    masks = {name: torch.from_numpy(mask) for name, mask in masks.items()}
    y = torch.from_numpy(random.integers(0, more.get("classes", 5), nodes))
    return Graph.from_arrays(torch.from_numpy(edges), x, y, **masks)


def stored(spec: dict[str, Any], folder: Path, parts: int) -> Any:
    """A graph in files: clustered where there are parts."""
    path = folder / ("-".join(str(v) for v in (*spec.values(), parts)).replace("/", "_"))
    if not path.exists():
        graph = graph_of(**spec)
        method = "contiguous" if parts else None
        if parts:
            gs.cluster(graph, gs.partition(graph, parts, method=method), path)
        else:
            from gnnscale.graph.store.graph_folder import store_graph

            store_graph(graph, path)
    return str(path)


def model_of(name: str, graph: Graph, hidden: int = 32, layers: int = 2, **more: Any) -> Any:
    """A model by name."""
    torch.manual_seed(0)
    sizes = [graph.num_features, *[hidden] * (layers - 1), graph.num_classes]
    if name == "EdgeConv":
        pairs = itertools.pairwise(sizes)
        return [pyg.EdgeConv(torch.nn.Linear(2 * a, b)) for a, b in pairs]
    if name == "PNA":
        deg = torch.bincount(graph.adj.indptr.diff().clamp(max=1000))
        return pyg.PNA(
            graph.num_features, hidden, layers, graph.num_classes,
            aggregators=["mean", "max", "std"], scalers=["identity", "amplification"], deg=deg,
        )  # fmt: skip
    if name == "own":
        return [Own(a, b) for a, b in itertools.pairwise(sizes)]
    return getattr(gs.nn, name)(graph.num_features, hidden, layers, graph.num_classes, **more)


class Own(pyg.MessagePassing):
    """A layer that the library does not know."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(aggr="max")
        self.linear = torch.nn.Linear(2 * a, b)

    def forward(self, x: Any, edge_index: Any) -> Any:
        return self.propagate(edge_index, x=x)

    def message(self, x_i: Any, x_j: Any) -> Any:
        return self.linear(torch.cat([x_i, x_j - x_i], 1)).relu()


def trainer_of(case: dict[str, Any]) -> Any:
    """Graph, model and trainer of a case."""
    spec = case["graph"]
    name, arguments = case.get("trainer", "ClusterTrainer"), dict(case.get("arguments", {}))
    if name == "GraphTrainer":
        return graphs_trainer(case, arguments)
    data: Any
    if (parts := case.get("store")) is not None:
        from gnnscale.graph.store.graph_folder import open_stored_graph

        path = stored(spec, Path(case["folder"]), parts)
        data = gs.open_graph(path) if parts else open_stored_graph(Path(path))
    else:
        data = graph_of(**spec)
        if case.get("clustered"):
            parts = case["clustered"]
            data = gs.cluster(data, gs.partition(data, parts, method="contiguous"))
    graph = data if isinstance(data, Graph) else data.graph
    model = model_of(**{"name": "GCN", **case.get("model", {})}, graph=graph)
    if name == "LayerwiseTrainer" and "controller" not in arguments:
        arguments["controller"] = gs.FixedEpochs(arguments.pop("epochs", 1))
    elif "epochs" not in arguments:
        arguments["epochs"] = 1
    return getattr(gs, name)(model, data, memory=case["memory"], progress=False, **arguments)


def graphs_trainer(case: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Of a data set of many random graphs."""
    from torch_geometric.data import Data

    spec = {"count": 400, "nodes": 40, "each": 4, "width": 16, **case["graph"]}
    random = torch.Generator().manual_seed(0)
    graphs = []
    for at in range(spec["count"]):
        nodes = max(2, int(spec["nodes"] * (0.5 + torch.rand(1, generator=random).item())))
        if at == 0:
            nodes = spec.get("largest", nodes)
        edges = torch.randint(0, nodes, (2, nodes * spec["each"]), generator=random)
        x = torch.randn(nodes, spec["width"], generator=random)
        graphs.append(Data(x=x, edge_index=edges, y=at % 2))
    graphs = as_graphs(graphs)
    model = model_of(**{"name": "GIN", **case.get("model", {})}, graph=graphs)
    count = spec["count"]
    split = {
        "train": range(count // 2), "val": range(count // 2, count * 3 // 4),
        "test": range(count * 3 // 4, count),
    }  # fmt: skip
    return gs.GraphTrainer(
        model, graphs, split=split, memory=case["memory"], progress=False,
        **{"epochs": 1, "graphs_per_batch": 32, **arguments},
    )  # fmt: skip


def main(case: dict[str, Any]) -> None:
    """Make the trainer, and call its verbs when told to."""
    torch.set_num_threads(case.get("threads", 2))
    trainer = trainer_of(case)
    verbs = case.get("verbs", ["fit", "evaluate", "predict"])
    for verb in verbs:
        gc.collect()
        trimmed()
        print("ready", verb, flush=True)
        sys.stdin.readline()
        refused = None
        try:
            if verb == "file":
                trainer.predict(out=f"{case['folder']}/out-{os.getpid()}.npy")
            else:
                getattr(trainer, verb)()
        except InputError as error:
            refused = str(error)
        print(json.dumps({"refused": refused}), flush=True)
        time.sleep(0.01)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
