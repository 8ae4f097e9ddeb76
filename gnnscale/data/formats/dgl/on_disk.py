"""Folders of ``dgl.graphbolt.OnDiskDataset``, as they are before DGL has preprocessed them.

``metadata.yaml`` lists what there is: edges (CSV of two columns without header, or ``.npy``
``[2, num_edges]``), features (``.npy``, or ``.pt`` of a tensor) and sets of nodes to train,
validate and test on with their labels. Nodes that are in no set have no label.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from gnnscale.data.formats import seen
from gnnscale.data.formats.dgl.description import entries, read_description, wanted
from gnnscale.data.formats.dgl.roles import roles_of
from gnnscale.data.formats.dgl.typed import DGL_OPTIONS, Triple, Typed, arrays_of
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import OPTIONS, Format
from gnnscale.data.formats.streamed import LARGE, row_blocks, streamed
from gnnscale.data.options import Option
from gnnscale.data.pyg.tensors import load_tensors
from gnnscale.data.tables.table import Table, open_table
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph

logger = logging.getLogger(__name__)

_FILE = "metadata.yaml"
_SETS = {"train_mask": "train_set", "val_mask": "validation_set", "test_mask": "test_set"}
_SEEDS = ("seeds", "seed_nodes", "nodes")
_NODE, _EDGE = "_N", "_E"  # what DGL calls types without a name
_OPTIONS = {**DGL_OPTIONS, "of_task": Option(str)}

Kind = TypeVar("Kind", str, Triple)
Entry = dict[str, Any]
Arrays = dict[str, np.ndarray]


def _recognises(path: Path) -> bool:
    return _FILE in seen.files(path)


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    about = read_description(path / _FILE)
    if "graph_topology" in about:
        raise InputError(
            f"{path} is what DGL has preprocessed: give the folder above, which holds the raw files"
        )
    graph = about.get("graph")
    if not isinstance(graph, dict):
        raise InputError(f"{path / _FILE} has no `graph`, which lists nodes and edges")
    options = {"name": str(about.get("dataset_name") or path.name), **given}
    task = _task(path, about, options.pop("of_task", None))
    if task is not None and isinstance(task.get("num_classes"), int):
        options.setdefault("num_classes", task["num_classes"])
    nodes = _nodes(path, graph)
    edges = {_triple(path, e, nodes): e for e in entries(graph, "edges", path / _FILE)}
    node_arrays, edge_arrays = _features(path, about, graph, nodes, edges)
    for kind, arrays in {} if task is None else _sets(path, task, nodes).items():
        own = node_arrays.setdefault(kind, {})
        known = roles_of(own, "graphs").label
        if "label" in arrays and known:
            logger.warning("left out, as the sets of the task have labels: %s", known)
            del own[known]
        own |= arrays
    try:
        if len(nodes) == len(edges) == 1 and _bytes(path, edges, node_arrays) > LARGE:
            built = _built(path, nodes, edges, node_arrays, edge_arrays, options)
            if built is not None:
                return built
        read = {triple: _whole(path, entry) for triple, entry in edges.items()}
        typed = Typed(nodes, read, _copied(node_arrays), _copied(edge_arrays))
        arrays = arrays_of([typed], options)
    except InputError as error:
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error
    return graph_of(arrays, path, options)


def _nodes(path: Path, graph: Entry) -> dict[str, int]:
    nodes = {}
    for entry in entries(graph, "nodes", path / _FILE):
        if not isinstance(entry.get("num"), int) or entry["num"] < 0:
            raise InputError(f"{path / _FILE}: {entry!r} has no num, the number of nodes")
        nodes[str(entry.get("type", _NODE))] = entry["num"]
    if not nodes:
        raise InputError(f"{path / _FILE}: graph has no nodes")
    return dict(sorted(nodes.items()))


def _triple(path: Path, entry: Entry, nodes: Mapping[str, int]) -> Triple:
    only = next(iter(nodes))
    if "type" not in entry:
        if len(nodes) > 1:
            raise InputError(f"{path / _FILE}: {entry!r} has no type, and nodes have several")
        return only, _EDGE, only
    source, name, target = [*str(entry["type"]).split(":"), "", ""][:3]
    if source not in nodes or target not in nodes:
        raise InputError(
            f"{path / _FILE}: edges {entry['type']!r} are between nodes that there are not; there "
            f"are {', '.join(nodes)}. A type is written source:edge:target"
        )
    return source, name, target


# --- arrays -----------------------------------------------------------------------------------


def _array(path: Path, entry: Entry) -> np.ndarray:
    """What an entry refers to, mapped where it is a ``.npy``."""
    file, kind = path / wanted(entry, "path", path / _FILE), entry.get("format")
    if kind == "numpy":
        try:
            return np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(f"{file} cannot be read: {error}") from error
    if kind == "torch":
        tensor = load_tensors(file)
        if not hasattr(tensor, "numpy"):
            raise StoreError(f"{file} holds a {type(tensor).__name__}; a tensor is expected")
        return np.asarray(tensor.float() if tensor.dtype is torch.bfloat16 else tensor)
    if kind == "csv":
        table = open_table(file, str(file), sep=",", header=False)
        columns = [np.concatenate(part) for part in zip(*_batches(table), strict=True)]
        return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
    raise InputError(f"{path / _FILE}: {file} is of format {kind!r}; numpy, torch and csv are read")


def _batches(table: Table) -> Iterator[list[np.ndarray]]:
    for batch in table.batches():
        yield [column.to_numpy(zero_copy_only=False) for column in batch.columns]


def _copied(arrays: Mapping[Kind, Arrays]) -> dict[Kind, Arrays]:
    """Arrays in memory: a file may change."""
    return {kind: {k: np.array(a) for k, a in own.items()} for kind, own in arrays.items()}


def _features(
    path: Path,
    about: Entry,
    graph: Entry,
    nodes: Mapping[str, int],
    edges: Mapping[Triple, Entry],
) -> tuple[dict[str, Arrays], dict[Triple, Arrays]]:
    of_nodes: dict[str, Arrays] = {}
    of_edges: dict[Triple, Arrays] = {}
    where = path / _FILE
    for entry in [*entries(graph, "feature_data", where), *entries(about, "feature_data", where)]:
        domain, name = entry.get("domain"), wanted(entry, "name", where)
        if domain == "node":
            kind = str(entry.get("type") or next(iter(nodes)))
            array = _array(path, entry)
            if kind not in nodes or array.shape[:1] != (nodes[kind],):
                raise InputError(
                    f"{where}: {name} has {array.shape[:1]} rows for nodes of type {kind!r}; there "
                    f"are {', '.join(f'{count:,} {k}' for k, count in nodes.items())}"
                )
            of_nodes.setdefault(kind, {})[name] = array
        elif domain == "edge":
            triple = _triple(path, entry, nodes) if entry.get("type") else next(iter(edges))
            of_edges.setdefault(triple, {})[name] = _array(path, entry)
        else:
            logger.warning("%s: left out, of graphs: %s", path, name)
    return of_nodes, of_edges


# --- tasks ------------------------------------------------------------------------------------


def _task(path: Path, about: Entry, wanted_name: str | None) -> Entry | None:
    """The task whose sets are taken: the only one of nodes, or that which is named."""
    tasks = {str(task.get("name", i)): task for i, task in enumerate(_tasks(path, about))}
    if wanted_name is not None:
        if wanted_name not in tasks:
            raise InputError(
                f"of_task={wanted_name!r}: {path} has tasks {', '.join(tasks) or 'none'}"
            )
        return tasks[wanted_name]
    of_nodes = [name for name, task in tasks.items() if not _is_of_links(path, task)]
    if len(of_nodes) > 1:
        raise InputError(
            f"{path} has tasks {', '.join(of_nodes)}: say which, as of_task={of_nodes[0]!r}"
        )
    for name in tasks.keys() - set(of_nodes):
        logger.warning("%s: left out, a task of links: %s", path, name)
    return tasks[of_nodes[0]] if of_nodes else None


def _tasks(path: Path, about: Entry) -> list[Entry]:
    return entries(about, "tasks", path / _FILE)


def _is_of_links(path: Path, task: Entry) -> bool:
    """Whether its sets are pairs of nodes."""
    names = [
        data.get("name")
        for field in _SETS.values()
        for each in entries(task, field, path / _FILE)
        for data in entries(each, "data", path / _FILE)
    ]
    return "node_pairs" in names or "link" in str(task.get("name", ""))


def _sets(path: Path, task: Entry, nodes: Mapping[str, int]) -> dict[str, Arrays]:
    """Masks, and labels of the nodes that are in a set, by type of nodes."""
    found: dict[str, Arrays] = {}
    for mask, field in _SETS.items():
        for entry in entries(task, field, path / _FILE):
            kind = str(entry.get("type") or next(iter(nodes)))
            if kind not in nodes:
                raise InputError(f"{path / _FILE}: {field} is of {kind!r}, which no nodes are")
            seeds, labels = _seeds(path, entries(entry, "data", path / _FILE), field)
            if seeds.size and not 0 <= seeds.min() <= seeds.max() < nodes[kind]:
                raise InputError(
                    f"{path}: {field} names nodes {seeds.min():,} to {seeds.max():,}; there are "
                    f"{nodes[kind]:,} of {kind!r}"
                )
            arrays = found.setdefault(kind, {})
            arrays.setdefault(mask, np.zeros(nodes[kind], dtype=bool))[seeds] = True
            if labels is not None:
                _put(arrays, seeds, labels, nodes[kind])
    return found


def _seeds(path: Path, data: list[Entry], field: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Nodes of a set and their labels, by name, or by place as the first versions have them."""
    names = [
        entry.get("name") or ("seeds", "labels", "")[min(i, 2)] for i, entry in enumerate(data)
    ]
    by_name = dict(zip(names, data, strict=True))
    of_nodes = next((by_name[name] for name in _SEEDS if name in by_name), None)
    if of_nodes is None:
        raise InputError(f"{path}: {field} holds {', '.join(names) or 'nothing'}; seeds are wanted")
    seeds = np.asarray(_array(path, of_nodes))
    labels = np.asarray(_array(path, by_name["labels"])) if "labels" in by_name else None
    if seeds.ndim == 2 and seeds.shape[1] == 2 and len(data) == 1 and of_nodes["format"] == "csv":
        seeds, labels = seeds[:, 0], seeds[:, 1]
    if seeds.ndim == 2 and seeds.shape[1] == 1:
        seeds = seeds[:, 0]
    if seeds.ndim != 1 or (seeds.size and seeds.dtype.kind not in "iu"):
        raise InputError(
            f"{path}: {field} has seeds {seeds.dtype} {seeds.shape}: pairs of nodes are links, "
            "which gnnscale does not train on from files; numbers of nodes are [nodes]"
        )
    if labels is not None and labels.shape[:1] != seeds.shape:
        raise InputError(f"{path}: {field} has {labels.shape} labels for {seeds.shape} nodes")
    return seeds.astype(np.int64), labels


