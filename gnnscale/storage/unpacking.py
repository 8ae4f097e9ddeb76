"""How much a compressed file may unpack to: a small one can be made to fill the memory or a disk.

Deflate packs a thousand zeros into a byte; tables of numbers shrink to a fifth or a tenth.
"""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import PurePosixPath

from gnnscale.errors import StoreError
from gnnscale.storage.memory import memory_bytes

VARIABLE = "GNNSCALE_UNPACK_LIMIT"
ALWAYS = 1 << 30  # bytes that any file may unpack to
RATIO = 400  # times its own size
_MEMBERS = 1_000_000


def unpack_limit(compressed: int) -> int:
    """Bytes that a compressed file of this size may unpack to.

    `$GNNSCALE_UNPACK_LIMIT`, such as "50GB", where it is set.

    Raises:
        InputError: that is no amount of memory.
    """
    if given := os.environ.get(VARIABLE):
        return memory_bytes(given)
    return max(ALWAYS, RATIO * compressed)


def too_large(what: object, compressed: int) -> StoreError:
    """The error for a file that unpacks to more."""
    return StoreError(
        f"{what} ({compressed:,} bytes) unpacks to more than {unpack_limit(compressed):,} bytes, "
        f"and it may be made to fill memory or disk. If you trust it, set {VARIABLE}, as in "
        f"{VARIABLE}=200GB"
    )


def check_archive(archive: zipfile.ZipFile, what: object, compressed: int) -> None:
    """Refuse a zip that unpacks to too much, or to places and things that no archive of data has.

    Args:
        archive: the zip, of which only the table of contents is read.
        what: the file, for errors.
        compressed: its bytes.

    Raises:
        StoreError: saying why.
    """
    members = archive.infolist()
    if len(members) > _MEMBERS:
        raise StoreError(f"{what} holds {len(members):,} files; {_MEMBERS:,} are allowed")
    for member in members:
        path, kind = PurePosixPath(member.filename), stat.S_IFMT(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
            raise StoreError(f"{what} holds {member.filename!r}, a path out of the archive")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise StoreError(f"{what} holds {member.filename!r}, which is a link or a device")
    if sum(member.file_size for member in members) > unpack_limit(compressed):
        raise too_large(what, compressed)
