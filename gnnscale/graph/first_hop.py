"""First hops kept inside a store: P·X of a view, a folder each, beside the arrays of the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from gnnscale.graph.array_folder import open_arrays, read_meta, write_arrays
from gnnscale.kernels import CSR

FORMAT = "gnnscale-first-hop"
VERSION = 1
FOLDER = "first_hop"
_WHAT = "first hop of a gnnscale graph"


def first_hop_folders(store: Path) -> list[Path]:
    """The first hops that are kept in a store."""
    return sorted(meta.parent for meta in (store / FOLDER).glob("[!.]*/meta.json"))


def write_first_hop(folder: Path, hop: Tensor | CSR, about: dict[str, Any]) -> None:
    """Write P·X, `[nodes of the view, num_features]`, to a folder of its own.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    if isinstance(hop, CSR):
        assert hop.values is not None
        arrays = {"indptr": hop.indptr, "indices": hop.indices, "values": hop.values}
    else:
        arrays = {"x": hop}
    meta = {"format": FORMAT, "version": VERSION, "shape": list(hop.shape), **about}
    write_arrays(folder, meta, arrays, "the first hop")


def open_first_hop(folder: Path) -> Tensor | CSR:
    """Open what `write_first_hop` wrote, memory-mapped.

    Raises:
        StoreError: it is missing, of another format or version, damaged or truncated.
    """
    meta = read_first_hop_meta(folder)
    arrays = open_arrays(folder, meta)
    if "x" in arrays:
        return arrays["x"]
    rows, columns = meta["shape"]
    return CSR(arrays["indptr"], arrays["indices"], arrays["values"], (rows, columns))


def read_first_hop_meta(folder: Path) -> dict[str, Any]:
    """What is said of the arrays of a first hop.

    Raises:
        StoreError: it is missing, of another format or version, or damaged.
    """
    return read_meta(folder, FORMAT, VERSION, _WHAT)
