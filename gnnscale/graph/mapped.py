"""Arrays in files: mapped into memory to be addressed, read by range where it is hot.

A mapped page that has been touched counts as resident, so a walk over a mapped array ends with the
whole of it resident. `read_rows` copies a range out of the file instead (pread), and `release` lets
go of the pages that kernels have touched. Either leaves the data in the system's page cache, which
takes no memory that anything else needs.

Both take any tensor: one that is in memory is sliced, and has nothing to let go. A mapped array is
for reading: what is written to its memory may be lost with the page.
"""

from __future__ import annotations

import bisect
import mmap
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import StoreError
from gnnscale.graph.files import read_at
from gnnscale.kernels.reading import read_pieces

_BLOCK_BYTES = 64 << 20  # of a file that is in memory at once on its way to a device


class _Mapping(NamedTuple):
    address: int  # of the array's first byte
    length: int  # of the array, in bytes
    offset: int  # of the array in its file
    descriptor: int
    array: weakref.ref[np.memmap]


# Ascending by address. Mappings do not overlap, and leave when their last tensor does: a finaliser
# may take one out between any two steps of Python, so that each change or copy is a single one.
_mappings: list[_Mapping] = []


def map_array(
    path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int = 0, mode: str = "c"
) -> Tensor:
    """Map an array in a file.

    Args:
        path: the file.
        dtype: of the array.
        shape: of the array; not empty.
        offset: of its first byte in the file.
        mode: "c" for reading (an in-place operation on a mode "r" map kills the process), or "r+"
            for a file that is being written.

    Raises:
        OSError: the file cannot be opened, or is shorter than the array.
    """
    with open(path, "r+b" if mode == "r+" else "rb") as file:
        array = np.memmap(file, dtype, mode, offset, shape)  # type: ignore[call-overload]
        descriptor = os.dup(file.fileno())  # of the same file, whatever stands at the path now
    address = array.ctypes.data
    mapping = _Mapping(address, array.nbytes, offset, descriptor, weakref.ref(array))
    bisect.insort(_mappings, mapping)
    weakref.finalize(array, _forget, mapping).atexit = False
    return torch.from_numpy(np.asarray(array))


def is_mapped(tensor: Tensor) -> bool:
    """Whether the tensor, or the one it is a view of, lies in a file."""
    return _find(tensor) is not None


def file_of(tensor: Tensor) -> Path | None:
    """The file that the tensor lies in, by its name when it was mapped; None for one in memory."""
    mapping = _find(tensor)
    array = None if mapping is None else mapping.array()
    return None if array is None else Path(array.filename)  # type: ignore[arg-type]


def read_rows(tensor: Tensor, start: int, stop: int, out: Tensor | None = None) -> Tensor:
    """Rows `start` to `stop` of a tensor: a view in memory, a copy of what lies in a file.

    Safe to call from several threads.

    Args:
        tensor: `[rows, ...]`.
        start: first row, 0 or more.
        stop: one past the last row.
        out: `[stop - start, ...]`, contiguous, of the same type: filled and returned if given.

    Raises:
        StoreError: the file is shorter than it was, or cannot be read.
    """
    view = tensor[start:stop]
    mapping = _find(view) if view.is_contiguous() and view.numel() else None
    if mapping is None:
        return view if out is None else out.copy_(view)
    if out is None:
        out = torch.empty(view.shape, dtype=view.dtype)
    offset = mapping.offset + view.data_ptr() - mapping.address
    _read(mapping.descriptor, offset, out.view(-1).view(torch.uint8).numpy().data)
    return out


def read_ranges(tensor: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    """A copy of the rows `start` to `stop` of all ranges, one after the other.

    Raises:
        StoreError: as `read_rows`.
    """
    mapping = _find(tensor) if tensor.is_contiguous() and tensor.numel() else None
    if mapping is None:
        return torch.cat([tensor[start:stop] for start, stop in ranges])
    bounds = np.array(ranges, dtype=np.int64)
    rows = bounds[:, 1] - bounds[:, 0]
    out = torch.empty((int(rows.sum()), *tensor.shape[1:]), dtype=tensor.dtype)
    row = tensor.element_size() * tensor[0].numel()
    offsets = mapping.offset + tensor.data_ptr() - mapping.address + bounds[:, 0] * row
    into = out.view(-1).view(torch.uint8).numpy()
    done = read_pieces(mapping.descriptor, offsets, rows * row, into)
    if done < len(into):  # once more, by what knows why not
        ends = np.cumsum(rows * row)
        for offset, length, end in zip(offsets, rows * row, ends, strict=True):
            _read(mapping.descriptor, int(offset), into[end - length : end].data)
    return out


def loaded(
    tensor: Tensor, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> Tensor:
    """A tensor in the memory of a device; itself where it is that, of this type, already."""
    dtype = tensor.dtype if dtype is None else dtype
    if not is_mapped(tensor):
        return tensor.to(device, dtype)
    copy = torch.empty(tensor.shape, dtype=dtype, device=device)
    rows = tensor.size(0)
    step = max(1, _BLOCK_BYTES * rows // (tensor.numel() * tensor.element_size()))
    for start in range(0, rows, step):
        block = read_rows(tensor, start, min(start + step, rows))
        copy[start : start + step].copy_(block)
    return copy


def release(tensor: Tensor) -> None:
    """Let go of the resident pages of a tensor that lies in a file; they are read again on use."""
    mapping = _find(tensor) if tensor.is_contiguous() and tensor.numel() else None
    array = None if mapping is None else mapping.array()
    if mapping is None or array is None:
        return
    page = mmap.PAGESIZE
    # The map begins at a page, the array where its offset in the file says.
    begin = tensor.data_ptr() - mapping.address + mapping.offset % mmap.ALLOCATIONGRANULARITY
    end = begin + tensor.numel() * tensor.element_size()
    begin = begin // page * page
    memory: mmap.mmap = array._mmap  # type: ignore[attr-defined]
    memory.madvise(mmap.MADV_DONTNEED, begin, min(end, len(memory)) - begin)


def _find(tensor: Tensor) -> _Mapping | None:
    if not _mappings or tensor.device.type != "cpu":
        return None
    address, mappings = tensor.data_ptr(), _mappings.copy()
    at = bisect.bisect_right(mappings, address, key=lambda m: m.address) - 1
    mapping = mappings[at] if at >= 0 else None
    inside = mapping is not None and address < mapping.address + mapping.length
    return mapping if inside else None


def _forget(mapping: _Mapping) -> None:
    _mappings.remove(mapping)
    os.close(mapping.descriptor)


def _read(descriptor: int, offset: int, into: memoryview) -> None:
    try:
        missing = read_at(descriptor, offset, into)
    except OSError as error:
        raise StoreError(f"a stored array cannot be read: {error.strerror or error}") from error
    if missing:
        raise StoreError(
            f"a stored array ends {missing:,} bytes early: its file was truncated after it was "
            "opened"
        )
