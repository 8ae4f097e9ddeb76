"""First hops kept inside a store: P·X of a view, a folder each, beside the arrays of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from gnnscale.kernels import CSR
from gnnscale.storage.array_folder import array_folder, open_arrays, read_meta, write_arrays
from gnnscale.storage.formats import Format
from gnnscale.storage.mapped import Bound, prove

FORMAT = Format(
    "gnnscale-first-hop",
    1,
    "first hop of a gnnscale graph",
    "remove its folder, and ClusterTrainer(…, precompute=True) computes it",
)
FOLDER = "first_hop"


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
    meta = {**FORMAT.stamp, **about}
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
    return read_meta(folder, FORMAT)
