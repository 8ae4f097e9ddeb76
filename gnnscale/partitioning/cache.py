"""Partitions kept on disk, keyed by the content they were made from.

An entry is what `Partition.save` writes, under a name that hashes the structure of the graph, the
method with every parameter that changes its result, the seed and the version of this format.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import warnings
import zipfile
from pathlib import Path

import torch

from gnnscale.errors import DamagedStore, StoreError
from gnnscale.graph.partition import Partition
from gnnscale.storage.files import cache_root

logger = logging.getLogger(__name__)

#: Raised when what a method computes from the same words changes.
FORMAT_VERSION = 3


def cache_folder(cache: bool | str | os.PathLike[str]) -> Path | None:
    """Return the folder: `$GNNSCALE_CACHE/partitions` or `~/.cache/gnnscale/partitions` on True.

    A path is taken as it is; False gives None.
    """
    return None if cache is False else Path(cache_root() / "partitions" if cache is True else cache)


def entry_path(folder: Path, **content: object) -> Path:
    """Return where the partition made from `content` (anything JSON holds) is kept."""
    text = json.dumps({"format": FORMAT_VERSION, **content}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return folder / f"{content['method']}-{content['num_parts']}-{digest}.npz"


def read_entry(path: Path, num_nodes: int, num_parts: int) -> Partition | None:
    """Return the entry, with `seconds` 0, or None where there is none.

    A damaged entry counts as none, with a warning (RuntimeWarning): it will be written anew.

    Raises:
        StoreError: it is there and cannot be read; it may be sound, and is left as it is.
    """
    if not os.path.exists(path):  # False, too, where the folder may not be read
        return None
    try:
        if not _is_zip(path):  # np.load would leave a truncated file open
            raise DamagedStore("it is truncated or no .npz file")
        part = Partition.load(path)
        sizes = torch.bincount(part.assignment.long(), minlength=num_parts)
        if part.num_nodes != num_nodes or part.num_parts != num_parts or not bool(sizes.all()):
            raise DamagedStore(
                f"it holds {part.num_parts} parts of {part.num_nodes} nodes, not {num_parts} of "
                f"{num_nodes}, or an empty part"
            )
    except DamagedStore as error:
        warnings.warn(
            f"the cached partition {path} is damaged ({error}); it is computed again",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    except StoreError as error:
        raise StoreError(
            f"{error}. It is left as it is: try again, pass cache=False, or point GNNSCALE_CACHE "
            "at another folder"
        ) from error
    logger.info("partition read from %s", path)
    return dataclasses.replace(part, seconds=0.0)


def _is_zip(path: Path) -> bool:
    try:
        with open(path, "rb") as file:  # `is_zipfile` says no of what cannot be opened
            return zipfile.is_zipfile(file)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


def write_entry(path: Path, part: Partition) -> None:
    """Write the entry; a folder that cannot be written is a warning (RuntimeWarning), no more."""
    try:
        part.save(path)
    except StoreError as error:
        warnings.warn(
            f"the partition is not cached: {error}. Point GNNSCALE_CACHE at a folder that can be "
            "written, or pass cache=False",
            RuntimeWarning,
            stacklevel=3,
        )
