"""Large graphs out of files of arrays: built on disk in a stream, kept, and opened later on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats.array_graphs import graph_from_arrays
from gnnscale.data.kept import built_or_kept
from gnnscale.errors import InputError
from gnnscale.graph import Graph, build_graph
from gnnscale.graph.reading.nodes import PARTS

logger = logging.getLogger(__name__)

LARGE = 1 << 30
"""Bytes of files above which their graph is not read to memory."""
VERSION = 1
"""Raised when the same files give another graph: what is kept is then built anew."""


def streamed(
    path: Path,
    given: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    edges: Iterable[tuple[np.ndarray, ...]],
    x: Iterable[np.ndarray] | None = None,
) -> Graph:
    """Build a graph on disk, and keep it there where it is large, see `built_or_kept`.

    Args:
        path: the file, or of a folder the one with the edges.
        given: options, as for `graph_of`.
        arrays: all but edges and features, as `graph_from_arrays` takes them.
        edges: chunks of source, target and perhaps weight, as for `build_graph`.
        x: blocks of features in the order of the nodes.

    Raises:
        InputError: arrays, options, edges or features are faulty.
        StoreError: the disk is full.
    """
    options = {"name": path.stem, **given}
    steps = options.pop("preprocessing", ())
    if steps:
        raise InputError(
            f"{path}: preprocessing {', '.join(steps)} wants features in memory, and this graph is "
            f"built on disk, being larger than {LARGE:,} bytes: leave it out"
        )
    undirected = bool(options.pop("undirected", False))

    def build(folder: Path, source: str) -> Graph:
        logger.info("reading %s to disk, once", path)
        # All but edges and features is small enough to be read as of any other graph.
        known = {**arrays, "edge_index": np.empty((2, 0), np.int64)}
        described = graph_from_arrays(known, path, undirected=False, **options)
        return build_graph(
            folder,
            described.num_nodes,
            edges,
            x=x,
            y=described.y,
            splits={
                name: {part: split[part] for part in PARTS}
                for name, split in described.splits.items()
            },
            undirected=undirected,
            task=described.task,
            metric=described.metric,
            num_classes=described.num_classes,
            name=str(options["name"]),
            source=source,
        )

    arguments = {"path": path, "given": given, "arrays": arrays}
    try:
        return built_or_kept(path.stem, arguments, VERSION, build)
    except InputError as error:
        if any(str(path) in fault for fault in error.faults):
            raise
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error


def row_blocks(rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Where blocks of some 16 MB begin and end."""
    most = max(1, (1 << 24) // max(1, row_bytes))
    for start in range(0, rows, most):
        yield start, min(start + most, rows)
