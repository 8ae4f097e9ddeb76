"""What PyTorch Geometric saves, and the raw files of data sets that it reads."""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch_geometric import datasets
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset
from torch_geometric.io import read_planetoid_data, read_tu_data

import gnnscale as gs
from layouts.content import Content, Layouts

LAYOUTS = Layouts()

Made = tuple[Callable[..., gs.Graph], Content | None]


def data(seed: int = 0, num_nodes: int = 25, num_edges: int = 70, **values: Any) -> Data:
    """A graph with masks, weights and attributes of edges."""
    torch.manual_seed(seed)
    place = torch.randperm(num_nodes)
    masks = {
        f"{part}_mask": (place >= low * num_nodes // 4) & (place < high * num_nodes // 4)
        for part, low, high in (("train", 0, 2), ("val", 2, 3), ("test", 3, 4))
    }
    return Data(
        x=torch.randn(num_nodes, 4),
        edge_index=torch.randint(0, num_nodes, (2, num_edges)),
        y=torch.arange(num_nodes) % 3,
        edge_attr=torch.randn(num_edges, 2),
        **masks,
        **values,
    )


def content_of(read: Data) -> Content:
    """What PyG says."""
    carried = {k: read[k].numpy() for k in ("edge_weight", "edge_attr") if read.get(k) is not None}
    parts = [p for p in ("train", "val", "test") if read.get(f"{p}_mask") is not None]
    return Content(
        read.edge_index.numpy(),
        int(read.num_nodes),
        carried=carried,
        x=None if read.x is None else read.x.numpy(),
        y=None if read.y is None else read.y.numpy(),
        splits={part: read[f"{part}_mask"] for part in parts},
        node_ptr=read.ptr.tolist() if isinstance(read, Batch) else None,
    )


class Kept(InMemoryDataset):
    """A data set of one's own, as PyG's tutorial makes it."""

    def __init__(self, root: str, graphs: list[Data]) -> None:
        self.graphs = graphs
        super().__init__(root)
        self.load(self.processed_paths[0])

    @property
    def processed_file_names(self) -> str:
        """Of the only file."""
        return "data.pt"

    def process(self) -> None:
        """Write it."""
        self.save(self.graphs, self.processed_paths[0])


@LAYOUTS("PyG Data, torch.save", "PyG")
def saved(folder: Path) -> Made:
    """The usual file."""
    torch.save(data(edge_weight=torch.rand(70)), folder / "graph.pt")
    read = torch.load(folder / "graph.pt", weights_only=False)
    return partial(gs.load, folder / "graph.pt"), content_of(read)


@LAYOUTS("PyG, a list of graphs", "PyG")
def listed(folder: Path) -> Made:
    """Labels of graphs."""
    graphs = [data(i, 3 + i, 6) for i in range(5)]
    for i, graph in enumerate(graphs):
        graph.y = torch.tensor([i % 2])
        for part in ("train", "val", "test"):
            del graph[f"{part}_mask"]
    torch.save(graphs, folder / "graphs.pt")
    read = Batch.from_data_list(torch.load(folder / "graphs.pt", weights_only=False))
    return partial(gs.load, folder / "graphs.pt"), content_of(read)


@LAYOUTS("PyG InMemoryDataset, its folder", "PyG")
def kept(folder: Path) -> Made:
    """``processed/data.pt``."""
    read = Kept(str(folder / "mine"), [data()])[0]
    return partial(gs.load, folder / "mine"), content_of(read)


@LAYOUTS("PyG HeteroData", "PyG", None)
def hetero(folder: Path) -> Made:
    """Several types of nodes."""
    made = HeteroData()
    made["paper"].x = torch.eye(3)
    made["author"].x = torch.eye(2)
    made["author", "writes", "paper"].edge_index = torch.tensor([[0, 1], [2, 0]])
    torch.save(made, folder / "h.pt")
    return partial(gs.load, folder / "h.pt"), None


class Opened:
    """A pickle of it runs code."""

    def __reduce__(self) -> Any:
        return print, ("run",)


@LAYOUTS("a .pt that runs code", "PyG", None)
def evil(folder: Path) -> Made:
    """Never run, never recommended."""
    torch.save({"edge_index": Opened()}, folder / "evil.pt")
    return partial(gs.load, folder / "evil.pt"), None


@LAYOUTS("Planetoid, ind.NAME.*", "PyG")
def planetoid(folder: Path) -> Made:
    """As Yang et al. (2016) publish Cora: pickles of sparse matrices."""
    rng = np.random.default_rng(3)
    known, tested, features, classes = 520, 8, 6, 3  # 500 validate, as PyG has it
    x = scipy.sparse.random(known, features, 0.4, "csr", rng=rng, dtype=np.float32)
    tx = scipy.sparse.random(tested, features, 0.4, "csr", rng=rng, dtype=np.float32)
    y, ty = (np.eye(classes, dtype=np.int32)[rng.integers(0, classes, n)] for n in (known, tested))
    graph = defaultdict(list)
    for a, b in rng.integers(0, known + tested, (900, 2)):
        graph[int(a)].append(int(b))
        graph[int(b)].append(int(a))
    parts = {"x": x[:6], "y": y[:6], "allx": x, "ally": y, "tx": tx, "ty": ty, "graph": graph}
    for name, value in parts.items():
        (folder / f"ind.toy.{name}").write_bytes(pickle.dumps(value))
    index = rng.permutation(np.arange(known, known + tested))
    (folder / "ind.toy.test.index").write_text("".join(f"{i}\n" for i in index))
    read = read_planetoid_data(str(folder), "toy")
    return partial(gs.load, folder), content_of(read)


@LAYOUTS("TU, attributes of nodes and edges", "PyG")
def tu(folder: Path, own: bool = True) -> Made:
    """``NAME_A.txt`` and its siblings (Morris et al. 2020)."""
    rng = np.random.default_rng(4)
    root = folder / "TOY"
    root.mkdir()
    sizes = [4, 2, 6]
    first = np.cumsum([0, *sizes])
    pairs = {
        tuple(start + 1 + rng.integers(0, size, 2))
        for start, size in zip(first, sizes, strict=False)
        for _ in range(2 * size)
    }
    pairs = {(a, b) for a, b in pairs if a != b}
    ends = sorted({*pairs, *((b, a) for a, b in pairs)})

    def write(name: str, rows: Any) -> None:
        text = "".join(", ".join(map(str, np.atleast_1d(row))) + "\n" for row in rows)
        (root / f"TOY_{name}.txt").write_text(text)

    write("A", ends)
    write("graph_indicator", np.repeat([1, 2, 3], sizes))
    write("graph_labels", [1, 2, 1])
    write("node_labels", rng.integers(0, 3, sum(sizes)))
    if own:
        write("node_attributes", rng.random((sum(sizes), 2)).round(4))
        write("edge_labels", [(min(a, b) + max(a, b)) % 2 for a, b in ends])
    read, slices, _ = read_tu_data(str(root), "TOY")
    content = content_of(read)
    content.node_ptr = slices["x"].tolist()
    moved = np.repeat(content.node_ptr[:-1], np.diff(slices["edge_index"]))
    content.edges = read.edge_index.numpy() + moved
    return partial(gs.load, root), content


LAYOUTS.add("TU, labels of nodes alone", "PyG", partial(tu, own=False))


def geom(folder: Path, name: str) -> tuple[Path, Data]:
    """The raw files of Pei et al. (2020), in the folder that PyG has them in."""
    rng = np.random.default_rng(5)
    number, width = 12, 7
    actor = name == "actor"
    raw = folder / ("raw" if actor else f"{name}/raw")
    raw.mkdir(parents=True)
    lines = ["node_id\tfeature\tlabel"]
    # PyG takes WebKB's nodes in the order of the file, whatever their ids.
    for i in rng.permutation(number) if actor else range(number):
        words = np.flatnonzero(rng.random(width) < 0.5)
        bits = ",".join(map(str, words)) if actor else ",".join(
            "1" if k in words else "0" for k in range(width)
        )  # fmt: skip
        lines.append(f"{i}\t{bits if bits else '0'}\t{i % 3}")
    edges = ["node_id\tnode_id", *(f"{a}\t{b}" for a, b in rng.integers(0, number, (30, 2)))]
    (raw / "out1_node_feature_label.txt").write_text("\n".join(lines) + "\n")
    (raw / "out1_graph_edges.txt").write_text("\n".join(edges) + "\n")
    for i in range(10):
        place = rng.permutation(number)
        masks = {"train": place < 6, "val": (place >= 6) & (place < 9), "test": place >= 9}
        file = "film" if actor else name
        np.savez(
            raw / f"{file}_split_0.6_0.2_{i}.npz", **{f"{k}_mask": v for k, v in masks.items()}
        )
    made = datasets.Actor(str(folder)) if actor else datasets.WebKB(str(folder), name)
    return (folder if actor else folder / name), made[0]


def geom_case(folder: Path, name: str, part: str) -> Made:
    """The folder of PyG's class, or the raw files alone."""
    place, read = geom(folder, name)
    content = content_of(read)
    content.splits = {k: v[:, 0] for k, v in content.splits.items()}
    return partial(gs.load, place / part), content


for name in ("texas", "actor"):
    called = "WebKB" if name == "texas" else "Actor"
    LAYOUTS.add(f"{called}, PyG's folder", "PyG", partial(geom_case, name=name, part=""))
    LAYOUTS.add(f"{called}, raw files", "PyG", partial(geom_case, name=name, part="raw"))
