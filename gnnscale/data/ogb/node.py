"""Node-level sets of OGB, from raw files to a stored graph, in bounded memory.

What is read, and what is added to it:

==================  ================================================================================
``ogbn-arxiv``      each citation once and directed; made undirected, parallel edges merged
``ogbn-papers100M`` the same
``ogbn-mag-cites``  the same, of ogbn-mag's papers that cite papers
``ogbn-products``   each edge once; OGB's reader adds the reverse of each, of a self-loop too
``ogbn-proteins``   the same; the features of a node are the mean of those of its edges
==================  ================================================================================

Labels, masks and what `build_graph` takes are held in memory; for ogbn-proteins also 72 bytes a
node, the sums of the features of edges.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Protocol

import numpy as np

from gnnscale.data.ogb.catalogue import CITES, OGBEntry
from gnnscale.data.ogb.npz import Npz, open_npz
from gnnscale.data.ogb.raw import counted, csv_blocks, in_step, missing, read_ids
from gnnscale.data.options import Option, read_bool
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph, build_graph

OPTIONS = {"undirected": Option(read_bool, True)}

_PARTS = ("train", "valid", "test")


class NodeFiles(Protocol):
    """The raw files of a node-level set, whatever their layout.

    Attributes:
        num_nodes: nodes.
        num_edges: edges, as stored.
        splits: the folder of the official split.
    """

    num_nodes: int
    num_edges: int
    splits: Traversable

    def edges(self) -> Iterator[np.ndarray]:
        """Yield source and target, integers `[k, 2]`."""

    def edge_features(self) -> Iterator[np.ndarray]:
        """Yield float32 `[k, channels]`, in the order of the edges."""

    def features(self) -> Iterator[np.ndarray]:
        """Yield float32 `[k, num_features]`."""

    def labels(self) -> Iterator[np.ndarray]:
        """Yield float64 `[k, num_tasks]`, NaN where there is none."""


def build_node_set(
    entry: OGBEntry, raw: Traversable, path: Path, undirected: bool, source: str
) -> Graph:
    """Build the graph of a node-level set at `path`.

    Args:
        entry: what OGB says of it.
        raw: what has ``raw/`` and ``split/``.
        path: the folder to write.
        undirected: add the reverse of every edge; else edges stay as the raw files have them.
        source: what `gnnscale.load` makes it from again.

    Raises:
        StoreError: raw files are missing, damaged, or do not fit each other; the disk is full.
        InputError: they hold ids or labels out of range.
    """
    with _open(entry, raw, path.parent) as files:
        edges: Iterable[np.ndarray] = counted(files.edges(), files.num_edges, raw, "edges")
        x: Iterable[np.ndarray] | None = None
        if entry.has_node_attr:
            x = counted(files.features(), files.num_nodes, raw, "nodes, in their features")
        elif entry.has_edge_attr:
            mean = _MeanOverEdges(files.num_nodes)
            values = counted(files.edge_features(), files.num_edges, raw, "edges (features)")
            edges = mean.watch(edges, values, twice=undirected)
            x = mean.features()
        chunks = _ends(edges, raw, loops_twice=entry.add_inverse_edge and undirected)
        try:
            return build_graph(
                path,
                files.num_nodes,
                chunks,
                x=x,
                y=_labels(entry, files, raw),
                splits={entry.split: _split(files.splits)},
                undirected=undirected,
                # OGB's reader adds reverses and merges nothing; the leaderboard's
                # to_symmetric, where edges are directed, merges.
                coalesce=undirected and not entry.add_inverse_edge,
                task=entry.task,
                metric=entry.our_metric,
                num_classes=entry.outputs,
                name=entry.name,
                source=source,
            )
        except InputError as error:
            raise InputError([f"{raw}: {fault}" for fault in error.faults]) from error


@contextlib.contextmanager
def _open(entry: OGBEntry, raw: Traversable, scratch: Path) -> Iterator[NodeFiles]:
    if not entry.binary:
        yield MagFiles(raw, entry) if entry.name == CITES else CsvFiles(raw, entry)
        return
    with (
        open_npz(raw / "raw/data.npz", scratch) as data,
        open_npz(raw / "raw/node-label.npz", scratch) as label,
    ):
        yield NpzFiles(data, label, raw / "split" / entry.split)


class CsvFiles:
    """csv.gz, as ogbn-arxiv, -products and -proteins have them."""

    def __init__(self, raw: Traversable, entry: OGBEntry) -> None:
        self._raw = raw / "raw"
        self.num_nodes = _single(self._raw / "num-node-list.csv.gz")
        self.num_edges = _single(self._raw / "num-edge-list.csv.gz")
        self.splits = raw / "split" / entry.split

    def edges(self) -> Iterator[np.ndarray]:
        """Source and target, int64 `[k, 2]`."""
        return csv_blocks(self._raw / "edge.csv.gz", np.int64)

    def edge_features(self) -> Iterator[np.ndarray]:
        """float32 `[k, channels]`."""
        return csv_blocks(self._raw / "edge-feat.csv.gz", np.float32)

    def features(self) -> Iterator[np.ndarray]:
        """float32 `[k, num_features]`."""
        return csv_blocks(self._raw / "node-feat.csv.gz", np.float32)

    def labels(self) -> Iterator[np.ndarray]:
        """float64 `[k, num_tasks]`."""
        return csv_blocks(self._raw / "node-label.csv.gz", np.float64)


class MagFiles:
    """The papers of ogbn-mag that cite papers."""

    def __init__(self, raw: Traversable, entry: OGBEntry) -> None:
        self._raw = raw / "raw"
        self._cites = self._raw / "relations/paper___cites___paper"
        self.num_nodes = _of_kind(self._raw / "num-node-dict.csv.gz", "paper")
        self.num_edges = _single(self._cites / "num-edge-list.csv.gz")
        self.splits = raw / "split" / entry.split / "paper"

    def edges(self) -> Iterator[np.ndarray]:
        """Source and target, int64 `[k, 2]`."""
        return csv_blocks(self._cites / "edge.csv.gz", np.int64)

    def edge_features(self) -> Iterator[np.ndarray]:
        """There are none."""
        return iter(())

    def features(self) -> Iterator[np.ndarray]:
        """float32 `[k, num_features]`."""
        return csv_blocks(self._raw / "node-feat/paper/node-feat.csv.gz", np.float32)

    def labels(self) -> Iterator[np.ndarray]:
        """float64 `[k, 1]`."""
        return csv_blocks(self._raw / "node-label/paper/node-label.csv.gz", np.float64)


class NpzFiles:
    """npz, as ogbn-papers100M has them."""

    def __init__(self, data: Npz, label: Npz, splits: Traversable) -> None:
        self._data, self._label = data, label
        self.num_nodes = int(data.read("num_nodes_list").sum())
        self.num_edges = int(data.read("num_edges_list").sum())
        self.splits = splits

    def edges(self) -> Iterator[np.ndarray]:
        """Source and target, integers `[k, 2]`."""
        return self._data.pairs("edge_index")

    def edge_features(self) -> Iterator[np.ndarray]:
        """float32 `[k, channels]`."""
        return (block.astype(np.float32) for block in self._data.rows("edge_feat"))

    def features(self) -> Iterator[np.ndarray]:
        """float32 `[k, num_features]`."""
        return (block.astype(np.float32, copy=False) for block in self._data.rows("node_feat"))

    def labels(self) -> Iterator[np.ndarray]:
        """float64 `[k, num_tasks]`."""
        return (block.astype(np.float64) for block in self._label.rows("node_label"))


class _MeanOverEdges:
    """The features of a node as the mean of those of its edges; zeros where it has none."""

    def __init__(self, num_nodes: int) -> None:
        self._num_nodes = num_nodes
        self._sums: np.ndarray | None = None
        self._counts = np.zeros(num_nodes, np.int64)

    def watch(
        self, edges: Iterable[np.ndarray], values: Iterable[np.ndarray], *, twice: bool
    ) -> Iterator[np.ndarray]:
        """Pass edges on and add up what they carry: to both ends, or to targets only."""
        for ends, carried in in_step(edges, values):
            if self._sums is None:
                self._sums = np.zeros((carried.shape[1], self._num_nodes))
            for nodes in (ends[:, 1], ends[:, 0])[: 1 + twice]:
                self._add(nodes, carried)
            yield ends

    def features(self) -> Iterator[np.ndarray]:
        """Yield float32 `[rows, channels]`, once the edges have passed."""
        if self._sums is None:
            raise StoreError("there are no edges, whose features would be those of the nodes")
        for start in range(0, self._num_nodes, 1 << 15):
            stop = start + (1 << 15)
            count = np.maximum(self._counts[start:stop], 1)
            yield (self._sums[:, start:stop] / count).T.astype(np.float32)

    def _add(self, nodes: np.ndarray, carried: np.ndarray) -> None:
        if nodes.size and (nodes.min() < 0 or nodes.max() >= self._num_nodes):
            return  # refused by build_graph, which these edges reach next
        assert self._sums is not None
        self._counts += np.bincount(nodes, minlength=self._num_nodes)
        for total, channel in zip(self._sums, carried.T, strict=True):
            total += np.bincount(nodes, channel, self._num_nodes)


def _ends(
    edges: Iterable[np.ndarray], raw: Traversable, *, loops_twice: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for block in edges:
        if block.shape[1] != 2:
            raise StoreError(f"{raw}: an edge has {block.shape[1]} columns; it must have 2")
        source, target = block[:, 0], block[:, 1]
        if loops_twice:  # OGB's reader doubles them; build_graph, rightly, does not
            loops = source[source == target]
            source, target = np.concatenate([source, loops]), np.concatenate([target, loops])
        yield source, target


def _labels(entry: OGBEntry, files: NodeFiles, raw: Traversable) -> np.ndarray:
    """Labels as `build_graph` takes them: int64 classes with -1 for none, or one row a node."""
    classes = entry.task == "classification"
    shape = (files.num_nodes,) if classes else (files.num_nodes, entry.num_tasks)
    y = np.empty(shape, np.int64 if classes else np.float32)
    done = 0
    for block in counted(files.labels(), files.num_nodes, raw, "nodes, in their labels"):
        rows = block.reshape(len(block), -1)
        if rows.shape[1] != entry.num_tasks:
            raise StoreError(
                f"{raw}: labels have {rows.shape[1]} columns; {entry.name} has {entry.num_tasks}"
            )
        part = np.where(np.isnan(rows[:, 0]), -1, rows[:, 0]) if classes else rows
        y[done : done + len(block)] = part
        done += len(block)
    return y


def _split(folder: Traversable) -> dict[str, np.ndarray]:
    """Node numbers by part, under names that say so."""
    absent = [part for part in _PARTS if not (folder / f"{part}.csv.gz").is_file()]
    if absent:
        raise missing(folder / f"{absent[0]}.csv.gz")
    return {f"{part}_idx": read_ids(folder / f"{part}.csv.gz") for part in _PARTS}


def _single(file: Traversable) -> int:
    numbers = read_ids(file)
    if numbers.size != 1:
        raise StoreError(f"{file} lists {numbers.size:,} graphs; a node-level set has one")
    return int(numbers[0])


def _of_kind(file: Traversable, kind: str) -> int:
    """The number below a column's name, in a small csv.gz with a header."""
    import gzip

    try:
        with file.open("rb") as content:
            header, row, *_ = gzip.decompress(content.read()).decode().splitlines()
        return int(dict(zip(header.split(","), row.split(","), strict=True))[kind])
    except FileNotFoundError as error:
        raise missing(file) from error
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise StoreError(f"{file} is damaged or does not count {kind!r}: {error}") from error
