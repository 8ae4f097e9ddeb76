"""From the name of a data set to its graph, its card and what to call it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnnscale.cli.console import err, line, said
from gnnscale.cli.reading import are_tables
from gnnscale.data.cards import CARD_FILE, Card, find_card, read_card
from gnnscale.data.options import split_query
from gnnscale.errors import InputError

if TYPE_CHECKING:
    from gnnscale.graph import ClusteredGraph, Graph

_ARRAYS = ".npz"


def base_name(dataset: str) -> str:
    """What stands before the options: "a.npz?seed=1" is "a.npz"."""
    return split_query(dataset)[0]


def is_path(dataset: str) -> bool:
    """Whether this is read as a path; as in `gnnscale.load`, a bare name never is."""
    base = base_name(dataset)
    return base != os.path.basename(base) or base.endswith(_ARRAYS) or base in (".", "..")


def card_of(dataset: str) -> Card | None:
    """The card of a data set, where it has one.

    Raises:
        InputError: the card is malformed.
    """
    if dataset.startswith("synthetic:"):
        return None
    base = base_name(dataset)
    if (card := find_card(base)) is not None or not is_path(dataset):
        return card
    beside = Path(os.path.expanduser(base)) / CARD_FILE
    return read_card(beside) if beside.is_file() else None


def open_data(
    dataset: str, download: bool = False, task: str = "auto", **told: Any
) -> Graph | ClusteredGraph:
    """The graph; a stored one as it is stored, with its clusters.

    Args:
        dataset: a name or a path.
        download: fetch it where it is not on this machine.
        task: what the labels are read for.
        told: further options of `gnnscale.load`.

    Raises:
        InputError: there is no such data set, or it is faulty.
        StoreError: a file is missing or damaged, or could not be fetched.
    """
    from gnnscale.data import load
    from gnnscale.graph import is_store, open_graph
    from gnnscale.train.arguments import as_data

    # A download has a bar of its own.
    with contextlib.nullcontext() if download else err.status(f"loading {dataset}"):
        path = Path(os.path.expanduser(dataset))
        if is_path(dataset) and is_store(path):
            return as_data(open_graph(path), task)
        asked = {"task": task} if task != "auto" and _reads_labels(dataset) else {}
        graph = load(dataset, download=download, **asked, **told)
        if graph.schema is not None and are_tables(dataset, ()):
            for column in graph.schema.columns:
                line(said(column))
        return as_data(graph, task)


def _reads_labels(dataset: str) -> bool:
    """Whether the data are arrays without a card, whose labels are read when they are loaded."""
    from gnnscale.graph import is_stored_graph

    if dataset != base_name(dataset) or card_of(dataset) is not None:
        return False  # it may say task= itself
    return is_path(dataset) and not is_stored_graph(Path(os.path.expanduser(dataset)))


def open_to_train(
    dataset: str, download: bool, arguments: Iterable[str], task: str = "auto"
) -> tuple[Graph | ClusteredGraph, Graph]:
    """The data, see `open_data`, and their graph, which is told of.

    Raises:
        InputError: of the trainer's arguments some are of the partition, and the graph is stored in
            clusters; or it has no labels, or no training nodes.
    """
    from gnnscale.graph import Graph

    data = open_data(dataset, download, task)
    fixed = sorted({"method", "balance"} & set(arguments))
    if fixed and not isinstance(data, Graph):
        names = " and ".join(f"--{name}" for name in fixed)
        raise InputError(f"{dataset} is stored in clusters: {names} would change nothing")
    graph = data if isinstance(data, Graph) else data.graph
    line(graph)
    if faults := lacking(graph, dataset):
        raise InputError(faults)
    return data, graph


def perhaps_labels(graph: Graph) -> str:
    """The columns that may be labels, in words; "" where none is seen to be."""
    may_be = () if graph.schema is None else graph.schema.may_be_labels
    return f", perhaps {' or '.join(may_be)}" if may_be else ""


def lacking(graph: Graph, dataset: str) -> list[str]:
    """What a graph lacks to be trained on or evaluated, with the option that gives it.

    Args:
        graph: with its splits.
        dataset: the name or path it was opened by.
    """
    tables, path = are_tables(dataset, ()), Path(os.path.expanduser(base_name(dataset)))
    kept = path.is_dir() and is_path(dataset) and (path / "meta.json").is_file()
    again = "" if tables or not kept else "gnnscale import EDGES NODES … --out FOLDER, with "
    if graph.y is None:
        if tables and not split_query(dataset)[1]:
            return [
                f"{graph.name} has no labels to learn: give them with a table of nodes, EDGES "
                "NODES --labels COLUMN, or in a file, --labels FILE"
            ]
        if tables or kept:
            hint = f"--labels COLUMN names them{perhaps_labels(graph)}"
            return [f"{graph.name} has no labels to learn: {again}{hint}"]
        return [f"{graph.name} has no labels to learn"]
    if any(bool(split.train.any()) for split in graph.splits.values()):
        return []
    unit = "graphs" if graph.y_level == "graph" else "nodes"
    how = "--split 60/20/20 draws them, and validation and test " + unit
    if tables:
        how += (
            "; --split COLUMN or --split FILE has them written, --split time:60/20/20 goes by time"
        )
    elif _is_clustered(path):
        how = (
            "clusters are laid out by them, so store it anew: gnnscale partition --dataset "
            "NAME|PATH --split 60/20/20 --num-parts N --out FOLDER"
        )
    return [f"{graph.name} has no training {unit}: {how}"]


def _is_clustered(path: Path) -> bool:
    from gnnscale.graph import is_store

    return is_store(path)


@contextlib.contextmanager
def in_original_order(data: Graph | ClusteredGraph, features: bool) -> Iterator[Graph]:
    """The graph with its nodes as the user numbers them, in memory only where it was.

    Args:
        data: what `open_data` gave.
        features: whether node features and edge attributes are wanted.

    Raises:
        StoreError: there is no room on the disk for a stored graph in that order.
    """
    from gnnscale.graph import Graph
    from gnnscale.storage.memory import scratch_folder

    if isinstance(data, Graph):
        yield data
        return
    if not features:
        bare = dataclasses.replace(
            data.graph, x=None, edge_attr=None, edge_type=None, node_type=None
        )
        data = dataclasses.replace(data, graph=bare)
    with scratch_folder("gnnscale-original-", data.graph.adj.indices) as folder:
        with err.status("bringing its nodes into their original order"):
            graph = data.original(folder / "graph")
        yield graph


def short_name(dataset: str) -> str:
    """A name for files: "cora" for "./data/cora.npz"; signs that shells read become dashes."""
    name = dataset
    if is_path(dataset):
        base = Path(os.path.expanduser(base_name(dataset))).resolve()
        name = base.name.removesuffix(_ARRAYS) + dataset[len(base_name(dataset)) :]
        if are_tables(dataset, ()):
            name = base.name.partition(".")[0]  # what is said of tables would be no name
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "graph"
