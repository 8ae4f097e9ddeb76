"""A clustered graph with more nodes and edges, written in one pass over what there is.

The new nodes of a cluster go behind its training nodes, or behind all: old nodes keep their order,
so every old row is still sorted once its columns are renumbered, and the new edges are merged in.
Floor: the bytes of the store read and written once, and 8 bytes a node for where each goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.names import NodeNames
from gnnscale.graph.reading.nodes import PARTS
from gnnscale.graph.store.interleaved import Interleaved, InterleavedEdges
from gnnscale.kernels import CSR
from gnnscale.storage.array_folder import array_folder
from gnnscale.storage.arrow import pyarrow


@dataclass(frozen=True)
class Addition:
    """What comes to a graph of n nodes: k nodes, called n to n + k − 1, and edges.

    Attributes:
        num_nodes: k.
        source: int64 `[edges]`, original ids, of new nodes too; each way of an undirected edge.
        target: likewise.
        of_edges: what goes along with edges, `[edges, …]`, by the names of the graph's own arrays:
            `edge_weight`, `edge_attr`, `edge_type`, `edge_time`; all that the graph has.
        of_nodes: likewise of nodes, `[k]`: `node_type`, `node_time`.
        x: `[k, num_features]`, sparse where the graph's are; None where it has no features.
        y: `[k]` or `[k, columns]`, as the graph's labels; None where nothing is known of them.
        names: of the nodes, where the graph's have names.
        part: the part of the split that nodes with a label join; None for none.
        known: bool `[k]`, whether a node has a label.
    """

    num_nodes: int
    source: np.ndarray
    target: np.ndarray
    of_edges: Mapping[str, np.ndarray]
    of_nodes: Mapping[str, np.ndarray]
    x: np.ndarray | CSR | None
    y: np.ndarray | None
    names: NodeNames | None
    part: str | None
    known: np.ndarray


@dataclass(frozen=True)
class Grown:
    """How a graph has grown.

    Attributes:
        clusters: of each new node, int64 `[k]`.
        cut_before: the part of the old edges whose ends lie in different clusters.
        cut: that of all edges.
        repeated: new edges that there were already, with all that goes along with them.
    """

    clusters: np.ndarray
    cut_before: float
    cut: float
    repeated: int


def clusters_of_new(
    addition: Addition, num_nodes: int, cluster_of: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """The cluster that most neighbours of each new node are in, int64 `[k]`.

    Nodes whose neighbours are new as well follow these; one without any joins the smallest cluster.

    Args:
        addition: what is new.
        num_nodes: nodes there were, n.
        cluster_of: int32 `[n]`, of the old nodes by their original ids.
        sizes: int64 `[num_parts]`, nodes of each cluster; those that join are counted in.
    """
    found = np.full(addition.num_nodes, -1, np.int64)
    one = np.concatenate([addition.source, addition.target])
    other = np.concatenate([addition.target, addition.source])
    new = one >= num_nodes
    one, other = one[new] - num_nodes, other[new]
    while one.size:
        there = np.where(
            other < num_nodes,
            cluster_of[np.minimum(other, num_nodes - 1)] if num_nodes else -1,
            found[np.maximum(other - num_nodes, 0)],
        )
        settled = there >= 0
        if not settled.any():
            break
        keys, counts = np.unique(one[settled] * sizes.size + there[settled], return_counts=True)
        node, cluster = keys // sizes.size, keys % sizes.size
        best = np.lexsort((cluster, sizes[cluster], -counts, node))
        first = np.unique(node[best], return_index=True)[1]
        found[node[best][first]] = cluster[best][first]
        left = found[one] < 0
        one, other = one[left], other[left]
    np.add.at(sizes, found[found >= 0], 1)
    for alone in np.flatnonzero(found < 0).tolist():
        found[alone] = smallest = int(sizes.argmin())
        sizes[smallest] += 1
    return found


def write_grown(
    graph: Any,
    own: dict[str, Tensor],
    split: str,
    addition: Addition,
    path: Path,
    meta: dict[str, Any],
    *,
    again: bool = True,
) -> Grown:
    """Write a clustered graph with what comes to it.

    Args:
        graph: the whole graph in storage order.
        own: `node_id`, `offsets` and `train_ends` of the clustered graph.
        split: the split set whose training nodes come first.
        addition: what is new.
        path: the folder.
        meta: what `meta.json` is to say, without the counts of nodes and edges.
        again: whether edges may come that are all there already, without a new node.

    Raises:
        InputError: they may not, and do.
        StoreError: the folder cannot be written, or the disk is full.
    """
    num_nodes, more = graph.num_nodes, addition.num_nodes
    node_id, offsets = own["node_id"].numpy(), own["offsets"].numpy()
    ends = own["train_ends"].numpy()
    parts = offsets.size - 1
    stored_cluster = np.repeat(np.arange(parts, dtype=np.int32), np.diff(offsets))
    cluster_of = np.empty(num_nodes, np.int32)
    cluster_of[node_id] = stored_cluster
    clusters = clusters_of_new(addition, num_nodes, cluster_of, np.diff(offsets))
    training = addition.known if addition.part == "train" else np.zeros(more, dtype=bool)
    # A new node stands in front of the old one at `before`, the training ones first.
    before = np.where(training, ends[clusters], offsets[clusters + 1])
    order = np.lexsort((np.arange(more), ~training, clusters, before))
    origin = np.insert(np.arange(num_nodes), before[order], -1 - order)
    place = np.empty(num_nodes + more, np.int64)  # by original id
    old = origin >= 0
    to_new = np.flatnonzero(old)  # by the place an old node had
    place[node_id] = to_new
    place[num_nodes + (-1 - origin[~old])] = np.flatnonzero(~old)
    cluster_by_place = np.empty(num_nodes + more, np.int32)
    cluster_by_place[to_new] = stored_cluster
    cluster_by_place[place[num_nodes:]] = clusters
    joined = np.bincount(clusters, minlength=parts)
    trained = np.bincount(clusters[training], minlength=parts)
    new_offsets = offsets + np.concatenate([[0], joined.cumsum()])
    with array_folder(path, "the graph") as folder:
        writing = Interleaved(folder, origin)
        edges = InterleavedEdges(
            (addition.source, addition.target), addition.of_edges, place, to_new, cluster_by_place
        )
        edges.write(folder, graph, origin)
        if not again and not more and edges.repeated == addition.source.size > 0:
            raise InputError(
                f"all {edges.repeated:,} new edges are in {graph.name} already, which stays as it "
                "is; to have them once more, beside those, say parallel=True"
            )
        _write_nodes(writing, graph, addition, split)
        identity = np.empty(num_nodes + more, np.int64)
        identity[place] = np.arange(num_nodes + more)
        for name, array in (
            ("node_id", identity),
            ("offsets", new_offsets),
            ("train_ends", new_offsets[:-1] + (ends - offsets[:-1]) + trained),
        ):
            folder.write(name, torch.from_numpy(array.astype(np.int64)))
        folder.meta = {
            **meta,
            "num_nodes": num_nodes + more,
            "num_edges": graph.num_edges + addition.source.size,
        }
    total = graph.num_edges + addition.source.size
    return Grown(
        clusters,
        edges.cut_old / max(1, graph.num_edges),
        (edges.cut_old + edges.cut_new) / max(1, total),
        edges.repeated,
    )


def _write_nodes(writing: Interleaved, graph: Any, addition: Addition, split: str) -> None:
    if isinstance(graph.x, CSR):
        assert isinstance(addition.x, CSR)
        writing.sparse(graph.x, addition.x)
    elif graph.x is not None:
        assert isinstance(addition.x, np.ndarray)
        writing.write("x", graph.x, addition.x)
    if graph.y is not None:
        writing.write("y", graph.y, addition.y)
    for name, new in addition.of_nodes.items():
        writing.write(name, getattr(graph, name), new)
    for i, (name, masks) in enumerate(graph.splits.items()):
        for part in PARTS:
            joins = addition.known & (name == split and part == addition.part)
            writing.write(f"split{i}_{part}", masks[part], joins)
    if graph.names is None or addition.names is None:
        return
    both = [graph.names.to_arrow(), addition.names.to_arrow()]
    called = pyarrow.concat_arrays([both[0], both[1].cast(both[0].type)])
    at = np.where(writing.origin >= 0, writing.origin, graph.num_nodes - 1 - writing.origin)
    names = (
        NodeNames(torch.from_numpy(called.to_numpy()[at]))
        if graph.names.ids is not None
        else NodeNames.from_arrow(called.take(pyarrow.array(at)))
    )
    for name, array in names.arrays():
        writing.folder.write(name, array)


def check_growable(graph: Any) -> None:
    """Refuse what nothing can come to.

    Raises:
        InputError: naming all that stands in the way.
    """
    faults = []
    if graph.node_ptr is not None:
        faults.append("it holds several graphs")
    if graph.y is not None and graph.y_level != "node":
        faults.append(f"its labels are of {graph.y_level}s")
    if faults:
        raise InputError(
            f"nothing can be appended to {graph.name}: {', and '.join(faults)}. Build it anew with "
            "the new nodes, as it was built"
        )
