"""The on-disk format of a clustered graph. docs/reference/format.md describes it.

A folder of arrays (see `array_folder`), whose `meta.json` says what else a graph is. First hops
that were computed from it may be kept inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from gnnscale.errors import DamagedStore
from gnnscale.graph.graph import Graph
from gnnscale.graph.store import first_hops as first_hop
from gnnscale.graph.store.graph_folder import (
    check_replaceable,
    graph_bounds,
    graph_meta,
    has_format,
)
from gnnscale.storage.array_folder import damaged_files, open_arrays, read_meta
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


def read_store(path: Path, *, verify: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `meta.json` says of a store, and its arrays, memory-mapped; see `open_graph`."""
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
    prove(arrays["offsets"], arrays["train_ends"])
    return meta, arrays


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
