"""A graph as a folder of arrays: what the files are, and what `meta.json` says besides.

A plain graph is stored by `build_graph`, a clustered one (see `store`) holds further arrays.
docs/reference/format.md describes both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gnnscale.choices import choices_checked
from gnnscale.errors import DamagedStore, StoreError
from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.graph import Graph
from gnnscale.graph.names import NodeNames
from gnnscale.graph.reading.nodes import PARTS, Split
from gnnscale.graph.schema import Schema
from gnnscale.graph.times import Cuts
from gnnscale.kernels import CSR
from gnnscale.storage.array_folder import damaged_files, open_arrays, read_meta, write_arrays
from gnnscale.storage.files import check_writable, checked_path, read_json
from gnnscale.storage.formats import Format
from gnnscale.storage.mapped import Bound, prove

FORMAT = Format(
    "gnnscale-graph",
    1,
    "gnnscale graph",
    "gnnscale.build_graph(…) or gnnscale.from_edge_list(…, path=…)",
)


def is_stored_graph(path: str | Path) -> bool:
    """Whether `path` is a folder that a graph was written to."""
    return has_format(path, FORMAT.name)


@choices_checked
def open_stored_graph(path: str | Path, *, verify: bool = False) -> Graph:
    """Open a graph written by `build_graph` or `store_graph`, memory-mapped.

    Its arrays are for reading: what is changed in place may be lost. Assign a changed copy instead.

    Args:
        path: the folder.
        verify: also read every byte and compare checksums.

    Raises:
        StoreError: it is missing, of another format or version, damaged or truncated.
    """
    path = checked_path(path).absolute()
    meta = _read_meta(path)
    arrays = open_arrays(path, meta, graph_bounds(meta))
    if verify:
        verify_stored_graph(path)
    return graph_of(meta, arrays)


def store_graph(graph: Graph, path: str | Path) -> Graph:
    """Write a graph to a folder, as `build_graph` does from pieces, and open it memory-mapped.

    Raises:
        StoreError: the folder cannot be written, holds something else, or the disk is full.
        InputError: an array has a type that cannot be stored.
    """
    path, meta = new_graph_folder(graph, path)
    write_arrays(path, meta, dict(graph_arrays(graph)), "the graph")
    return open_stored_graph(path)


def checked_graph_path(path: str | Path) -> Path:
    """Where a graph is to be written, resolved: asked before what is written is made.

    Raises:
        StoreError: something is there that no graph was, or nothing can be written there.
    """
    path = checked_path(path).resolve()
    check_replaceable(path, is_stored_graph, "graph")
    return path


def new_graph_folder(graph: Graph, path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Where a graph is to be written, resolved, and what its `meta.json` is to say.

    Raises:
        StoreError: something is there that no graph was.
    """
    return checked_graph_path(path), {**FORMAT.stamp, **graph_meta(graph)}


def verify_stored_graph(path: str | Path) -> None:
    """Read every byte of a stored graph and compare it with the checksums of `meta.json`.

    Raises:
        StoreError: naming every file that differs.
    """
    path = Path(path)
    if damaged := damaged_files(path, _read_meta(path)):
        raise DamagedStore(f"{path} is damaged: the checksum differs for {', '.join(damaged)}")


def _read_meta(path: Path) -> dict[str, Any]:
    return read_meta(path, FORMAT)


# --- shared by both formats -------------------------------------------------------------------


