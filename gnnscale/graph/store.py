"""The on-disk format of a clustered graph. docs/format.md describes it.

A folder with `meta.json` and one `.npy` file an array, written under a temporary name and renamed
when whole. `meta.json` names the format and its version, and holds size and checksum of every
file: sizes are checked at every open, checksums on request.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError, StoreError
from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.clustered import ClusteredGraph
from gnnscale.graph.files import atomic_folder, read_json, write_json
from gnnscale.graph.graph import Graph, Split
from gnnscale.kernels import CSR

FORMAT = "gnnscale-clustered-graph"
VERSION = 1
_BLOCK = 1 << 24


def is_store(path: str | Path) -> bool:
    """Whether `path` is a folder that a clustered graph was written to."""
    meta = Path(path) / "meta.json"
    try:
        return meta.is_file() and read_json(meta).get("format") == FORMAT
    except (StoreError, AttributeError):
        return False


def write_store(clustered: ClusteredGraph, path: str | Path) -> None:
    """Write a clustered graph to the folder `path`.

    Raises:
        StoreError: the folder cannot be written, holds something else, or the disk is full.
        InputError: an array has a type that cannot be stored.
    """
    path = Path(path).resolve()
    _check_replaceable(path)
    arrays = dict(_arrays(clustered))
    narrow = [name for name, array in arrays.items() if array.dtype == torch.bfloat16]
    if narrow:  # NumPy has no such type
        raise InputError(f"{', '.join(narrow)}: bfloat16 cannot be stored; use float16 or float32")
    needed = sum(a.numel() * a.element_size() for a in arrays.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise StoreError(
                f"storing the graph at {path} takes {needed:,} bytes; the disk has {free:,} left"
            )
        with atomic_folder(path) as partial:
            files = {name: _write_array(partial, name, array) for name, array in arrays.items()}
            meta = {**_meta(clustered), "arrays": files}
            write_json(partial / "meta.json", {**meta, "checksum": _meta_checksum(meta)})
    except OSError as error:
        raise StoreError(
            f"could not write the graph ({needed:,} bytes) to {path}: {error.strerror or error}"
        ) from error


def open_graph(path: str | Path, *, verify: bool = False) -> ClusteredGraph:
    """Open a clustered graph written by `cluster(…, path=…)`, memory-mapped.

    Args:
        path: the folder.
        verify: also read every byte and compare checksums.

    Raises:
        StoreError: it is missing, of another format or version, damaged or truncated.
    """
    path = Path(path).absolute()
    meta = _read_meta(path)
    arrays = {name: _open_array(path, about) for name, about in meta["arrays"].items()}
    if verify:
        verify_store(path)
    return _assemble(path, meta, arrays)


def verify_store(path: str | Path) -> None:
    """Read every byte of a store and compare it with the checksums of `meta.json`.

    Raises:
        StoreError: naming every file that differs.
    """
    path = Path(path)
    damaged = [
        about["file"]
        for about in _read_meta(path)["arrays"].values()
        if _file_checksum(path / about["file"]) != about["checksum"]
    ]
    if damaged:
        raise StoreError(f"{path} is damaged: the checksum differs for {', '.join(damaged)}")


# --- the layout -------------------------------------------------------------------------------


def _arrays(clustered: ClusteredGraph) -> Iterator[tuple[str, Tensor]]:
    graph = clustered.graph
    yield "indptr", graph.adj.indptr
    yield "indices", graph.adj.indices
    yield "node_id", clustered.node_id
    yield "offsets", clustered.offsets
    yield "train_ends", clustered.train_ends
    optional: dict[str, Tensor | None] = {
        "edge_weight": graph.edge_weight,
        "edge_attr": graph.edge_attr,
        "y": graph.y,
        "node_ptr": graph.node_ptr,
    }
    if isinstance(graph.x, CSR):
        optional["x_indptr"], optional["x_indices"] = graph.x.indptr, graph.x.indices
        optional["x_values"] = graph.x.values
    else:
        optional["x"] = graph.x
    for i, split in enumerate(graph.splits.values()):
        for part in ("train", "val", "test"):
            optional[f"split{i}_{part}"] = split[part]
    yield from ((name, array) for name, array in optional.items() if array is not None)


def _meta(clustered: ClusteredGraph) -> dict[str, Any]:
    graph = clustered.graph
    return {
        "format": FORMAT,
        "version": VERSION,
        "num_nodes": graph.num_nodes,
        "num_edges": graph.num_edges,
        "num_parts": clustered.num_parts,
        "num_features": graph.num_features,
        "num_classes": graph.num_classes,
        "task": graph.task,
        "metric": graph.metric,
        "y_level": graph.y_level,
        "symmetric": graph.adj.symmetric,
        "splits": list(graph.splits),
        "split": clustered.split,
        "method": clustered.method,
        "seed": clustered.seed,
        "name": graph.name,
        "source": graph.source,
    }


def _assemble(path: Path, meta: dict[str, Any], arrays: dict[str, Tensor]) -> ClusteredGraph:
    x: Tensor | CSR | None = arrays.get("x")
    if "x_indptr" in arrays:
        shape = (meta["num_nodes"], meta["num_features"])
        x = CSR(arrays["x_indptr"], arrays["x_indices"], arrays.get("x_values"), shape)
    splits = {
        name: Split(*(arrays[f"split{i}_{part}"] for part in ("train", "val", "test")))
        for i, name in enumerate(meta["splits"])
    }
    adj = Adjacency(
        arrays["indptr"],
        arrays["indices"],
        arrays.get("edge_weight"),
        symmetric=meta["symmetric"],
    )
    graph = Graph(
        adj=adj,
        x=x,
        y=arrays.get("y"),
        y_level=meta["y_level"],
        edge_attr=arrays.get("edge_attr"),
        splits=splits,
        node_ptr=arrays.get("node_ptr"),
        task=meta["task"],
        metric=meta["metric"],
        num_classes=meta["num_classes"],
        name=meta["name"],
        source=meta["source"],
    )
    return ClusteredGraph(
        graph=graph,
        node_id=arrays["node_id"],
        offsets=arrays["offsets"],
        train_ends=arrays["train_ends"],
        split=meta["split"],
        path=path,
        method=meta["method"],
        seed=meta["seed"],
    )


# --- files ------------------------------------------------------------------------------------


def _write_array(folder: Path, name: str, tensor: Tensor) -> dict[str, Any]:
    array = tensor.detach().numpy()
    digest = hashlib.blake2b(digest_size=16)
    file_path = folder / f"{name}.npy"
    with open(file_path, "wb") as file:
        header = np.lib.format.header_data_from_array_1_0(np.empty((0,), array.dtype))
        header["shape"] = array.shape
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        digest.update(file_path.read_bytes())
        flat = np.ascontiguousarray(array).reshape(-1)
        per_block = max(1, _BLOCK // array.itemsize)
        for start in range(0, flat.size, per_block):
            block = flat[start : start + per_block].tobytes()
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return {
        "file": file_path.name,
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "bytes": size,
        "checksum": digest.hexdigest(),
    }


def _open_array(folder: Path, about: dict[str, Any]) -> Tensor:
    path = folder / about["file"]
    try:
        size = path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path} is missing or unreadable: {error.strerror}") from error
    if size != about["bytes"]:
        raise StoreError(f"{path} has {size:,} bytes; {about['bytes']:,} were written: truncated?")
    shape, dtype = tuple(about["shape"]), np.dtype(about["dtype"])
    count = math.prod(shape)
    if not count:
        return torch.from_numpy(np.empty(shape, dtype))
    # The header is not parsed: where data start is known, and a damaged header would move it.
    # Mode "c": an in-place operation on a mode "r" map kills the process.
    start = size - count * dtype.itemsize
    return torch.from_numpy(np.asarray(np.memmap(path, dtype, "c", start, shape)))


def _read_meta(path: Path) -> dict[str, Any]:
    if not (path / "meta.json").is_file():
        raise StoreError(f"no gnnscale graph at {path}: meta.json is missing")
    meta = read_json(path / "meta.json")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise StoreError(f"{path} is not a gnnscale clustered graph")
    if meta.get("version") != VERSION:
        raise StoreError(
            f"{path} has format version {meta.get('version')}; this gnnscale reads {VERSION}. "
            "Write the graph anew"
        )
    if meta.get("checksum") != _meta_checksum(meta):
        raise StoreError(f"{path}/meta.json is damaged: its checksum differs")
    return meta


def _meta_checksum(meta: dict[str, Any]) -> str:
    content = {key: value for key, value in meta.items() if key != "checksum"}
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _file_checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise StoreError(f"{path} is missing or unreadable: {error.strerror}") from error
    return digest.hexdigest()


def _check_replaceable(path: Path) -> None:
    """Refuse a path where anything stands that no `write_store` put there."""
    if not path.exists():
        return
    if not path.is_dir():
        raise StoreError(f"{path} exists and is not a folder; choose another path")
    if path == Path.cwd():
        raise StoreError(f"{path} is the working directory; give the store a folder of its own")
    found = {entry.name for entry in path.iterdir()}
    if found and not is_store(path):
        raise StoreError(
            f"{path} exists and is no gnnscale store; choose another path or remove it"
        )
    foreign = sorted(name for name in found if name != "meta.json" and not name.endswith(".npy"))
    if foreign:
        raise StoreError(
            f"{path} is a gnnscale store that also holds {', '.join(foreign[:5])}; replacing it "
            "would delete that. Choose another path or move it away"
        )
