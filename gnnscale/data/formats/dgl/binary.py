"""The layout of the files that ``dgl.save_graphs`` writes (version 2, by DGL 0.5 up to 2.x).

DGL writes objects one after the other with dmlc's serializer: numbers little-endian, a list or a
text as its length in 64 bits and what is in it. As its sources have it (``src/graph/serialize``,
``src/graph/unit_graph.cc``, ``include/dgl/aten``), and as files of DGL 1.1.3 are::

    file      magic, version, kind, number of graphs; from byte 4096 on: where graphs begin, labels
              (a list of name and array), graphs, where each begins (a list), the bytes of that list
    graph     hetero graph, arrays of nodes (a list a node type), of edges (a list an edge type),
              names of node types, names of edge types
    hetero    magic, which type of node an edge type leads from and to (an immutable graph),
              structures (a list, one an edge type), numbers of nodes (a list, one a node type)
    structure magic, which formats follow, which are allowed; each its types again and a matrix
    matrix    magic, columns, rows, three arrays: source, target, nothing (COO), or pointers,
              columns, edge ids or nothing (CSR; CSC with rows being targets), a mark or two
    array     magic, 0, device, dimensions, type (kind, bits, lanes), shape, bytes, content

Arrays are mapped, and read when they are asked for. Nothing in such a file is executed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from gnnscale.errors import InputError, StoreError

FILE = 0xDD2E4FF046B4A13F
_HETERO = 0xDD589FBE35224ABF
_IMMUTABLE = 0xDD3C5FFE20046ABF
_STRUCTURE = 0xDD2E60F0F6B4A127
_COO = 0xDD61FFD305DFF127
_CSR = 0xDD6CD31205DFF127
_ARRAY = 0xDD5E40F096B4A13F

_HEADER = 4096
_FORMATS = {1: 1, 2: 2, 3: 4}  # what one format is called before version 0.5.3, and as a set since
_KINDS = {0: "i", 1: "u", 2: "f", 4: "bfloat"}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Array:
    """An array in the file, not read yet."""

    content: np.ndarray
    shape: tuple[int, ...]
    half: bool = False  # of bfloat16, which NumPy does not know

    @property
    def dtype(self) -> np.dtype:
        """Of the array that is read."""
        return np.dtype(np.float32) if self.half else self.content.dtype

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows of it, as an array of their own."""
        rows = self.content.reshape(self.shape)[start:stop]
        if self.half:
            return (rows.astype(np.uint32) << 16).view(np.float32)
        return np.array(rows)


