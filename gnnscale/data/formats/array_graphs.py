"""Graphs from a folder of arrays (``.npy``, one file a key) or an ``.npz`` with the same keys.

Only ``edge_index`` is a must:

=====================  =============================================================================
``edge_index``         ``[2, num_edges]``, row 0 the sources, row 1 the targets
``undirected``         true: each edge is stored once and stands for both directions. Else taken
                       from the card or from ``about``; else edges are directed, as listed
``num_nodes``          one number; else taken from features, labels, ``node_ptr`` or the edges
``x``                  dense features ``[num_nodes, num_features]``, or
``x_indptr`` ...       sparse: ``x_indptr``, ``x_indices``, ``x_data`` (else ones), ``x_shape``
``node_tag``           one category a node, made one-hot where there are no other features; of a
                       single category (as in TU's IMDB), the in-degree is, as GIN does
``y``                  labels, -1 or NaN where there is none; one a graph where ``node_ptr`` says so
``edge_weight``        ``[num_edges]``
``edge_attr``          ``[num_edges, channels]``
``edge_type``          ``[num_edges]``, integers from 0 on
``node_type``          ``[num_nodes]``, integers from 0 on
``edge_time``          ``[num_edges]``, when each became known: see :mod:`gnnscale.graph.times`
``node_time``          ``[num_nodes]``, likewise
``node_ptr``           ``[num_graphs + 1]``: several graphs in one, numbered through
splits                 see :mod:`gnnscale.data.splits`
``about``              JSON: name, task, metric, source, licence, edge_format, note
=====================  =============================================================================
"""

from __future__ import annotations

import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnnscale.data.splits import choose_split, is_split_key, read_splits, to_nodes
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.graph.checks import tensor
from gnnscale.graph.reading.labels import labelled, read_labels
from gnnscale.kernels.csr import CSR
from gnnscale.storage.unpacking import check_archive

logger = logging.getLogger(__name__)

_UNREADABLE = (
    *(ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeError),  # of a zip that is packed in another way, or encrypted
)
_FEATURE_KEYS = ("x", "x_indptr", "x_indices", "x_data", "x_shape", "node_tag")
_EDGE_KEYS = ("edge_index", "undirected", "edge_weight", "edge_attr", "edge_type", "edge_time")
_KEYS = {
    *_FEATURE_KEYS,
    *_EDGE_KEYS,
    "num_nodes",
    "node_type",
    "node_time",
    "node_ptr",
    "y",
    "y_level",
    "about",
}
_KEYS |= {"graph_names"}  # read by people only


