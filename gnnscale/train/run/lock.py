"""One writer a run folder: a lock of the operating system on a file in it.

The kernel frees it when its holder dies, so a run that was killed goes on at once. Who only reads a
run needs none.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from gnnscale.errors import RunInUse, StoreError
from gnnscale.storage.posix import NoLocks, lock

LOCK_FILE = ".lock"
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)

_held: set[int] = set()  # descriptors of this process


def _leave_to_the_parent() -> None:
    """In a forked child: a descriptor that it kept would outlive the run and lock its folder."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Be the only one that writes in the folder of a run, which is made where it is missing.

    Raises:
        RunInUse: another trainer writes in it, here or on another host.
        StoreError: the folder cannot be made.

    Warns:
        RuntimeWarning: its file system has no locks; once.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    descriptor = _lock_file(folder)
    if descriptor is None:  # read-only: a finished run is opened, and nothing is written
        yield
        return
    _held.add(descriptor)
    try:
        with contextlib.suppress(OSError):  # opened for reading alone, or a full disk
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        if descriptor in _held:  # else this is a child that left it to its parent
            _held.remove(descriptor)
            _remove_empty(folder, made)
            os.close(descriptor)


def _lock_file(folder: Path) -> int | None:
    """An open and locked file; None where the folder is for reading only."""
    path = folder / LOCK_FILE
    while True:
        try:
            descriptor = _open(path)
        except OSError as error:
            if error.errno in _READ_ONLY:
                return None
            raise StoreError(f"could not write {path}: {error.strerror or error}") from error
        try:
            if not lock(descriptor):
                raise _in_use(folder, descriptor)
        except NoLocks as error:
            _warn(error.strerror or str(error))
            return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # it was removed between being opened and being locked


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        if not path.exists():  # in a folder for reading only
            raise
        return os.open(path, os.O_RDONLY)  # another user's


def _in_use(folder: Path, descriptor: int) -> RunInUse:
    pid, _, host = os.pread(descriptor, 300, 0).decode(errors="replace").strip().partition(" ")
    holder = f"process {pid} on {host}" if host else "another process"
    if (pid, host) == (str(os.getpid()), socket.gethostname()):
        holder = f"another trainer of this process ({pid} on {host})"
    return RunInUse(
        f"{folder} is being written by {holder}, and a run folder has one writer. Wait until that "
        "run has ended, or end it; or take another run_dir"
    )


def _remove_empty(folder: Path, made: list[Path]) -> None:
    """Leave no trace where no run began."""
    with contextlib.suppress(OSError):
        if made and os.listdir(folder) == [LOCK_FILE]:
            (folder / LOCK_FILE).unlink()
            for path in made:
                path.rmdir()


@functools.cache
def _warn(why: str) -> None:
    warnings.warn(
        f"run folders have no locks here ({why}): take care that two runs do not write into one",
        RuntimeWarning,
        stacklevel=2,
    )
