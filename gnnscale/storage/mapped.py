"""Arrays in files: mapped into memory to be addressed, read by range where it is hot.

A mapped page that has been touched counts as resident, so a walk over a mapped array ends with the
whole of it resident. `read_rows` copies a range out of the file instead (pread), and `release` lets
go of the pages that kernels have touched. Either leaves the data in the system's page cache, which
takes no memory that anything else needs.

Both take any tensor: one that is in memory is sliced, and has nothing to let go. A mapped array is
for reading: what is written to its memory may be lost with the page.

What is read of indices, pointers and labels is held to the bounds that were mapped with them:
native code does not look, and a damaged file would end the process. What is not read by range has
to pass `prove` first.
"""

from __future__ import annotations

import bisect
import mmap
import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from numba import types
from torch import Tensor

from gnnscale.errors import DamagedStore, StoreError
from gnnscale.kernels.threads import njit_serial
from gnnscale.storage.files import read_at

_BLOCK_BYTES = 64 << 20  # of a file that is in memory at once on its way to a device
# By name, which the linker resolves: a function held by ctypes could not be cached.
_pread = cast(
    Callable[[int, int, int, int], int],
    types.ExternalFunction("pread", types.intp(types.int32, types.uintp, types.uintp, types.int64)),
)


class Bound(NamedTuple):
    """What the whole numbers of an array lie within.

    Attributes:
        low: the least.
        high: one past the greatest.
        ascending: whether none is less than the one before it.
    """

    low: int
    high: int
    ascending: bool = False


class _Mapping(NamedTuple):
    address: int  # of the array's first byte
    length: int  # of the array, in bytes
    offset: int  # of the array in its file
    descriptor: int
    array: weakref.ref[np.memmap]
    bound: Bound | None
    unproven: list[bool]  # empty once the whole array is known to keep to its bound


# Ascending by address. Mappings do not overlap, and leave when their last tensor does: a finaliser
# may take one out between any two steps of Python, so that each change or copy is a single one.
_mappings: list[_Mapping] = []


def map_array(
    path: Path,
    dtype: np.dtype,
    shape: tuple[int, ...],
    offset: int = 0,
    mode: Literal["c", "r+"] = "c",
    bound: Bound | None = None,
    proven: bool = False,
) -> Tensor:
    """Map an array in a file.

    Args:
        path: the file.
        dtype: of the array.
        shape: of the array; not empty.
        offset: of its first byte in the file.
        mode: "c" for reading (an in-place operation on a mode "r" map kills the process), or "r+"
            for a file that is being written.
        bound: what its whole numbers, or truth values, have to lie within.
        proven: whether that is known to be so.

    Raises:
        OSError: the file cannot be opened, or is shorter than the array.
    """
    with open(path, "r+b" if mode == "r+" else "rb") as file:
        array = np.memmap(file, dtype, mode, offset, shape)
        descriptor = os.dup(file.fileno())  # of the same file, whatever stands at the path now
    address = array.ctypes.data
    place = (address, array.nbytes, offset, descriptor)
    unproven = [] if proven or bound is None else [True]
    mapping = _Mapping(*place, weakref.ref(array), bound, unproven)
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
    return None if array is None else _path(array)


def read_rows(tensor: Tensor, start: int, stop: int, out: Tensor | None = None) -> Tensor:
    """Rows `start` to `stop` of a tensor: a view in memory, a copy of what lies in a file.

    Safe to call from several threads.

    Args:
        tensor: `[rows, ...]`.
        start: first row, 0 or more.
        stop: one past the last row.
        out: `[stop - start, ...]`, contiguous, of the same type: filled and returned if given.

    Raises:
        StoreError: the file is shorter than it was, is damaged, or cannot be read.
    """
    view = tensor[start:stop]
    mapping = _find(view) if view.is_contiguous() and view.numel() else None
    if mapping is None:
        return view if out is None else out.copy_(view)
    if out is None:
        out = torch.empty(view.shape, dtype=view.dtype)
    offset = mapping.offset + view.data_ptr() - mapping.address
    _read(mapping.descriptor, offset, out.view(-1).view(torch.uint8).numpy().data)
    _check(mapping, out)
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
    if (rows < 0).any() or bounds.min() < 0 or bounds.max() > tensor.size(0):
        raise _damaged(mapping, f"rows outside its {tensor.size(0):,} are asked for")
    out = torch.empty((int(rows.sum()), *tensor.shape[1:]), dtype=tensor.dtype)
    row = tensor.element_size() * tensor[0].numel()
    offsets = mapping.offset + tensor.data_ptr() - mapping.address + bounds[:, 0] * row
    into = out.view(-1).view(torch.uint8).numpy()
    done = read_pieces(mapping.descriptor, offsets, rows * row, into)
    if done < len(into):  # once more, by what knows why not
        ends = np.cumsum(rows * row)
        for offset, length, end in zip(offsets, rows * row, ends, strict=True):
            _read(mapping.descriptor, int(offset), into[end - length : end].data)
    _check(mapping, out, rows.cumsum())
    return out