def _put(arrays: Arrays, seeds: np.ndarray, labels: np.ndarray, count: int) -> None:
    if "label" not in arrays:
        floats = labels.dtype.kind == "f"
        arrays["label"] = np.full(
            (count, *labels.shape[1:]),
            np.nan if floats else -1,
            labels.dtype if floats else np.int64,
        )
    arrays["label"][seeds] = labels


# --- edges ------------------------------------------------------------------------------------


def _edge_chunks(path: Path, entry: Entry) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if entry.get("format") == "csv":
        file = path / wanted(entry, "path", path / _FILE)
        table = open_table(file, str(file), sep=",", header=False)
        if len(table.columns) != 2:
            raise InputError(f"{file} has {len(table.columns)} columns; edges have two")
        yield from ((source, target) for source, target in _batches(table))
        return
    edges = _array(path, entry)
    if edges.ndim != 2 or edges.shape[0] != 2 or edges.dtype.kind not in "iu":
        raise InputError(
            f"{entry['path']} is {edges.dtype} {edges.shape}; edges are [2, num_edges]"
        )
    for start, stop in row_blocks(edges.shape[1], 16):
        yield edges[0, start:stop].astype(np.int64), edges[1, start:stop].astype(np.int64)


def _whole(path: Path, entry: Entry) -> np.ndarray:
    chunks = [np.stack(chunk) for chunk in _edge_chunks(path, entry)]
    edges = np.concatenate([np.empty((2, 0), np.int64), *chunks], axis=1)
    if edges.dtype.kind not in "iu":
        raise InputError(f"{entry['path']} holds {edges.dtype}; edges are numbers of nodes")
    return edges


