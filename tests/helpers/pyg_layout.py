"""Small data sets in the raw layouts of PyG's classes."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import networkx
import numpy as np
import scipy.sparse

from gnnscale.data import find_card


def undirected(num_nodes: int, num_edges: int, seed: int) -> np.ndarray:
    """Random edges in both directions, each once, without self-loops, by source."""
    ends = np.random.default_rng(seed).integers(0, num_nodes, (2, num_edges))
    source, target = np.concatenate([ends, ends[::-1]], axis=1)
    key = np.unique((source * num_nodes + target)[source != target])
    return np.stack([key // num_nodes, key % num_nodes])


def write_card(root: Path, name: str, **counts: int) -> None:
    """Write the card of a data set with other counts into a folder of data sets."""
    card = find_card(name)
    assert card is not None
    text = card.path.read_text()
    for field, count in counts.items():
        text = re.sub(rf"^{field} = \d+", f"{field} = {count}", text, flags=re.MULTILINE)
    (root / name).mkdir(parents=True)
    (root / name / "card.toml").write_text(text)


def write_planetoid(raw: Path, name: str = "cora", test: int = 1000) -> dict[str, np.ndarray]:
    """Write a citation graph of 20 training, 500 validation and `test` test nodes."""
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    known = 20 + 500
    num_nodes = known + test
    x = (rng.random((num_nodes, 40)) < 0.05).astype(np.float32)
    y = rng.integers(0, 4, num_nodes)
    y[:4] = range(4)
    edges = undirected(num_nodes, 2_000, 1)
    one_hot = np.eye(4, dtype=np.int32)[y]
    graph = {node: edges[1, edges[0] == node].tolist() for node in range(num_nodes)}
    parts = {
        "x": scipy.sparse.csr_matrix(x[:20]),
        "allx": scipy.sparse.csr_matrix(x[:known]),
        "tx": scipy.sparse.csr_matrix(x[known:]),
        "y": one_hot[:20],
        "ally": one_hot[:known],
        "ty": one_hot[known:],
        "graph": graph,
    }
    for part, content in parts.items():
        (raw / f"ind.{name}.{part}").write_bytes(pickle.dumps(content))
    lines = "".join(f"{node}\n" for node in range(known, num_nodes))
    (raw / f"ind.{name}.test.index").write_text(lines)
    return {"x": x, "y": y, "edge_index": edges}


def write_saint(raw: Path, multilabel: bool) -> dict[str, np.ndarray]:
    """Write a graph of 60 nodes as GraphSAINT does."""
    raw.mkdir(parents=True)
    rng = np.random.default_rng(2)
    edges = undirected(60, 150, 3)
    x = rng.normal(3, 2, (60, 5))
    y = rng.integers(0, 2, (60, 7)) if multilabel else rng.integers(0, 7, 60)
    matrix = scipy.sparse.csr_matrix((np.ones(edges.shape[1], bool), edges), (60, 60))
    scipy.sparse.save_npz(raw / "adj_full.npz", matrix)
    np.save(raw / "feats.npy", x)
    (raw / "class_map.json").write_text(
        json.dumps({str(i): row.tolist() for i, row in enumerate(y)})
    )
    role = {"tr": list(range(30)), "va": list(range(30, 45)), "te": list(range(45, 60))}
    (raw / "role.json").write_text(json.dumps(role))
    return {"x": x, "y": y, "edge_index": edges}


def write_ppi(raw: Path) -> dict[str, list[np.ndarray]]:
    """Write two graphs for training, one for validation and one for test as PPI's."""
    raw.mkdir(parents=True)
    rng = np.random.default_rng(4)
    written: dict[str, list[np.ndarray]] = {"x": [], "y": [], "edges": []}
    for part, sizes in (("train", (6, 9)), ("valid", (5,)), ("test", (7,))):
        graph = networkx.Graph()
        start = 0
        for size in sizes:
            edges = undirected(size, 4 * size, int(rng.integers(99)))
            graph.add_nodes_from(range(start, start + size))
            # A ring, so that every node of a graph has an edge: PyG numbers nodes by them.
            graph.add_edges_from((start + i, start + (i + 1) % size) for i in range(size))
            graph.add_edges_from((edges + start).T.tolist())
            graph.add_edge(start, start)  # which PyG removes
            start += size
        x, y = rng.normal(1, 2, (start, 50)), rng.integers(0, 2, (start, 121))
        content = networkx.node_link_data(graph, edges="links")
        (raw / f"{part}_graph.json").write_text(json.dumps(content))
        np.save(raw / f"{part}_graph_id.npy", np.repeat(np.arange(len(sizes)) + 1, sizes))
        np.save(raw / f"{part}_feats.npy", x)
        np.save(raw / f"{part}_labels.npy", y)
        written["x"].append(x)
        written["y"].append(y)
    return written


def write_tu(raw: Path, name: str, num_graphs: int, labels: bool) -> dict[str, np.ndarray]:
    """Write rings of 3 to 6 nodes as a TU data set, with labels of nodes or without."""
    raw.mkdir(parents=True)
    rng = np.random.default_rng(5)
    sizes = rng.integers(3, 7, num_graphs)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pairs = [
        (a + i, a + (i + 1) % n) for a, n in zip(starts[:-1], sizes, strict=True) for i in range(n)
    ]
    edges = np.array(sorted([*pairs, *((v, u) for u, v in pairs)]))
    y = np.arange(num_graphs) % 2
    content = {
        "A": [f"{u + 1}, {v + 1}" for u, v in edges],
        "graph_indicator": (np.repeat(np.arange(num_graphs), sizes) + 1).tolist(),
        "graph_labels": np.where(y == 1, 1, -1).tolist(),
    }
    tags = rng.integers(0, 3, starts[-1])
    tags[:3] = range(3)
    if labels:
        content["node_labels"] = tags.tolist()
    for part, lines in content.items():
        (raw / f"{name}_{part}.txt").write_text("".join(f"{line}\n" for line in lines))
    return {"node_ptr": starts, "edges": edges.T, "y": y, "tags": tags}