def graph_arrays(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    """The arrays of a graph, by the names of their files."""
    yield "indptr", graph.adj.indptr
    yield "indices", graph.adj.indices
    optional: dict[str, Tensor | None] = {
        **graph.carried,
        "edge_time": graph.edge_time,
        "node_time": graph.node_time,
        "y": graph.y,
        "node_ptr": graph.node_ptr,
    }
    if isinstance(graph.x, CSR):
        optional["x_indptr"], optional["x_indices"] = graph.x.indptr, graph.x.indices
        optional["x_values"] = graph.x.values
    else:
        optional["x"] = graph.x
    for i, split in enumerate(graph.splits.values()):
        for part in PARTS:
            optional[f"split{i}_{part}"] = split[part]
    yield from ((name, array) for name, array in optional.items() if array is not None)
    if graph.names is not None:
        yield from graph.names.arrays()


def graph_meta(graph: Graph) -> dict[str, Any]:
    """What is said of a graph besides its arrays."""
    return {
        "num_nodes": graph.num_nodes,
        "num_edges": graph.num_edges,
        "num_features": graph.num_features,
        "num_classes": graph.num_classes,
        "task": graph.task,
        "metric": graph.metric,
        "y_level": graph.y_level,
        "symmetric": graph.adj.symmetric,
        "splits": list(graph.splits),
        "name": graph.name,
        "source": graph.source,
        **({} if graph.schema is None else {"schema": graph.schema.to_json()}),
        **({"cuts": {k: list(v) for k, v in graph.cuts.items()}} if graph.cuts else {}),
    }


def graph_bounds(meta: dict[str, Any]) -> dict[str, Bound]:
    """What the whole numbers in the arrays of a graph lie within, by the names of their files."""
    nodes, arrays = meta["num_nodes"], meta["arrays"]
    bounds = {name: Bound(0, 2) for name, about in arrays.items() if about["dtype"] == "|b1"}
    bounds |= {
        "indptr": Bound(0, meta["num_edges"] + 1, ascending=True),
        "indices": Bound(0, nodes),
        "node_ptr": Bound(0, nodes + 1, ascending=True),
        "node_type": Bound(0, 1 << 31),
        "edge_type": Bound(0, 1 << 31),
    }
    if "x_indices" in arrays:
        entries = arrays["x_indices"]["shape"][0]
        bounds["x_indptr"] = Bound(0, entries + 1, ascending=True)
        bounds["x_indices"] = Bound(0, meta["num_features"])
    if "y" in arrays and np.dtype(arrays["y"]["dtype"]).kind == "i":
        classes = {"classification": meta["num_classes"], "multilabel": 2}.get(meta["task"])
        if classes is not None:
            bounds["y"] = Bound(-1, classes)
    return bounds


def graph_of(meta: dict[str, Any], arrays: dict[str, Tensor]) -> Graph:
    """The graph of these arrays."""
    x: Tensor | CSR | None = arrays.get("x")
    if "x_indptr" in arrays:
        shape = (meta["num_nodes"], meta["num_features"])
        x = CSR(arrays["x_indptr"], arrays["x_indices"], arrays.get("x_values"), shape)
        x.unproven = lambda: prove(arrays["x_indptr"], arrays["x_indices"])
    cuts = meta.get("cuts", {})
    splits = {
        name: Split(
            *(arrays[f"split{i}_{part}"] for part in PARTS),
            cuts=Cuts(*cuts[name]) if name in cuts else None,
        )
        for i, name in enumerate(meta["splits"])
    }
    adj = Adjacency(
        arrays["indptr"],
        arrays["indices"],
        arrays.get("edge_weight"),
        symmetric=meta["symmetric"],
    )
    adj.unproven = lambda: prove(arrays["indptr"], arrays["indices"])
    if "node_ptr" in arrays:
        prove(arrays["node_ptr"])
    return Graph(
        adj=adj,
        x=x,
        y=arrays.get("y"),
        y_level=meta["y_level"],
        edge_attr=arrays.get("edge_attr"),
        edge_type=arrays.get("edge_type"),
        node_type=arrays.get("node_type"),
        edge_time=arrays.get("edge_time"),
        node_time=arrays.get("node_time"),
        splits=splits,
        node_ptr=arrays.get("node_ptr"),
        task=meta["task"],
        metric=meta["metric"],
        num_classes=meta["num_classes"],
        name=meta["name"],
        source=meta["source"],
        names=NodeNames.from_arrays(arrays),
        schema=Schema.from_json(meta.get("schema")),
    )


def has_format(path: str | Path, form: str) -> bool:
    """Whether `path` is a folder whose `meta.json` names this format.

    Raises:
        StoreError: that cannot be read now.
    """
    meta = Path(path) / "meta.json"
    try:
        return os.path.exists(meta) and read_json(meta).get("format") == form
    except (DamagedStore, AttributeError):
        return False


def check_replaceable(
    path: Path, is_ours: Callable[[Path], bool], kind: str, also: tuple[str, ...] = ()
) -> None:
    """Refuse a path where anything stands that gnnscale did not put there.

    Args:
        path: where a folder is to be written.
        is_ours: whether a folder is of the kind that may be replaced.
        kind: what that is called.
        also: what such a folder may hold besides arrays and `meta.json`.

    Raises:
        StoreError: something else is there, or it cannot be written.
    """
    check_writable(path, f"the {kind} {path}")
    if not os.path.exists(path):
        return
    if not path.is_dir():
        raise StoreError(f"{path} exists and is not a folder; choose another path")
    if path == Path.cwd():
        raise StoreError(f"{path} is the working directory; give the {kind} a folder of its own")
    try:
        found = set(os.listdir(path))
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror}") from error
    if found and not is_ours(path):
        raise StoreError(
            f"{path} exists and is no gnnscale {kind}; choose another path or remove it"
        )
    foreign = sorted(name for name in found - {"meta.json", *also} if not name.endswith(".npy"))
    if foreign:
        raise StoreError(
            f"{path} is a gnnscale {kind} that also holds {', '.join(foreign[:5])}; replacing it "
            "would delete that. Choose another path or move it away"
        )
