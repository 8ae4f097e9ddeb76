"""What is said of a file that no format recognises: what it is, and what to do instead."""

from __future__ import annotations

import contextlib
from pathlib import Path

from gnnscale.data.formats import seen
from gnnscale.data.formats.registry import list_formats
from gnnscale.data.tables.files import read_bytes
from gnnscale.data.unread import NO_CODE, TO_TABLES, UNPACK, not_read, unread_kind
from gnnscale.errors import InputError

_NAMES = {
    ".xlsx": ("an Excel workbook", TO_TABLES),
    ".xls": ("an Excel workbook", TO_TABLES),
    ".ods": ("a spreadsheet", TO_TABLES),
    ".pkl": ("a pickle", NO_CODE),
    ".pickle": ("a pickle", NO_CODE),
    ".gpickle": ("a pickle", NO_CODE),
    ".joblib": ("a pickle", NO_CODE),
    ".tar": ("an archive", UNPACK),
    ".tgz": ("an archive", UNPACK),
    ".zip": ("a zip archive", UNPACK),
    ".rar": ("an archive", UNPACK),
    ".nt": ("a list of triples", "knowledge graphs are read from tables: " + TO_TABLES),
    ".ttl": ("a list of triples", "knowledge graphs are read from tables: " + TO_TABLES),
    ".rdf": ("a list of triples", "knowledge graphs are read from tables: " + TO_TABLES),
    ".dot": (
        "a drawing of Graphviz",
        "read it with networkx.nx_pydot.read_dot and Graph.from_networkx",
    ),
    ".safetensors": (
        "a file of tensors",
        "give its arrays to Graph.from_arrays, or save them with numpy.savez(path, edge_index=…)",
    ),
}


def unrecognised(path: Path) -> InputError:
    """The error for a path that exists and is of no format.

    Raises:
        StoreError: it is packed, and damaged.
    """
    if path.is_dir():
        names = sorted(seen.files(path))
        inside = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        has = f"holds {inside}" if names else "is an empty folder"
        return InputError(
            f"{path} {has}: no format is known by that. {_listed()} Of tables in it, write "
            "gnnscale.from_edge_list(edges, features=nodes)"
        )
    first = seen.head(path)
    if path.stat().st_size == 0:
        return InputError(f"{path} is empty")
    if not first:
        with contextlib.suppress(InputError):  # of a zip of several files
            next(read_bytes(path, 1), b"")
    known = unread_kind(first) or _NAMES.get(seen.kind(path)) or _NAMES.get(path.suffix.lower())
    if known is None and first.startswith(b"PK\x03\x04"):
        known = ("a zip archive", UNPACK)
    if known is None and first.lstrip()[:1] in (b"{", b"["):
        known = ("JSON of no known layout", TO_TABLES)
    if known is not None:
        return not_read(path, *known)
    text = b"\x00" not in first
    table = "format='edges' reads it as a table of edges. " if text else ""
    return InputError(
        f"{path} is of no format that is known by its name or content. {table}{_listed()}"
    )


def _listed() -> str:
    return f"`gnnscale formats` lists the {len(list_formats())} that are read."
