"""Which files a graph was read from, and which of them are no longer as they were."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl

from gnnscale.data.options import split_query
from gnnscale.data.tables.files import part_files
from gnnscale.errors import GnnscaleError
from gnnscale.storage.files import expanded

_MOST = 1_000
"""Files of which sizes and times are noted."""


def files_of(source: str | None) -> dict[str, list[int]]:
    """The files of a graph's `source` with their sizes and times, by absolute paths."""
    if source is None:
        return {}
    base, query = split_query(source)
    found: dict[str, list[int]] = {}
    for given in (base, *(value for _, value in parse_qsl(query))):
        if not os.path.isabs(expanded(given)):  # the name of a data set, a column, a word
            continue
        try:
            files = part_files(expanded(given))
            found |= {os.path.abspath(file): _stamp(file) for file in files[: _MOST + 1]}
        except (GnnscaleError, OSError):
            continue
    return found if len(found) <= _MOST else {}


def changes(before: Mapping[str, Sequence[int]], source: str | None) -> list[str]:
    """What has changed of the files since they were noted, in words."""
    now = files_of(source)
    words = []
    for path in before:
        if path not in now:
            words.append(f"{path} is gone")
        elif list(before[path]) != now[path]:
            size = f"{before[path][0]:,} bytes then, {now[path][0]:,} now"
            moment = datetime.fromtimestamp(now[path][1] / 1e9).strftime("%Y-%m-%d %H:%M")
            words.append(f"{path} was written again at {moment} ({size})")
    return words + [f"{path} is new" for path in now if before and path not in before]


def _stamp(path: Path) -> list[int]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]
