"""What DGL 1.1.3 writes and reads; and GraphBolt's folders, which it does not have yet."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import gnnscale as gs
from layouts.content import Content, Layouts

LAYOUTS = Layouts()
os.environ.setdefault("DGLBACKEND", "pytorch")

Made = tuple[Callable[..., gs.Graph], Content | None]
DGL = "DGL 1.1.3"


def graph(seed: int = 0, num_nodes: int = 20, num_edges: int = 60, masks: bool = True) -> Any:
    """A graph with features, labels, masks and values of edges."""
    import dgl

    rng = np.random.default_rng(seed)
    ends = torch.from_numpy(rng.integers(0, num_nodes, (2, num_edges)))
    made = dgl.graph(tuple(ends), num_nodes=num_nodes)
    made.ndata["feat"] = torch.from_numpy(rng.random((num_nodes, 3)).astype(np.float32))
    if masks:
        made.ndata["label"] = torch.arange(num_nodes) % 4
        place = rng.permutation(num_nodes)
        for part, low, high in (("train", 0, 2), ("val", 2, 3), ("test", 3, 4)):
            chosen = (place >= low * num_nodes // 4) & (place < high * num_nodes // 4)
            made.ndata[f"{part}_mask"] = torch.from_numpy(chosen)
    made.edata["feat"] = torch.from_numpy(rng.random((num_edges, 2)).astype(np.float32))
    made.edata["weight"] = torch.from_numpy(rng.random(num_edges))
    return made


def content_of(graphs: list[Any], labels: Any = None) -> Content:
    """What DGL says, graphs numbered through."""
    sizes = [each.num_nodes() for each in graphs]
    first = np.cumsum([0, *sizes])
    edges = [
        np.stack([ends.numpy() for ends in each.edges(order="eid")]) + start
        for each, start in zip(graphs, first, strict=False)
    ]

    def rows(of: str, name: str) -> np.ndarray | None:
        found = [getattr(each, of) for each in graphs]
        if name not in found[0]:
            return None
        return np.concatenate([each[name].numpy() for each in found])

    carried = {"edge_attr": rows("edata", "feat"), "edge_weight": rows("edata", "weight")}
    content = Content(
        np.concatenate(edges, axis=1),
        int(first[-1]),
        carried={key: value for key, value in carried.items() if value is not None},
        x=rows("ndata", "feat"),
        y=rows("ndata", "label") if labels is None else labels.numpy().reshape(-1),
        node_ptr=first.tolist() if len(graphs) > 1 else None,
    )
    masks = {part: rows("ndata", f"{part}_mask") for part in ("train", "val", "test")}
    content.splits = {part: mask for part, mask in masks.items() if mask is not None}
    return content


@LAYOUTS("dgl.save_graphs, COO", DGL)
def saved(folder: Path, kind: str = "coo") -> Made:
    """One graph."""
    import dgl

    path = str(folder / "graph.bin")
    dgl.save_graphs(path, [graph().formats(kind)])
    read = dgl.load_graphs(path)[0][0].formats(["coo", "csr", "csc"])
    return partial(gs.load, path), content_of([read])


LAYOUTS.add("dgl.save_graphs, CSR", DGL, partial(saved, kind="csr"))
LAYOUTS.add("dgl.save_graphs, CSC", DGL, partial(saved, kind="csc"))


@LAYOUTS("dgl.save_graphs, several with labels", DGL)
def several(folder: Path) -> Made:
    """Labels of graphs in the file."""
    import dgl

    path = str(folder / "graphs.bin")
    made = [graph(i, 2 + i, 3 * i, masks=False) for i in range(5)]
    dgl.save_graphs(path, made, {"label": torch.tensor([0, 1, 1, 0, 2])})
    read, labels = dgl.load_graphs(path)
    return partial(gs.load, path), content_of(read, labels["label"])


def typed(folder: Path) -> tuple[str, Any]:
    """Two types of nodes, three of edges."""
    import dgl

    rng = np.random.default_rng(7)

    def ends(sources: int, targets: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(rng.integers(0, sources, 9)), torch.from_numpy(
            rng.integers(0, targets, 9)
        )

    made = dgl.heterograph(
        {
            ("user", "buys", "item"): ends(5, 4),
            ("user", "likes", "user"): ends(5, 5),
            ("item", "like", "item"): ends(4, 4),
        },
        num_nodes_dict={"user": 5, "item": 4},
    )
    made.nodes["user"].data["feat"] = torch.rand(5, 2)
    made.nodes["item"].data["feat"] = torch.rand(4, 2)
    path = str(folder / "typed.bin")
    dgl.save_graphs(path, [made])
    return path, dgl.load_graphs(path)[0][0]


@LAYOUTS("dgl.save_graphs, several types", DGL, None)
def types_refused(folder: Path) -> Made:
    """Unless one node space is asked for."""
    return partial(gs.load, typed(folder)[0]), None


@LAYOUTS("dgl.save_graphs, several types as one", DGL, {"homogeneous": True})
def types_joined(folder: Path) -> Made:
    """As dgl.to_homogeneous."""
    import dgl

    path, read = typed(folder)
    whole = dgl.to_homogeneous(read, ndata=["feat"])
    content = content_of([whole])
    content.carried = {"edge_type": whole.edata[dgl.ETYPE].numpy()}
    return partial(gs.load, path), content


def csv_set(folder: Path, called: Callable[[np.ndarray], Any], sep: str = ",") -> Made:
    """A folder of CSVDataset with one graph."""
    import dgl

    rng = np.random.default_rng(8)
    ids = rng.permutation(20) + 5
    nodes = pd.DataFrame({"node_id": called(ids), "label": rng.integers(0, 3, 20)})
    nodes["feat"] = [", ".join(map(str, row)) for row in rng.random((20, 3)).round(6)]
    nodes["train_mask"], nodes["val_mask"] = ids % 2 == 0, (ids % 2 == 1).astype(int)
    ends = rng.choice(ids, (2, 60))
    edges = pd.DataFrame({"src_id": called(ends[0]), "dst_id": called(ends[1])})
    edges["weight"] = rng.random(60).round(6)
    root = folder / "set"
    root.mkdir()
    nodes.to_csv(root / "nodes.csv", index=False, sep=sep)
    edges.to_csv(root / "edges.csv", index=False, sep=sep)
    (root / "meta.yaml").write_text(
        f"dataset_name: mine\nseparator: '{sep}'\nnode_data:\n- file_name: nodes.csv\n"
        "edge_data:\n- file_name: edges.csv\n"
    )
    read = dgl.data.CSVDataset(str(root), force_reload=True, verbose=False).graphs
    content = content_of(read)
    content.nodes = sorted(called(np.sort(ids)))
    return partial(gs.load, root), content


LAYOUTS.add("DGL CSVDataset", DGL, partial(csv_set, called=lambda ids: ids))
LAYOUTS.add(
    "DGL CSVDataset, ids of text, ;", DGL,
    partial(csv_set, called=lambda ids: [f"n{i:03d}" for i in ids], sep=";"),
)  # fmt: skip


@LAYOUTS("DGL CSVDataset, several graphs", DGL)
def csv_graphs(folder: Path) -> Made:
    """Ids of nodes that begin anew in every graph."""
    import dgl

    rng = np.random.default_rng(9)
    sizes = {3: 4, 1: 6, 7: 3}
    nodes = pd.DataFrame(
        [(g, i, f"{i}.5, {g}") for g, size in sizes.items() for i in rng.permutation(size)],
        columns=["graph_id", "node_id", "feat"],
    )
    edges = pd.DataFrame(
        [(g, *rng.integers(0, size, 2)) for _ in range(9) for g, size in sizes.items()],
        columns=["graph_id", "src_id", "dst_id"],
    )
    graphs = pd.DataFrame({"graph_id": [7, 1, 3], "label": [1, 0, 2]})
    root = folder / "set"
    root.mkdir()
    for name, table in (("nodes", nodes), ("edges", edges), ("graphs", graphs)):
        table.to_csv(root / f"{name}.csv", index=False)
    (root / "meta.yaml").write_text(
        "dataset_name: mine\nnode_data:\n- file_name: nodes.csv\nedge_data:\n"
        "- file_name: edges.csv\ngraph_data:\n  file_name: graphs.csv\n"
    )
    read = dgl.data.CSVDataset(str(root), force_reload=True, verbose=False)
    return partial(gs.load, root), content_of(list(read.graphs), read.data["label"])


@LAYOUTS("DGL OnDiskDataset, raw", "pandas, NumPy")
def on_disk(folder: Path, tensors: str = "numpy") -> Made:
    """GraphBolt's folder: the homogeneous example of its guide."""
    import yaml

    rng = np.random.default_rng(10)
    x, y, ids = rng.random((15, 3)).astype(np.float32), rng.integers(0, 4, 15), rng.permutation(15)
    pd.DataFrame(rng.integers(0, 15, (40, 2))).to_csv(
        folder / "edges.csv", index=False, header=False
    )

    def put(name: str, array: np.ndarray) -> dict[str, Any]:
        path = folder / f"{name}.{'npy' if tensors == 'numpy' else 'pt'}"
        if tensors == "numpy":
            np.save(path, array)
        else:
            torch.save(torch.from_numpy(array), path)
        return {"format": tensors, "path": path.name}

    parts = {"train": ids[:7], "validation": ids[7:10], "test": ids[10:13]}
    sets = {
        f"{part}_set": [{"data": [
            {"name": "seeds", **put(f"{part}-seeds", own)},
            {"name": "labels", **put(f"{part}-labels", y[own])},
        ]}]
        for part, own in parts.items()
    }  # fmt: skip
    about = {
        "dataset_name": "mine",
        "graph": {"nodes": [{"num": 15}], "edges": [{"format": "csv", "path": "edges.csv"}]},
        "feature_data": [{"domain": "node", "name": "feat", **put("feat", x)}],
        "tasks": [{"name": "node_classification", "num_classes": 4, **sets}],
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump(about))
    edges = pd.read_csv(folder / "edges.csv", names=["src", "dst"]).to_numpy().T
    content = Content(edges, 15, x=x, y=np.where(np.isin(np.arange(15), ids[:13]), y, -1))
    content.splits = {
        part[:3].replace("tra", "train").replace("tes", "test"): np.isin(np.arange(15), own)
        for part, own in parts.items()
    }
    return partial(gs.load, folder), content


LAYOUTS.add("DGL OnDiskDataset, tensors in .pt", "pandas, NumPy", partial(on_disk, tensors="torch"))
