"""Small data sets in OGB's raw layouts, written by hand: ogb's own DatasetSaver writes npz only.

A folder ``<root>/ogbn_arxiv`` with ``raw/``, ``split/<type>/``, ``mapping/``, ``RELEASE_v1.txt``,
as ogb leaves it, or the archive that its server has (``zipped``), whose top folder is the download
name ("arxiv", "hiv", ...).
"""

from __future__ import annotations

import gzip
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SPLIT_TYPES = {
    "ogbn-arxiv": "time",
    "ogbn-products": "sales_ranking",
    "ogbn-proteins": "species",
    "ogbn-papers100M": "time",
    "ogbn-mag": "time",
    "ogbg-molhiv": "scaffold",
}
DOWNLOAD_NAMES = {
    "ogbn-arxiv": "arxiv",
    "ogbn-products": "products",
    "ogbn-proteins": "proteins",
    "ogbn-papers100M": "papers100M-bin",
    "ogbn-mag": "mag",
    "ogbg-molhiv": "hiv",
}

EMPTY = '""'  # what pandas writes where a field is all of the line: a blank line is skipped


@dataclass
class NodeSet:
    """A node-level data set; splits are node numbers by OGB's names: train, valid, test."""

    edge_index: np.ndarray
    num_nodes: int
    y: np.ndarray
    splits: dict[str, np.ndarray]
    x: np.ndarray | None = None
    edge_attr: np.ndarray | None = None
    extra: dict[str, np.ndarray] = field(default_factory=dict)  # "node_year" ...


@dataclass
class GraphSet:
    """A graph-level data set: graphs one after the other, node numbers local to each graph."""

    num_nodes: np.ndarray
    num_edges: np.ndarray
    edge_index: np.ndarray
    x: np.ndarray
    edge_attr: np.ndarray
    y: np.ndarray
    splits: dict[str, np.ndarray]


