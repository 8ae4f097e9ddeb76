"""Sets of one's own that ``ogb.io.DatasetSaver`` writes, read by ogb."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gnnscale as gs
from layouts.content import Content, Layouts

LAYOUTS = Layouts()

Made = tuple[Callable[..., gs.Graph], Content | None]


def graph(seed: int, num_nodes: int, num_edges: int) -> dict[str, Any]:
    """A graph as ogb has it."""
    rng = np.random.default_rng(seed)
    return {
        "edge_index": rng.integers(0, num_nodes, (2, num_edges)),
        "num_nodes": num_nodes,
        "node_feat": rng.random((num_nodes, 3)).astype(np.float32),
        "edge_feat": rng.random((num_edges, 2)).astype(np.float32),
    }


def save(folder: Path, name: str, graphs: list, labels: Any, split: dict, task: str) -> Path:
    """What ogb's documentation does."""
    from ogb.io import DatasetSaver

    (folder / "mapping").mkdir()
    (folder / "mapping/README.md").write_text("which node is which\n")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        saver = DatasetSaver(name, False, version=1, root=str(folder / "submission"))
        saver.save_graph_list(graphs)
        if labels is not None:
            saver.save_target_labels(labels)
        saver.save_split(split, "random")
        saver.copy_mapping_dir(str(folder / "mapping"))
        saver.save_task_info(task, "acc", num_classes=3)
        saver.get_meta_dict()
        saver.zip()
    return Path(saver.submission_dir)


def read_by_ogb(folder: Path, name: str, kind: str) -> Any:
    """The data set, through ogb's class: it unpickles, so of files that were just made alone."""
    from ogb.graphproppred import GraphPropPredDataset
    from ogb.nodeproppred import NodePropPredDataset

    made = {"node": NodePropPredDataset, "graph": GraphPropPredDataset}[kind]
    meta = torch.load(folder / "meta_dict.pt", weights_only=True)
    load = torch.load
    torch.load = lambda *given, **said: load(*given, **{"weights_only": False, **said})
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = made(name, meta_dict=meta)
            return found, found.get_idx_split()
    finally:
        torch.load = load


@LAYOUTS("OGB DatasetSaver, nodes", "ogb")
def nodes(folder: Path, part: str = "") -> Made:
    """``submission_ogbn_mine``, or its zip."""
    ids = np.random.default_rng(0).permutation(20)
    split = {"train": ids[:10], "valid": ids[10:15], "test": ids[15:]}
    y = (np.arange(20) % 3)[:, None]
    place = save(folder, "ogbn-mine", [graph(0, 20, 60)], y, split, "multiclass classification")
    found, split = read_by_ogb(place, "ogbn-mine", "node")
    read, labels = found[0]
    content = Content(read["edge_index"], 20, x=read["node_feat"], y=labels[:, 0])
    content.carried = {"edge_attr": read["edge_feat"]}
    content.splits = {
        ours: np.isin(np.arange(20), split[theirs])
        for ours, theirs in (("train", "train"), ("val", "valid"), ("test", "test"))
    }
    return partial(gs.load, place / part), content


LAYOUTS.add("OGB DatasetSaver, its zip", "ogb", partial(nodes, part="mine.zip"))


@LAYOUTS("OGB DatasetSaver, graphs", "ogb")
def graphs(folder: Path) -> Made:
    """Numbered through."""
    sizes = [4, 1, 6, 3]
    split = {"train": np.array([0, 2]), "valid": np.array([1]), "test": np.array([3])}
    made = [graph(i, size, 2 * size) for i, size in enumerate(sizes)]
    y = np.array([[0], [1], [2], [1]])
    place = save(folder, "ogbg-small", made, y, split, "multiclass classification")
    found, split = read_by_ogb(place, "ogbg-small", "graph")
    read = [found[i] for i in range(len(sizes))]
    first = np.cumsum([0, *sizes])
    edges = [g["edge_index"] + start for (g, _), start in zip(read, first, strict=False)]
    content = Content(np.concatenate(edges, axis=1), int(first[-1]), node_ptr=first.tolist())
    content.x = np.concatenate([g["node_feat"] for g, _ in read])
    content.carried = {"edge_attr": np.concatenate([g["edge_feat"] for g, _ in read])}
    content.y = np.array([int(label[0]) for _, label in read])
    content.splits = {"train": np.repeat(np.isin(np.arange(4), split["train"]), sizes)}
    return partial(gs.load, place), content


@LAYOUTS("OGB DatasetSaver, links", "ogb", None)
def links(folder: Path) -> Made:
    """No labels of nodes or graphs."""
    split = {part: np.arange(3) for part in ("train", "valid", "test")}
    place = save(folder, "ogbl-links", [graph(0, 9, 20)], None, split, "link prediction")
    return partial(gs.load, place), None
