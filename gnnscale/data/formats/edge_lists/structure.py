"""Graphs that are edges alone, read in a stream from a file that may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gnnscale.data.kept import built_or_kept
from gnnscale.data.options import Option, read_bool
from gnnscale.errors import InputError
from gnnscale.graph import Graph, build_graph
from gnnscale.graph.names import NodeNames

OPTIONS: Mapping[str, Option] = {
    "undirected": Option(read_bool),
    "coalesce": Option(read_bool, False),
    "memory": Option(str, "512MB"),
}
"""What may be said of a file of edges."""
_VERSION = 3


def graph_of_edges(
    path: Path,
    given: Mapping[str, Any],
    num_nodes: int,
    chunks: Callable[[], Iterable[tuple[np.ndarray | None, ...]]],
    *,
    undirected: bool | Literal["unless given"],
    names: Callable[[], NodeNames] | None = None,
    node_type: Callable[[], np.ndarray] | None = None,
) -> Graph:
    """Build the graph, in memory or, where it is large, on disk, where it is found again.

    Args:
        path: the file of edges, for which the graph is kept and named.
        given: what `OPTIONS` names.
        num_nodes: the number of nodes.
        chunks: gives chunks as `build_graph` takes them.
        undirected: what the file says, where nothing is given.
        names: gives what the nodes are called.
        node_type: gives the kind of every node.
    """

    def build(folder: Path, source: str) -> Graph:
        return build_graph(
            folder,
            num_nodes,
            chunks(),
            undirected=given.get("undirected", undirected),
            coalesce=given.get("coalesce", False),
            memory=given.get("memory", "512MB"),
            name=path.name.removeprefix("out.").split(".")[0],
            source=source,
            names=None if names is None else names(),
            node_type=None if node_type is None else node_type(),
        )

    depends_on = {"edges": path, **{key: given[key] for key in given if key != "memory"}}
    try:
        return built_or_kept(path.name.split(".")[0], depends_on, _VERSION, build)
    except MemoryError as error:
        raise InputError(
            f"{path} says that it has {num_nodes:,} nodes, for which there is no memory"
        ) from error
