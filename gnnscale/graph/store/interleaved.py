"""Arrays of a graph that grows, written with what is new between what there was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.kernels import CSR
from gnnscale.kernels.rows import cpu as rows
from gnnscale.storage.array_folder import ArrayFile, ArrayFolder
from gnnscale.storage.mapped import read_rows, release

_ROWS = 1 << 16
_INT32_MAX = 2**31 - 1


class Interleaved:
    """Arrays with an entry a node, the new ones between the old ones.

    Args:
        folder: where they are written.
        origin: int64 `[num_nodes]`: the place that a node had, or −1 − i of the new node i.
    """

    def __init__(self, folder: ArrayFolder, origin: np.ndarray) -> None:
        self.folder, self.origin = folder, origin

    def write(self, name: str, old: Tensor, new: np.ndarray | None) -> None:
        """Write one array; None where nothing is new."""
        kind = _numpy_type(old)
        shape = (self.origin.size, *old.shape[1:])
        with self.folder.array(name, kind, shape) as file:
            for start, stop, was, fresh in _row_blocks(self.origin):
                block = np.empty((stop - start, *old.shape[1:]), kind)
                block[~fresh] = read_rows(old, *was).numpy()
                if fresh.any():
                    assert new is not None
                    block[fresh] = new[-1 - self.origin[start:stop][fresh]]
                file.append(block)
                release(old)

    def sparse(self, old: CSR, new: CSR) -> None:
        """Write sparse features."""
        ends = new.indptr.numpy()
        arrays = {"x_indices": (old.indices, new.indices)}
        if old.values is not None:
            assert new.values is not None
            arrays["x_values"] = (old.values, new.values)
        base, total = 0, old.nnz + new.nnz
        with contextlib.ExitStack() as stack:
            pointers = stack.enter_context(
                self.folder.array("x_indptr", np.dtype(np.int64), (self.origin.size + 1,))
            )
            files = {
                name: stack.enter_context(self.folder.array(name, _numpy_type(both[0]), (total,)))
                for name, both in arrays.items()
            }
            pointers.append(np.zeros(1, np.int64))
            for start, stop, was, fresh in _row_blocks(self.origin):
                ours = -1 - self.origin[start:stop][fresh]
                there = read_rows(old.indptr, was[0], was[1] + 1).numpy()
                lengths = np.empty(stop - start, np.int64)
                lengths[~fresh], lengths[fresh] = np.diff(there), np.diff(ends)[ours]
                ptr = np.concatenate([[0], lengths.cumsum()])
                is_new = np.repeat(fresh, lengths)
                at = np.arange(ptr[-1]) - np.repeat(ptr[:-1], lengths)  # within its row
                from_new = (at + np.repeat(_spread(fresh, ends[:-1][ours]), lengths))[is_new]
                for name, (before, come) in arrays.items():
                    entries = np.empty(ptr[-1], _numpy_type(before))
                    entries[~is_new] = read_rows(before, int(there[0]), int(there[-1])).numpy()
                    entries[is_new] = come.numpy()[from_new]
                    files[name].append(entries)
                    release(before)
                pointers.append(ptr[1:] + base)
                base += int(ptr[-1])


class InterleavedEdges:
    """The old edges, renumbered, with the new ones merged in.

    Args:
        ends: source and target of the new ones, original ids.
        along: what goes along with them, by the names of the graph's arrays.
        place: where each node stands now, by its original id.
        to_new: likewise, by the place that it had.
        cluster: of each node, by its place now.

    Attributes:
        cut_old: of the old edges, how many join two clusters.
        cut_new: of the new ones.
        repeated: new edges that there were already, with all that goes along with them.
    """

    def __init__(
        self,
        ends: tuple[np.ndarray, np.ndarray],
        along: Mapping[str, np.ndarray],
        place: np.ndarray,
        to_new: np.ndarray,
        cluster: np.ndarray,
    ) -> None:
        source, target = place[ends[0]], place[ends[1]]
        order = np.lexsort((source, target))
        self._target, self._source = target[order], source[order]
        self._along = {name: own[order] for name, own in along.items()}
        self._index = np.dtype(np.int32 if place.size <= _INT32_MAX else np.int64)
        self._to_new, self._cluster = to_new.astype(self._index), cluster
        self.cut_old = self.cut_new = self.repeated = 0

    def write(self, folder: ArrayFolder, graph: Any, origin: np.ndarray) -> None:
        """Write `indptr`, `indices` and what goes along with edges."""
        total = graph.num_edges + self._source.size
        with contextlib.ExitStack() as stack:

            def file(name: str, kind: np.dtype, *shape: int) -> ArrayFile:
                return stack.enter_context(folder.array(name, kind, shape))

            pointers = file("indptr", np.dtype(np.int64), origin.size + 1)
            indices = file("indices", self._index, total)
            along = {
                name: file(name, own.dtype, total, *own.shape[1:])
                for name, own in self._along.items()
            }
            pointers.append(np.zeros(1, np.int64))
            base = 0
            for start, stop, was, fresh in _row_blocks(origin):
                ptr, cols, values = self._block(graph, start, stop, was, fresh)
                pointers.append(ptr[1:] + base)
                base += int(ptr[-1])
                indices.append(cols)
                for name, into in along.items():
                    into.append(values[name])

    def _block(
        self, graph: Any, start: int, stop: int, was: tuple[int, int], fresh: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        old_ptr = read_rows(graph.adj.indptr, was[0], was[1] + 1).numpy()
        a, b = int(old_ptr[0]), int(old_ptr[-1])
        low, high = np.searchsorted(self._target, [start, stop])
        ours = self._target[low:high] - start
        counts = np.zeros(stop - start, np.int64)
        counts[~fresh] = np.diff(old_ptr)
        lengths = counts + np.bincount(ours, minlength=stop - start)
        ptr = np.concatenate([[0], lengths.cumsum()])
        cols = np.empty(ptr[-1], self._index)
        row = np.repeat(np.arange(stop - start), counts)
        at = ptr[row] + np.arange(b - a) - np.repeat(np.cumsum(counts) - counts, counts)
        cols[at] = self._to_new[read_rows(graph.adj.indices, a, b).numpy()]
        self.cut_old += int((self._cluster[cols[at]] != self._cluster[start + row]).sum())
        taken = np.ones(cols.size, dtype=bool)
        taken[at] = False
        cols[taken] = self._source[low:high]  # both in the order of rows
        self.cut_new += int(
            (self._cluster[self._source[low:high]] != self._cluster[start + ours]).sum()
        )
        values = {
            name: np.empty((cols.size, *own.shape[1:]), own.dtype)
            for name, own in self._along.items()
        }
        for name, both in values.items():
            both[at] = read_rows(getattr(graph, name), a, b).numpy()
            both[taken] = self._along[name][low:high]
        if high > low:
            order = np.empty(cols.size, np.int64)
            rows.sorting_order(ptr, cols, order)
            cols, taken = cols[order], taken[order]
            values = {name: both[order] for name, both in values.items()}
            rows_of = np.repeat(np.arange(stop - start), lengths)
            self.repeated += _repeated(rows_of, cols, taken, values)
        release(graph.adj.indices)
        return ptr, cols, values


def _row_blocks(
    origin: np.ndarray,
) -> Iterator[tuple[int, int, tuple[int, int], np.ndarray]]:
    """Rows from `start` to `stop`, the range of old rows among them, and which are new."""
    done = 0
    for start in range(0, origin.size, _ROWS):
        stop = min(start + _ROWS, origin.size)
        fresh = origin[start:stop] < 0
        count = int((~fresh).sum())
        yield start, stop, (done, done + count), fresh
        done += count


def _spread(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values in their places, and 0 elsewhere."""
    placed = np.zeros(mask.size, np.int64)
    placed[mask] = values
    return placed


def _repeated(
    row: np.ndarray, column: np.ndarray, new: np.ndarray, values: Mapping[str, np.ndarray]
) -> int:
    """How many new entries there are already, with the same values."""
    pair = row * (1 + int(column.max())) + column
    both = np.isin(pair, np.intersect1d(pair[new], pair[~new]))
    if not both.any():
        return 0
    parts = [pair[both, None].view(np.uint8)]
    for own in values.values():
        kept = np.ascontiguousarray(own[both])
        parts.append(kept.reshape(len(kept), -1).view(np.uint8))
    key = np.unique(np.concatenate(parts, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    return int(np.isin(key[new[both]], key[~new[both]]).sum())


def _numpy_type(array: Tensor) -> np.dtype:
    return torch.empty(0, dtype=array.dtype).numpy().dtype
