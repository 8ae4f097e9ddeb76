"""The formats of files and folders that ``gnnscale.load`` reads, and which one a path is of.

A format is told by name and content together, before anything is read; where two would do, neither
is taken. A module of formats names them in ``FORMATS``, and is itself named in `_HOMES`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnnscale.data.cards import LEVELS, TASKS
from gnnscale.data.options import Option, read_bool
from gnnscale.errors import InputError

if TYPE_CHECKING:
    from gnnscale.graph import Graph

_HOMES = (
    "gnnscale.data.formats.own",
    "gnnscale.data.formats.dgl.saved",
    "gnnscale.data.formats.dgl.csv_dataset",
    "gnnscale.data.formats.dgl.on_disk",
    "gnnscale.data.ogb.own",
    "gnnscale.data.ogb.folder",
    "gnnscale.data.formats.graphsage",
    "gnnscale.data.formats.graphstorm",
    "gnnscale.data.formats.jsonl",
    "gnnscale.data.formats.edge_lists.edges",
    "gnnscale.data.formats.edge_lists.snap_konect",
    "gnnscale.data.formats.edge_lists.matrix_market",
    "gnnscale.data.formats.edge_lists.metis",
    "gnnscale.data.formats.edge_lists.dimacs",
    "gnnscale.data.formats.npz_layouts",
    "gnnscale.data.formats.attributed.networkx_files",
    "gnnscale.data.formats.attributed.pajek",
    "gnnscale.data.pyg.files",
    "gnnscale.data.formats.citation",
    "gnnscale.data.formats.tu",
)
"""Modules with a tuple ``FORMATS``, in the order of the table that people see."""


def read_steps(text: str) -> list[str]:
    """Read steps of preprocessing, as in "tf-idf,standardise"; "none" is no step."""
    return [] if text in ("none", "") else text.split(",")


OPTIONS: Mapping[str, Option] = {
    "split": Option(str),
    "seed": Option(int, 0, least=0),
    "preprocessing": Option(read_steps),
    "undirected": Option(read_bool),
    "task": Option(str, choices=TASKS),
    "num_classes": Option(int, least=0),
    "metric": Option(str),
    "y_level": Option(str, choices=LEVELS),
}
"""What may be said of a graph that is read into arrays, in a query or by keyword."""


@dataclass(frozen=True)
class Format:
    """A format of files or folders.

    Attributes:
        name: what ``format=`` calls it: one short word.
        what: what it is, in a line.
        looks: names of its files, as people know them, as "x.mtx, x.mtx.gz" with stars.
        recognises: whether a path that exists is of it, cheaply: by its name, the first bytes, the
            keys of an archive, the files in a folder. Raises nothing.
        read: makes the graph of a path and its options; ``source`` is set afterwards.
        options: what may be given, each read from text; None where any keyword is, as it is.
        streams: it is read in bounded memory, however large it is.
        needs: the extra that brings what reads it, or None.
        documented: where its layout is described.
        general: it is thought of only where no other format recognises the path.
    """

    name: str
    what: str
    looks: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Mapping[str, Any]], Graph]
    options: Mapping[str, Option] | None = field(default_factory=lambda: OPTIONS)
    streams: bool = False
    needs: str | None = None
    documented: str = ""
    general: bool = False


def list_formats() -> tuple[Format, ...]:
    """All formats, in the order of the table that people see."""
    return tuple(made for home in _HOMES for made in importlib.import_module(home).FORMATS)


def find_format(path: Path, asked: str | None = None) -> Format | None:
    """The format of a path that exists; None where no format recognises it.

    Args:
        path: a file or folder.
        asked: the name of a format, which is then not looked for.

    Raises:
        InputError: there is no format called so, or the path may be of several.
    """
    known = list_formats()
    if asked is not None:
        names = [made.name for made in known]
        for made in known:
            if made.name == asked.lower():
                return made
        close = difflib.get_close_matches(asked.lower(), names, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise InputError(f"no format is called {asked!r}. {hint}There are: {', '.join(names)}")
    for general in (False, True):
        found = [made for made in known if made.general is general and made.recognises(path)]
        if len(found) > 1:
            ways = " or ".join(f"format={made.name!r} ({made.what})" for made in found)
            raise InputError(f"{path} may be read in {len(found)} ways; say which: {ways}")
        if found:
            return found[0]
    return None
