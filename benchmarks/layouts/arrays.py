"""Layouts of ``.npz``, citation files, and lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

import gnnscale as gs
from layouts.content import Content, Layouts

LAYOUTS = Layouts()
RNG = np.random.default_rng(6)

Made = tuple[Callable[..., gs.Graph], Content | None]


@LAYOUTS("gnn-benchmark .npz", "scipy")
def gnn_benchmark(folder: Path) -> Made:
    """Adjacency and attributes as CSR, labels (Shchur et al. 2018)."""
    adj = scipy.sparse.random(20, 20, 0.15, "csr", rng=RNG)
    adj.data[:] = 1
    x = scipy.sparse.random(20, 9, 0.3, "csr", rng=RNG, dtype=np.float32)
    parts = {}
    for name, each in (("adj", adj), ("attr", x)):
        fields = {"data": each.data, "indices": each.indices, "indptr": each.indptr}
        parts |= {f"{name}_{key}": value for key, value in fields.items()}
        parts[f"{name}_shape"] = np.array(each.shape)
    np.savez(folder / "photo.npz", **parts, labels=np.arange(20) % 4)
    file = np.load(folder / "photo.npz")
    read, features = (
        scipy.sparse.csr_matrix(
            (file[f"{n}_data"], file[f"{n}_indices"], file[f"{n}_indptr"]), file[f"{n}_shape"]
        )
        for n in ("adj", "attr")
    )
    content = Content(np.stack(read.nonzero()), 20, x=features.toarray(), y=file["labels"])
    return partial(gs.load, folder / "photo.npz", undirected=False), content


@LAYOUTS("heterophilous .npz", "NumPy")
def heterophilous(folder: Path) -> Made:
    """node_features, edges and ten splits (Platonov et al. 2023)."""
    edges = np.unique(np.sort(RNG.integers(0, 18, (40, 2)), axis=1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    place = np.stack([RNG.permutation(18) for _ in range(10)])
    np.savez(
        folder / "tolokers.npz",
        node_features=RNG.random((18, 3)).astype(np.float32),
        node_labels=np.arange(18) % 2,
        edges=edges,
        train_masks=place < 9,
        val_masks=(place >= 9) & (place < 13),
        test_masks=place >= 13,
    )
    file = np.load(folder / "tolokers.npz")
    content = Content(file["edges"].T, 18, True, x=file["node_features"], y=file["node_labels"])
    content.splits = {part: file[f"{part}_masks"][0] for part in ("train", "val", "test")}
    return partial(gs.load, folder / "tolokers.npz"), content


@LAYOUTS("arrays by name, .npz", "NumPy")
def named(folder: Path, packed: bool = True) -> Made:
    """Gnnscale's own names."""
    arrays = {
        "edge_index": RNG.integers(0, 15, (2, 40)),
        "x": RNG.random((15, 2)).astype(np.float32),
        "y": np.arange(15) % 3,
        "train_idx": np.arange(9),
        "val_idx": np.arange(9, 12),
        "test_idx": np.arange(12, 15),
    }
    if packed:
        np.savez(folder / "graph.npz", **arrays)
    else:
        (folder / "graph").mkdir()
        for name, array in arrays.items():
            np.save(folder / f"graph/{name}.npy", array)
    content = Content(arrays["edge_index"], 15, x=arrays["x"], y=arrays["y"])
    content.splits = {
        part: np.isin(np.arange(15), arrays[f"{part}_idx"]) for part in ("train", "val", "test")
    }
    return partial(gs.load, folder / ("graph.npz" if packed else "graph")), content


LAYOUTS.add("arrays by name, .npy", "NumPy", partial(named, packed=False))


@LAYOUTS("LINQS, .content and .cites", "pandas")
def linqs(folder: Path) -> Made:
    """Names of papers, words, a class of text; ``cited citing`` a line."""
    names = [f"p{RNG.integers(10**6)}-{i}" for i in range(12)]
    words = RNG.integers(0, 2, (12, 5))
    classes = RNG.choice(["Theory", "Neural_Networks"], 12)
    rows = [
        "\t".join([name, *map(str, row), kind])
        for name, row, kind in zip(names, words, classes, strict=True)
    ]
    (folder / "toy.content").write_text("\n".join(rows) + "\n")
    cites = RNG.choice(names, (30, 2))
    (folder / "toy.cites").write_text("".join(f"{a}\t{b}\n" for a, b in cites))
    table = pd.read_csv(folder / "toy.content", sep="\t", header=None, dtype={0: str})
    pairs = pd.read_csv(folder / "toy.cites", sep="\t", header=None, dtype=str)
    place = {name: i for i, name in enumerate(table[0])}
    edges = np.stack([pairs[1].map(place), pairs[0].map(place)])
    content = Content(edges, 12, nodes=table[0].tolist(), x=table.iloc[:, 1:-1].to_numpy())
    content.y = table.iloc[:, -1].to_numpy()
    # Without undirected=False they are made undirected, as GCNs are trained on them, and said so.
    return partial(gs.load, folder, undirected=False), content


def roles(count: int) -> dict[str, list[int]]:
    """Nodes to train, validate and test on; the last in none."""
    return {"tr": list(range(8)), "va": list(range(8, 11)), "te": list(range(11, count - 1))}


