"""PyG's own classes asked for a data set: their graphs as arrays."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnnscale.data.pyg.catalogue import PyGEntry
from gnnscale.data.pyg.closed import check_pickled
from gnnscale.extras import from_extra
from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.kernels import CSR

_FOLDS = 10
_ROWS_AT_ONCE = 1 << 16
_SPARSE = 0.1  # of the entries; fewer than that are kept as CSR


def read_pyg(
    entry: PyGEntry, member: str | None, place: Path, *, download: bool, sparse: bool
) -> dict[str, np.ndarray]:
    """Read a data set through its class in PyG.

    Args:
        entry: which.
        member: its name as the folder has it.
        place: PyG's ``root``.
        download: let PyG fetch what is not there.
        sparse: give features of which most are zero as CSR.

    Returns:
        Arrays as `graph_from_arrays` takes them. Several graphs are numbered through, each part of
        PPI being its own set of nodes; TU data sets get the ten folds of Xu et al. (ICLR 2019).

    Raises:
        FileNotFoundError: the files are not there, and are not to be fetched.
        StoreError: a file holds code.
        Exception: whatever PyG raises.
    """
    if entry.class_name == "PPI":
        return _in_parts(lambda part: _graphs(entry, place, download, split=part), sparse)
    named = {} if member is None else {"name": member}
    graphs = _graphs(entry, place, download, **named)
    if entry.class_name != "TUDataset":
        return _arrays(graphs[0], sparse)
    arrays = _several(graphs, sparse)
    arrays["y_level"] = np.array("graph")
    arrays |= _folds(arrays["y"])
    if "x" not in arrays and "x_indptr" not in arrays:
        arrays["node_tag"] = np.zeros(int(arrays["num_nodes"]), np.int64)  # made degrees, as in GIN
    return arrays


def _graphs(entry: PyGEntry, place: Path, download: bool, **arguments: Any) -> list[Any]:
    from torch_geometric import datasets

    made = getattr(datasets, entry.class_name)
    changed: dict[str, Any] = {"_process": partialmethod(_process, made)}
    if not download:
        changed["download"] = _refuse
    return list(type(made.__name__, (made,), changed)(str(place), **arguments))


def _process(dataset: Any, made: type) -> None:
    """In place of PyG's, which comes before anything is loaded: look through the files first."""
    check_pickled(Path(dataset.raw_dir), Path(dataset.processed_dir))
    if not all(map(os.path.exists, dataset.processed_paths)):
        dataset.force_reload = True  # it reads what it noted of transforms, whatever that is, else
        made._process(dataset)  # type: ignore[attr-defined]


def _refuse(dataset: Any) -> None:
    """In place of PyG's download, which it calls where raw files are missing."""
    if all(map(os.path.exists, dataset.processed_paths)):
        return  # PyG needs no raw files then
    folder = Path(dataset.raw_dir)
    missing = [name for name in _listed(dataset.raw_file_names) if not (folder / name).exists()]
    for empty in (folder, *folder.parents):  # made for what was to be fetched
        if any(empty.iterdir()):
            break
        empty.rmdir()
    raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}")


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _arrays(data: Any, sparse: bool) -> dict[str, np.ndarray]:
    arrays = {"num_nodes": np.array(data.num_nodes), "edge_index": data.edge_index.numpy()}
    if data.get("x") is not None:
        arrays |= _features(data.x) if sparse else {"x": data.x.numpy()}
    if data.get("y") is not None:
        y = data.y
        # PyG keeps every mark of 100 labels in eight bytes.
        marks = y.dim() == 2 and y.size(1) > 1 and bool(((y == 0) | (y == 1)).all())
        arrays["y"] = (y.to(torch.int8) if marks else y).numpy()
    for key in (*EDGE_VALUES, "node_type", "train_mask", "val_mask", "test_mask"):
        if isinstance(data.get(key), torch.Tensor):
            arrays[key] = data[key].numpy()
    return arrays


def _features(x: torch.Tensor) -> dict[str, np.ndarray]:
    entries = sum(int(torch.count_nonzero(rows)) for rows in x.split(_ROWS_AT_ONCE))
    if entries >= _SPARSE * x.numel():
        return {"x": x.numpy()}
    sparse = CSR.from_dense(x)
    values = torch.ones(sparse.nnz) if sparse.values is None else sparse.values
    return {
        "x_indptr": sparse.indptr.numpy(),
        "x_indices": sparse.indices.numpy(),
        "x_data": values.numpy(),
        "x_shape": np.array(x.shape),
    }


def _several(graphs: list[Any], sparse: bool) -> dict[str, np.ndarray]:
    from torch_geometric.data import Batch

    batch = Batch.from_data_list(graphs)
    return {**_arrays(batch, sparse), "node_ptr": batch.ptr.numpy()}


def _in_parts(read: Callable[[str], list[Any]], sparse: bool) -> dict[str, np.ndarray]:
    parts = {part: read(part) for part in ("train", "val", "test")}
    arrays = _several([graph for graphs in parts.values() for graph in graphs], sparse)
    sizes = [sum(graph.num_nodes for graph in graphs) for graphs in parts.values()]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return arrays | {f"{part}_mask": owner == i for i, part in enumerate(parts)}


def _folds(y: np.ndarray) -> dict[str, np.ndarray]:
    """The folds of Xu et al.: stratified, shuffled with seed 0; none where a class is too small."""
    if y.ndim != 1 or y.dtype.kind != "i" or np.unique(y, return_counts=True)[1].min() < _FOLDS:
        return {}
    fold = np.empty(y.size, np.int64)
    model_selection = from_extra("metrics", "sklearn.model_selection")
    drawn = model_selection.StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(y, y)
    for number, (_, test) in enumerate(drawn):
        fold[test] = number
    return {"fold": fold}
