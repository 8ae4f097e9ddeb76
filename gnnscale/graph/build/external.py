"""Building a graph larger than memory: edges and features come piece by piece, straight to disk."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gnnscale.choices import choices_checked, whole_faults
from gnnscale.errors import InputError, StoreError
from gnnscale.graph.build.edge_arrays import edge_chunks
from gnnscale.graph.build.edge_sort import Edges, write_edges
from gnnscale.graph.graph import Graph
from gnnscale.graph.names import NodeNames
from gnnscale.graph.schema import Schema
from gnnscale.graph.store.graph_folder import (
    FORMAT,
    checked_graph_path,
    graph_arrays,
    graph_meta,
    open_stored_graph,
)
from gnnscale.graph.times import read_times
from gnnscale.storage.array_folder import ArrayFolder, array_folder
from gnnscale.storage.memory import memory_bytes

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 1 << 15


@choices_checked
def build_graph(
    path: str | Path,
    num_nodes: int,
    edges: str | Path | Iterable[Any],
    *,
    x: Iterable[Any] | None = None,
    y: Any = None,
    splits: Mapping[str, Mapping[str, Any]] | None = None,
    undirected: bool | Literal["unless given"] = True,
    coalesce: bool = False,
    memory: int | str = "512MB",
    task: str | None = None,
    metric: str | None = None,
    num_classes: int | None = None,
    name: str = "graph",
    source: str | None = None,
    names: NodeNames | None = None,
    schema: Schema | None = None,
    node_type: Any = None,
    node_time: Any = None,
) -> Graph:
    """Build a graph on disk from edges and features that come piece by piece, in bounded memory.

    Nothing whose size grows with the edges or the features is held, whatever their order. The
    folder appears when it is whole. Interrupted at any moment, it leaves nothing behind that is
    taken for a graph; called again, it starts anew.

    Args:
        path: the folder to write; a graph stored there is replaced, anything else there is refused.
        num_nodes: the number of nodes.
        edges: chunks `(source, target)`, `(source, target, weight)` or `(source, target, weight,
            time)` of integer ids `[k]`, float weights `[k]` (stored as float32; None for none) and
            times `[k]` (float64), of any size and in any order; one array `[2, num_edges]`; or the
            path of an `.npy` of that. Read before `x`.
        x: chunks `[k, num_features]` of features, float16, float32 or float64, in the order of the
            nodes; or one array of all, which may lie in a file.
        y: node labels, as for `Graph.from_arrays`.
        splits: `{"name": {"train": …, "val": …, "test": …}}`, each a mask or ids,
            as for `Graph.from_arrays`.
        undirected: each edge is given once; the reverse of every edge but self-loops is added. With
            False, edges are stored as given; with "unless given", also where they hold the reverse
            of every edge already, of its weight and time, which is seen in the same pass and
            logged.
        coalesce: merge parallel edges, adding their weights, or, of times, keeping the first; by
            default they are kept. An edge list that has both directions and `undirected=True` wants
            it.
        memory: what the sort may take, as "512MB" or a number of bytes. Labels, masks and, at the
            start, 16 bytes a node are in memory beside it.
        task: as for `Graph.from_arrays`.
        metric: as for `Graph.from_arrays`.
        num_classes: as for `Graph.from_arrays`.
        name: what to call it in reports.
        source: what `gnnscale.load` makes it from again; the folder when not given.
        names: what the nodes are called where the edges come from.
        schema: what classes and features are called there.
        node_type: integers `[num_nodes]` from 0 on, the kind of every node.
        node_time: numbers or dates `[num_nodes]`, when each node became known.

    Returns:
        The graph, memory-mapped. Columns ascend in every row, parallel edges by weight and time: of
        a node's self-loops, the last is the heaviest.

    Raises:
        InputError: an id is out of range, features are not finite or of another number, labels or
            masks are faulty.
        StoreError: the folder cannot be written, or the disk is full; edges or features cannot be
            read.
    """
    budget = memory_bytes(memory)
    if faults := whole_faults("num_nodes", num_nodes, 0, 2**40):
        raise InputError(faults)
    num_nodes = int(num_nodes)
    if names is not None and len(names) != num_nodes:
        raise InputError(f"names has {len(names):,} entries for {num_nodes:,} nodes")
    path = checked_graph_path(path)
    # All but edges and features is small enough to be checked at once, before the work starts.
    described = Graph.from_arrays(
        np.empty((2, 0), np.int64),
        y=y,
        num_nodes=num_nodes,
        node_type=node_type,
        node_time=node_time,
        splits=splits,
        task=task,
        metric=metric,
        num_classes=num_classes,
        name=name,
        source=str(path) if source is None else source,
    )
    described.names, described.schema = names, schema
    known = dict(graph_arrays(described))
    known_bytes = sum(array.numel() * array.element_size() for array in known.values())
    del known["indptr"], known["indices"]
    chunks = _given(edge_chunks(edges) if isinstance(edges, str | Path) else edges, "edges")
    with array_folder(path, "the graph", known_bytes) as folder:
        checked = (_checked_edges(chunk, i, num_nodes) for i, chunk in enumerate(chunks))
        written = write_edges(
            folder,
            num_nodes,
            checked,
            bool(undirected),
            coalesce,
            budget,
            unless_given=undirected == "unless given",
        )
        num_features = 0 if x is None else _write_features(folder, num_nodes, x)
        for key, array in known.items():
            folder.write(key, array)
        folder.meta = {
            **FORMAT.stamp,
            **graph_meta(described),
            "num_edges": written.num_edges,
            "num_features": num_features,
            "symmetric": written.symmetric,
        }
    if written.both_given:
        logger.info("%s: the edges hold the reverse of every edge, and none is added", name)
    return open_stored_graph(path)


def _given(chunks: Any, what: str) -> Iterator[Any]:
    """Chunks, or the only one. An error in making them is none of writing the graph."""
    try:
        yield from [chunks] if getattr(chunks, "ndim", 1) == 2 else chunks
    except OSError as error:
        raise StoreError(f"{what} cannot be read: {error}") from error


def _checked_edges(chunk: Sequence[object], number: int, num_nodes: int) -> Edges:
    try:
        if len(chunk) not in (2, 3, 4) or (len(chunk) == 4 and isinstance(chunk, np.ndarray)):
            raise ValueError(f"it has {len(chunk):,} rows")
        source, target = (np.asarray(part) for part in chunk[:2])
        rest = [None if part is None else np.asarray(part) for part in chunk[2:]]
    except (TypeError, ValueError) as error:
        raise InputError(f"chunk {number} of edges is no (source, target): {error}") from error
    weight, time = [*rest, None, None][:2]
    if source.ndim != 1 or source.shape != target.shape:
        shapes = [part.shape for part in (source, target, *rest) if part is not None]
        raise InputError(
            f"chunk {number} of edges has shapes {shapes}; it must be (source [k], target [k]), "
            "(source, target, weight [k]) or (source, target, weight, time [k])"
        )
    faults = []
    for what, ids in (("source", source), ("target", target)):
        if ids.size and ids.dtype.kind not in "iu":
            faults.append(f"chunk {number}: {what} ids are {ids.dtype}; they must be integers")
        elif ids.size and (int(ids.min()) < 0 or int(ids.max()) >= num_nodes):
            worst = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
            faults.append(
                f"chunk {number} of edges holds {what} id {worst}; with {num_nodes} nodes ids go "
                f"from 0 to {num_nodes - 1}"
            )
    if weight is not None and weight.shape != source.shape:
        faults.append(f"chunk {number} has {weight.shape} weights for {source.shape} edges")
    elif weight is not None and weight.dtype.kind not in "iuf":
        faults.append(f"chunk {number}: weights are {weight.dtype}; they must be numbers")
    elif weight is not None:
        with np.errstate(over="ignore"):  # what float32 does not hold is infinite, and refused
            weight = weight.astype(np.float32, copy=False)
        if not np.isfinite(weight).all():
            faults.append(f"chunk {number} of edges holds NaN or infinite weights (as float32)")
    if time is not None and (time.shape != source.shape or time.dtype.kind not in "iufM"):
        faults.append(
            f"chunk {number}: times are {time.dtype} {time.shape} for {source.shape} edges; they "
            "are numbers or dates, one each"
        )
    if faults:
        raise InputError(faults)
    when = None if time is None else read_times(time, "times").double().numpy()
    return source, target, weight, when


def _write_features(folder: ArrayFolder, num_nodes: int, x: Iterable[object]) -> int:
    """Write `x` block by block: the number of features."""
    blocks = _row_blocks(_given(x, "x"))
    first = next(blocks, None)
    if first is None:
        raise InputError(f"x has no chunks for {num_nodes} nodes; leave it out for no features")
    first = _checked_features(first, 0, None)
    done = 0
    folder.expect(num_nodes * first.shape[1] * first.itemsize)
    with folder.array("x", first.dtype, (num_nodes, first.shape[1])) as file:
        for block in itertools.chain([first], blocks):
            checked = _checked_features(block, done, first)
            done += len(checked)
            if done > num_nodes:
                break
            file.append(checked)
        if done != num_nodes:
            more = "more than " if done > num_nodes else ""
            raise InputError(f"x has {more}{min(done, num_nodes)} rows for {num_nodes} nodes")
    return int(first.shape[1])


def _row_blocks(chunks: Iterator[Any]) -> Iterator[Any]:
    """Chunks of features cut into some thousand rows: one may be all of a file."""
    for chunk in chunks:
        rows = len(chunk) if getattr(chunk, "ndim", 0) == 2 else 0
        for start in range(0, max(1, rows), _ROWS_AT_ONCE):
            yield chunk[start : start + _ROWS_AT_ONCE] if rows else chunk


def _checked_features(block: object, start: int, like: np.ndarray | None) -> np.ndarray:
    try:
        array = np.array(np.asarray(block), order="C")  # a copy: the caller may change his
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    except (TypeError, ValueError) as error:  # of torch's bfloat16, for one
        raise InputError(f"the chunk of x at row {start} is no array: {error}") from error
    if array.ndim != 2 or array.dtype.name not in ("float16", "float32", "float64"):
        raise InputError(
            f"a chunk of x is {array.dtype} {array.shape}; it must be floats [rows, num_features] "
            "of 16, 32 or 64 bits"
        )
    if like is not None and (array.shape[1] != like.shape[1] or array.dtype != like.dtype):
        raise InputError(
            f"the chunk of x at row {start} is {array.dtype} with {array.shape[1]} features; the "
            f"first is {like.dtype} with {like.shape[1]}"
        )
    finite = np.isfinite(array).all(1)
    if not finite.all():
        raise InputError(
            f"x holds NaN or infinite values in {int((~finite).sum())} rows, the first of them "
            f"{start + int(finite.argmin())}; clean or impute them"
        )
    return array