@dataclass(frozen=True)
class Structure:
    """The edges of one type, numbered as their arrays are.

    Attributes:
        num_edges: of this type.
        source: of every edge; or pointers where `pointers` says of which.
        target: likewise.
        edge: the number of every entry, or None where they are in order.
        pointers: "source" or "target" where that is given as CSR pointers, "" where neither is.
    """

    source: Array
    target: Array
    edge: Array | None
    pointers: str = ""

    @property
    def num_edges(self) -> int:
        """Edges of this type."""
        return (self.source if self.pointers == "target" else self.target).shape[0]

    def chunks(self, at_once: int = 1 << 22) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Source, target and number of the edges, int64, in pieces."""
        for start in range(0, self.num_edges, at_once):
            stop = min(start + at_once, self.num_edges)
            source, target = (
                self._ends(which, start, stop).astype(np.int64, copy=False)
                for which in ("source", "target")
            )
            edge = np.arange(start, stop) if self.edge is None else self.edge.read(start, stop)
            yield source, target, edge.astype(np.int64, copy=False)

    def in_order(self) -> np.ndarray:
        """Edges `[2, num_edges]` in the order of their numbers."""
        edges = np.empty((2, self.num_edges), np.int64)
        for source, target, edge in self.chunks():
            edges[0, edge], edges[1, edge] = source, target
        return edges

    def _ends(self, which: str, start: int, stop: int) -> np.ndarray:
        array = self.source if which == "source" else self.target
        if self.pointers != which:
            return array.read(start, stop)
        pointers = array.content
        first, last = np.searchsorted(pointers, [start, stop - 1], side="right") - 1
        bounds = array.read(first, last + 2).astype(np.int64).clip(start, stop)
        within = bounds[1:] - bounds[:-1]
        return np.repeat(np.arange(first, last + 1), within)


@dataclass(frozen=True)
class Saved:
    """A graph in the file.

    Attributes:
        nodes: how many there are of each type of nodes.
        edges: the edges of each type, called (type of sources, type, type of targets).
        node_arrays: by type of nodes and name.
        edge_arrays: by type of edges and name.
    """

    nodes: dict[str, int]
    edges: dict[tuple[str, str, str], Structure]
    node_arrays: dict[str, dict[str, Array]]
    edge_arrays: dict[tuple[str, str, str], dict[str, Array]]


def is_saved(path: Path) -> bool:
    """Whether a file begins as those of ``dgl.save_graphs`` do."""
    try:
        with open(path, "rb") as file:
            return file.read(8) == struct.pack("<Q", FILE)
    except OSError:
        return False


def read_saved(path: Path) -> tuple[list[Saved], dict[str, Array]]:
    """The graphs of a file that ``dgl.save_graphs`` has written, and its labels.

    Raises:
        InputError: it is of a version before DGL 0.5.
        StoreError: it cannot be read, is truncated or damaged.
    """
    return _Reader(path).file()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._bytes = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0)
        except OSError as error:
            raise StoreError(f"could not read {path}: {error.strerror or error}") from error
        self._at = 0

    def file(self) -> tuple[list[Saved], dict[str, Array]]:
        self._magic(FILE, "a file of dgl.save_graphs")
        version, kind = self._number(), self._number()
        if (version, kind) != (2, 2):
            raise InputError(
                f"{self._path} is version {version}, kind {kind} of DGL's files; version 2, kind 2 "
                "is read. Write it anew: dgl.save_graphs(path, dgl.load_graphs(path)[0])"
            )
        count = self._number()
        self._at = _HEADER
        begin = self._number()
        labels = dict(self._list(self._named))
        self._at = begin
        if count > self._bytes.size:
            raise self._damaged(f"{count:,} graphs")
        return [self._graph() for _ in range(count)], labels

    def _graph(self) -> Saved:
        self._magic(_HETERO, "a graph")
        self._magic(_IMMUTABLE, "types of edges")
        kinds = self._csr("source").in_order()
        structures, counts = self._list(self._structure), self._list(self._number)
        ndata = self._list(lambda: dict(self._list(self._named)))
        edata = self._list(lambda: dict(self._list(self._named)))
        ntypes, etypes = self._list(self._text), self._list(self._text)
        if not (len(ntypes) == len(counts) == len(ndata)) or not (
            len(etypes) == len(structures) == len(edata) == kinds.shape[1]
        ):
            raise self._damaged("other numbers of types than of names")
        if kinds.size and (kinds.min() < 0 or kinds.max() >= len(ntypes)):
            raise self._damaged("a type of edges between types of nodes that there are not")
        triples = [
            (ntypes[source], name, ntypes[target])
            for (source, target), name in zip(kinds.T, etypes, strict=True)
        ]
        saved = Saved(
            dict(zip(ntypes, counts, strict=True)),
            dict(zip(triples, structures, strict=True)),
            dict(zip(ntypes, ndata, strict=True)),
            dict(zip(triples, edata, strict=True)),
        )
        self._check(saved)
        return saved

    def _check(self, graph: Saved) -> None:
        """Refuse arrays with other numbers of rows than there are nodes or edges."""
        for kind, arrays in graph.node_arrays.items():
            for name, array in arrays.items():
                if array.shape[:1] != (graph.nodes[kind],):
                    raise self._damaged(f"{name} {array.shape} for {graph.nodes[kind]:,} nodes")
        for triple, arrays in graph.edge_arrays.items():
            expected = graph.edges[triple].num_edges
            for name, array in arrays.items():
                if array.shape[:1] != (expected,):
                    raise self._damaged(f"{name} {array.shape} for {expected:,} edges")

    def _structure(self) -> Structure:
        self._magic(_STRUCTURE, "edges")
        code, _ = self._number(), self._number()
        formats = code & 0xFFFFFFFF if code >> 32 else _FORMATS.get(code, 0)
        found = []
        if formats & 1:
            self._types()
            found.append(self._coo())
        for bit, pointers in ((2, "source"), (4, "target")):
            if formats & bit:
                self._types()
                found.append(self._csr(pointers))
        if not found:
            raise self._damaged(f"edges of format {code}")
        return found[0]

    def _types(self) -> None:
        """What a structure says of its types again."""
        self._magic(_IMMUTABLE, "types")
        self._csr("source")

    def _coo(self) -> Structure:
        self._magic(_COO, "a COO matrix")
        self._skip(16)
        source, target, edge = self._array(), self._array(), self._array()
        self._skip(2)
        if len(source.shape) != 1 or source.shape != target.shape:
            raise self._damaged(f"sources {source.shape} and targets {target.shape}")
        return Structure(source, target, self._edge_ids(edge, source.shape[0]))

    def _csr(self, pointers: str) -> Structure:
        self._magic(_CSR, "a CSR matrix")
        self._number()
        rows = self._number()
        indptr, indices, edge = self._array(), self._array(), self._array()
        self._skip(1)
        given = indptr.content
        sound = indptr.shape == (rows + 1,) and len(indices.shape) == 1
        if (
            not sound
            or given[0] != 0
            or given[-1] != indices.shape[0]
            or (np.diff(given) < 0).any()
        ):
            raise self._damaged("pointers that do not fit their entries")
        ends = (indptr, indices) if pointers == "source" else (indices, indptr)
        return Structure(*ends, self._edge_ids(edge, indices.shape[0]), pointers)

    def _edge_ids(self, edge: Array, expected: int) -> Array | None:
        if edge.shape == (0,):  # DGL's null array: edges are in order
            return None
        if edge.shape != (expected,):
            raise self._damaged(f"{edge.shape} edge ids for {expected:,} edges")
        seen = np.zeros(expected, dtype=bool)
        ids = edge.content
        if ids.size and ids.min() >= 0 and ids.max() < expected:
            seen[ids] = True
        if not seen.all():
            raise self._damaged("edge ids that are not each edge once")
        return edge

    def _named(self) -> tuple[str, Array]:
        return self._text(), self._array()

    def _array(self) -> Array:
        self._magic(_ARRAY, "an array")
        self._skip(16)  # reserved, and the device, which DGL always makes the CPU
        dimensions, kind, bits, lanes = struct.unpack("<iBBH", self._take(8).tobytes())
        if (
            not 0 <= dimensions <= 32
            or kind not in _KINDS
            or bits not in (8, 16, 32, 64)
            or lanes != 1
        ):
            raise self._damaged(f"an array of type {kind}, {bits} bits, {dimensions} dimensions")
        shape = struct.unpack(f"<{dimensions}q", self._take(8 * dimensions).tobytes())
        size = self._number()
        half = _KINDS[kind] == "bfloat"
        dtype = np.dtype("<u2" if half else f"<{_KINDS[kind]}{bits // 8}")
        if min(shape, default=0) < 0 or size != dtype.itemsize * _product(shape):
            raise self._damaged(f"an array {shape} of {size:,} bytes")
        return Array(self._take(size).view(dtype), shape, half)

    def _list(self, read: Callable[[], Item]) -> list[Item]:
        count = self._number()
        if count > self._bytes.size - self._at:  # nothing takes less than a byte
            raise self._damaged(f"a list of {count:,}")
        return [read() for _ in range(count)]

    def _text(self) -> str:
        try:
            return self._take(self._number()).tobytes().decode()
        except UnicodeDecodeError as error:
            raise self._damaged("a name that is no text") from error

    def _number(self) -> int:
        return int.from_bytes(self._take(8).tobytes(), "little")

    def _magic(self, expected: int, what: str) -> None:
        if self._number() != expected:
            raise self._damaged(f"no {what.removeprefix('a ').removeprefix('an ')}")

    def _skip(self, count: int) -> None:
        self._take(count)

    def _take(self, count: int) -> np.ndarray:
        end = self._at + count
        if not 0 <= self._at <= end <= self._bytes.size:
            raise StoreError(
                f"{self._path} is truncated or no file of dgl.save_graphs: it ends at byte "
                f"{self._bytes.size:,}, and byte {end:,} is wanted. Fetch or write it again"
            )
        taken, self._at = self._bytes[self._at : end], end
        return taken

    def _damaged(self, found: str) -> StoreError:
        return StoreError(
            f"{self._path} is damaged, or no file of dgl.save_graphs: {found} before byte "
            f"{self._at:,}. Fetch or write it again"
        )


def _product(shape: tuple[int, ...]) -> int:
    product = 1  # of Python's numbers, which do not overflow
    for size in shape:
        product *= size
    return product
