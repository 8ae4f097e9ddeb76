"""What the contents of a graph are told by."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from gnnscale.storage.mapped import read_rows


class Digest:
    """A hash of named values and arrays, read in blocks; the same whatever they lie in."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, key: str, value: object) -> None:
        """Add a value, by its repr."""
        self._hash.update(f"{key}={value!r};".encode())

    def add_array(self, array: Tensor | None) -> None:
        """Add an array, or that there is none."""
        if array is None:
            self._hash.update(b"none;")
            return
        narrow = array.dtype == torch.int32  # index width is a storage choice: hash as 64-bit
        self.add("int64" if narrow else str(array.dtype).removeprefix("torch."), tuple(array.shape))
        flat = array.detach().cpu().reshape(-1)
        for start in range(0, flat.numel(), 1 << 20):
            block = read_rows(flat, start, min(start + (1 << 20), flat.numel()))
            block = block.long() if narrow else block
            self._hash.update(block.contiguous().view(torch.uint8).numpy().data)

    def hex(self) -> str:
        """The hash of all that was added."""
        return self._hash.hexdigest()
