"""Graphs kept in ``$GNNSCALE_CACHE/graphs``, so that what is read once is opened afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.tables.files import is_pattern, part_files
from gnnscale.data.tables.frames import as_arrow
from gnnscale.errors import DamagedStore, StoreError
from gnnscale.graph import Adjacency, Graph, open_stored_graph
from gnnscale.kernels import CSR
from gnnscale.storage.files import cache_root, expanded
from gnnscale.storage.mapped import loaded
from gnnscale.storage.memory import folder_in

logger = logging.getLogger(__name__)

IN_MEMORY = 1 << 30
"""Bytes of a graph, as it is stored, above which it stays on disk where no path is given."""
_SCRATCH = ".gnnscale-ids-"
_ELSEWHERE = "choose another folder, by path= or GNNSCALE_CACHE"


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
    """What tells an argument from another, for JSON: of files sizes and times, of data a digest.

    Files are given by a path, a folder or a pattern; what is no number, mapping or table in memory
    either is an array.
    """
    if given is None or isinstance(given, bool | int | float):
        return given
    if isinstance(given, Mapping):
        return [[str(key), told_apart(value)] for key, value in given.items()]
    if isinstance(given, str | os.PathLike):
        path = expanded(given)
        if not (isinstance(given, Path) or path.exists() or is_pattern(path)):
            return os.fspath(given)
        try:
            return [_file_told_apart(file) for file in part_files(path)]
        except StoreError:
            return os.fspath(given)
    if dataclasses.is_dataclass(given):
        return repr(given)
    if isinstance(given, list | tuple) and any(isinstance(one, str | Mapping) for one in given):
        return [told_apart(one) for one in given]
    if (table := as_arrow(given, "a table")) is not None:
        digest = hashlib.sha256()
        digest.update(str(table.schema).encode())
        for batch in table.to_batches():
            digest.update(batch.serialize())
        return digest.hexdigest()
    array = np.ascontiguousarray(given)
    content = repr(array.tolist()).encode() if array.dtype.hasobject else array.data
    return [str(array.dtype), list(array.shape), hashlib.sha256(content).hexdigest()]


def _file_told_apart(path: Path) -> list[str | int]:
    about = path.stat()
    return [str(path.resolve()), about.st_size, about.st_mtime_ns]


def built_or_kept(
    stem: str, arguments: Mapping[str, object], version: int, build: Callable[[Path, str], Graph]
) -> Graph:
    """A graph that the same files and arguments made before, or made now.

    It is in memory, or, where it takes more than `IN_MEMORY` bytes, kept on disk.

    Args:
        stem: what the folder's name begins with.
        arguments: what the graph depends on: files by their paths, arrays, options.
        version: raised when the same arguments give another graph.
        build: builds the graph in a folder, to say that its source is another.
    """
    digest = hashlib.sha256(json.dumps([version, told_apart(arguments)]).encode()).hexdigest()[:32]
    kept = cache_root() / "graphs" / f"{stem}-{digest}"
    if (graph := open_kept(kept)) is not None:
        return graph
    with scratch_in(kept.parent) as scratch:
        graph = build(scratch / "graph", str(kept))
        size = sum(file.stat().st_size for file in (scratch / "graph").iterdir())
        if size <= IN_MEMORY:
            return in_memory(graph)
        logger.info("the graph takes %d bytes and stays on disk, at %s", size, kept)
        with contextlib.suppress(OSError):  # another process has built the same meanwhile
            (scratch / "graph").rename(kept)
        return open_stored_graph(kept)


def in_memory(graph: Graph) -> Graph:
    """A stored graph with all of it in memory: of its folder nothing is needed any more."""
    adj, x = graph.adj, graph.x
    weight = None if adj.values is None else loaded(adj.values)
    return dataclasses.replace(
        graph,
        adj=Adjacency(loaded(adj.indptr), loaded(adj.indices), weight, symmetric=adj.symmetric),
        x=None if x is None or isinstance(x, CSR) else loaded(x),
        y=None if graph.y is None else loaded(graph.y),
        node_type=None if graph.node_type is None else loaded(graph.node_type),
        splits={name: split.each(loaded) for name, split in graph.splits.items()},
        names=None if graph.names is None else graph.names.loaded(),
        source=None,
    )


def scratch_in(root: Path) -> contextlib.AbstractContextManager[Path]:
    """A folder for a while, in the folder of what is made: the system's own may lie in memory.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"could not write in {root}: {why}; {_ELSEWHERE}") from error
    return folder_in(root, _SCRATCH, _ELSEWHERE)
