"""Where scratch files go: to a disk, since what they hold does not fit in memory."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
from torch import Tensor

from gnnscale.errors import StoreError
from gnnscale.storage.files import held_folder, remove_abandoned
from gnnscale.storage.mapped import file_of

_IN_MEMORY = ("tmpfs", "ramfs")


def scratch_root(*tensors: Tensor) -> Path:
    """The folder for scratch files of a job on these tensors.

    The system's temporary folder, which TMPDIR sets. Where TMPDIR is unset and that folder lies in
    memory (tmpfs), scratch files of a graph in files go beside the folder of the graph instead. If
    they cannot, that is told once (RuntimeWarning); a graph in memory has them in memory, too.
    """
    root = Path(tempfile.gettempdir())
    stored = next((path for path in map(file_of, tensors) if path is not None), None)
    if stored is None or os.environ.get("TMPDIR") or not lies_in_memory(root):
        return root
    beside = stored.parent.parent
    if os.access(beside, os.W_OK | os.X_OK):
        return beside
    _warn(root, beside)
    return root


@contextlib.contextmanager
def scratch_folder(prefix: str, *tensors: Tensor) -> Iterator[Path]:
    """A new folder in `scratch_root`, gone afterwards whatever happened.

    That of a process which was killed is removed by the next that asks for one.

    Args:
        prefix: of its name.
        tensors: what the job is on.

    Raises:
        StoreError: it cannot be made.
    """
    with folder_in(scratch_root(*tensors), prefix, "set TMPDIR to one") as folder:
        yield folder


@contextlib.contextmanager
def folder_in(root: Path, prefix: str, remedy: str) -> Iterator[Path]:
    """As `scratch_folder`, in a folder that is there.

    Args:
        root: that folder.
        prefix: of the new one's name.
        remedy: said where it cannot be made.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        remove_abandoned(root, f"{prefix}????????")
        folder, held = held_folder(lambda: Path(tempfile.mkdtemp(prefix=prefix, dir=root)))
    except OSError as error:
        raise StoreError(f"no temporary folder: {error}; {remedy}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def lies_in_memory(folder: Path) -> bool:
    """Whether what is written to a folder takes memory (tmpfs); False where that is not known."""
    above = {str(path) for path in (folder.resolve(), *folder.resolve().parents)}
    mounted = [disk for disk in psutil.disk_partitions(all=True) if disk.mountpoint in above]
    # Of two file systems on one folder, the later is seen.
    seen = max(reversed(mounted), key=lambda disk: len(disk.mountpoint), default=None)
    return seen is not None and seen.fstype in _IN_MEMORY


@functools.cache
def _warn(root: Path, beside: Path) -> None:
    warnings.warn(
        f"scratch files go to {root}, which lies in memory (tmpfs), since {beside} cannot be "
        "written; set TMPDIR to a folder on a disk",
        RuntimeWarning,
        stacklevel=2,
    )
