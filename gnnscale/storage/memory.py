"""How much memory there is to take."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from gnnscale.choices import whole_faults
from gnnscale.errors import InputError

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
