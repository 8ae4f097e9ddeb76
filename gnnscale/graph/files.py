"""Writing files so that nothing half-written is ever taken for whole."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gnnscale.errors import StoreError


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

