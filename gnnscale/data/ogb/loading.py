"""``load("ogbn-arxiv")``: a data set of the Open Graph Benchmark, converted once, then opened."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from gnnscale.data.kept import open_kept
from gnnscale.data.ogb.catalogue import OGBEntry, find_entry
from gnnscale.data.ogb.graphs import read_graphs
from gnnscale.data.ogb.node import OPTIONS, build_node_set
from gnnscale.data.ogb.places import (
    Place,
    fetch_archive,
    find_place,
    make_root,
    not_found,
    place_at,
    remove_download,
    without_damaged_download,
)
from gnnscale.data.ogb.raw import open_raw
from gnnscale.data.options import Option, as_query, read_options
from gnnscale.errors import StoreError
from gnnscale.graph import Graph
from gnnscale.graph.store.graph_folder import store_graph
from gnnscale.storage.files import cache_root

logger = logging.getLogger(__name__)

#: Raised when the same raw data give another graph: graphs in the cache are then made anew.
VERSION = 1


def load_ogb(
    name: str, root: str | Path | None = None, download: bool = False, **options: Any
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