def _bytes(path: Path, edges: Mapping[Triple, Entry], arrays: Mapping[str, Arrays]) -> int:
    files = [path / str(entry.get("path")) for entry in edges.values()]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return size + sum(a.nbytes for own in arrays.values() for a in own.values())


def _built(
    path: Path,
    nodes: Mapping[str, int],
    edges: Mapping[Triple, Entry],
    node_arrays: Mapping[str, Arrays],
    edge_arrays: Mapping[Triple, Arrays],
    given: Mapping[str, Any],
) -> Graph | None:
    """The graph in a store; None where it has what a store is not built with: values of edges."""
    ((kind, num_nodes),) = nodes.items()
    ((triple, entry),) = edges.items()
    own, carried = node_arrays.get(kind, {}), edge_arrays.get(triple, {})
    names = {key: given.get(key) for key in ("features", "labels")}
    roles = roles_of(own, "nodes", features=names["features"], labels=names["labels"])
    if roles_of(carried, "edges", features=given.get("edge_features"), labels="none").chosen:
        return None
    roles.log("nodes")
    options = {k: v for k, v in given.items() if k in OPTIONS or k == "name"}

    def features() -> Iterator[np.ndarray]:
        columns = [own[name].reshape(num_nodes, -1) for name in roles.features]
        for start, stop in row_blocks(num_nodes, 8 * sum(c.shape[1] for c in columns)):
            parts = [column[start:stop].astype(np.float32) for column in columns]
            yield np.concatenate(parts, axis=1)

    kept = {"num_nodes": np.array(num_nodes)} | {name: own[name] for name in roles.splits}
    if roles.label:
        kept["y"] = np.array(own[roles.label])
    file = path / str(entry["path"])
    return streamed(
        file, options, kept, _edge_chunks(path, entry), features() if roles.features else None
    )


FORMATS = (
    Format(
        "ondisk",
        "a raw folder of dgl.graphbolt.OnDiskDataset",
        "a folder with metadata.yaml",
        _recognises,
        _read,
        options=_OPTIONS,
        streams=True,
        needs="dgl",
        documented="DGL 2.x, user guide 6.5: On-Disk Dataset",
    ),
)
