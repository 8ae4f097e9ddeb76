"""``gnnscale.load``: a graph from its name.

=========================  =========================================================================
``wordnet``                a data set with a card (see :mod:`gnnscale.data.cards`)
``path/to/graph``          a file or folder of a format that ``gnnscale formats`` lists (see
                           :mod:`gnnscale.data.formats.registry`), or a folder with a card. A bare
                           name is never a path: write ``./name``
``ogbn-arxiv``             a data set of the Open Graph Benchmark (see
                           :func:`gnnscale.data.ogb.loading.load_ogb`)
``planetoid/cora``         a data set that PyTorch Geometric reads (see
                           :func:`gnnscale.data.pyg.loading.load_pyg`)
``synthetic:planted?...``  a generator (see :mod:`gnnscale.data.synthetic.named`), ``amazon2m`` for
                           graphs of any size on disk (see :mod:`gnnscale.data.synthetic.amazon`)
=========================  =========================================================================
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from gnnscale.choices import choices_checked
from gnnscale.data.cards import (
    CARD_FILE,
    Card,
    find_card,
    find_data,
    no_data,
    read_card,
    unknown_name,
)
from gnnscale.data.formats.array_graphs import read_arrays
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.refused import unrecognised
from gnnscale.data.formats.registry import OPTIONS, find_format
from gnnscale.data.ogb import is_ogb
from gnnscale.data.ogb.loading import load_ogb
from gnnscale.data.options import PREFIX, Option, as_query, read_options, read_texts, split_query
from gnnscale.data.pyg.catalogue import find_pyg, is_family, is_heterogeneous, members_of
from gnnscale.data.pyg.loading import load_pyg
from gnnscale.data.synthetic.named import load_synthetic
from gnnscale.data.tables.files import is_pattern
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import Graph, is_store, is_stored_graph
from gnnscale.storage.files import checked_path, expanded

CARD_OPTIONS = {**OPTIONS, "data": Option(os.path.abspath)}
PYG_OPTIONS = {key: CARD_OPTIONS[key] for key in ("split", "seed", "preprocessing", "task", "data")}


@choices_checked
def load(
    name: str | os.PathLike[str],
    root: str | Path | None = None,
    download: bool = False,
    **options: Any,
) -> Graph:
    """Load a graph by the name of its data set, a path, or a generator with options.

    Args:
        name: "wordnet", "ogbn-arxiv", "path/to/graph", "graph.npz", "synthetic:planted?nodes=1000".
        root: a folder of data sets with cards, or of data whose cards are shipped; searched first.
            For OGB's, a folder as ogb's own ``root``.
        download: fetch the data where they are not on this machine; without it, nothing ever is.
        options: also in the name, as "graph.npz?split=60/20/20&seed=1". ``format`` says of a path
            which format it is of. For arrays: ``split`` (the set to use by default, or percentages
            of a random one), ``seed`` of a random split, ``preprocessing`` (steps, "none" for
            none), ``undirected`` (each edge is stored once), ``task``, ``num_classes``, ``metric``,
            ``y_level``; where there is a card also ``data``, the path of its arrays. A table of
            edges takes the arguments of ``from_edge_list``. A generator has its own.

    Returns:
        The graph; its ``source`` loads it again in another process.

    Raises:
        InputError: no such data set or option, or faulty arrays; says what there is.
        StoreError: a file is missing, damaged or truncated.

    Example:
        >>> graph = load("synthetic:planted?nodes=1000&classes=4")
        >>> graph.num_nodes, graph.num_classes
        (1000, 4)
    """
    text = str(checked_path(name)) if not isinstance(name, str) else name
    if text.startswith(PREFIX):
        return load_synthetic(text, options)
    base, query = split_query(text)
    if _is_path(base) or not isinstance(name, str):
        return _load_path(Path(base), query, options)
    if is_ogb(base):
        return load_ogb(text, root, download, **options)
    entry = find_pyg(base)
    card = find_card(base if entry is None else entry.name, root)
    if entry is not None and (card is None or find_data(card, root) is None):
        given = read_options(f"data set {entry.name}", query, options, PYG_OPTIONS)
        return load_pyg(entry, root, download, given)
    if card is None:
        if is_heterogeneous(base) and not os.path.exists(base):
            raise InputError(
                f"{base!r} has several kinds of nodes or edges; gnnscale trains on one kind: make "
                "it one with torch_geometric's HeteroData.to_homogeneous and Graph.from_data"
            )
        if is_family(base) and not os.path.exists(base):
            raise InputError(
                f"there is no data set {base!r}; there are {', '.join(members_of(base))}"
            )
        if base != os.path.basename(base):
            return _load_path(Path(base), query, options)
        raise unknown_name(base, root)
    return _load_card(card, query, options, root, base if root is None else None)


def _is_path(base: str) -> bool:
    if is_ogb(base) or is_family(base):
        return base.endswith(".npz")
    return base != os.path.basename(base) or base.endswith(".npz") or base in ("", ".", "..")


def _load_path(path: Path, query: str, options: Mapping[str, object]) -> Graph:
    path = Path(os.path.abspath(expanded(path)))
    if not os.path.exists(path) and not is_pattern(path):  # a pattern is of part files
        raise InputError(
            f"{path} does not exist or is not accessible; `gnnscale formats` lists the files and "
            "folders that are read"
        )
    if (path / CARD_FILE).is_file() and not is_store(path) and not is_stored_graph(path):
        return _load_card(read_card(path / CARD_FILE), query, options, None, None)
    asked, query, options = _asked_format(query, options)
    found = find_format(path, asked if os.path.exists(path) else asked or "edges")
    if found is None:
        raise unrecognised(path)
    if found.options is None:
        given = {**read_texts(str(path), query), **options}
        plain = all(isinstance(value, str | bool | int | float) for value in given.values())
    else:
        given, plain = read_options(str(path), query, options, found.options), True
    try:
        graph = found.read(path, given)
    except (GnnscaleError, MemoryError):
        raise
    except Exception as error:
        if asked is None or found.recognises(path):
            raise  # a bug: what looks like a format is read, or refused by name
        raise InputError(
            f"{path} is not read as {asked}, which looks like {found.looks}: {error!r}"
        ) from error
    if plain:
        chosen = {} if asked is None else {"format": asked}
        graph = dataclasses.replace(graph, source=str(path) + as_query({**given, **chosen}))
    return graph


def _asked_format(
    query: str, options: Mapping[str, object]
) -> tuple[str | None, str, Mapping[str, object]]:
    """The format that is said by name, and what is left of query and options."""
    rest = {key: value for key, value in options.items() if key != "format"}
    asked = None if (word := options.get("format")) is None else str(word)
    kept = []
    for pair in query.split("&") if query else []:
        key, _, value = pair.partition("=")
        if key == "format":
            asked = unquote_plus(value)
        else:
            kept.append(pair)
    return asked, "&".join(kept), rest


def _load_card(
    card: Card,
    query: str,
    options: Mapping[str, object],
    root: str | Path | None,
    name: str | None,
) -> Graph:
    given = read_options(f"data set {card.name}", query, options, CARD_OPTIONS)
    path = Path(given["data"]) if "data" in given else find_data(card, root)
    if path is None:
        raise no_data(card, root)
    if name is None and path != card.data_path:  # not found again without the root
        given["data"] = str(path)
    defaults = {
        "name": card.name,
        "task": card.task,
        "metric": card.metric,
        "undirected": card.undirected,
        "y_level": card.y_level,
        "split": card.default_split,
        "num_classes": card.num_classes,
        "preprocessing": card.preprocessing,
    }
    told = {key: value for key, value in given.items() if key != "data"}
    graph = graph_of(read_arrays(path), path, told, defaults)
    graph.source = (name or str(card.path.resolve().parent)) + as_query(given)
    counted = {
        "num_nodes": graph.num_nodes,
        "num_features": graph.num_features,
        "num_classes": graph.num_classes,
    }
    faults = [
        f"{card.path}: field {field!r} is {getattr(card, field)}, but {path} has {count}"
        for field, count in counted.items()
        if getattr(card, field) != count
    ]
    if faults:
        raise InputError(faults)
    return graph
