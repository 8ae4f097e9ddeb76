"""Writes the files in this folder, with DGL 1.1.3: ``python tests/data/formats/dgl_files/make.py``.

The graphs are given in NumPy, so that tests know what is in the files without DGL. DGL writes what
happens to be in its memory between byte 32 and 4096 of a file, which no one reads: zeros here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FORMATS = ("coo", "csr", "csc")


def small(seed: int, num_nodes: int = 7, num_edges: int = 15) -> dict[str, Any]:
    """A graph with self-loops, parallel edges and nodes without edges."""
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, num_nodes - 1, (2, num_edges))
    return {
        "edges": np.stack([source, target]),
        "num_nodes": num_nodes,
        "nodes": {
            "feat": rng.integers(-8, 8, (num_nodes, 3)).astype(np.float32) / 4,
            "label": np.arange(num_nodes) % 3,
            "train_mask": np.arange(num_nodes) % 2 == 0,
            "val_mask": np.arange(num_nodes) == 1,
            "test_mask": np.arange(num_nodes) == 3,
        },
        "edge_values": {
            "feat": rng.integers(-8, 8, (num_edges, 2)).astype(np.float32) / 4,
            "weight": rng.integers(1, 9, num_edges).astype(np.float64) / 8,
        },
    }


SEVERAL = [small(seed, 2 + seed, 3 * seed) for seed in range(4)]
GRAPH_LABELS = np.array([0, 1, 1, 0])
TYPES = {  # of nodes: how many; DGL keeps types in alphabetical order
    "author": 3,
    "paper": 4,
}
RELATIONS = {
    ("author", "writes", "paper"): np.array([[0, 0, 2], [1, 3, 0]]),
    ("paper", "cites", "paper"): np.array([[0, 1, 1], [2, 0, 0]]),
}
TYPED_FEATURES = {
    kind: np.arange(2.0 * count, dtype=np.float32).reshape(count, 2) + len(kind)
    for kind, count in TYPES.items()
}


def main() -> None:
    """Write the files."""
    import dgl
    import torch

    def made(graph: dict[str, Any], idtype: torch.dtype) -> dgl.DGLGraph:
        ends = tuple(torch.from_numpy(ends) for ends in graph["edges"])
        new = dgl.graph(ends, num_nodes=graph["num_nodes"], idtype=idtype)
        new.ndata.update({k: torch.from_numpy(v) for k, v in graph["nodes"].items()})
        new.edata.update({k: torch.from_numpy(v) for k, v in graph["edge_values"].items()})
        return new

    def save(name: str, graphs: list[dgl.DGLGraph], *labels: object) -> None:
        path = HERE / name
        dgl.save_graphs(str(path), graphs, *labels)
        content = bytearray(path.read_bytes())
        content[32:4096] = bytes(4096 - 32)
        path.write_bytes(content)

    for i, kind in enumerate(FORMATS):
        save(f"{kind}.bin", [made(small(i), torch.int32 if i else torch.int64).formats(kind)])
    labels = {"label": torch.from_numpy(GRAPH_LABELS)}
    several = [made(graph, torch.int64) for graph in SEVERAL]
    for graph in several:
        for name in ("label", "train_mask", "val_mask", "test_mask"):
            del graph.ndata[name]
    save("several.bin", several, labels)
    typed = dgl.heterograph(
        {triple: tuple(map(torch.from_numpy, ends)) for triple, ends in RELATIONS.items()},
        num_nodes_dict=TYPES,
    )
    for kind, x in TYPED_FEATURES.items():
        typed.nodes[kind].data["feat"] = torch.from_numpy(x)
    typed.nodes["paper"].data["label"] = torch.tensor([0, 1, 0, 1])
    save("typed.bin", [typed])


if __name__ == "__main__":
    main()
