"""OGB's graph-level sets (``ogbg-``): many small graphs as one, with a label each.

Raw, the graphs stand one after the other, with node numbers of their own, in ``edge.csv.gz``,
``num-node-list.csv.gz``, ``num-edge-list.csv.gz``, ``node-feat.csv.gz``, ``edge-feat.csv.gz`` and
``graph-label.csv.gz``; or in ``data.npz`` and ``graph-label.npz``. Numbered through, they are one
graph with `node_ptr`. Features that are categories, as those of atoms and bonds, are left as they
are, for :func:`gnnscale.nn.atom_encoder` and :func:`gnnscale.nn.bond_encoder`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from gnnscale.data.ogb.catalogue import OGBEntry
from gnnscale.data.ogb.npz import open_npz
from gnnscale.data.ogb.raw import counted, csv_blocks, read_ids
from gnnscale.data.splits import to_nodes
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph

_PARTS = ("train", "valid", "test")

# Source, target and three attributes, and all of it once more while edges are sorted by target.
_BYTES_AN_EDGE = 2 * (8 + 8 + 3 * 4)
_BYTES_A_NODE = 9 * 4


def read_graphs(entry: OGBEntry, raw: Traversable, scratch: Path) -> Graph:
    """Read a graph-level set to memory.

    Where OGB says so, the reverse of every edge is added, with the same attributes; as in OGB's
    reader, of a self-loop too.

    Args:
        entry: what OGB says of it.
        raw: what has ``raw/`` and ``split/``.
        scratch: where scratch files go, gone afterwards.

    Returns:
        One graph with `node_ptr`; x and edge_attr are float32, categories too. y has a row a graph:
        int64 classes `[num_graphs]`; for true-or-false labels and regression, float32
        `[num_graphs, tasks]` with NaN where unknown. The official split, of graphs, is given as
        that of their nodes, under OGB's name for it.

    Raises:
        InputError: the labels are no numbers (ogbg-code2), or the graphs do not fit the memory.
        StoreError: a file is missing, damaged, or does not fit the others.
    """
    if entry.task_type == "subtoken prediction":
        raise InputError(
            f"the labels of {entry.name} are words; gnnscale trains on classes, labels and numbers"
        )
    with _source(raw, scratch) as files:
        num_nodes, num_edges = files.num_nodes, files.num_edges
        negative = (num_nodes < 0).any() or (num_edges < 0).any()
        if negative or num_nodes.shape != num_edges.shape:
            raise StoreError(
                f"{raw}: {num_nodes.size:,} graphs have a number of nodes, {num_edges.size:,} one "
                f"of edges{', some below 0' if negative else ''}: the raw data are damaged or not "
                "whole. Fetch them again"
            )
        node_ptr, edge_ptr = _pointers(num_nodes), _pointers(num_edges)
        _check_memory(entry, int(node_ptr[-1]), int(edge_ptr[-1]))
        edges = _numbered_through(files, node_ptr, edge_ptr, entry.add_inverse_edge)
        x = edge_attr = None
        if entry.has_node_attr:
            x = files.features("node", int(node_ptr[-1]))
        if entry.has_edge_attr:
            edge_attr = files.features("edge", int(edge_ptr[-1]), twice=entry.add_inverse_edge)
        y = _labels(entry, files, num_nodes.size)
    splits = {entry.split: _split(entry, raw, node_ptr)}
    try:
        return Graph.from_arrays(
            edges,
            x,
            y,
            num_nodes=int(node_ptr[-1]),
            edge_attr=edge_attr,
            node_ptr=node_ptr,
            y_level="graph",
            splits=splits,
            task=entry.task,
            metric=entry.our_metric,
            num_classes=entry.outputs,
            name=entry.name,
        )
    except InputError as error:
        raise InputError([f"{raw}: {fault}" for fault in error.faults]) from error


class _Files(NamedTuple):
    """The raw files of a set, of either kind."""

    label: str
    num_nodes: np.ndarray
    num_edges: np.ndarray
    edges: Callable[[], Iterable[np.ndarray]]
    rows: Callable[[str], tuple[Traversable, Iterable[np.ndarray]]]
    labels: Callable[[], Iterable[np.ndarray]]

    def features(self, kind: str, expected: int, *, twice: bool = False) -> np.ndarray:
        """Read the features of nodes or edges, float32 `[expected, channels]`, or those twice."""
        file, blocks = self.rows(kind)
        read = _filled(counted(blocks, expected, file, f"{kind}s"), expected * (1 + twice))
        if twice:
            read[expected:] = read[:expected]
        return read


def _filled(blocks: Iterable[np.ndarray], rows: int) -> np.ndarray:
    """An array of so many rows, float32, begun with these blocks of them."""
    filled = np.empty((0, 1), np.float32)
    done = 0
    for block in blocks:
        if done == 0:
            filled = np.empty((rows, *block.shape[1:]), np.float32)
        filled[done : done + len(block)] = block
        done += len(block)
    return filled


@contextlib.contextmanager
def _source(raw: Traversable, scratch: Path) -> Iterator[_Files]:
    folder = raw / "raw"
    if (folder / "data.npz").is_file():
        with open_npz(folder / "data.npz", scratch) as data:
            yield _Files(
                str(folder / "data.npz"),
                data.read("num_nodes_list").reshape(-1).astype(np.int64),
                data.read("num_edges_list").reshape(-1).astype(np.int64),
                lambda: data.pairs("edge_index"),
                lambda kind: (folder / "data.npz", data.rows(f"{kind}_feat")),
                lambda: _npz_labels(folder / "graph-label.npz", scratch),
            )
        return
    yield _Files(
        str(folder / "edge.csv.gz"),
        read_ids(folder / "num-node-list.csv.gz"),
        read_ids(folder / "num-edge-list.csv.gz"),
        lambda: csv_blocks(folder / "edge.csv.gz", np.int64),
        lambda kind: (
            folder / f"{kind}-feat.csv.gz",
            csv_blocks(folder / f"{kind}-feat.csv.gz", np.float32),
        ),
        lambda: csv_blocks(folder / "graph-label.csv.gz", np.float64),
    )


def _npz_labels(file: Traversable, scratch: Path) -> Iterator[np.ndarray]:
    with open_npz(file, scratch) as content:
        yield from content.rows("graph_label")


def _pointers(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


def _numbered_through(
    files: _Files, node_ptr: np.ndarray, edge_ptr: np.ndarray, both: bool
) -> np.ndarray:
    """Edges `[2, num_edges]`, or first the edges and then their reverses, nodes numbered through.

    Raises:
        StoreError: a graph has an edge to a node that it does not have, or there are more or fewer
            edges than the raw data say.
    """
    total = int(edge_ptr[-1])
    edges = np.empty((2, 2 * total if both else total), np.int64)
    done = 0
    for block in counted(files.edges(), total, Path(files.label), "edges"):
        stop = done + len(block)
        first, last = np.searchsorted(edge_ptr, [done, stop - 1], side="right") - 1
        within = np.diff(edge_ptr[first : last + 2].clip(done, stop))
        graph = np.repeat(np.arange(first, last + 1), within)
        size = (node_ptr[graph + 1] - node_ptr[graph])[:, None]
        if block.shape[1] != 2:
            raise StoreError(f"{files.label} has {block.shape[1]} columns; an edge joins 2 nodes")
        wrong = ((block < 0) | (block >= size)).any(1)
        if wrong.any():
            at = int(wrong.argmax())
            raise StoreError(
                f"{files.label}: graph {graph[at]} of {size[at, 0]} nodes has an edge "
                f"{block[at]}; the raw data are damaged or not of one version. Fetch them again"
            )
        edges[:, done:stop] = (block + node_ptr[graph][:, None]).T
        done = stop
    if both:
        edges[:, total:] = edges[::-1, :total]
    return edges


def _labels(entry: OGBEntry, files: _Files, num_graphs: int) -> np.ndarray:
    file = Path(files.label).parent / "graph-label"
    labels = _filled(counted(files.labels(), num_graphs, file, "graphs"), num_graphs)
    labels = labels.reshape(num_graphs, -1)
    if labels.shape[1] != entry.num_tasks:
        raise StoreError(
            f"{file} has {labels.shape[1]} labels a graph, where {entry.name} has "
            f"{entry.num_tasks}: it is not of this set. Fetch the raw data again"
        )
    if entry.task == "classification":
        return np.where(np.isnan(labels[:, 0]), -1, labels[:, 0]).astype(np.int64)
    return labels


def _split(entry: OGBEntry, raw: Traversable, node_ptr: np.ndarray) -> dict[str, np.ndarray]:
    """The official split: for each part a mask of the nodes of its graphs."""
    num_graphs = node_ptr.size - 1
    masks = {}
    for part in _PARTS:
        file = raw / "split" / entry.split / f"{part}.csv.gz"
        graphs = read_ids(file)
        if graphs.size and (graphs.min() < 0 or graphs.max() >= num_graphs):
            raise StoreError(
                f"{file} names graphs {graphs.min()} to {graphs.max()}; there are 0 to "
                f"{num_graphs - 1}: it is not of these raw data. Fetch them again"
            )
        chosen = np.zeros(num_graphs, dtype=bool)
        chosen[graphs] = True
        masks[part] = to_nodes(chosen, node_ptr)
    return masks


def _check_memory(entry: OGBEntry, num_nodes: int, num_edges: int) -> None:
    """Refuse what is known not to fit: ogbg-ppa on most machines."""
    directed = num_edges * (2 if entry.add_inverse_edge else 1)
    needed = num_nodes * _BYTES_A_NODE + directed * _BYTES_AN_EDGE
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{entry.name} has {num_nodes:,} nodes and {directed:,} directed edges; to read it "
            f"takes at least {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        )
