"""Sets of one's own that ``ogb.io.DatasetSaver`` has written: node- and graph-level.

What it leaves in its folder ``submission_ogbn_name``, of which each part may be given, is read::

    meta_dict.pt                     task, metric, classes, name of the split
    name/ or name.zip                of these:
        raw/data.npz                 edge_index, num_nodes_list, num_edges_list, node_feat,
                                     edge_feat
        raw/node-label.npz           node_label; graph-level: graph-label.npz, graph_label
        split/<split>/split_dict.pt  train, valid, test: numbers of nodes or graphs

Edges are as they were saved, in one direction or both, as ogb's own readers give them. What is in
the ``.pt`` files beside arrays, numbers and text is refused, never run.
"""

from __future__ import annotations

import contextlib
import logging
import zipfile
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import Format
from gnnscale.data.formats.streamed import LARGE, streamed
from gnnscale.data.ogb.catalogue import METRICS
from gnnscale.data.ogb.npz import Npz, open_npz
from gnnscale.data.ogb.raw import open_raw, size_of
from gnnscale.data.pyg.tensors import load_tensors
from gnnscale.data.splits import to_nodes
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.storage.files import cache_root

logger = logging.getLogger(__name__)

_META = "meta_dict.pt"
_DATA = "raw/data.npz"
_PARTS = ("train", "valid", "test")


def _recognises(path: Path) -> bool:
    if path.is_dir():
        names = seen.files(path)
        own = "raw" in names and "split" in names and is_saved(path)
        return own or (_META in names and _inner(path) is not None)
    return path.suffix.lower() == ".zip" and _zip_has(path, _DATA)


def is_saved(folder: Path) -> bool:
    """Whether `DatasetSaver` has written a folder: OGB's own sets have splits in csv.gz."""
    return any((folder / "split").glob("*/split_dict.pt")) and any((folder / "raw").glob("*.npz"))


def _zip_has(path: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
    ends = ("split_dict.pt", name)
    return all(any(f"/{member}".endswith(f"/{end}") for member in names) for end in ends)


def _inner(folder: Path) -> Path | None:
    """The folder or archive of data beside ``meta_dict.pt``."""
    folders = [sub for sub in folder.iterdir() if sub.is_dir() and is_saved(sub)]
    found = folders or [sub for sub in folder.glob("*.zip") if _zip_has(sub, _DATA)]
    return found[0] if len(found) == 1 else None


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    inner = path if path.is_file() or is_saved(path) else _inner(path)
    assert inner is not None, path  # it was recognised
    folder = path if inner != path else path.parent
    meta = _meta(folder / _META)
    if str(meta.get("is hetero")) == "True":
        raise InputError(
            f"{path} is a set of several types of nodes or edges; gnnscale trains on one. Save it "
            "with is_hetero=False, all nodes numbered through"
        )
    with open_raw(inner) as raw:
        scratch = cache_root() / "graphs"
        if not (raw / _DATA).is_file():
            raise InputError(
                f"{path} has no {_DATA}: it is of several types of nodes or edges, and gnnscale "
                "trains on one"
            )
        with open_npz(raw / _DATA, scratch) as data, _labels(raw, path, scratch) as (level, labels):
            return _graph(path, given, _Set(raw, meta, data, level, labels))


def _meta(path: Path) -> Mapping[str, Any]:
    """What the saver says of the set; nothing where its file is not there."""
    if not path.is_file():
        logger.warning("there is no %s: task and metric are read off the labels", path)
        return {}
    meta = load_tensors(path)
    if not isinstance(meta, dict):
        raise StoreError(f"{path} holds no dict of what the set is; save it again")
    return meta


@contextlib.contextmanager
def _labels(raw: Traversable, path: Path, scratch: Path) -> Iterator[tuple[str, np.ndarray]]:
    for level in ("node", "graph"):
        file = raw / f"raw/{level}-label.npz"
        if file.is_file():
            with open_npz(file, scratch) as content:
                yield level, content.read(f"{level}_label")
            return
    raise InputError(
        f"{path} has no labels of nodes or graphs: it is a set of links (ogbl-), which gnnscale "
        "does not train on from files. Give its edges to gnnscale.from_edge_list, and the links to "
        "predict to a Task of your own"
    )


class _Set:
    """The files of a set, and what they say of it."""

    def __init__(
        self, raw: Traversable, meta: Mapping[str, Any], data: Npz, level: str, labels: np.ndarray
    ) -> None:
        self.raw, self.meta, self.data, self.level = raw, meta, data, level
        self.nodes = data.read("num_nodes_list").reshape(-1).astype(np.int64)
        self.edges = data.read("num_edges_list").reshape(-1).astype(np.int64)
        self.labels = labels if labels.ndim > 1 and labels.shape[1] > 1 else labels.reshape(-1)
        self.twice = str(meta.get("add_inverse_edge")) == "True"

    @property
    def node_ptr(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.nodes)])

    def defaults(self) -> dict[str, Any]:
        """Task, classes and metric, as the saver was told."""
        said, metric = str(self.meta.get("task type", "")), str(self.meta.get("eval metric", ""))
        known: dict[str, Any] = {"y_level": self.level}
        if metric:
            known["metric"] = METRICS.get(metric, metric if metric in METRICS.values() else None)
        if "regression" in said:
            known["task"] = "regression"
        elif "binary" in said or self.labels.ndim > 1:
            known["task"] = "multilabel"
        elif said:
            known["task"] = "classification"
            known["num_classes"] = int(self.meta.get("num classes", 0)) or None
        return known

    def splits(self) -> dict[str, np.ndarray]:
        """The split: numbers of nodes; of graphs, masks of their nodes."""
        folder = self.raw / "split"
        names = [each.name for each in folder.iterdir() if (each / "split_dict.pt").is_file()]
        name = str(self.meta.get("split", names[0] if len(names) == 1 else ""))
        if name not in names:
            raise InputError(f"{folder} has splits {', '.join(names) or 'none'}, and no {name!r}")
        file = folder / name / "split_dict.pt"
        split = load_tensors(file)
        if not isinstance(split, dict) or not all(part in split for part in _PARTS):
            raise StoreError(f"{file} holds no dict of train, valid and test; save it again")
        rows = {part: np.asarray(split[part]).reshape(-1) for part in _PARTS}
        if self.level == "node":
            return {f"{part}_idx": ids for part, ids in rows.items()}
        masks = {}
        for part, ids in rows.items():
            if ids.size and not 0 <= ids.min() <= ids.max() < self.nodes.size:
                raise InputError(f"{file}: {part} names graphs beyond {self.nodes.size:,}")
            chosen = np.zeros(self.nodes.size, dtype=bool)
            chosen[ids] = True
            masks[f"{part}_mask"] = to_nodes(chosen, self.node_ptr)
        return masks

    def edge_index(self) -> np.ndarray:
        """Edges `[2, num_edges]`, nodes of several graphs numbered through."""
        edges = self.data.read("edge_index")
        graph = np.repeat(np.arange(self.nodes.size), self.edges)
        if edges.ndim != 2 or edges.shape != (2, graph.size):
            raise StoreError(
                f"{self.raw / _DATA}: edge_index {edges.shape}, where num_edges_list counts "
                f"{graph.size:,}; save the set again"
            )
        wrong = ((edges < 0) | (edges >= self.nodes[graph])).any(0)
        if wrong.any():
            at = int(wrong.argmax())
            raise InputError(
                f"{self.raw / _DATA}: graph {graph[at]} of {self.nodes[graph[at]]:,} nodes has an "
                f"edge {edges[:, at].tolist()}"
            )
        return edges + self.node_ptr[graph]


