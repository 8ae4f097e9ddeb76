"""What Windows lacks, locks of open files among it: there it is refused by name."""

from __future__ import annotations

import errno
import importlib
import sys
from types import ModuleType

from gnnscale.errors import UnsupportedPlatform

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def posix(module: str) -> ModuleType:
    """Import a module of the standard library that POSIX systems have.

    Raises:
        UnsupportedPlatform: this system does not.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise lacking(module) from error


def lacking(what: str) -> UnsupportedPlatform:
    """The error for what this system does not have."""
    return UnsupportedPlatform(
        f"{sys.platform} has no {what}, which trainers and files of gnnscale need: it runs on "
        "Linux. On Windows install it in WSL, the Windows Subsystem for Linux: `wsl --install`"
    )


class NoLocks(OSError):
    """The file system has no locks."""


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file or folder until its last descriptor is closed; False where another has it.

    The lock is advisory, and the kernel frees it with its holder.

    Args:
        descriptor: of the file.
        shared: several may hold it, and nobody alone.
        wait: until it is free.

    Raises:
        NoLocks: there are none.
        UnsupportedPlatform: the system knows none.
    """
    fcntl = posix("fcntl")
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoLocks(error.errno, error.strerror) from error
        raise
    return True
