"""The on-disk format of a clustered graph. docs/reference/format.md describes it.

A folder of arrays (see `array_folder`), whose `meta.json` says what else a graph is. First hops
that were computed from it may be kept inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from gnnscale.errors import DamagedStore
from gnnscale.graph.graph import Graph
from gnnscale.graph.store.graph_folder import (
    check_replaceable,
    graph_bounds,
    graph_meta,
    has_format,
)
from gnnscale.kernels import CSR
from gnnscale.storage.array_folder import (
    array_folder,
    damaged_files,
    open_arrays,
    read_meta,
    write_arrays,
)
from gnnscale.storage.files import checked_path
from gnnscale.storage.formats import Format
from gnnscale.storage.mapped import Bound, prove

FORMAT = Format(
    "gnnscale-clustered-graph",
    1,
    "gnnscale clustered graph",
    "gnnscale.cluster(graph, partition, path=…) or `gnnscale partition … --out PATH`",
)
FIRST_HOP = Format(
    "gnnscale-first-hop",
    1,
    "first hop of a gnnscale graph",
    "remove its folder, and ClusterTrainer(…, precompute=True) computes it",
)
FOLDER = "first_hop"


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
    for folder in first_hop_folders(path):
        names = damaged_files(folder, read_first_hop_meta(folder))
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
    check_replaceable(path, is_store, "store", (FOLDER,))
    return path


def first_hop_folders(store: Path) -> list[Path]:
    """The first hops that are kept in a store."""
    return sorted(meta.parent for meta in (store / FOLDER).glob("[!.]*/meta.json"))


def write_first_hop(
    folder: Path, hop: CSR | Iterator[Tensor], num_nodes: int, about: dict[str, Any]
) -> None:
    """Write P·X, `[nodes of the view, num_features]`, to a folder of its own.

    Args:
        folder: the folder.
        hop: P·X where it is sparse, else its rows in chunks.
        num_nodes: nodes of the view.
        about: what is to be said of it.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    meta = {**FIRST_HOP.stamp, **about}
    if isinstance(hop, CSR):
        assert hop.values is not None
        arrays = {"indptr": hop.indptr, "indices": hop.indices, "values": hop.values}
        write_arrays(folder, {**meta, "shape": list(hop.shape)}, arrays, "the first hop")
        return
    first = next(hop)
    shape = (num_nodes, first.size(1))
    needed = num_nodes * first.size(1) * first.element_size()
    with array_folder(folder, "the first hop", needed) as written:
        with written.array("x", first.numpy().dtype, shape) as file:
            for rows in chain([first], hop):
                file.append(rows.numpy())
        written.meta = {**meta, "shape": list(shape)}


def open_first_hop(folder: Path) -> Tensor | CSR:
    """Open what `write_first_hop` wrote, memory-mapped.

    Raises:
        StoreError: it is missing, of another format or version, damaged or truncated.
    """
    meta = read_first_hop_meta(folder)
    rows, columns = meta["shape"]
    bounds = {}
    if "indices" in meta["arrays"]:
        entries = meta["arrays"]["indices"]["shape"][0]
        bounds = {"indptr": Bound(0, entries + 1, ascending=True), "indices": Bound(0, columns)}
    arrays = open_arrays(folder, meta, bounds)
    if "x" in arrays:
        return arrays["x"]
    hop = CSR(arrays["indptr"], arrays["indices"], arrays["values"], (rows, columns))
    hop.unproven = lambda: prove(arrays["indptr"], arrays["indices"])
    return hop


def read_first_hop_meta(folder: Path) -> dict[str, Any]:
    """What is said of the arrays of a first hop.

    Raises:
        StoreError: it is missing, of another format or version, or damaged.
    """
    return read_meta(folder, FIRST_HOP)
