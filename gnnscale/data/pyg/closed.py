"""Files that were pickled by others: looked through with a closed list before PyG loads them.

Loading a pickle runs what is in it. The raw files of Planetoid are pickles of arrays, sparse
matrices and a dict, and what PyG has processed are pickles of tensors; nothing else is let through,
and nothing is imported because a file says so.
"""

from __future__ import annotations

import copyreg
import pickle
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typing_extensions import override

from gnnscale.errors import StoreError
from gnnscale.storage.unpacking import check_archive

_REMEDY = "gnnscale runs no code out of files. Fetch the file from where its authors publish it"


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
            _Closed(file, encoding="latin1").load_checked()
    except (MemoryError, KeyboardInterrupt):
        raise
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

    def load_checked(self) -> None:
        """Load all, and refuse what has changed a class on the way.

        Raises:
            UnpicklingError: something is not on the list.
        """
        copyreg.clear_extension_cache()  # what is in it would not be asked for
        before = [dict(vars(kind)) for kind in self._classes]
        self.load()
        if before != [dict(vars(kind)) for kind in self._classes]:
            raise pickle.UnpicklingError("it changes a class")

    @override
    def find_class(self, module: str, name: str) -> Any:
        """What a pickle calls so."""
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    @override
    def persistent_load(self, pid: Any) -> Any:
        """Nothing is outside of the file."""
        raise pickle.UnpicklingError("it refers to another file")


def _allowed() -> tuple[dict[tuple[str, str], Any], list[type]]:
    """The closed list, by module and name as pickles have them; and the classes made for it."""
    import numpy as np
    import scipy.sparse

    found: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "defaultdict"): _of_lists,
        ("builtins", "list"): list,
        ("__builtin__", "list"): list,
    }
    array = np.zeros(2)
    reconstruct: Callable[..., Any] = array.__reduce__()[0]  # type: ignore[assignment]
    scalar: Callable[..., Any] = array[0].__reduce__()[0]
    buffered: Callable[..., Any] = array.__reduce_ex__(5)[0]  # type: ignore[assignment]
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


def _of_lists(*factory: Any) -> defaultdict[Any, list[Any]]:
    if factory != (list,):
        raise pickle.UnpicklingError("it makes a defaultdict of something else than lists")
    return defaultdict(list)
