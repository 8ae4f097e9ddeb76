"""Advisory locks of the operating system on open files: the kernel frees them with their holder."""

from __future__ import annotations

import errno

from gnnscale.storage.posix import posix

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class NoLocks(OSError):
    """The file system has no locks."""


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file or folder until its last descriptor is closed; False where another has it.

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
