"""Small arrays to load, and folders of data sets to find cards in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CARD = """\
name = "{name}"
title = "A path of four nodes"
file = "graph.npz"
task = "classification"
metric = "accuracy"
num_nodes = 4
num_edges = 3
undirected = true
num_features = 3
num_classes = 2
split = "by hand"
preprocessing = ["row-normalise"]
licence = "CC0"
source = "by hand"
"""


def path_graph() -> dict[str, np.ndarray]:
    """Arrays of a path of four nodes, each edge stored once."""
    return {
        "edge_index": np.array([[0, 1, 2], [1, 2, 3]], dtype=np.int32),
        "y": np.array([0, 1, 0, 1], dtype=np.int16),
        "x": np.array([[1, 1, 2], [0, 0, 0], [3, 0, 1], [0, 5, 0]], dtype=np.float64),
        "train_idx": np.array([0, 1]),
        "val_idx": np.array([2]),
        "test_idx": np.array([3]),
    }


def write_npz(path: Path, **changes: np.ndarray | None) -> Path:
    """Write the path graph with changes; None leaves a key out."""
    arrays = {**path_graph(), **changes}
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


def write_data_set(root: Path, name: str, card: str = CARD) -> Path:
    """Write a data set with a card into a folder of data sets, and return its folder."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text(card.format(name=name))
    write_npz(folder / "graph.npz")
    return folder
