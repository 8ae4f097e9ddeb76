"""Checkpoints without pickle: a tree of tensors and plain values in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale.errors import StoreError
from gnnscale.storage.files import atomic_write, checked_path
from gnnscale.storage.formats import Format
from gnnscale.train.run.records import Description

FORMAT = Format(
    "gnnscale-tree", 1, "checkpoint", "what wrote it does, such as the trainer's fit(resume=False)"
)
_TENSOR = "__tensor__"
_ITEMS = "__items__"


def save_tree(path: str | Path, tree: object, about: Description | None = None) -> None:
    """Write a tree of dicts, lists, tensors and JSON values, atomically.

    Tensors go into the file's tensor section under the names of their keys, joined by dots, each
    storage once; the tree itself, with references to them, into its metadata, with a checksum of
    everything. Keys of dicts may be strings or integers.

    Args:
        path: the file.
        tree: what `load_tree` gives back.
        about: JSON values that `read_tree` gives back beside it.

    Raises:
        StoreError: the file cannot be written.
        TypeError: the tree holds something else, such as an object.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    layout = json.dumps(_encode(tree, "", tensors, {}))
    said = "" if about is None else json.dumps(about)
    stamp = {"format": FORMAT.name, "version": str(FORMAT.version)}
    metadata = {
        **stamp,
        "tree": layout,
        "about": said,
        "checksum": _checksum(layout + said, tensors),
    }
    content = save(tensors, metadata=metadata)
    with atomic_write(path) as file:
        file.write(content)


def load_tree(path: str | Path) -> Any:
    """Read the tree that `save_tree` wrote.

    Raises:
        StoreError: the file is missing, damaged or truncated.
    """
    return read_tree(path)[0]


def read_tree(path: str | Path) -> tuple[Any, Description]:
    """Read what `save_tree` wrote: the tree, and what is said of it.

    Raises:
        StoreError: the file is missing, damaged or truncated.
    """
    from safetensors import SafetensorError, safe_open

    path = checked_path(path)
    if not path.is_file():
        raise StoreError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            FORMAT.unstamped({**about, "version": int(about.get("version", 1))}, path)
            # Copies: the others are maps of the file, which training would write to.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        layout, said = about["tree"], about.get("about", "")
        if _checksum(layout + said, tensors) != about["checksum"]:
            raise ValueError("its checksum differs")
        return _decode(json.loads(layout), tensors), json.loads(said) if said else {}
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path} is damaged or no checkpoint: {error}") from error


def _checksum(layout: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(layout.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _encode(
    value: object, place: str, tensors: dict[str, Tensor], seen: dict[object, str]
) -> object:
    if isinstance(value, Tensor):
        value = value.detach()
        # The same memory seen twice is written once: safetensors refuses aliases.
        alias = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        name = seen.get(alias) if value.numel() else None
        if name is None:
            name = seen[alias] = _free_name(place, tensors)
            tensors[name] = value.cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, dict):
        items = [
            (_key(key), _encode(item, f"{place}.{key}" if place else str(key), tensors, seen))
            for key, item in value.items()
        ]
        if all(isinstance(key, str) and not key.startswith("__") for key in value):
            return dict(items)
        return {_ITEMS: items}
    if isinstance(value, list | tuple):
        return [_encode(item, f"{place}.{i}", tensors, seen) for i, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value).__name__}")


def _free_name(place: str, tensors: dict[str, Tensor]) -> str:
    name = place or "tensor"
    while name in tensors or name == "__metadata__":  # the latter is safetensors' own
        name += "_"
    return name


def _key(key: object) -> str | int:
    if not isinstance(key, str | int):
        raise TypeError(f"a checkpoint's keys are strings and integers, not {type(key).__name__}")
    return key


def _decode(value: Any, tensors: dict[str, Tensor]) -> object:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _ITEMS in value:
            return {key: _decode(item, tensors) for key, item in value[_ITEMS]}
        return {key: _decode(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    return value
