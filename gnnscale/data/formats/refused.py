"""What is said of a file that no format recognises: what it is, and what to do instead."""

from __future__ import annotations

from pathlib import Path

from gnnscale.data.formats import seen
from gnnscale.data.formats.registry import list_formats
from gnnscale.errors import InputError

_TABLE = "save its tables as CSV or Parquet and give them to gnnscale.from_edge_list"
_PACKED = "unpack it, and give the folder or file that was in it"
_CODE = (
    "a pickle runs what is written in it when it is loaded, so gnnscale loads none. Where the "
    "graph was made, save its arrays: numpy.savez(path, edge_index=…, x=…, y=…)"
)
_MAGIC = (
    (b"PK\x03\x04", "a zip archive", _PACKED),
    (b"7z\xbc\xaf", "a 7z archive", _PACKED),
    (b"SQLite format 3\x00", "an SQLite database", _TABLE),
    (
        b"\x89HDF\r\n",
        "an HDF5 file",
        "read its arrays with h5py and give them to Graph.from_arrays",
    ),
    (
        b"MATLAB 5.0",
        "a MATLAB file",
        "read it with scipy.io.loadmat and give its arrays to Graph.from_arrays",
    ),
    (b"%PDF", "a PDF", "give the data"),
    (b"<!DOCTYPE html", "a web page", "download the file itself: this is the page about it"),
    (b"<html", "a web page", "download the file itself: this is the page about it"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
)
_NAMES = {
    ".xlsx": ("an Excel workbook", _TABLE),
    ".xls": ("an Excel workbook", _TABLE),
    ".ods": ("a spreadsheet", _TABLE),
    ".pkl": ("a pickle", _CODE),
    ".pickle": ("a pickle", _CODE),
    ".gpickle": ("a pickle", _CODE),
    ".joblib": ("a pickle", _CODE),
    ".tar": ("an archive", _PACKED),
    ".tgz": ("an archive", _PACKED),
    ".zip": ("a zip archive", _PACKED),
    ".rar": ("an archive", _PACKED),
    ".nt": ("a list of triples", "knowledge graphs are read from tables: " + _TABLE),
    ".ttl": ("a list of triples", "knowledge graphs are read from tables: " + _TABLE),
    ".rdf": ("a list of triples", "knowledge graphs are read from tables: " + _TABLE),
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
    """The error for a path that exists and is of no format."""
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
    for magic, what, remedy in _MAGIC:
        if first.lstrip()[: len(magic)].lower() == magic.lower():
            return InputError(f"{path} is {what}, which is not read: {remedy}")
    known = _NAMES.get(seen.kind(path))
    if known is None and first[:1] == b"\x80" and first[1:2] in b"\x02\x03\x04\x05":
        known = ("a pickle", _CODE)
    if known is None and first.lstrip()[:1] in (b"{", b"["):
        known = ("JSON of no known layout", _TABLE)
    if known is not None:
        return InputError(f"{path} is {known[0]}, which is not read: {known[1]}")
    text = b"\x00" not in first
    table = "format='edges' reads it as a table of edges. " if text else ""
    return InputError(
        f"{path} is of no format that is known by its name or content. {table}{_listed()}"
    )


def _listed() -> str:
    return f"`gnnscale formats` lists the {len(list_formats())} that are read."