def random_node_set(
    seed: int = 0,
    num_nodes: int = 60,
    num_edges: int = 200,
    *,
    num_features: int = 5,
    num_classes: int = 4,
    num_tasks: int = 1,
    edge_channels: int = 0,
) -> NodeSet:
    """Draw a set with duplicate edges, both directions of some, self-loops and isolated nodes."""
    rng = np.random.default_rng(seed)
    edge_index = rng.integers(0, num_nodes - 5, (2, num_edges))  # the last five are isolated
    edge_index[:, -20:-10] = edge_index[:, :10]
    edge_index[:, -10:-3] = edge_index[::-1, :7]
    edge_index[1, -3:] = edge_index[0, -3:]
    order = rng.permutation(num_nodes)
    cut = (num_nodes // 2, num_nodes * 3 // 4)
    return NodeSet(
        edge_index=edge_index,
        num_nodes=num_nodes,
        y=rng.integers(0, num_classes, (num_nodes, num_tasks)),
        splits=dict(zip(("train", "valid", "test"), np.split(order, cut), strict=True)),
        x=_rounded(rng, (num_nodes, num_features)) if num_features else None,
        edge_attr=_rounded(rng, (num_edges, edge_channels)) if edge_channels else None,
        extra={"node_year": rng.integers(1990, 2020, (num_nodes, 1))},
    )


def random_graph_set(seed: int = 0, num_graphs: int = 12, num_tasks: int = 1) -> GraphSet:
    """Draw molecules' like: whole-number atom (9) and bond (3) features, each bond once."""
    rng = np.random.default_rng(seed)
    num_nodes = rng.integers(1, 9, num_graphs)
    num_edges = np.where(num_nodes > 1, rng.integers(0, 10, num_graphs), 0)
    edges = [
        rng.integers(0, n, (2, e)) if e else np.empty((2, 0), np.int64)
        for n, e in zip(num_nodes, num_edges, strict=True)
    ]
    order = rng.permutation(num_graphs)
    cut = (num_graphs // 2, num_graphs * 3 // 4)
    return GraphSet(
        num_nodes=num_nodes,
        num_edges=num_edges,
        edge_index=np.concatenate(edges, axis=1),
        x=rng.integers(0, 2, (int(num_nodes.sum()), 9)),
        edge_attr=rng.integers(0, 2, (int(num_edges.sum()), 3)),
        y=rng.integers(0, 2, (num_graphs, num_tasks)),
        splits=dict(zip(("train", "valid", "test"), np.split(order, cut), strict=True)),
    )


def write_node_csv(root: Path, data: NodeSet, name: str = "ogbn-arxiv") -> Path:
    """Write csv.gz as ogbn-arxiv, -products and -proteins have them; returns the folder."""
    folder = root / name.replace("-", "_")
    write_csv(folder / "raw/edge.csv.gz", data.edge_index.T)
    write_csv(folder / "raw/num-node-list.csv.gz", [[data.num_nodes]])
    write_csv(folder / "raw/num-edge-list.csv.gz", [[data.edge_index.shape[1]]])
    write_csv(folder / "raw/node-label.csv.gz", data.y)
    for file, array in (("node-feat", data.x), ("edge-feat", data.edge_attr), *data.extra.items()):
        if array is not None:
            write_csv(folder / f"raw/{file}.csv.gz", array)
    _write_rest(folder, name, data.splits)
    return folder


def write_node_npz(root: Path, data: NodeSet, name: str = "ogbn-papers100M") -> Path:
    """Write raw/data.npz and raw/node-label.npz as ogbn-papers100M has them; returns the folder."""
    folder = root / name.replace("-", "_")
    (folder / "raw").mkdir(parents=True)
    arrays = {"node_feat": data.x} if data.x is not None else {}
    np.savez_compressed(
        folder / "raw/data.npz",
        edge_index=data.edge_index,
        num_nodes_list=np.array([data.num_nodes]),
        num_edges_list=np.array([data.edge_index.shape[1]]),
        **arrays,
        **data.extra,
    )
    np.savez_compressed(folder / "raw/node-label.npz", node_label=data.y)
    _write_rest(folder, name, data.splits)
    return folder


def write_mag(root: Path, data: NodeSet) -> Path:
    """Write what ogbn-mag has of papers, and authors who wrote them; returns the folder."""
    folder = root / "ogbn_mag"
    raw, cites = folder / "raw", folder / "raw/relations/paper___cites___paper"
    write_csv(cites / "edge.csv.gz", data.edge_index.T)
    write_csv(cites / "num-edge-list.csv.gz", [[data.edge_index.shape[1]]])
    writes = raw / "relations/author___writes___paper"
    write_csv(writes / "edge.csv.gz", [[0, 1], [1, 0]])
    write_csv(writes / "num-edge-list.csv.gz", [[2]])
    write_csv(raw / "node-feat/paper/node-feat.csv.gz", data.x)
    write_csv(raw / "node-label/paper/node-label.csv.gz", data.y)
    write_csv(raw / "num-node-dict.csv.gz", [["author", "paper"], [2, data.num_nodes]])
    write_csv(raw / "nodetype-has-label.csv.gz", [["author", "paper"], [False, True]])
    triplets = [["author", "writes", "paper"], ["paper", "cites", "paper"]]
    write_csv(raw / "triplet-type-list.csv.gz", triplets)
    write_csv(folder / "split/time/nodetype-has-split.csv.gz", [["author", "paper"], [0, 1]])
    for part, ids in data.splits.items():
        write_csv(folder / f"split/time/paper/{part}.csv.gz", ids[:, None])
    (folder / "RELEASE_v2.txt").touch()
    return folder


def write_graph_csv(root: Path, data: GraphSet, name: str = "ogbg-molhiv") -> Path:
    """Write csv.gz as ogbg-molhiv has them; returns the folder."""
    folder = root / name.replace("-", "_")
    for file, array in (
        ("edge", data.edge_index.T),
        ("num-node-list", data.num_nodes[:, None]),
        ("num-edge-list", data.num_edges[:, None]),
        ("node-feat", data.x),
        ("edge-feat", data.edge_attr),
        ("graph-label", data.y),
    ):
        write_csv(folder / f"raw/{file}.csv.gz", array)
    _write_rest(folder, name, data.splits)
    return folder


def zipped(folder: Path, path: Path, top: str | None = None) -> Path:
    """Write a folder as the archive that OGB's server has; ``top`` is its download name."""
    if top is None:
        top = DOWNLOAD_NAMES[folder.name.replace("_", "-")]
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{top}/{file.relative_to(folder).as_posix()}")
    return path


def write_csv(path: Path, rows: object) -> None:
    """Write rows without a header as csv.gz; NaN is an empty field, as pandas writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (",".join("" if value != value else str(value) for value in row) for row in rows)
    with gzip.open(path, "wt") as file:
        file.writelines(f"{line or EMPTY}\n" for line in lines)


def _write_rest(folder: Path, name: str, splits: dict[str, np.ndarray]) -> None:
    for part, ids in splits.items():
        write_csv(folder / f"split/{SPLIT_TYPES[name]}/{part}.csv.gz", ids[:, None])
    (folder / "mapping").mkdir()
    (folder / "mapping/README.md").write_text("which node is which\n")
    (folder / "RELEASE_v1.txt").touch()


def _rounded(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Six decimals, as in OGB's files."""
    return rng.standard_normal(shape).round(6)
