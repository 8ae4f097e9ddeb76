"""Writing files so that nothing half-written is ever taken for whole."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gnnscale.errors import StoreError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success flush it to disk and rename it to `path`.

    Raises:
        StoreError: the folder cannot be written or the disk is full; `path` is left as it was.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        with open(temporary, "xb") as file:
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
    partial = _beside(path)
    partial.mkdir()
    folder = os.open(partial, os.O_RDONLY)
    try:
        # Held while this process lives; a file system without locks does without.
        with contextlib.suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield partial
        os.fsync(folder)  # the names in the folder, before the folder gets its own
        _replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(folder)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _remove_leftovers(path: Path) -> None:
    """Remove what interrupted writes of the same folder left behind, not what is being written."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.????????.part"):
        folder = os.open(leftover, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process is writing it
            continue
        else:
            logger.info("removing what an interrupted write left at %s", leftover)
            shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(folder)


def _replace_folder(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    old = _beside(path)
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically. NaN is refused: it is not JSON."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        StoreError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise StoreError(f"{path} is not valid JSON ({error}); it may be damaged") from error
