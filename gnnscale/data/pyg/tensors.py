"""Files of ``torch.save`` with PyG's holders of tensors in them, loaded without running any code.

torch loads tensors and what is on its list of harmless classes (``weights_only=True``). Of PyG's,
those that a ``Data`` is written with and that hold nothing but others are added here for the time
of loading, and NumPy's arrays of numbers.
"""

from __future__ import annotations

import io
import pickle
import re
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnnscale.errors import InputError, StoreError

_KEEP = "torch.save({'edge_index': …, 'x': …, 'y': …}, path), tensors only"
_REMEDIES = {
    "DynamicInheritanceGetter": "it is a Batch; where it was made, save torch.save("
    "batch.to_data_list(), path)",
    "torch_geometric.": f"where it was made, save its tensors: {_KEEP}",
    "dgl.": "it is DGL's; there, write dgl.save_graphs(path, graphs)",
    "networkx.": "it is networkx's; there, write networkx.write_graphml(graph, path)",
    "torch.nn.": "it is a model, not a graph",
}


def load_tensors(path: Traversable) -> Any:
    """Load what ``torch.save`` wrote: tensors, and PyG's holders of them.

    Args:
        path: the file, which may lie in a zip (`zipfile.Path`).

    Raises:
        InputError: there is something else in it, which is named and not executed.
        StoreError: it is missing, damaged or truncated.
    """
    try:
        with torch.serialization.safe_globals(_harmless()):
            if not isinstance(path, Path):
                return torch.load(io.BytesIO(path.read_bytes()), "cpu", weights_only=True)
            try:
                return torch.load(path, "cpu", weights_only=True, mmap=True)
            except RuntimeError:  # of a version that cannot be mapped
                return torch.load(path, "cpu", weights_only=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except Exception as error:  # a damaged file raises anything
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(f"{path} is damaged, or no file of torch.save: {first}") from error


def _refused(path: Traversable, said: str) -> InputError | StoreError:
    """What torch says of a file, without its advice to load it unsafely."""
    found = re.search(r"GLOBAL ([\w.]+)|(?:function|class) <?'?(?:class ')?([\w.]+)", said)
    what = next((name for name in found.groups() if name), "") if found else ""
    if "object array" in said or "ObjectDType" in said:
        what = "an array of Python objects"
    if not what:
        return StoreError(f"{path} is damaged, or no file of torch.save")
    remedy = next((words for name, words in _REMEDIES.items() if name in what), None)
    return InputError(
        f"{path} holds {what}, and gnnscale runs no code out of files, so it loads tensors, "
        f"numbers and text only; {remedy or 'where it was made, save ' + _KEEP}"
    )


def _harmless() -> list[Any]:
    from torch_geometric.data import batch, data, storage

    array = np.zeros(1)
    reconstruct, scalar = array.__reduce__()[0], array[0].__reduce__()[0]
    kinds = [
        kind
        for name, kind in vars(np.dtypes).items()
        if isinstance(kind, type) and name != "ObjectDType"
    ]
    return [
        *(data.DataEdgeAttr, data.DataTensorAttr, batch.Batch),
        *(storage.BaseStorage, storage.GlobalStorage, storage.NodeStorage, storage.EdgeStorage),
        *(np.ndarray, np.dtype, reconstruct, scalar, *kinds),
        (reconstruct, "numpy.core.multiarray._reconstruct"),  # as NumPy 1 called them
        (scalar, "numpy.core.multiarray.scalar"),
    ]