def _graph(path: Path, given: Mapping[str, Any], own: _Set) -> Graph:
    keys = own.data.keys
    unread = {"edge_index", "num_nodes_list", "num_edges_list", "node_feat", "edge_feat"}
    if others := [key for key in keys if key not in unread]:
        logger.warning("%s: left out: %s", path, ", ".join(others))
    arrays = {"num_nodes": np.array(own.node_ptr[-1]), "y": own.labels, **own.splits()}
    defaults = {"name": path.name.split(".")[0], **own.defaults()}
    large = size_of(own.raw / _DATA) > LARGE
    if large and own.level == "node" and "edge_feat" not in keys and not own.twice:
        x = own.data.rows("node_feat") if "node_feat" in keys else None
        edges = (tuple(block.T) for block in own.data.pairs("edge_index"))
        features = None if x is None else (block.astype(np.float32, copy=False) for block in x)
        options = {key: value for key, value in defaults.items() if value is not None}
        file = path if path.is_file() else Path(str(own.raw / _DATA))
        return streamed(file, {**options, **given}, arrays, edges, features)
    arrays["edge_index"] = own.edge_index()
    if own.level == "graph":
        arrays["node_ptr"] = own.node_ptr
    if "node_feat" in keys:
        arrays["x"] = own.data.read("node_feat")
    if "edge_feat" in keys:
        arrays["edge_attr"] = own.data.read("edge_feat")
    if own.twice:  # as ogb's reader does where the saver was told to
        arrays["edge_index"] = np.concatenate([arrays["edge_index"], arrays["edge_index"][::-1]], 1)
        if "edge_attr" in arrays:
            arrays["edge_attr"] = np.concatenate([arrays["edge_attr"], arrays["edge_attr"]])
    return graph_of(arrays, path, given, defaults)


FORMATS = (
    Format(
        "ogb",
        "a set of your own that ogb.io.DatasetSaver has written",
        "a folder or *.zip with raw/data.npz and split/*/split_dict.pt",
        _recognises,
        _read,
        streams=True,
        documented="ogb 1.3.6, ogb/io/save_dataset.py",
    ),
)
