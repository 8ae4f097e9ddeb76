"""Writing files so that nothing half-written is ever taken for whole."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import glob
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from gnnscale.errors import DamagedStore, InputError, StoreError
from gnnscale.storage.posix import lacking, lock

logger = logging.getLogger(__name__)


def cache_root() -> Path:
    """The folder of what is computed once: `$GNNSCALE_CACHE`, or `~/.cache/gnnscale`.

    Raises:
        StoreError: there is no home folder, and in its place none that is this user's alone.

    Warns:
        RuntimeWarning: there is no home folder: a temporary one is used; once.
    """
    if root := os.environ.get("GNNSCALE_CACHE"):
        return Path(root)
    try:
        return Path.home() / ".cache" / "gnnscale"
    except RuntimeError:  # of a user without a name, as in containers
        return _cache_without_home()


@functools.cache
def _cache_without_home() -> Path:
    root = Path(tempfile.gettempdir()) / f"gnnscale-{os.getuid()}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        about = root.lstat()
    except OSError as error:
        raise StoreError(f"no cache at {root}: {error.strerror}; set GNNSCALE_CACHE") from error
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise StoreError(f"{root} may be written by others: set GNNSCALE_CACHE to a folder")
    warnings.warn(
        f"there is no home folder: what is kept goes to {root}; set GNNSCALE_CACHE to choose one",
        RuntimeWarning,
        stacklevel=3,
    )
    return root


def check_writable(path: str | Path, what: str) -> None:
    """Find out, before anything long begins, whether a file or folder can be written.

    Args:
        path: where; folders above it are made when it is.
        what: what errors call it, with its path.

    Raises:
        StoreError: it cannot, as far as the system tells.
    """
    folder = checked_path(path).absolute().parent
    nearest = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
    if not nearest.is_dir():
        raise StoreError(f"{what} cannot be written: {nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise StoreError(f"{what} cannot be written: no right to write in {nearest}")


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success flush it to disk and rename it to `path`.

    Raises:
        StoreError: the folder cannot be written or the disk is full; `path` is left as it was.
    """
    path = checked_path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        temporary = _beside(path)
        with _new_file(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise StoreError(f"could not write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside `path`; on success it takes the place of `path`.

    Raises:
        OSError: a folder cannot be made or renamed; `path` is left as it was.
    """
    _remove_leftovers(path)
    partial, held = held_folder(lambda: _made(_beside(path)))
    try:
        yield partial
        os.fsync(held)  # the names in the folder, before the folder gets its own
        _replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(held)


def held_folder(make: Callable[[], Path]) -> tuple[Path, int]:
    """A new folder that `remove_abandoned` leaves alone, and the descriptor to close afterwards."""
    while True:
        folder = make()
        with contextlib.suppress(FileNotFoundError):
            held = hold_folder(folder)
            if folder.exists():
                return folder, held
            os.close(held)  # before it was locked, another process took it for abandoned


def hold_folder(folder: Path) -> int:
    """Lock a folder for as long as the descriptor is open, here or in a child."""
    descriptor = os.open(folder, os.O_RDONLY)
    _lock(descriptor)
    return descriptor


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


#: Bytes of one call to the system: more than 2^31 are refused by some, and cut short by others.
AT_ONCE = 1 << 30
_BLOCK = 1 << 24


def read_at(descriptor: int, offset: int, into: memoryview) -> int:
    """Fill a buffer of bytes from a file; returns how many the file does not have.

    Raises:
        OSError: it cannot be read.
        UnsupportedPlatform: the system cannot read so.
    """
    if not hasattr(os, "preadv"):
        raise lacking("os.preadv")
    while into and (count := os.preadv(descriptor, [into[:AT_ONCE]], offset)):
        offset += count
        into = into[count:]
    return len(into)


def _beside(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.part"  # "." and "/" have no name


def _new_file(path: Path) -> IO[bytes]:
    while True:
        file = open(path, "xb")  # noqa: SIM115 - the caller closes it
        _lock(file.fileno())
        if path.exists():
            return file
        file.close()  # before it was locked, another process took it for a leftover


def _lock(descriptor: int) -> None:
    """Say that this is being written: held while the process lives, where there are locks."""
    with contextlib.suppress(OSError):
        lock(descriptor, shared=True, wait=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what interrupted writes of the same path left behind, not what is being written."""
    remove_abandoned(path.parent, f".{glob.escape(path.name)}.????????.part")


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove the files and folders of that name that no living process holds locked."""
    for abandoned in folder.glob(pattern):
        try:
            descriptor = os.open(abandoned, os.O_RDONLY)
        except OSError:  # just renamed by another process, or another user's
            continue
        try:
            # Without locks nobody knows whether another process is writing it.
            if not lock(descriptor):
                continue
            logger.info("removing what an interrupted process left at %s", abandoned)
            if abandoned.is_dir():
                shutil.rmtree(abandoned, ignore_errors=True)
            else:
                abandoned.unlink()
        except OSError:  # no locks, gone already, or in a folder for reading only
            continue
        finally:
            os.close(descriptor)


def _replace_folder(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`. A process killed meanwhile leaves one or the other."""
    if not path.exists():
        new.rename(path)
        return
    if _exchange(new, path):
        shutil.rmtree(new, ignore_errors=True)
        return
    # Without that system call there is a moment with nothing at `path`: both stand beside it then.
    old = _beside(path)
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where system or file system cannot."""
    rename = _renameat2()
    names = os.fsencode(one), os.fsencode(other)
    return rename is not None and not rename(
        _AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE
    )


@functools.cache
def _renameat2() -> Any:
    return getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None


_NAME_MAX = 255  # bytes of a file's name, of the common file systems


def checked_path(path: Any) -> Path:
    """A path given by a user.

    Raises:
        InputError: it is none.
    """
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise InputError(f"a path is text or a Path, not {path!r}") from None
    if "\0" in text:
        raise InputError(f"a path holds no null character: {text!r}")
    path = Path(text)
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > _NAME_MAX:  # even to ask whether it is there raises an error
        raise InputError(f"a name in {text!r} has {longest} bytes; {_NAME_MAX} is the most")
    return path


def expanded(path: object) -> Path:
    """A path given by a user, with the home folder for `~` where there is one.

    Raises:
        InputError: it is none.
    """
    return Path(os.path.expanduser(checked_path(path)))


def file_checksum(path: Path) -> str:
    """A checksum of every byte of a file.

    Raises:
        StoreError: it is missing or cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise StoreError(f"{path} is missing or unreadable: {error.strerror or error}") from error
    return digest.hexdigest()


def json_checksum(content: object) -> str:
    """A checksum of what JSON says, whatever its white space and the order of its keys."""
    # Through JSON: a tuple comes back as a list.
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def json_bytes(content: object) -> bytes:
    """`content` as indented JSON. NaN is refused: it is not JSON."""
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"


def write_json(path: str | Path, content: object) -> None:
    """Write `content` as `json_bytes`, atomically."""
    content = json_bytes(content)
    with atomic_write(path) as file:
        file.write(content)


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        StoreError: the file is missing, or cannot be read.
        DamagedStore: it is not JSON.
    """
    path = checked_path(path)
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedStore(f"{path} is not valid JSON ({error}); it may be damaged") from error