@LAYOUTS("GraphSAINT's folder", "PyG")
def saint(folder: Path, several: bool = False) -> Made:
    """As Flickr and Yelp are published."""
    from torch_geometric import datasets

    raw = folder / "mine/raw"
    raw.mkdir(parents=True)
    dense = np.triu(RNG.random((15, 15)) < 0.25, 1)
    adj = scipy.sparse.csr_matrix((dense | dense.T).astype(np.float32))
    scipy.sparse.save_npz(raw / "adj_full.npz", adj)
    scipy.sparse.save_npz(raw / "adj_train.npz", adj[:8][:, :8])
    np.save(raw / "feats.npy", RNG.random((15, 4)))
    labels = {str(i): [i % 2, int(i > 5)] if several else i % 3 for i in range(15)}
    (raw / "class_map.json").write_text(json.dumps(labels))
    (raw / "role.json").write_text(json.dumps(roles(15)))
    read = (datasets.Yelp if several else datasets.Flickr)(str(folder / "mine"))[0]
    content = Content(read.edge_index.numpy(), 15, x=read.x.numpy(), y=read.y.numpy())
    content.splits = {part: read[f"{part}_mask"].numpy() for part in ("train", "val", "test")}
    return partial(gs.load, raw), content


LAYOUTS.add("GraphSAINT's folder, several labels", "PyG", partial(saint, several=True))


@LAYOUTS("GraphSAGE's folder", "networkx")
def sage(folder: Path) -> Made:
    """A graph of networkx as JSON, numbers, labels, features."""
    import networkx

    made = networkx.gnm_random_graph(12, 30, 3)
    made = networkx.relabel_nodes(made, {i: f"t3_{i}" for i in made})
    for i, own in enumerate(made.nodes.values()):
        own.update(val=i % 4 == 0, test=i % 4 == 1)
    number = dict(zip(made, RNG.permutation(12).tolist(), strict=True))
    labels = {name: i % 3 for i, name in enumerate(made)}
    content = networkx.node_link_data(made, edges="links")
    for name, value in (("G", content), ("id_map", number), ("class_map", labels)):
        (folder / f"toy-{name}.json").write_text(json.dumps(value))
    np.save(folder / "toy-feats.npy", RNG.random((12, 2)))
    read = networkx.node_link_graph(json.loads((folder / "toy-G.json").read_text()), edges="links")
    names = sorted(number, key=lambda name: number[name])
    ends = np.array([[number[u], number[v]] for u, v in read.edges]).T
    content = Content(ends, 12, True, names, x=np.load(folder / "toy-feats.npy"))
    content.y = np.array([labels[name] for name in names])
    content.splits = {part: [read.nodes[name][part] for name in names] for part in ("val", "test")}
    return partial(gs.load, folder), content


@LAYOUTS("GraphStorm's tables", "pandas")
def graphstorm(folder: Path) -> Made:
    """A JSON that names tables in Parquet and their columns."""
    names = [f"p{i:02d}" for i in RNG.permutation(12)]
    nodes = pd.DataFrame({"node_id": names, "feat": [*RNG.random((12, 3))], "label": names})
    nodes["label"] = RNG.choice(["a", "b"], 12)
    edges = pd.DataFrame(RNG.choice(names, (30, 2)), columns=["source_id", "dest_id"])
    nodes.to_parquet(folder / "paper.parquet")
    edges.to_parquet(folder / "cites.parquet")
    form = {"format": {"name": "parquet"}}
    paper: dict[str, Any] = {
        "node_type": "paper",
        "node_id_col": "node_id",
        "files": ["paper.parquet"],
        **form,
    }
    paper["features"] = [{"feature_col": "feat"}]
    paper["labels"] = [{"label_col": "label", "task_type": "classification"}]
    cites = {"relation": ["paper", "cites", "paper"], "files": ["cites.parquet"], **form}
    cites |= {"source_id_col": "source_id", "dest_id_col": "dest_id"}
    about = {"version": "gconstruct-v0.1", "nodes": [paper], "edges": [cites]}
    (folder / "config.json").write_text(json.dumps(about))
    read = pd.read_parquet(folder / "paper.parquet")
    place = {name: i for i, name in enumerate(read["node_id"])}
    ends = pd.read_parquet(folder / "cites.parquet").map(place.get).to_numpy().T
    content = Content(ends, 12, nodes=[*place], x=np.stack(read["feat"].tolist()))
    content.y = read["label"].to_numpy(dtype=object)
    return partial(gs.load, folder), content


@LAYOUTS("lines of JSON (Hugging Face)", "NumPy")
def json_lines(folder: Path) -> Made:
    """A graph a line."""
    sizes = [4, 1, 3, 6]
    lines = [
        {
            "edge_index": RNG.integers(0, size, (2, 2 * i)).tolist(),
            "num_nodes": size,
            "node_feat": RNG.integers(0, 5, (size, 2)).tolist(),
            "y": [i % 2],
        }
        for i, size in enumerate(sizes)
    ]
    path = folder / "mutag.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = [json.loads(line) for line in path.read_text().splitlines()]
    first = np.cumsum([0, *(graph["num_nodes"] for graph in read)])
    edges = [
        np.reshape(graph["edge_index"], (2, -1)) + start
        for graph, start in zip(read, first, strict=False)
    ]
    content = Content(np.concatenate(edges, axis=1), int(first[-1]), node_ptr=first.tolist())
    content.x = np.concatenate([graph["node_feat"] for graph in read])
    content.y = np.array([graph["y"][0] for graph in read])
    return partial(gs.load, path), content
