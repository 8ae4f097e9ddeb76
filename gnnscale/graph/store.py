"""The on-disk format of a clustered graph. docs/format.md describes it.

A folder of arrays (see `array_folder`), whose `meta.json` says what else a graph is. First hops
that were computed from it may be kept inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from gnnscale.errors import StoreError
from gnnscale.graph import first_hop
from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.array_folder import damaged_files, open_arrays, read_meta, write_arrays
from gnnscale.graph.clustered import ClusteredGraph
from gnnscale.graph.files import checked_path, read_json
from gnnscale.graph.graph import Graph, Split
from gnnscale.kernels import CSR

FORMAT = "gnnscale-clustered-graph"
VERSION = 1


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
    path = checked_path(path).resolve()
    _check_replaceable(path)
    write_arrays(path, _meta(clustered), dict(_arrays(clustered)), "the graph")


def open_graph(path: str | Path, *, verify: bool = False) -> ClusteredGraph:
    """Open a clustered graph written by `cluster(…, path=…)`, memory-mapped.

    Args:
        path: the folder.
        verify: also read every byte and compare checksums.

    Raises:
        StoreError: it is missing, of another format or version, damaged or truncated.
    """
    path = checked_path(path).absolute()
    meta = _read_meta(path)
    arrays = open_arrays(path, meta)
    if verify:
        verify_store(path)
    return _assemble(path, meta, arrays)


def verify_store(path: str | Path) -> None:
    """Read every byte of a store and compare it with the checksums of `meta.json`.

    Raises:
        StoreError: naming every file that differs.
    """
    path = Path(path)
    damaged = damaged_files(path, _read_meta(path))
    for folder in first_hop.first_hop_folders(path):
        names = damaged_files(folder, first_hop.read_first_hop_meta(folder))
        damaged += [f"{folder.relative_to(path)}/{name}" for name in names]
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


def _read_meta(path: Path) -> dict[str, Any]:
    return read_meta(path, FORMAT, VERSION, "gnnscale clustered graph")


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
    ours = {"meta.json", first_hop.FOLDER}
    foreign = sorted(name for name in found - ours if not name.endswith(".npy"))
    if foreign:
        raise StoreError(
            f"{path} is a gnnscale store that also holds {', '.join(foreign[:5])}; replacing it "
            "would delete that. Choose another path or move it away"
        )