def prove(*tensors: Tensor) -> None:
    """Hold whole arrays that lie in files to their bounds, once; their pages do not stay.

    Raises:
        DamagedStore: one does not keep to it.
    """
    for tensor in tensors:
        mapping = _find(tensor)
        if mapping is None or not mapping.unproven:
            continue
        flat, step = tensor.view(-1), _BLOCK_BYTES // tensor.element_size()
        for start in range(0, flat.numel(), step):
            # One of the block before it, so that no step down is missed.
            read_rows(flat, max(0, start - 1), min(start + step, flat.numel()))
        mapping.unproven.clear()


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
    memory: mmap.mmap = vars(array)["_mmap"]
    memory.madvise(mmap.MADV_DONTNEED, begin, min(end, len(memory)) - begin)


def _find(tensor: Tensor) -> _Mapping | None:
    if not _mappings or tensor.device.type != "cpu":
        return None
    address, mappings = tensor.data_ptr(), _mappings.copy()
    at = bisect.bisect_right(mappings, address, key=lambda m: m.address) - 1
    mapping = mappings[at] if at >= 0 else None
    inside = mapping is not None and address < mapping.address + mapping.length
    return mapping if inside else None


def _path(array: np.memmap) -> Path:
    assert array.filename is not None  # each was mapped by the name of its file
    return Path(array.filename)


def _forget(mapping: _Mapping) -> None:
    _mappings.remove(mapping)
    os.close(mapping.descriptor)


def _check(mapping: _Mapping, read: Tensor, ends: np.ndarray | None = None) -> None:
    """Compare what was read with its bound; `ends` are those of the ranges it is made of."""
    bound = mapping.bound
    if bound is None or not read.numel():
        return
    values = read.numpy()
    if values.dtype == bool:
        values = values.view(np.uint8)
    # Seen as unsigned, what is below 0 is great: one pass where two would be.
    if bound.low == 0 and values.dtype.kind == "i":
        greatest = values.view(values.dtype.str.replace("i", "u")).max()
        worst, outside = int(greatest.view(values.dtype)), int(greatest) >= bound.high
    else:
        low, high = int(values.min()), int(values.max())
        worst = low if low < bound.low else high
        outside = low < bound.low or high >= bound.high
    if outside:
        allowed = f"[{bound.low}, {bound.high - 1}]"
        raise _damaged(mapping, f"it holds numbers outside {allowed}, such as {worst}")
    if bound.ascending:
        down = values[1:] < values[:-1]
        if ends is not None:
            down[ends[:-1] - 1] = False  # from one range to the next
        if down.any():
            raise _damaged(mapping, "its numbers do not ascend")


def _damaged(mapping: _Mapping, what: str) -> DamagedStore:
    array = mapping.array()
    path = Path("a stored array") if array is None else _path(array)
    return DamagedStore(
        f"{path} is damaged: {what}. `gnnscale info {path.parent} --verify` compares every byte "
        "with what was written"
    )


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


@njit_serial
def read_pieces(descriptor: int, offsets: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> int:
    """Read pieces of a file, one after the other, into a buffer, without the GIL.

    A batch takes some sixty pieces. Read one by one from Python, each would hand the GIL over to
    the training thread and wait for it again.

    Args:
        descriptor: of the open file.
        offsets: int64 ``[pieces]``, where each begins in the file.
        lengths: int64 ``[pieces]``, bytes of each.
        out: uint8, as long as all pieces together: filled.

    Returns:
        How many bytes were read: fewer than there should be where the file ends early or cannot be
        read.
    """
    address = out.ctypes.data
    done = 0
    for k in range(offsets.shape[0]):
        left = lengths[k]
        at = offsets[k]
        while left > 0:
            count = _pread(descriptor, address + done, left, at)
            if count <= 0:
                return done
            done += count
            at += count
            left -= count
    return done
