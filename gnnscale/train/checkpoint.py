"""Checkpoints without pickle: a tree of tensors and plain values in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale.errors import StoreError
from gnnscale.graph.files import atomic_write

_TENSOR = "__tensor__"
_ITEMS = "__items__"


def save_tree(path: str | Path, tree: Any) -> None:
    """Write a tree of dicts, lists, tensors and JSON values, atomically.

    Tensors go into the file's tensor section, each storage once; the tree itself, with references
    to them, into its metadata. Keys of dicts may be strings or integers.

    Raises:
        StoreError: the file cannot be written.
        TypeError: the tree holds something else, such as an object.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    layout = json.dumps(_encode(tree, tensors, {}))
    content = save(tensors, metadata={"tree": layout})
    with atomic_write(path) as file:
        file.write(content)


def load_tree(path: str | Path) -> Any:
    """Read what `save_tree` wrote.

    Raises:
        StoreError: the file is missing, damaged or truncated.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise StoreError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            layout = json.loads(file.metadata()["tree"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _decode(layout, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged or no checkpoint: {error}") from error


def _encode(value: Any, tensors: dict[str, Tensor], seen: dict[Any, str]) -> Any:
    if isinstance(value, Tensor):
        value = value.detach()
        # The same memory seen twice is written once: safetensors refuses aliases.
        alias = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        name = seen.get(alias) if value.numel() else None
        if name is None:
            name = seen[alias] = f"t{len(tensors)}"
            tensors[name] = value.cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("__") for key in value):
            return {key: _encode(item, tensors, seen) for key, item in value.items()}
        pairs = [[_key(key), _encode(item, tensors, seen)] for key, item in value.items()]
        return {_ITEMS: pairs}
    if isinstance(value, list | tuple):
        return [_encode(item, tensors, seen) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value).__name__}")


def _key(key: Any) -> str | int:
    if not isinstance(key, str | int):
        raise TypeError(f"a checkpoint's keys are strings and integers, not {type(key).__name__}")
    return key


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _ITEMS in value:
            return {key: _decode(item, tensors) for key, item in value[_ITEMS]}
        return {key: _decode(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    return value
