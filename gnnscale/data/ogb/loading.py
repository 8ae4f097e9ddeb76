"""``load("ogbn-arxiv")``: a data set of the Open Graph Benchmark, converted once, then opened."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnnscale.data.cards import ROOT_VARIABLE, find_card
from gnnscale.data.kept import open_kept
from gnnscale.data.ogb.catalogue import OGBEntry, find_entry
from gnnscale.data.ogb.graphs import read_graphs
from gnnscale.data.ogb.node import OPTIONS, build_node_set
from gnnscale.data.ogb.raw import open_raw
from gnnscale.data.options import Option, as_query, read_options
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.graph.store.graph_folder import store_graph
from gnnscale.storage.files import cache_root, expanded, read_json, write_json

logger = logging.getLogger(__name__)

#: Raised when the same raw data give another graph: graphs in the cache are then made anew.
VERSION = 1
# What reading a damaged archive raises, and a full disk does not.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError)


def load_ogb(
    name: str, root: str | Path | None = None, download: bool = False, **options: object
) -> Graph:
    """Load a data set of the Open Graph Benchmark (Hu et al., 2020, arXiv 2005.00687).

    Raw data are looked for in ``root``, in the folder that GNNSCALE_DATASETS names and in
    ``$GNNSCALE_CACHE/ogb``: the folder that ogb makes (``ogbn_arxiv``) or the archive as it is on
    OGB's server (``arxiv.zip``). They are read in a stream, never changed, and what is made of them
    is kept in ``$GNNSCALE_CACHE/graphs``, for the next time; it is made anew when raw files change.

    Args:
        name: "ogbn-arxiv", "ogbg-molhiv", ...; "ogbn-mag-cites" is the part of ogbn-mag that is
            papers citing papers, which has no leaderboard. Options also as
            "ogbn-arxiv?undirected=false".
        root: a folder as ogb's own ``root``.
        download: fetch the archive where there are no raw data: to ``root``, where it is kept, or
            without one to the cache, where it is removed once the graph is stored. Never asks.
        options: ``data``, the path of the raw folder or archive itself; for node-level sets
            ``undirected``, false for edges as the raw files have them.

    Returns:
        The graph, memory-mapped, with OGB's own split, which has OGB's name for it.

    Raises:
        InputError: there is no such data set or option, or it is of a kind that gnnscale does not
            train on.
        StoreError: raw data are nowhere (says what to place where), damaged or incomplete, cannot
            be fetched, or the disk is full. Nothing half-made is left.
        MissingDependency: ogb is not installed, whose list of data sets is read.
    """
    base, _, query = name.partition("?")
    entry = find_entry(base)
    valid = OPTIONS if entry.level == "node" else {}
    given = read_options(
        f"data set {base}", query, options, {**valid, "data": Option(os.path.abspath)}
    )
    wanted = {key: option.default for key, option in valid.items()} | given
    data = wanted.pop("data", None)
    if download and root is not None:
        make_root(root)
    place = find_place(entry, root) if data is None else place_at(data)
    stored = None if place is None else open_kept(_store_path(entry, place, wanted))
    if stored is None and (place is None or place.path is None):
        if not download:
            raise not_found(entry, root)
        place = fetch_archive(entry, root)
        stored = open_kept(_store_path(entry, place, wanted))
    assert place is not None
    if data is None and not place.found_by_name:
        given["data"] = str(place.path)
    source = base + as_query(given)
    if stored is not None:
        stored.source = source
        return stored
    assert place.path is not None
    path = _store_path(entry, place, wanted)
    logger.info("reading %s from %s, once, to %s", entry.name, place.path, path)
    try:
        with open_raw(place.path) as raw:
            if entry.level == "node":
                graph = build_node_set(entry, raw, path, wanted["undirected"], source)
            else:
                graph = read_graphs(entry, raw, path.parent)
                graph.source = source
                graph = store_graph(graph, path)
    except StoreError as error:
        raise without_damaged_download(place, error) from error
    remove_download(place)
    return graph


def _store_path(entry: OGBEntry, place: Place, options: dict[str, Any]) -> Path:
    """Where the graph is kept: by name, version and options, and by the raw files it is made of."""
    content = {
        "format": VERSION,
        "version": entry.version,
        "options": options,
        "files": place.stamp,
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    return cache_root() / "graphs" / f"{entry.name}-{digest}"


@dataclass(frozen=True)
class Place:
    """Where raw data are, or were.

    Attributes:
        path: the folder or the archive; None where it is gone and only the note of it is left.
        stamp: names, sizes and times of the files, which tell one version from another.
        found_by_name: whether the same name finds it again without ``root``.
        ours: whether gnnscale downloaded it to its own cache, as a note beside it says: one that
            was placed there by hand is not ours to remove.
    """

    path: Path | None
    stamp: list[Any]
    found_by_name: bool
    ours: bool


def find_place(entry: OGBEntry, root: str | Path | None = None) -> Place | None:
    """Look for raw data in ``root``, in what GNNSCALE_DATASETS names, and in the cache.

    Raises:
        InputError: ``root``, or what GNNSCALE_DATASETS names, is not a folder.
    """
    for folder, by_name in _folders(root):
        for path in _candidates(entry, folder):
            if path.is_file() or _has_entries(path / "raw"):
                stamp = stamp_of(path)
                ours = path == _download_path(entry) and stamp == _noted(entry)
                return Place(path, stamp, by_name, ours)
    noted = _noted(entry)
    return None if noted is None else Place(None, noted, True, True)


def place_at(path: str | Path) -> Place:
    """The raw data at a path: a folder that holds ``raw/`` and ``split/``, or an archive.

    Raises:
        StoreError: there is neither.
    """
    path = expanded(path).absolute()
    if not path.is_file() and not (path / "raw").is_dir():
        raise StoreError(f"{path} is neither an archive of OGB's nor a folder that has raw/")
    return Place(path, stamp_of(path), found_by_name=False, ours=False)


def fetch_archive(entry: OGBEntry, root: str | Path | None = None) -> Place:
    """Fetch the archive: to ``root`` where it is given, else to the cache.

    Raises:
        StoreError: it cannot be fetched or written; says what to place where by hand.
    """
    from gnnscale.data.download import fetch  # requests and what it needs, for this alone

    target = _download_path(entry)
    if root is not None:
        target = expanded(root).absolute() / entry.archive
    fetch(entry.url, target)
    place = Place(target, stamp_of(target), root is None, ours=root is None)
    if place.ours:
        try:
            write_json(_note_path(entry), {"stamp": place.stamp})
        except StoreError as error:  # it is whole, and used; only nobody removes it
            logger.warning("%s is kept: %s", target, error)
    return place


def remove_download(place: Place) -> None:
    """Remove an archive that gnnscale downloaded to its cache; the note of its stamp stays."""
    if not place.ours or place.path is None:
        return
    try:
        place.path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("could not remove %s, which is needed no more: %s", place.path, error)


def make_root(root: str | Path) -> None:
    """Make the folder that is to be downloaded to.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        expanded(root).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"could not make root={os.fspath(root)!r}: {error.strerror}") from error


