"""New nodes and edges for a graph, read as its own were, in one space of numbers with these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnnscale.data.new_features import placed, read_new_features
from gnnscale.data.tables.given import Tables
from gnnscale.data.tables.node_ids import Integers, NodeIds, Numbers, Texts, as_text
from gnnscale.data.tables.node_table import NodeArray, NodeTable
from gnnscale.data.tables.values.classes import read_label_columns
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, NodeNames
from gnnscale.graph.store.growth import Addition
from gnnscale.kernels import CSR
from gnnscale.storage.arrow import compute, pyarrow


def read_addition(
    clustered: ClusteredGraph,
    tables: Tables,
    matrix: CSR | None,
    own: Mapping[str, Any],
    joins: str | None,
    undirected: bool | None,
    budget: int,
    scratch: Path,
) -> Addition:
    """What comes to a graph, by the original ids of its nodes; new ones are numbered behind.

    Args:
        clustered: the graph.
        tables: of new edges and nodes.
        matrix: features of the new nodes, where they are sparse.
        own: `edge_attr`, `edge_type` and `node_type` of what is new, or None.
        joins: see `gnnscale.append`.
        undirected: see there.
        budget: bytes that ids may take.
        scratch: a folder.

    Raises:
        InputError: an id is there already, or of no node; or columns, features or values are not
            as the graph's.
    """
    graph = clustered.graph
    rows = tables.rows
    names = None if graph.names is None else graph.names.take(clustered.position)
    ids, order = _ids(graph, names, tables, rows, budget)
    new = ids.num_nodes - graph.num_nodes
    x = read_new_features(graph, tables, rows, matrix, scratch, new)
    y, known = _labels(graph, rows, new)
    chunks = list(tables.numbering.numbered(ids, "refuse"))
    source, target = (
        np.concatenate([np.empty(0, np.int64), *(chunk[k] for chunk in chunks)]) for k in (0, 1)
    )
    times = [time for *_, time in chunks if time is not None and tables.edges.clock is not None]
    when = np.concatenate(times) if times else None
    of_rows = rows.row_times() if isinstance(rows, NodeTable) else None
    of_edges = {
        "edge_weight": _weights(graph, chunks, source.size),
        "edge_attr": _values(graph, "edge_attr", own, source.size),
        "edge_type": _values(graph, "edge_type", own, source.size),
        "edge_time": _times(graph.edge_time, when, source.size, "edges"),
    }
    of_nodes = {
        "node_type": _values(graph, "node_type", own, new),
        "node_time": _times(graph.node_time, of_rows, new, "nodes"),
    }
    along = {name: values for name, values in of_edges.items() if values is not None}
    if graph.adj.symmetric if undirected is None else undirected:
        one_way = source != target
        along = {name: np.concatenate([own, own[one_way]]) for name, own in along.items()}
        source, target = (
            np.concatenate([source, target[one_way]]),
            np.concatenate([target, source[one_way]]),
        )
    called = None
    if names is not None:
        assert ids.names is not None
        called = ids.names.take(torch.arange(graph.num_nodes, ids.num_nodes))
    return Addition(
        new,
        source,
        target,
        along,
        {name: values[order] for name, values in of_nodes.items() if values is not None},
        placed(x, order),
        None if y is None else y[order],
        called,
        joins,
        known[order],
    )


def _ids(
    graph: Graph,
    names: NodeNames | None,
    tables: Tables,
    rows: NodeTable | NodeArray | None,
    budget: int,
) -> tuple[NodeIds, np.ndarray]:
    """Whose each id is, old nodes first, and the row of each new node."""
    count, text = graph.num_nodes, names is not None and names.ids is None
    new: Any
    if isinstance(rows, NodeTable) and rows.id is not None:
        found = rows.node_ids(text, budget // 4)
        if isinstance(found, Numbers):
            new = np.arange(found.num_nodes) if rows.order is None else rows.order
        else:
            assert found.names is not None
            new = found.names.to_arrow() if text else found.names.to_arrow().to_numpy()
    elif rows is not None:
        if names is not None:
            raise InputError(
                f"{rows.what}: there is no column of ids, by which the nodes of "
                f"{graph.name} are called; name it, id="
            )
        new = count + np.arange(rows.num_rows)
    else:
        new = _named_by_edges(graph, names, tables)
    order = np.arange(len(new))
    if names is None:
        order = np.argsort(new)
        if not np.array_equal(new[order], count + np.arange(len(new))):
            raise InputError(
                f"the nodes of {graph.name} are called by their numbers, 0 to {count - 1:,}: give "
                f"new ones the numbers {count:,} to {count + len(new) - 1:,}, each once"
            )
        return Numbers(count + len(new), f"{graph.name} with the new nodes"), order
    known = names.to_arrow()
    again = compute.is_in(pyarrow.array(new).cast(known.type), value_set=known)
    if (already := compute.sum(again).as_py() or 0) > 0:
        first = pyarrow.array(new).filter(again)[0].as_py()
        raise InputError(
            f"{already:,} of {len(new):,} nodes are in {graph.name} already, {first!r} first: give "
            "rows of new nodes alone"
        )
    if text:
        return Texts(pyarrow.concat_arrays([known, as_text(new)])), order
    return Integers(np.concatenate([known.to_numpy(), new]), budget // 4), order


def _named_by_edges(graph: Graph, names: NodeNames | None, tables: Tables) -> Any:
    """The ids of edges that no node has: those of new ones, where nodes have no features."""
    text = names is not None and names.ids is None
    ends = [pyarrow.array(end) for chunk in tables.edges.chunks(text) for end in chunk[:2]]
    kind = pyarrow.large_string() if text else pyarrow.int64()
    found = compute.unique(pyarrow.chunked_array(ends, kind))
    known = pyarrow.array(np.arange(graph.num_nodes)) if names is None else names.to_arrow()
    new = found.filter(compute.invert(compute.is_in(found, value_set=known.cast(kind))))
    if len(new) and graph.x is not None:
        raise InputError(
            f"the edges name {len(new):,} nodes that {graph.name} does not have, "
            f"{new[0].as_py()!r} first: give a table of them, nodes=, with their features"
        )
    new = new.take(compute.sort_indices(new))
    return new if text else new.to_numpy()


def _values(graph: Graph, name: str, given: Mapping[str, Any], count: int) -> np.ndarray | None:
    """What goes along with new edges or nodes, of the type and width that the graph's has."""
    had, new = getattr(graph, name), given[name]
    what = name.partition("_")[0] + "s"
    if had is None:
        if new is not None:
            raise InputError(f"{name}=: the {what} of {graph.name} have none; leave it out")
        return None
    if new is None and count:
        raise InputError(
            f"the {what} of {graph.name} have {name}: give those of the new ones, {name}="
        )
    kind, shape = torch.empty(0, dtype=had.dtype).numpy().dtype, (count, *had.shape[1:])
    if new is None:
        return np.empty(shape, kind)
    array = np.asarray(NodeArray(new, name).array)
    if array.ndim == 1 and had.ndim == 2:
        array = array[:, None]
    faults = []
    if array.shape != shape:
        faults.append(f"{name}= has shape {[*array.shape]}; it must be {[*shape]}")
    if kind.kind == "i" and array.dtype.kind not in "iu":
        faults.append(f"{name}= holds {array.dtype}; it must be whole numbers")
    elif kind.kind == "i" and array.size and not 0 <= int(array.min()) <= int(array.max()) < 2**31:
        faults.append(f"{name}= goes from {array.min()} to {array.max()}; types are from 0 on")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        faults.append(f"{name}= holds values that are NaN or infinite")
    if faults:
        raise InputError(faults)
    return array.astype(kind)


