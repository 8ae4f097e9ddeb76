"""Compiled kernels on disk, written by one process at a time.

Numba numbers the files of a function's compiled signatures by what its index holds when it looks,
writes the index, and then the code. Two processes that compile two signatures at once (ranks that
start on a fresh installation, tests in several processes) take the same number, and whoever comes
next runs code for another type: in silence, or to a crash. A process killed between the two writes
leaves an index that points to whatever an earlier version left under that number.

Here a lock is held meanwhile, and the code is written before the index that names it. What cannot
be written is not kept, and what cannot be read is compiled anew.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds, for another process that writes: one that is stopped stops no other


def keep(compiled: Any) -> None:
    """Keep on disk what a dispatcher of numba compiles, where there is a folder to write to."""
    if not hasattr(compiled, "enable_caching"):  # NUMBA_DISABLE_JIT: a function as it was
        return
    try:
        compiled.enable_caching()
    except RuntimeError as error:  # neither the package's folder nor a user cache can be written
        logger.info("compiled kernels are not kept: %s", error)
        return
    files = compiled._cache._cache_file  # numba has no public way to give it others
    files.load, files.save = functools.partial(load, files), functools.partial(save, files)


def load(files: Any, key: object) -> Any:
    """Return what was kept under ``key``, None where there is nothing that can be read."""
    with contextlib.ExitStack() as until:
        with contextlib.suppress(OSError, ImportError):  # nobody writes where no lock can be made
            until.enter_context(_locked(files, shared=True))
        try:
            return type(files).load(files, key)
        except Exception as error:  # pickle's, over a file that was cut: any
            logger.info("compiled kernels that were kept cannot be read: %s", error)
            return None


def save(files: Any, key: object, data: object) -> None:
    """Keep ``data`` under ``key``: in a file that no other key has, and then in the index."""
    try:
        with _locked(files, shared=False):
            names = _index(files)
            if not names:  # another version's may be there, over whose code this one is written
                files._save_index(names)
            taken = set(names.values())
            name = names.get(key) or next(
                free for free in map(files._data_name, itertools.count(1)) if free not in taken
            )
            files._save_data(name, data)
            files._save_index({**names, key: name})
    except (OSError, ImportError) as error:  # a full disk, a folder that is read-only by now
        logger.info("compiled kernels are not kept: %s", error)


def _index(files: Any) -> dict[object, str]:
    try:
        return dict(files._load_index())
    except Exception as error:  # as above
        logger.info("an index of compiled kernels cannot be read, and is begun anew: %s", error)
        return {}


@contextlib.contextmanager
def _locked(files: Any, *, shared: bool) -> Iterator[None]:
    fcntl = importlib.import_module("fcntl")
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor = os.open(f"{files._index_path}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.002)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a fork may hold the descriptor, too
        os.close(descriptor)
