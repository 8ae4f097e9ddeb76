"""``load("planetoid/cora")``: a data set that PyTorch Geometric reads, as the papers use it.

PyG reads its raw files and keeps what it makes of them in its own folders, which are used as they
are. What of it is large is kept as a graph of ours too, so that PyG reads it once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gnnscale.data.cards import ROOT_VARIABLE, Card, find_card
from gnnscale.data.formats.array_graphs import graph_from_arrays
from gnnscale.data.kept import open_kept
from gnnscale.data.options import as_query
from gnnscale.data.preprocessing import preprocess
from gnnscale.data.pyg.catalogue import PyGEntry
from gnnscale.data.pyg.reading import read_pyg
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph, store_graph
from gnnscale.kernels import CSR
from gnnscale.storage.files import cache_root, checked_path, expanded

logger = logging.getLogger(__name__)

#: Raised when the same files give another graph: what is stored is then made anew.
VERSION = 1
LARGE = 256 << 20
"""Bytes of a graph above which it is kept on disk and opened memory-mapped."""


def load_pyg(
    entry: PyGEntry,
    root: str | Path | None,
    download: bool,
    given: Mapping[str, object],
) -> Graph:
    """Load a data set of PyG.

    Its files are looked for in ``root``, in the folder that GNNSCALE_DATASETS names and in
    ``$GNNSCALE_CACHE/pyg``: there as PyG lays them out (``Planetoid/Cora/raw``), and in ``root``
    also as where it was PyG's own ``root=`` (``Cora/raw``).

    Args:
        entry: which.
        root: a folder, or None.
        download: let PyG fetch what is nowhere, to ``root`` or to the cache.
        given: options: ``split``, ``seed`` and ``preprocessing`` as for arrays, and ``data``,
            PyG's own root folder.

    Returns:
        The graph, memory-mapped where it takes more than `LARGE` bytes.

    Raises:
        StoreError: files are nowhere (says what to place where) or damaged, or cannot be fetched.
        InputError: the options do not fit the data set.
    """
    card = find_card(entry.name, root)
    options = {key: value for key, value in given.items() if key != "data"}
    folder = checked_path(given["data"]) if "data" in given else _find(entry, root)
    place = _default_place(entry, root) if folder is None else folder
    source = dict(options)
    if "data" in given or (root is not None and place not in _places(entry, None)):
        source["data"] = str(place)
    text = entry.name + as_query(source)
    wanted = _wanted(entry, card) | options
    stored = open_kept(_store_path(entry, place, wanted))
    if stored is not None:
        stored.source = text
        return stored
    sparse = "standardise" not in wanted["preprocessing"]  # which makes zeros others
    with _explained(entry, place, root):
        member = _spelled(entry, place)
        arrays = read_pyg(entry, member, place, download=download, sparse=sparse)
    graph = _graph(card, arrays, place, wanted)
    graph.source = text
    if _bytes(graph) <= LARGE:
        return graph
    path = _store_path(entry, place, wanted)
    logger.info("%s is kept at %s", entry.name, path)
    return store_graph(graph, path)


def _wanted(entry: PyGEntry, card: Card | None) -> dict[str, Any]:
    if card is None:
        return {"name": entry.name, "preprocessing": ()}
    return {
        "name": entry.name,
        "task": card.task,
        "metric": card.metric,
        "y_level": card.y_level,
        "split": card.default_split,
        "num_classes": card.num_classes,
        "preprocessing": card.preprocessing,
    }


def _graph(card: Card | None, arrays: dict[str, Any], place: Path, wanted: dict[str, Any]) -> Graph:
    steps, arguments = wanted["preprocessing"], {**wanted}
    del arguments["preprocessing"]
    graph = graph_from_arrays(arrays, place, **arguments)
    if card is not None:
        counted = {
            "num_nodes": graph.num_nodes,
            "num_features": graph.num_features,
            "num_classes": graph.num_classes,
        }
        if faults := [
            f"{card.path}: field {field!r} is {getattr(card, field)}, but {place} has {count}"
            for field, count in counted.items()
            if getattr(card, field) != count
        ]:
            raise InputError(faults)
    if graph.x is not None:
        graph.x = preprocess(graph.x, steps, graph.train_mask)
    return graph


# --- where the files are ----------------------------------------------------------------------


def _places(entry: PyGEntry, root: str | Path | None) -> list[Path]:
    """The folders that may be PyG's own ``root=``, in order."""
    places = []
    if root is not None:
        given = expanded(root).absolute()
        places += [given / entry.class_name, given]
    if variable := os.environ.get(ROOT_VARIABLE):
        places.append(expanded(variable).absolute() / entry.class_name)
    return [*places, cache_root() / "pyg" / entry.class_name]


def _find(entry: PyGEntry, root: str | Path | None) -> Path | None:
    return next((place for place in _places(entry, root) if _files(entry, place)), None)


def _default_place(entry: PyGEntry, root: str | Path | None) -> Path:
    places = _places(entry, root)
    return places[0] if root is not None else places[-1]


def _spelled(entry: PyGEntry, place: Path) -> str | None:
    """The name as whoever made the folder wrote it: PyG's folder is called so."""
    if entry.member is None or not place.is_dir():
        return entry.member
    names = [path.name for path in place.iterdir() if path.is_dir()]
    if entry.member in names or entry.class_name != "Planetoid":
        return entry.member  # the other classes bring names to one form
    return next((name for name in names if name.lower() == entry.member.lower()), entry.member)


def _files(entry: PyGEntry, place: Path) -> list[Path]:
    """PyG's files of a data set: raw ones and those it has processed."""
    folder = place / (_spelled(entry, place) or "")
    found = [path for part in ("raw", "processed") for path in sorted((folder / part).rglob("*"))]
    return [path for path in found if path.is_file()]


@contextlib.contextmanager
def _explained(entry: PyGEntry, place: Path, root: str | Path | None) -> Iterator[None]:
    """Say of PyG's errors, which are of any kind, what to do."""
    folder = place / (_spelled(entry, place) or "")
    try:
        yield
    except FileNotFoundError as error:
        looked = ", ".join(map(str, _places(entry, root)))
        raise StoreError(
            f"the data of {entry.name!r} are not on this machine: {error}. "
            f"load({entry.name!r}, download=True) lets PyG fetch them. Or place them in "
            f"{folder / 'raw'}; or give root=, a folder in which PyG has left them. Looked in: "
            f"{looked}"
        ) from error
    except (MemoryError, StoreError, InputError):
        raise
    except Exception as error:
        raise StoreError(
            f"PyG could not fetch or read {entry.name!r} in {folder}: {type(error).__name__}: "
            f"{error}. Without a network, place the files in {folder / 'raw'}; where they are "
            f"damaged, remove them and {folder / 'processed'}, and load again"
        ) from error


# --- what is kept -----------------------------------------------------------------------------


def _store_path(entry: PyGEntry, place: Path, wanted: Mapping[str, object]) -> Path:
    """Where the graph is kept: by name, options and version, and by the files it is made of."""
    files = [path for path in _files(entry, place) if path.suffix == ".pt"]
    about = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    content = {"version": VERSION, "wanted": dict(wanted), "files": about}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    return cache_root() / "graphs" / f"{entry.name.replace('/', '-')}-{digest}"


def _bytes(graph: Graph) -> int:
    x = graph.x
    features = (x.indices, x.values) if isinstance(x, CSR) else (x,)
    arrays = (graph.adj.indptr, graph.adj.indices, *graph.carried.values(), graph.y)
    return sum(a.numel() * a.element_size() for a in (*arrays, *features) if a is not None)
