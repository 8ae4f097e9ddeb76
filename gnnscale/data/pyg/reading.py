"""PyG's own classes asked for a data set: their graphs as arrays.

Files that were pickled by others are looked through with a closed list before PyG loads them.
Loading a pickle runs what is in it. The raw files of Planetoid are pickles of arrays, sparse
matrices and a dict, and what PyG has processed are pickles of tensors; nothing else is let through,
and nothing is imported because a file says so.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import pickletools
import zipfile
from collections import defaultdict
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
import torch
from typing_extensions import override

from gnnscale.data.pyg.catalogue import PyGEntry
from gnnscale.errors import StoreError
from gnnscale.extras import from_extra
from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.kernels import CSR
from gnnscale.storage.unpacking import check_archive

if TYPE_CHECKING:
    from torch_geometric.data import Dataset

_FOLDS = 10
_ROWS_AT_ONCE = 1 << 16
_SPARSE = 0.1  # of the entries; fewer than that are kept as CSR
_REMEDY = "gnnscale runs no code out of files. Fetch the file from where its authors publish it"


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
    arrays |= folds_of(arrays["y"])
    if "x" not in arrays and "x_indptr" not in arrays:
        arrays["node_tag"] = np.zeros(int(arrays["num_nodes"]), np.int64)  # made degrees, as in GIN
    return arrays


def _graphs(entry: PyGEntry, place: Path, download: bool, **arguments: object) -> list[Any]:
    from torch_geometric import datasets

    made = getattr(datasets, entry.class_name)
    changed: dict[str, Any] = {"_process": partialmethod(_process, made)}
    if not download:
        changed["download"] = _refuse
    return list(type(made.__name__, (made,), changed)(str(place), **arguments))


def _process(dataset: Dataset, made: type[Dataset]) -> None:
    """In place of PyG's, which comes before anything is loaded: look through the files first."""
    check_pickled(Path(dataset.raw_dir), Path(dataset.processed_dir))
    if not all(map(os.path.exists, dataset.processed_paths)):
        dataset.force_reload = True  # it reads what it noted of transforms, whatever that is, else
        made._process(dataset)


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
        arrays |= features_of(data.x) if sparse else {"x": data.x.numpy()}
    if data.get("y") is not None:
        y = data.y
        # PyG keeps every mark of 100 labels in eight bytes.
        marks = y.dim() == 2 and y.size(1) > 1 and bool(((y == 0) | (y == 1)).all())
        arrays["y"] = (y.to(torch.int8) if marks else y).numpy()
    for key in (*EDGE_VALUES, "node_type", "train_mask", "val_mask", "test_mask"):
        if isinstance(data.get(key), torch.Tensor):
            arrays[key] = data[key].numpy()
    return arrays


def features_of(x: torch.Tensor) -> dict[str, np.ndarray]:
    """Features as arrays: as CSR where they are sparse, or most of them are zero."""
    if x.layout != torch.strided:
        x = x.to_sparse_csr()
        return {
            "x_indptr": x.crow_indices().numpy(),
            "x_indices": x.col_indices().numpy(),
            "x_data": x.values().numpy(),
            "x_shape": np.array(x.shape),
        }
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


def folds_of(y: np.ndarray) -> dict[str, np.ndarray]:
    """The folds of Xu et al.: stratified, shuffled with seed 0; none where a class is too small."""
    if y.ndim != 1 or y.dtype.kind != "i" or np.unique(y, return_counts=True)[1].min() < _FOLDS:
        return {}
    fold = np.empty(y.size, np.int64)
    model_selection = from_extra("metrics", "sklearn.model_selection")
    drawn = model_selection.StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(y, y)
    for number, (_, test) in enumerate(drawn):
        fold[test] = number
    return {"fold": fold}


def check_pickled(raw: Path, processed: Path) -> None:
    """Look through what PyG would load out of its folders.

    Raises:
        StoreError: a file holds something else than numbers and tensors, unpacks to too much, or is
            damaged.
    """
    for path in sorted(raw.glob("*.npz")):
        try:
            with zipfile.ZipFile(path) as archive:
                check_archive(archive, path, path.stat().st_size)
        except (OSError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path} is damaged, or cannot be read: {error}") from error
    for path in sorted(raw.glob("ind.*")):
        if path.suffix != ".index":
            check_pickle(path)
    # What PyG notes of transforms there it is not asked to read.
    for path in sorted(processed.glob("*.pt")):
        if path.name not in ("pre_transform.pt", "pre_filter.pt"):
            check_tensors(path)


