"""Graphs kept in ``$GNNSCALE_CACHE/graphs``, so that what is read once is opened afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.errors import DamagedStore, StoreError
from gnnscale.graph import Graph, open_stored_graph
from gnnscale.storage.files import expanded
from gnnscale.storage.memory import folder_in

_SCRATCH = ".gnnscale-ids-"


def open_kept(path: Path) -> Graph | None:
    """Open what was kept before; None where there is nothing, or nothing that is whole.

    Raises:
        StoreError: it is there and cannot be opened, and may be sound: it is left as it is.

    Warns:
        RuntimeWarning: it is damaged; it is removed, to be made again.
    """
    if not path.exists():
        return None
    try:
        return open_stored_graph(path)
    except DamagedStore:
        return _without_damage(path)
    except StoreError as error:
        raise StoreError(
            f"the graph that was kept cannot be opened now: {error}. It is left as it is. Try "
            f"again, or remove {path}, or point GNNSCALE_CACHE at another folder"
        ) from error


def _without_damage(path: Path) -> Graph | None:
    """Take a damaged graph away, unless another process has just put a whole one in its place."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} is damaged and cannot be removed: {error.strerror}") from error
    try:
        graph = open_stored_graph(aside)
    except DamagedStore as error:
        told = str(error).replace(str(aside), str(path))
        warnings.warn(
            f"the cached graph is damaged ({told}); it is made again",
            RuntimeWarning,
            stacklevel=5,
        )
        shutil.rmtree(aside, ignore_errors=True)
        return None
    with contextlib.suppress(OSError):  # there may be a third by now
        aside.rename(path)
    return graph


def told_apart(given: object) -> Any:
    """What tells an argument from another, for JSON: of a file size and time, of an array a digest.

    A file is given by its path; what is neither that nor a number nor a mapping is an array.
    """
    if given is None or isinstance(given, bool | int | float):
        return given
    if isinstance(given, Mapping):
        return [[str(key), told_apart(value)] for key, value in given.items()]
    if isinstance(given, str | os.PathLike):
        path = expanded(given)
        if not path.is_file():
            return os.fspath(given)
        about = path.stat()
        return [str(path.resolve()), about.st_size, about.st_mtime_ns]
    array = np.ascontiguousarray(given)
    content = repr(array.tolist()).encode() if array.dtype.hasobject else array.data
    return [str(array.dtype), list(array.shape), hashlib.sha256(content).hexdigest()]


def scratch_in(root: Path) -> contextlib.AbstractContextManager[Path]:
    """A folder for a while, in the folder of what is made: the system's own may lie in memory.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"could not write in {root}: {error.strerror or error}") from error
    return folder_in(root, _SCRATCH, "choose another path=, or GNNSCALE_CACHE")
