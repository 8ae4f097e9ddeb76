"""Files of arrays: an ``.npz``, or a folder of ``.npy`` with one file a key; never a pickle."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.errors import InputError, StoreError
from gnnscale.storage.unpacking import check_archive


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` file or of a folder of ``.npy`` files; never a pickle.

    Raises:
        StoreError: missing, damaged or truncated; names file and key.
        InputError: an array of Python objects; names file and key.
    """
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        if not files:
            raise StoreError(f"{path} holds no .npy files; expected edge_index.npy and others")
        return {file.stem: _read_array(file, file.stem, partial(_load, file)) for file in files}
    try:
        # Opened here: np.load leaves a damaged archive open that it has opened itself.
        with open(path, "rb") as file:
            content = _read_array(path, None, lambda: np.load(file, allow_pickle=False))
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise StoreError(f"{path} is a single array, not an .npz; give the folder it is in")
            with content:
                assert content.zip is not None
                check_archive(content.zip, path, path.stat().st_size)
                keys = content.files
                return {
                    key: _read_array(path, key, partial(content.__getitem__, key)) for key in keys
                }
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an ``.npz`` as np.savez_compressed does, the same bytes for the same arrays."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry._compresslevel = 9  # type: ignore[attr-defined]  # public from Python 3.13 on
            with archive.open(entry, "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _load(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _read_array(path: Path, key: str | None, read: Callable[[], Any]) -> Any:
    label = f"{path}: key {key!r}" if key else f"{path}"
    try:
        content = read()
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        if "Object arrays" in str(error):  # NumPy says this of sound files only
            raise InputError(
                f"{label} holds Python objects, which are not read for safety; save numbers"
            ) from error
        raise StoreError(f"{label} is damaged or truncated: {error}") from error
    if isinstance(content, bytes):  # what NumPy gives for a member that is not a .npy file
        raise StoreError(f"{label} is not an array")
    return content
