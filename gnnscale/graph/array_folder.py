"""A folder of arrays: one `.npy` file each, and `meta.json` with their sizes and checksums.

It is written under a temporary name and renamed when whole. Sizes are checked at every open,
checksums on request.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError, StoreError
from gnnscale.graph.files import atomic_folder, json_bytes, read_json, write_json
from gnnscale.graph.mapped import map_array

_BLOCK = 1 << 24


def write_arrays(path: Path, meta: dict[str, Any], arrays: Mapping[str, Tensor], what: str) -> None:
    """Write arrays and what is said of them to the folder `path`, replacing what is there.

    Args:
        path: the folder.
        meta: what `meta.json` says besides, "format" and "version" among it.
        arrays: the arrays by name.
        what: what they are, for errors.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
        InputError: an array has a type that cannot be stored.
    """
    narrow = [name for name, array in arrays.items() if array.dtype == torch.bfloat16]
    if narrow:  # NumPy has no such type
        raise InputError(f"{', '.join(narrow)}: bfloat16 cannot be stored; use float16 or float32")
    needed = sum(a.numel() * a.element_size() for a in arrays.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < needed:
            raise StoreError(
                f"storing {what} at {path} takes {needed:,} bytes; the disk has {free:,} left"
            )
        with atomic_folder(path) as partial:
            files = {name: _write_array(partial, name, array) for name, array in arrays.items()}
            meta = {**meta, "arrays": files}
            write_json(partial / "meta.json", {**meta, "checksum": _meta_checksum(meta)})
    except OSError as error:
        raise StoreError(
            f"could not write {what} ({needed:,} bytes) to {path}: {error.strerror or error}"
        ) from error


def read_meta(path: Path, form: str, version: int, what: str) -> dict[str, Any]:
    """What `write_arrays` wrote of a folder.

    Args:
        path: the folder.
        form: the "format" that is expected.
        version: the version that is expected.
        what: what it is, for errors.

    Raises:
        StoreError: it is missing, of another format or version, or damaged.
    """
    if not (path / "meta.json").is_file():
        raise StoreError(f"no {what} at {path}: meta.json is missing")
    meta = read_json(path / "meta.json")
    if not isinstance(meta, dict) or meta.get("format") != form:
        raise StoreError(f"{path} is not a {what}")
    if meta.get("version") != version:
        raise StoreError(
            f"{path} has format version {meta.get('version')}; this gnnscale reads {version}. "
            "Write it anew"
        )
    if meta.get("checksum") != _meta_checksum(meta):
        raise StoreError(f"{path}/meta.json is damaged: its checksum differs")
    return meta


def open_arrays(path: Path, meta: dict[str, Any]) -> dict[str, Tensor]:
    """The arrays of a folder, memory-mapped.

    Raises:
        StoreError: a file is missing or truncated.
    """
    return {name: _open_array(path, about) for name, about in meta["arrays"].items()}


def damaged_files(path: Path, meta: dict[str, Any]) -> list[str]:
    """Names of the files whose bytes differ from the checksums in `meta`. Reads every byte.

    That of `meta.json` is of what it says; here its very bytes are compared.

    Raises:
        StoreError: a file is missing or unreadable.
    """
    damaged = [
        about["file"]
        for about in meta["arrays"].values()
        if _file_checksum(path / about["file"]) != about["checksum"]
    ]
    if (path / "meta.json").read_bytes() != json_bytes(meta):
        damaged.append("meta.json")
    return damaged


def _write_array(folder: Path, name: str, tensor: Tensor) -> dict[str, Any]:
    array = tensor.detach().numpy()
    digest = hashlib.blake2b(digest_size=16)
    file_path = folder / f"{name}.npy"
    with open(file_path, "wb") as file:
        header = np.lib.format.header_data_from_array_1_0(np.empty((0,), array.dtype))
        header["shape"] = array.shape
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        digest.update(file_path.read_bytes())
        flat = np.ascontiguousarray(array).reshape(-1)
        per_block = max(1, _BLOCK // array.itemsize)
        for start in range(0, flat.size, per_block):
            block = flat[start : start + per_block].tobytes()
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return {
        "file": file_path.name,
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "bytes": size,
        "checksum": digest.hexdigest(),
    }


def _open_array(folder: Path, about: dict[str, Any]) -> Tensor:
    path = folder / about["file"]
    try:
        size = path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path} is missing or unreadable: {error.strerror}") from error
    if size != about["bytes"]:
        raise StoreError(f"{path} has {size:,} bytes; {about['bytes']:,} were written: truncated?")
    shape, dtype = tuple(about["shape"]), np.dtype(about["dtype"])
    count = math.prod(shape)
    if not count:
        return torch.from_numpy(np.empty(shape, dtype))
    # The header is not parsed: where data start is known, and a damaged header would move it.
    return map_array(path, dtype, shape, size - count * dtype.itemsize)


def _meta_checksum(meta: dict[str, Any]) -> str:
    content = {key: value for key, value in meta.items() if key != "checksum"}
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _file_checksum(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise StoreError(f"{path} is missing or unreadable: {error.strerror}") from error
    return digest.hexdigest()