def without_damaged_download(place: Place, error: StoreError) -> StoreError:
    """The error to raise where a graph could not be built; an archive to blame for it is removed.

    One that gnnscale downloaded itself, and that is damaged, would stand in the way of another.
    """
    if not place.ours or place.path is None or not isinstance(error.__cause__, _DAMAGE):
        return error
    place.path.unlink(missing_ok=True)
    place.path.with_name(f"{place.path.name}.json").unlink(missing_ok=True)
    return StoreError(f"{error}. It is removed: load it once more with download=True")


def not_found(entry: OGBEntry, root: str | Path | None = None) -> StoreError:
    """The error for raw data that are nowhere: what to fetch, from where, and where to put it."""
    card = find_card(entry.name)
    size = f" ({card.download})" if card is not None and card.download else ""
    looked = ", ".join(str(folder) for folder, _ in _folders(root))
    return StoreError(
        f"the data of {entry.name!r} are not on this machine. load({entry.name!r}, download=True) "
        f"fetches {entry.url}{size}. Or fetch that by hand and place {entry.archive}, or the "
        f"folder {entry.folders[0]} that ogb makes of it (with raw/ and split/), in a folder named "
        f"by root= or {ROOT_VARIABLE}, or in {cache_root() / 'ogb'}. Looked in: {looked}"
    )


def stamp_of(path: Path) -> list[Any]:
    """Names, sizes and times of an archive, or of what is in the folders ``raw`` and ``split``."""
    if path.is_file():
        return [_stamp(path, path.name)]
    files = [file for part in ("raw", "split") for file in sorted((path / part).rglob("*"))]
    return [_stamp(f, f.relative_to(path).as_posix()) for f in files if f.is_file()]


def _stamp(file: Path, name: str) -> list[Any]:
    about = file.stat()
    return [name, about.st_size, about.st_mtime_ns]


def _folders(root: str | Path | None) -> list[tuple[Path, bool]]:
    """The folders that are searched, and whether a name alone leads there."""
    found = []
    variable = os.environ.get(ROOT_VARIABLE) or None
    for label, given in (("root", root), (ROOT_VARIABLE, variable)):
        if given is not None:
            folder = expanded(given)
            if not folder.is_dir():
                raise InputError(f"{label}={os.fspath(given)!r} is not a folder of data sets")
            found.append((folder.absolute(), label != "root"))
    return [*found, (cache_root() / "ogb", True)]


def _candidates(entry: OGBEntry, folder: Path) -> list[Path]:
    below = [folder / name for name in (*entry.folders, entry.archive)]
    return [folder, *below] if folder.name in entry.folders else below


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())  # ogb leaves an empty one where it is stopped


def _download_path(entry: OGBEntry) -> Path:
    return cache_root() / "ogb" / entry.archive


def _note_path(entry: OGBEntry) -> Path:
    archive = _download_path(entry)
    return archive.with_name(f"{archive.name}.json")


def _noted(entry: OGBEntry) -> list[Any] | None:
    """The stamp of the archive that gnnscale downloaded to its cache last; None without one."""
    try:
        stamp = read_json(_note_path(entry))["stamp"]
    except (StoreError, KeyError, TypeError):
        return None
    return stamp if isinstance(stamp, list) else None
