"""Layouts of ``.npz`` that others have: SciPy's sparse matrices, and those of two benchmarks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from gnnscale.data.formats import seen
from gnnscale.data.formats.array_graphs import read_arrays
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import Format
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.schema import Schema

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

_SCIPY = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "row", "col"),
    "dia": ("data", "offsets"),
}
_ADJACENCY = frozenset(f"adj_{part}" for part in ("indices", "indptr", "shape"))
_HETEROPHILOUS = frozenset(("node_features", "node_labels", "edges"))


def _has(wanted: frozenset[str]) -> Callable[[Path], bool]:
    return lambda path: wanted <= seen.keys(path)


def edges_of(matrix: Any, path: Path) -> Arrays:
    """The entries of a sparse matrix: (i, j) is the edge from i to j, and its value the weight.

    Raises:
        InputError: it is not square, or its values are no real numbers.
    """
    rows, columns = matrix.shape
    if rows != columns:
        raise InputError(
            f"{path} has {rows:,} rows and {columns:,} columns; the matrix of a graph is square. "
            "Where rows and columns are different nodes, save "
            "scipy.sparse.block_array([[None, A], [A.T, None]])"
        )
    if matrix.dtype.kind not in "biuf":
        raise InputError(f"{path}: its values are {matrix.dtype}; weights are real numbers")
    entries = matrix.tocoo()
    arrays = {
        "edge_index": np.stack([entries.row, entries.col]).astype(np.int64),
        "num_nodes": np.array(rows),
    }
    if not (entries.data == 1).all():
        arrays["edge_weight"] = entries.data.astype(np.float32)
    return arrays


def _sparse(arrays: Mapping[str, np.ndarray], kind: str, parts: tuple[str, ...], path: Path) -> Any:
    """A sparse matrix out of its parts, checked by SciPy."""
    data, *index = (arrays[part] for part in parts[:-1])
    shape = tuple(int(size) for size in arrays[parts[-1]])
    made = getattr(scipy.sparse, f"{kind}_array")
    content = (data, tuple(index)) if kind == "coo" else (data, *index)
    try:
        matrix = made(content, shape)
        if kind not in ("coo", "dia"):
            matrix.check_format(full_check=True)
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}: {', '.join(parts)} are no {kind} matrix: {error}") from error
    return matrix


def read_matrix(path: Path) -> Any:
    """The sparse matrix that ``scipy.sparse.save_npz`` wrote.

    Raises:
        InputError: it is of a format or shape that is not read.
        StoreError: the file is damaged, or holds Python objects.
    """
    arrays = read_arrays(path)
    if "format" not in arrays:
        raise InputError(f"{path} is no matrix of scipy.sparse.save_npz: it has no `format`")
    kind = arrays["format"].item()
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if "coords" in arrays:  # of a coo_array, which may have more dimensions
        arrays |= dict(zip(("row", "col"), arrays["coords"], strict=False))
    parts = _SCIPY.get(kind)
    if parts is None or not arrays.keys() >= {*parts, "shape"} or arrays["shape"].size != 2:
        raise InputError(
            f"{path} is a sparse matrix of the format {kind!r} and shape "
            f"{arrays['shape'].tolist()}, which is not read; save it as CSR: scipy.sparse.save_npz"
        )
    return _sparse(arrays, kind, (*parts, "shape"), path)


def _scipy(path: Path, given: Mapping[str, Any]) -> Graph:
    logger.info("%s: entry (i, j) is the edge from i to j, as stored", path)
    return graph_of(edges_of(read_matrix(path), path), path, given)


def _matrix(arrays: Mapping[str, np.ndarray], prefix: str, path: Path) -> Any:
    index = tuple(f"{prefix}_{part}" for part in ("data", "indices", "indptr", "shape"))
    if index[0] not in arrays:
        arrays = {**arrays, index[0]: np.ones(arrays[index[1]].shape, np.float32)}
    return _sparse(arrays, "csr", index, path)


def _features(matrix: Any) -> Arrays:
    return {
        "x_indptr": matrix.indptr,
        "x_indices": matrix.indices,
        "x_data": matrix.data,
        "x_shape": np.array(matrix.shape),
    }


def _gnn_benchmark(path: Path, given: Mapping[str, Any]) -> Graph:
    found = read_arrays(path, leave_out_objects=True)
    adj = _matrix(found, "adj", path)
    stored = given.get("undirected") is False
    # As PyG reads these sets, and so what is published of them.
    arrays = edges_of(adj if stored else _undirected(adj), path)
    for prefix in ("attr", "feature"):
        if f"{prefix}_indptr" in found:
            arrays |= _features(_matrix(found, prefix, path))
        elif f"{prefix}_matrix" in found:
            arrays["x"] = found[f"{prefix}_matrix"]
    if "labels_indptr" in found:
        arrays["y"] = _matrix(found, "labels", path).toarray().astype(np.int64)
    elif "labels" in found:
        arrays["y"] = found["labels"]
    ones = not stored and "preprocessing" not in given
    for key in ("x", "x_data"):
        if ones and key in arrays:
            arrays[key] = np.where(arrays[key] > 0, 1, arrays[key]).astype(np.float32)
    logger.info(
        "%s: %s",
        path,
        "edges, loops and attributes as stored"
        if stored
        else "undirected, without loops" + ", attributes as ones" * ones + ", as PyG reads it; "
        "undirected=False has all as stored",
    )
    given = {**given, "undirected": False}
    schema = Schema(_names(found, "class_names"), _names(found, "attr_names"))
    return graph_of(arrays, path, given, schema=None if schema == Schema() else schema)


def _undirected(matrix: Any) -> Any:
    """Ones both ways for every entry, whatever its value, but those of the diagonal."""
    entries = matrix.tocoo()
    apart = entries.row != entries.col
    ends = np.stack([entries.row[apart], entries.col[apart]])
    ends = np.unique(np.concatenate([ends, ends[::-1]], axis=1), axis=1)
    ones = np.ones(ends.shape[1], np.float32)
    return scipy.sparse.coo_array((ones, (ends[0], ends[1])), matrix.shape)


def _names(arrays: Mapping[str, np.ndarray], key: str) -> tuple[str, ...] | None:
    return tuple(map(str, arrays[key])) if key in arrays else None


def _heterophilous(path: Path, given: Mapping[str, Any]) -> Graph:
    found = read_arrays(path)
    pairs, features = found["edges"], found["node_features"]
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise InputError(
            f"{path}: edges is {pairs.dtype} {[*pairs.shape]}, expected integers [num_edges, 2]"
        )
    pairs = pairs.astype(np.int64)
    if given.get("undirected", True):
        # Each edge is listed once, as a rule: the benchmark's own loader merges what is not.
        pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    arrays = {"edge_index": pairs.T, "x": features, "y": found["node_labels"]}
    for part in ("train", "val", "test"):
        if f"{part}_masks" in found:
            arrays[f"{part}_mask"] = np.atleast_2d(found[f"{part}_masks"]).T
    rest = {key: value for key, value in given.items() if key != "undirected"}
    return graph_of(arrays, path, {**rest, "undirected": False})


FORMATS = (
    Format(
        "scipy",
        "a sparse matrix that scipy.sparse.save_npz wrote: its entries are edges",
        "*.npz with format, shape, data",
        _has(frozenset(("format", "shape", "data"))),
        _scipy,
        documented="https://docs.scipy.org/doc/scipy/reference/generated/scipy.sparse.save_npz.html",
    ),
    Format(
        "gnn-benchmark",
        "adjacency, attributes and labels as sparse matrices (Shchur et al. 2018)",
        "*.npz with adj_indptr, attr_…, labels",
        _has(_ADJACENCY),
        _gnn_benchmark,
        documented="https://github.com/shchur/gnn-benchmark",
    ),
    Format(
        "heterophilous",
        "node_features, node_labels, edges and ten splits (Platonov et al. 2023)",
        "*.npz with node_features, edges",
        _has(_HETEROPHILOUS),
        _heterophilous,
        documented="https://github.com/yandex-research/heterophilous-graphs",
    ),
)
