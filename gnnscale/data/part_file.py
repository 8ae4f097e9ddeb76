"""The file that a download is written to: one process at a time."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gnnscale.storage.locks import NoLocks, lock

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked_part(part: Path) -> Iterator[IO[bytes]]:
    """Open a part for reading and writing, when no other process has it open; made where missing.

    Empty at the end, it is not kept. It may be renamed meanwhile: those who wait then open another.

    Raises:
        OSError: it cannot be made or opened.
    """
    while True:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            try:
                if not lock(file.fileno()):
                    logger.info("another process is downloading %s; waiting for it", part)
                    lock(file.fileno(), wait=True)
            except NoLocks:
                logger.warning("%s: no locks here; download it in one process at a time", part)
            if not _is_at(file, part):
                continue  # what was waited for is whole, and has its name
            try:
                yield file
            finally:
                with contextlib.suppress(OSError):
                    file.flush()
                if _is_at(file, part) and os.fstat(file.fileno()).st_size == 0:
                    part.unlink()
            return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
