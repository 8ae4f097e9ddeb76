"""``gnnscale.load``: a graph from its name.

=========================  =========================================================================
``wordnet``                a data set with a card (see :mod:`gnnscale.data.cards`)
``path/to/graph``          a folder or an ``.npz`` of arrays (see
                           :mod:`gnnscale.data.formats.array_graphs`), a folder with a card, or
                           a folder written by ``cluster`` or ``build_graph``. A bare name is
                           never a path: write ``./name``
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

from gnnscale.choices import choices_checked
from gnnscale.data.cards import (
    CARD_FILE,
    LEVELS,
    TASKS,
    Card,
    find_card,
    find_data,
    no_data,
    read_card,
    unknown_name,
)
from gnnscale.data.formats.array_graphs import graph_from_arrays, read_arrays
from gnnscale.data.ogb import is_ogb
from gnnscale.data.ogb.loading import load_ogb
from gnnscale.data.options import PREFIX, Option, as_query, read_bool, read_options
from gnnscale.data.preprocessing import preprocess
from gnnscale.data.pyg.catalogue import find_pyg, is_family, is_heterogeneous, members_of
from gnnscale.data.pyg.loading import load_pyg
from gnnscale.data.synthetic.named import load_synthetic
from gnnscale.errors import InputError
from gnnscale.graph import Graph, is_store, is_stored_graph, open_graph, open_stored_graph
from gnnscale.storage.files import checked_path, expanded


def read_steps(text: str) -> list[str]:
    """Read steps of preprocessing, as in "tf-idf,standardise"; "none" is no step."""
    return [] if text in ("none", "") else text.split(",")


OPTIONS = {
    "split": Option(str),
    "seed": Option(int, 0, least=0),
    "preprocessing": Option(read_steps),
    "undirected": Option(read_bool),
    "task": Option(str, choices=TASKS),
    "num_classes": Option(int, least=0),
    "metric": Option(str),
    "y_level": Option(str, choices=LEVELS),
}
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
        options: also in the name, as "graph.npz?split=60/20/20&seed=1". For arrays: ``split`` (the
            set to use by default, or percentages of a random one), ``seed`` of a random split,
            ``preprocessing`` (steps, "none" for none), ``undirected`` (each edge is stored once),
            ``task``, ``num_classes``, ``metric``, ``y_level``; where there is a card also ``data``,
            the path of its arrays. A generator has its own.

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
    base, query = _split_query(text)
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


def _split_query(text: str) -> tuple[str, str]:
    """Split "a.npz?seed=1"; a file whose name has a question mark is taken as it is."""
    if "?" not in text or os.path.exists(text):
        return text, ""
    base, _, query = text.partition("?")
    return base, query


def _is_path(base: str) -> bool:
    if is_ogb(base) or is_family(base):
        return base.endswith(".npz")
    return base != os.path.basename(base) or base.endswith(".npz") or base in ("", ".", "..")


def _load_path(path: Path, query: str, options: Mapping[str, object]) -> Graph:
    path = Path(os.path.abspath(expanded(path)))
    if os.path.isdir(path):
        if is_store(path):
            return _load_store(path, query, options)
        if is_stored_graph(path):
            read_options(f"graph {path}", query, options, {})
            return dataclasses.replace(open_stored_graph(path), source=str(path))
        if (path / CARD_FILE).is_file():
            return _load_card(read_card(path / CARD_FILE), query, options, None, None)
    if not os.path.exists(path):
        raise InputError(
            f"{path} does not exist or is not accessible; give a folder of arrays, an .npz or a "
            "store"
        )
    given = read_options(str(path), query, options, OPTIONS)
    return _from_arrays(path, given, {"name": path.stem}, str(path))


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
    graph = _from_arrays(path, given, defaults, name or str(card.path.resolve().parent))
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


def _from_arrays(
    path: Path, given: Mapping[str, object], defaults: Mapping[str, Any], source: str
) -> Graph:
    wanted = {**defaults, **given}
    wanted.pop("data", None)
    steps = wanted.pop("preprocessing", ())
    graph = graph_from_arrays(read_arrays(path), path, **wanted)
    if graph.x is not None:
        try:
            graph.x = preprocess(graph.x, steps, graph.train_mask)
        except InputError as error:
            raise InputError([f"{path}: {fault}" for fault in error.faults]) from error
    elif steps:
        raise InputError(f"{path}: preprocessing {', '.join(steps)}, but there are no features")
    graph.source = source + as_query(given)
    return graph


def _load_store(path: Path, query: str, options: Mapping[str, object]) -> Graph:
    read_options(f"store {path}", query, options, {})
    graph = open_graph(path).original()  # predictions are in the order that the user knows
    graph.source = str(path)
    return graph
