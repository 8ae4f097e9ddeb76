"""The on-disk format of a clustered graph. docs/reference/format.md describes it.

A folder of arrays (see `array_folder`), whose `meta.json` says what else a graph is. First hops
that were computed from it may be kept inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from gnnscale.choices import choices_checked
from gnnscale.errors import DamagedStore
from gnnscale.graph.clustered import ClusteredGraph
from gnnscale.graph.graph import Graph
from gnnscale.graph.store import first_hops as first_hop
from gnnscale.graph.store.graph_folder import (
    check_replaceable,
    graph_arrays,
    graph_bounds,
    graph_meta,
    graph_of,
    has_format,
)
from gnnscale.storage.array_folder import damaged_files, open_arrays, read_meta, write_arrays
from gnnscale.storage.files import checked_path
from gnnscale.storage.formats import Format
from gnnscale.storage.mapped import Bound, prove

FORMAT = Format(
    "gnnscale-clustered-graph",
    1,
    "gnnscale clustered graph",
    "gnnscale.cluster(graph, partition, path=…) or `gnnscale partition … --out PATH`",
)


def is_store(path: str | Path) -> bool:
    """Whether `path` is a folder that a clustered graph was written to."""
    return has_format(path, FORMAT.name)


def store_checksum(path: str | Path) -> str:
    """The checksum over all that a store holds, out of its `meta.json`.

    Raises:
        StoreError: there is no store, or `meta.json` is damaged.
    """
    return _read_meta(Path(path))["checksum"]


def write_store(clustered: ClusteredGraph, path: str | Path) -> None:
    """Write a clustered graph to the folder `path`.

    Raises:
        StoreError: the folder cannot be written, holds something else, or the disk is full.
        InputError: an array has a type that cannot be stored.
    """
    about = clustered.num_parts, clustered.split, clustered.method, clustered.seed
    meta = store_meta(clustered.graph, *about)
    write_arrays(checked_store_path(path), meta, dict(_arrays(clustered)), "the graph")


@choices_checked
def open_graph(path: str | Path, *, verify: bool = False) -> ClusteredGraph:
    """Open a clustered graph written by `cluster(…, path=…)`, memory-mapped.

    Its arrays are for reading: what is changed in place may be lost. Assign a changed copy instead.

    Args:
        path: the folder.
        verify: also read every byte and compare checksums.

    Raises:
        StoreError: it is missing, of another format or version, damaged or truncated.
    """
    path = checked_path(path).absolute()
    meta = _read_meta(path)
    nodes = meta["num_nodes"]
    bounds = {
        **graph_bounds(meta),
        "node_id": Bound(0, nodes),
        "offsets": Bound(0, nodes + 1, ascending=True),
        "train_ends": Bound(0, nodes + 1, ascending=True),
    }
    arrays = open_arrays(path, meta, bounds)
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
        raise DamagedStore(f"{path} is damaged: the checksum differs for {', '.join(damaged)}")


# --- the layout -------------------------------------------------------------------------------


def _arrays(clustered: ClusteredGraph) -> Iterator[tuple[str, Tensor]]:
    yield from graph_arrays(clustered.graph)
    yield "node_id", clustered.node_id
    yield "offsets", clustered.offsets
    yield "train_ends", clustered.train_ends


def store_meta(graph: Graph, num_parts: int, split: str, method: str, seed: int) -> dict[str, Any]:
    """What `meta.json` says of a clustered graph besides its arrays."""
    return {
        **FORMAT.stamp,
        **graph_meta(graph),
        "num_parts": num_parts,
        "split": split,
        "method": method,
        "seed": seed,
    }


def _assemble(path: Path, meta: dict[str, Any], arrays: dict[str, Tensor]) -> ClusteredGraph:
    prove(arrays["offsets"], arrays["train_ends"])
    return ClusteredGraph(
        graph=graph_of(meta, arrays),
        node_id=arrays["node_id"],
        offsets=arrays["offsets"],
        train_ends=arrays["train_ends"],
        split=meta["split"],
        path=path,
        method=meta["method"],
        seed=meta["seed"],
    )


def _read_meta(path: Path) -> dict[str, Any]:
    return read_meta(path, FORMAT)


def checked_store_path(path: str | Path) -> Path:
    """Where a store is to be written, resolved.

    Raises:
        StoreError: something is there that no store was.
    """
    path = checked_path(path).resolve()
    check_replaceable(path, is_store, "store", (first_hop.FOLDER,))
    return path
