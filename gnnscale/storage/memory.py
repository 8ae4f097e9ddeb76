"""How much memory there is to take, and where scratch files go that do not fit in it."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
from torch import Tensor

from gnnscale.choices import whole_faults
from gnnscale.errors import InputError, StoreError
from gnnscale.storage.files import held_folder, remove_abandoned
from gnnscale.storage.mapped import file_of

_GROUPS, _GROUPS_OF_THIS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_memory() -> int:
    """Bytes that a new process may take: of the machine, its control group and its own limit."""
    return max(0, min([psutil.virtual_memory().available, *_process_limit(), *_group_limits()]))


def _process_limit() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows has none
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit


def _group_limits() -> Iterator[int]:
    """Yield what each control group of Linux that this process is in leaves, caches apart."""
    with contextlib.suppress(OSError):
        for line in _GROUPS_OF_THIS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":  # the second version
                root, limit, used = _GROUPS, "memory.max", "memory.current"
            elif "memory" in controllers.split(","):
                root = _GROUPS / "memory"
                limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
            else:
                continue
            folder = root / path.lstrip("/")
            for group in (folder, *folder.parents):
                with contextlib.suppress(OSError, ValueError):  # no limit here: no file, or "max"
                    most, taken = (int((group / name).read_text()) for name in (limit, used))
                    yield most - taken + _reclaimable(group)
                if group == root:
                    break


def _reclaimable(group: Path) -> int:
    lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return sum(int(size) for name, size in lines if name in ("active_file", "inactive_file"))


def memory_bytes(memory: int | str) -> int:
    """Bytes of an amount of memory: a number of them, or text as "512MB" (powers of 1000).

    Raises:
        InputError: it is neither.
    """
    if isinstance(memory, str):
        units = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMG]?B)?\s*", memory)
        if found is not None:
            unit = (found[2] or "").replace("KB", "kB")
            memory = int(float(found[1]) * units.get(unit, 1))
    if isinstance(memory, str) or whole_faults("memory", memory, 1):
        raise InputError(f'memory={memory!r} must be a number of bytes, or text such as "512MB"')
    return int(memory)


def in_words(size: int) -> str:
    """Bytes as `memory=` takes them, rounded up to three digits."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            step = 100 if size < 10 * unit else 10 if size < 100 * unit else 1
            return f"{-(-size * step // unit) / step:g}{name}"
    return f"{size}B"


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