def _labels(
    graph: Graph, rows: NodeTable | NodeArray | None, new: int
) -> tuple[np.ndarray | None, np.ndarray]:
    if graph.y is None:
        return None, np.zeros(new, dtype=bool)
    shape = (new, *graph.y.shape[1:])
    kind = torch.empty(0, dtype=graph.y.dtype).numpy().dtype
    unknown = np.full(shape, np.nan if kind.kind == "f" else -1, kind)
    columns = rows.those("label") if isinstance(rows, NodeTable) else []
    if not isinstance(rows, NodeTable) or not columns:
        return unknown, np.zeros(new, dtype=bool)
    cells = rows.cells(columns)
    if all(own.null_count == len(own) for own in cells.values()):
        return unknown, np.zeros(new, dtype=bool)  # a column of empty cells is of no type
    read = read_label_columns(cells, graph.task, graph.class_names, rows.what)
    if read.y.shape != shape:
        raise InputError(f"{rows.what}: labels are {[*read.y.shape]}; the graph's are {[*shape]}")
    given = read.y[read.known]
    if (
        graph.task == "classification"
        and given.size
        and not ((given >= 0) & (given < graph.num_classes) & (given == np.round(given))).all()
    ):
        raise InputError(
            f"{rows.what}: labels go from {given.min():g} to {given.max():g}; the classes of "
            f"{graph.name} are 0 to {graph.num_classes - 1}"
        )
    y = np.where(read.known, read.y, unknown).astype(kind)
    return y, np.asarray(read.known.reshape(new, -1).any(axis=1)) if new else np.zeros(0, bool)


def _weights(graph: Graph, chunks: Sequence[Any], count: int) -> np.ndarray | None:
    weighted = bool(chunks) and len(chunks[0]) > 2 and chunks[0][2] is not None
    if graph.edge_weight is None:
        if weighted:
            raise InputError(
                f"the new edges have weights, and those of {graph.name} have none: drop the column"
            )
        return None
    if count and not weighted:
        raise InputError(f"the edges of {graph.name} have weights: give those of the new ones")
    weight = np.concatenate([np.empty(0, np.float32), *(c[2] for c in chunks if c[2] is not None)])
    weight = weight.astype(np.float32)
    if not np.isfinite(weight).all():
        raise InputError("the new edges hold weights that are NaN or infinite")
    return weight


def _times(
    had: torch.Tensor | None, given: np.ndarray | None, count: int, what: str
) -> np.ndarray | None:
    """The times of new edges or nodes, of the type that the graph's are of; None where it has none.

    Raises:
        InputError: the graph has times, and what is new has none, or none of that type.
    """
    if had is None:
        return None
    if given is None and count:
        raise InputError(f"the {what} of the graph have times: give those of the new ones, time=")
    given = np.empty(0) if given is None else given
    kind = torch.empty(0, dtype=had.dtype).numpy().dtype
    if kind.kind == "i" and not (given == np.floor(given)).all():
        raise InputError(f"times of the {what} are whole numbers; those of the new ones are not")
    return given.astype(kind)
