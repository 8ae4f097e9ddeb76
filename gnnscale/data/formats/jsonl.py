"""Graphs as lines of JSON, as those of ``graphs-datasets`` on the Hugging Face hub.

A line is a graph: ``edge_index`` (two lists), ``num_nodes``, ``node_feat``, ``edge_attr`` and
``y``. A folder with ``train.jsonl`` and its siblings is one set, split so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import Format
from gnnscale.data.splits import to_nodes
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.graph.reading.nodes import part_of

logger = logging.getLogger(__name__)

_KNOWN = {"edge_index", "num_nodes", "node_feat", "edge_attr", "y"}


class _Line(NamedTuple):
    edges: np.ndarray
    num_nodes: int
    x: np.ndarray | None
    edge_attr: np.ndarray | None
    y: np.ndarray | None


def _files(path: Path) -> dict[str, Path]:
    """The files of a set by part; one file has no part."""
    if path.is_file():
        return {"": path} if seen.kind(path) in (".jsonl", ".json") and _is_graph(path) else {}
    found = {}
    for name in sorted(seen.files(path)):
        file = path / name
        if seen.kind(file) == ".jsonl" and _is_graph(file):
            stem = name.split(".")[0].split("-")[0]
            part, kind = part_of(stem)
            if part is None or kind is not None or part in found:
                return {}
            found[part] = file
    return found


def _is_graph(file: Path) -> bool:
    first = seen.head(file).lstrip()[:4096]
    return first.startswith(b"{") and b'"edge_index"' in first


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    files = _files(path)
    by_part = {part: [*_lines(file)] for part, file in files.items()}
    lines = [line for part in by_part.values() for line in part]
    if not lines:
        raise InputError(f"{path} holds no graph")
    sizes = [line.num_nodes for line in lines]
    node_ptr = np.cumsum([0, *sizes])
    edges = [line.edges + start for line, start in zip(lines, node_ptr, strict=False)]
    arrays: dict[str, np.ndarray] = {
        "num_nodes": np.array(node_ptr[-1]),
        "edge_index": np.concatenate(edges, axis=1),
    }
    for key, name in (("x", "node_feat"), ("edge_attr", "edge_attr")):
        parts = [getattr(line, key) for line in lines]
        if all(part is not None for part in parts):
            arrays[key] = _joined(parts, name, path)
        elif any(part is not None for part in parts):
            raise InputError(f"{path}: {name} is there in some graphs and not in others")
    if len(lines) > 1:
        arrays["node_ptr"] = node_ptr
    labels = [line.y for line in lines]
    if any(label is not None for label in labels):
        arrays |= _labels(labels, sizes, path)
    if "" not in by_part:
        owner = np.repeat([*by_part], [len(part) for part in by_part.values()])
        for part in by_part:
            arrays[f"{part}_mask"] = to_nodes(owner == part, node_ptr)
    return graph_of(arrays, path, given)


def _lines(file: Path) -> Iterator[_Line]:
    """The graphs of a file.

    Raises:
        InputError: a line is no graph; says which.
        StoreError: the file cannot be read.
    """
    left: set[str] = set()
    for number, content in _objects(file):
        where = f"{file}, line {number}"
        if not isinstance(content, dict) or "edge_index" not in content:
            raise InputError(f"{where}: a graph has edge_index")
        left |= content.keys() - _KNOWN
        edges = _array(content, "edge_index", where)
        edges = np.empty((2, 0)) if edges is None or edges.size == 0 else edges
        x, edge_attr = (_array(content, key, where) for key in ("node_feat", "edge_attr"))
        count = content.get("num_nodes")
        if isinstance(count, list) and len(count) == 1:
            (count,) = count
        if count is None:
            count = int(edges.max(initial=-1)) + 1 if x is None else len(x)
        wrong = edges.shape[0] != 2 or edges.ndim != 2 or edges.dtype.kind not in "iuf"
        if wrong or not isinstance(count, int) or (edges % 1).any():
            raise InputError(f"{where}: edge_index {edges.shape}; it is two lists of nodes")
        if edges.size and not 0 <= edges.min() <= edges.max() < count:
            raise InputError(f"{where}: edges of nodes that there are not; there are {count:,}")
        if x is not None and len(x) != count:
            raise InputError(f"{where}: node_feat has {len(x):,} rows for {count:,} nodes")
        if edge_attr is not None and len(edge_attr) != edges.shape[1]:
            raise InputError(f"{where}: edge_attr has {len(edge_attr):,} rows, not one an edge")
        yield _Line(edges.astype(np.int64), count, x, edge_attr, _array(content, "y", where))
    if left:
        logger.warning("%s: left out: %s", file, ", ".join(sorted(left)))


def _objects(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        with open(file, encoding="utf-8-sig") as text:
            for number, line in enumerate(text, start=1):
                if line.strip():
                    yield number, json.loads(line)
    except OSError as error:
        raise StoreError(f"could not read {file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON with a graph a line: {error}") from error


def _array(content: Mapping[str, Any], key: str, where: str) -> np.ndarray | None:
    if content.get(key) is None:
        return None
    try:
        # null is unknown
        array = np.array(content[key], np.float64 if _has_none(content[key]) else None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {key} is no array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: {key} holds {array.dtype}; numbers are expected")
    return array if array.ndim else array[None]


def _has_none(values: Any) -> bool:
    return values is None or (isinstance(values, list) and any(map(_has_none, values)))


def _joined(parts: list[np.ndarray], name: str, path: Path) -> np.ndarray:
    wide = [part[:, None] if part.ndim == 1 and part.size else part for part in parts]
    full = [part for part in wide if part.size]
    if len({part.shape[1:] for part in full}) > 1:
        raise InputError(f"{path}: {name} is of other widths in other graphs")
    return np.concatenate(full) if full else np.empty((0, 1))


def _labels(labels: list[np.ndarray | None], sizes: list[int], path: Path) -> dict[str, np.ndarray]:
    """Labels of graphs, a row each; of nodes where there is one a node."""
    known = [label for label in labels if label is not None]
    of_nodes = len(known) == len(labels) and [len(label) for label in known] == sizes
    if of_nodes and set(sizes) != {1}:
        return {"y": np.concatenate(known), "y_level": np.array("node")}
    rows = [label.reshape(-1) for label in known]
    if len(widths := {row.size for row in rows}) > 1:
        raise InputError(f"{path}: y has {sorted(widths)[:6]} entries; one row a graph is expected")
    y = np.full((len(labels), *rows[0].shape), np.nan)
    y[[i for i, label in enumerate(labels) if label is not None]] = rows
    if not np.isnan(y).any() and all(row.dtype.kind in "biu" for row in rows):
        y = y.astype(np.int64)
    return {"y": y, "y_level": np.array("graph")}


FORMATS = (
    Format(
        "jsonl",
        "graphs as lines of JSON: graphs-datasets on the Hugging Face hub",
        "*.jsonl; a folder of train.jsonl, test.jsonl, …",
        lambda path: bool(_files(path)),
        _read,
        documented="https://huggingface.co/blog/intro-graphml-classification",
    ),
)