def graph_from_arrays(
    arrays: Mapping[str, np.ndarray],
    path: Path,
    *,
    split: str | None = None,
    seed: int = 0,
    **overrides: object,
) -> Graph:
    """Make a graph from arrays.

    Args:
        arrays: arrays by key, as the table above says.
        path: where they are from, for errors.
        split: which split set is the default, or percentages of a random one such as "60/20/20".
        seed: of a random split.
        overrides: arguments of ``Graph.from_arrays`` that are not arrays (``undirected``, ``task``,
            ``metric``, ``name``, ...); None means not given.

    Raises:
        InputError: a key is missing or an array is not what it should be; all faults that can be
            told together, each with file and key.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return _make_graph(dict(arrays), given, split, seed)
    except InputError as error:
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error


def _make_graph(
    arrays: dict[str, np.ndarray], given: dict[str, Any], split: str | None, seed: int
) -> Graph:
    unknown = [key for key in arrays if key not in _KEYS and not is_split_key(key)]
    if unknown:
        logger.warning("arrays of no known meaning are ignored: %s", ", ".join(unknown))
    about = _about(arrays)
    given.setdefault("undirected", _undirected(arrays, about))
    for key in ("task", "metric", "name"):
        if about.get(key) is not None:
            given.setdefault(key, str(about[key]))
    edge_index = _edge_index(arrays)
    x = _features(arrays)
    node_ptr, stored = arrays.get("node_ptr"), arrays.get("y")
    num_nodes = _num_nodes(arrays, x, edge_index)
    if "y_level" in arrays:
        given.setdefault("y_level", str(arrays["y_level"]))
    level = given.setdefault("y_level", _infer_level(stored, node_ptr, num_nodes))
    _check_pointers(node_ptr, num_nodes)
    if x is None and "node_tag" in arrays:
        x = _one_hot(arrays["node_tag"], edge_index, num_nodes, given["undirected"])

    y = _read_labels(stored, level, given)
    known = _labelled(y, level, node_ptr, num_nodes, given.get("task"))
    splits = read_splits(arrays, num_nodes, known if level == "node" and y is not None else None)
    if split is not None:
        if "/" in split and level == "graph" and node_ptr is not None:
            graphs = _labelled(y, "node", None, node_ptr.size - 1, given.get("task"))
            drawn = choose_split({}, split, graphs, seed)["default"]
            chosen = {part: to_nodes(mask, node_ptr) for part, mask in drawn.items()}
            splits = choose_split({**splits, "random": chosen}, "random", known, seed)
        else:
            splits = choose_split(splits, split, known, seed)
    return Graph.from_arrays(
        edge_index,
        x,
        y,
        num_nodes=num_nodes,
        edge_weight=_float(arrays.get("edge_weight")),
        edge_attr=_columns(_float(arrays.get("edge_attr"))),
        edge_type=arrays.get("edge_type"),
        node_type=arrays.get("node_type"),
        edge_time=arrays.get("edge_time"),
        node_time=arrays.get("node_time"),
        node_ptr=node_ptr,
        splits=splits,
        **given,
    )


def _about(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    if "about" not in arrays:
        return {}
    try:
        content = json.loads(str(arrays["about"]))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError("about: expected a JSON object as text")
    return content


def _undirected(arrays: Mapping[str, np.ndarray], about: Mapping[str, object]) -> bool:
    if "undirected" in arrays:
        return bool(np.all(arrays["undirected"]))
    return str(about.get("edge_format", "")).startswith("undirected")


def _edge_index(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    if "edge_index" not in arrays:
        known = ", ".join(arrays) or "none"
        raise InputError(
            f"edge_index is missing; the keys are: {known}. Layouts of others that are known are "
            "listed by `gnnscale formats`"
        )
    edge_index = arrays["edge_index"]
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        hint = "; transpose it" if edge_index.ndim == 2 and edge_index.shape[1] == 2 else ""
        raise InputError(f"edge_index: shape {[*edge_index.shape]}, expected [2, num_edges]{hint}")
    if edge_index.size and edge_index.dtype.kind not in "iu":
        raise InputError(f"edge_index: {edge_index.dtype}, expected integers")
    return edge_index.astype(np.int64)


def _features(arrays: Mapping[str, np.ndarray]) -> torch.Tensor | CSR | None:
    parts = [key for key in ("x_indptr", "x_indices", "x_shape") if key in arrays]
    if "x" in arrays:
        if parts:
            raise InputError(f"x and {parts[0]}: features are either dense or sparse, not both")
        return torch.from_numpy(_float(_columns(arrays["x"]), "x"))
    if not parts:
        return None
    missing = [key for key in ("x_indptr", "x_indices", "x_shape") if key not in parts]
    if missing:
        raise InputError(f"{', '.join(missing)}: missing, where {', '.join(parts)} is given")
    faults = [
        f"{key}: {arrays[key].dtype} of shape {[*arrays[key].shape]}, expected a vector of integers"
        for key in parts
        if arrays[key].ndim != 1 or arrays[key].dtype.kind not in "iu"
    ]
    if not faults and arrays["x_shape"].size != 2:
        faults = [f"x_shape: {arrays['x_shape']}, expected [num_nodes, num_features]"]
    if faults:
        raise InputError(faults)
    rows, cols = (int(size) for size in arrays["x_shape"])
    values = _float(arrays.get("x_data"), "x_data")
    if values is not None and values.shape != arrays["x_indices"].shape:
        raise InputError(
            f"x_data: shape {[*values.shape]}, where x_indices has {[*arrays['x_indices'].shape]}"
        )
    if values is not None and (values == 1).all():
        values = None  # 4 bytes an entry less, and the sparse product skips a read
    return CSR(
        torch.from_numpy(arrays["x_indptr"].astype(np.int64)),
        torch.from_numpy(arrays["x_indices"].astype(np.int32 if cols < 2**31 else np.int64)),
        None if values is None else torch.from_numpy(values),
        (rows, cols),
    )


def _num_nodes(arrays: Mapping[str, np.ndarray], x: Any, edge_index: np.ndarray) -> int:
    if "num_nodes" in arrays:
        return int(arrays["num_nodes"])
    if x is not None:
        return int(x.shape[0])
    if "node_ptr" in arrays and arrays["node_ptr"].size:
        return int(arrays["node_ptr"].flat[-1])
    for key in ("node_tag", "y"):
        if key in arrays and arrays[key].ndim:
            return int(arrays[key].shape[0])
    return int(edge_index.max(initial=-1)) + 1


def _infer_level(y: np.ndarray | None, node_ptr: np.ndarray | None, num_nodes: int) -> str:
    if y is None or node_ptr is None or y.ndim == 0 or y.shape[0] == num_nodes:
        return "node"
    return "graph" if y.shape[0] == node_ptr.size - 1 else "node"


def _check_pointers(node_ptr: np.ndarray | None, num_nodes: int) -> None:
    if node_ptr is None:
        return
    sound = node_ptr.ndim == 1 and node_ptr.size >= 2 and node_ptr.dtype.kind in "iu"
    if not sound or node_ptr[0] != 0 or node_ptr[-1] != num_nodes:
        raise InputError(f"node_ptr: expected integers from 0 to num_nodes = {num_nodes}")
    if (np.diff(node_ptr.astype(np.int64)) < 0).any():
        raise InputError("node_ptr: it decreases")


def _read_labels(y: np.ndarray | None, level: str, given: dict[str, Any]) -> torch.Tensor | None:
    """Read labels before splits are drawn from them; what they are is put in ``given``."""
    if y is None:
        return None
    array = tensor(y, "y")
    if not array.dim():
        return array  # refused by Graph's checks
    labels = read_labels(array, given.get("task"), given.get("num_classes"), of=level)
    labels.log(str(given.get("name", "graph")))
    given.update(task=labels.task, num_classes=labels.num_classes)
    return labels.y


def _labelled(
    y: torch.Tensor | None,
    level: str,
    node_ptr: np.ndarray | None,
    num_nodes: int,
    task: str | None,
) -> np.ndarray:
    """Return which nodes have a label, bool ``[num_nodes]``: all, where labels are not theirs."""
    known = np.ones(num_nodes, dtype=bool)
    if y is None or level == "edge" or y.numel() == 0 or y.dim() == 0 or task is None:
        return known  # what is empty or of no shape is reported by Graph's checks
    has = labelled(y, task).numpy()
    if level == "graph" and node_ptr is not None and has.size == node_ptr.size - 1:
        return to_nodes(has, node_ptr)
    return has if has.size == num_nodes else known  # a wrong length is reported by Graph's checks


def _one_hot(tag: np.ndarray, edge_index: np.ndarray, num_nodes: int, undirected: bool) -> CSR:
    if tag.shape != (num_nodes,) or tag.dtype.kind not in "iu" or (tag.size and tag.min() < 0):
        raise InputError(f"node_tag: expected {num_nodes} integers of at least 0, one a node")
    if tag.max(initial=0) == 0 and (edge_index >= 0).all() and (edge_index < num_nodes).all():
        tag = np.bincount(edge_index[1], minlength=num_nodes)
        if undirected:
            tag = tag + np.bincount(edge_index[0], minlength=num_nodes)
    return CSR(
        torch.arange(num_nodes + 1),
        torch.from_numpy(tag.astype(np.int32)),
        None,
        (num_nodes, int(tag.max(initial=0)) + 1),
    )


def _float(array: np.ndarray | None, key: str = "edge_weight or edge_attr") -> np.ndarray | None:
    if array is None:
        return None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{key}: {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):  # what float32 does not hold is infinite, and refused
        return np.ascontiguousarray(array, dtype=np.float32)


def _columns(array: np.ndarray | None) -> np.ndarray | None:
    return array[:, None] if array is not None and array.ndim == 1 else array


def read_arrays(path: Path, leave_out_objects: bool = False) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` file or of a folder of ``.npy`` files; never a pickle.

    Args:
        path: the file or folder.
        leave_out_objects: of an ``.npz``, leave arrays of Python objects out, with a line that
            says so.

    Raises:
        StoreError: missing, damaged or truncated; names file and key.
        InputError: an array of Python objects; names file and key.
    """
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        if not files:
            raise StoreError(f"{path} holds no .npy files; expected edge_index.npy and others")
        return {file.stem: _read_array(file, file.stem, partial(_load, file)) for file in files}
    try:
        # Opened here: np.load leaves a damaged archive open that it has opened itself.
        with open(path, "rb") as file:
            content = _read_array(path, None, lambda: np.load(file, allow_pickle=False))
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise StoreError(f"{path} is a single array, not an .npz; give the folder it is in")
            with content:
                assert content.zip is not None
                check_archive(content.zip, path, path.stat().st_size)
                found = {}
                for key in content.files:
                    try:
                        found[key] = _read_array(path, key, partial(content.__getitem__, key))
                    except InputError as error:
                        if not leave_out_objects:
                            raise
                        logger.warning("%s. It is left out", error)
                return found
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an ``.npz`` as np.savez_compressed does, the same bytes for the same arrays."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry._compresslevel = 9  # type: ignore[attr-defined]  # public from Python 3.13 on
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _load(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _read_array(path: Path, key: str | None, read: Callable[[], object]) -> Any:
    label = f"{path}: key {key!r}" if key else f"{path}"
    try:
        content = read()
    except _UNREADABLE as error:
        if "Object arrays" in str(error):  # NumPy says this of sound files only
            raise InputError(
                f"{label} holds Python objects, which are not read for safety; save numbers"
            ) from error
        raise StoreError(f"{label} is damaged or truncated: {error}") from error
    if isinstance(content, bytes):  # what NumPy gives for a member that is not a .npy file
        raise StoreError(f"{label} is not an array")
    return content