def check_pickle(path: Path) -> None:
    """Load a pickle of arrays, sparse matrices, and dicts, lists and numbers, and forget it.

    Raises:
        StoreError: there is something else in it; it is not executed.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for opcode, value, _ in pickletools.genops(file):
                # The unpickler makes room for as many entries as the number of one says.
                if "PUT" in opcode.name and value is not None and int(value) > size:
                    raise pickle.UnpicklingError("it numbers more entries than it has bytes")
            file.seek(0)
            content = _Closed(file, encoding="latin1").load_checked()
        # SciPy reads beyond an array where indices are out of range.
        if isinstance(content, scipy.sparse.coo_matrix):
            content._check()
        elif scipy.sparse.issparse(content):
            content.check_format(full_check=True)
    except MemoryError as error:
        raise StoreError(f"{path} asks for more memory than there is: is it whole?") from error
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle raises anything
        raise StoreError(
            f"{path} is damaged, or no pickle of numbers: {error}. {_REMEDY}"
        ) from error


def check_tensors(path: Path) -> None:
    """Look through a file of torch.save's: tensors, and PyG's own holders of them.

    Raises:
        StoreError: there is something else in it; it is not executed.
    """
    import torch
    import torch_geometric.data  # noqa: F401 - it tells torch which of its classes are no danger

    try:
        try:
            torch.load(path, "cpu", weights_only=True, mmap=True)
        except RuntimeError:  # of a version that cannot be mapped
            torch.load(path, "cpu", weights_only=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error
    except Exception as error:
        raise StoreError(
            f"{path} is damaged, or holds more than tensors, and gnnscale runs no code out of "
            f"files. Where the raw files are there, remove {path.parent}: it is made anew from "
            "them; else fetch the data again"
        ) from error


class _Closed(pickle.Unpickler):
    """Finds what is on the list, classes as copies that a pickle may spoil; imports nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._allowed, self._classes = _allowed()

    def load_checked(self) -> Any:
        """Load all, and refuse what has changed a class on the way.

        Raises:
            UnpicklingError: something is not on the list.
        """
        copyreg.clear_extension_cache()  # what is in it would not be asked for
        before = [dict(vars(kind)) for kind in self._classes]
        content = self.load()
        if before != [dict(vars(kind)) for kind in self._classes]:
            raise pickle.UnpicklingError("it changes a class")
        return content

    @override
    def find_class(self, module: str, name: str) -> Any:
        """What a pickle calls so."""
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    @override
    def persistent_load(self, pid: object) -> Any:
        """Nothing is outside of the file."""
        raise pickle.UnpicklingError("it refers to another file")


def _allowed() -> tuple[dict[tuple[str, str], Any], list[type]]:
    """The closed list, by module and name as pickles have them; and the classes made for it."""
    found: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "defaultdict"): _of_lists,
        ("builtins", "list"): list,
        ("__builtin__", "list"): list,
    }
    array = np.zeros(2)
    reconstruct = array.__reduce__()[0]
    scalar = array[0].__reduce__()[0]
    buffered = array.__reduce_ex__(5)[0]
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "_reconstruct"] = reconstruct
        found[f"{core}.multiarray", "scalar"] = scalar
        found[f"{core}.numeric", "_frombuffer"] = buffered
    classes = []
    for kind in ("csr", "csc", "coo"):
        made = type(f"{kind}_matrix", (getattr(scipy.sparse, f"{kind}_matrix"),), {})
        classes.append(made)
        for module in ("scipy.sparse", f"scipy.sparse.{kind}", f"scipy.sparse._{kind}"):
            found[module, f"{kind}_matrix"] = made
    return found, classes


def _of_lists(*factory: object) -> defaultdict[Any, list[Any]]:
    if factory != (list,):
        raise pickle.UnpicklingError("it makes a defaultdict of something else than lists")
    return defaultdict(list)
