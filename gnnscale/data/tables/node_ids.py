"""From what nodes are called in files to their numbers: which ids there are, and whose each is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from gnnscale.data.tables.ids.text_set import ABSENT, TextSet
from gnnscale.errors import InputError
from gnnscale.graph import NodeNames
from gnnscale.storage.arrow import pyarrow
from gnnscale.storage.mapped import map_array

_LEAST_RUN = 1 << 10
_AT_ONCE = 1 << 18  # ids of each run that are merged at a time


class NodeIds(Protocol):
    """Numbers of nodes by what they are called."""

    @property
    def num_nodes(self) -> int:
        """How many there are."""
        ...

    @property
    def names(self) -> NodeNames | None:
        """What they are called; None for their numbers."""
        ...

    def find(self, ids: object, what: str) -> np.ndarray:
        """The nodes of ids `[k]`, int64.

        Raises:
            InputError: an id is of no node; `what` says whose it is.
        """
        ...

    def look_up(self, ids: Any) -> np.ndarray:
        """The nodes of ids `[k]`, int64; -1 where an id is of no node."""
        ...


class Numbers:
    """Nodes that are called by their numbers, 0 to num_nodes − 1.

    Args:
        num_nodes: the number of nodes.
        because: where that is known from, for errors.
    """

    names = None

    def __init__(self, num_nodes: int, because: str) -> None:
        self.num_nodes, self._because = num_nodes, because

    def find(self, ids: Any, what: str) -> np.ndarray:
        """See `NodeIds.find`."""
        if (kind := getattr(ids, "dtype", np.dtype(object)).kind) not in "iu" and len(ids):
            text = "text" if kind == "O" else f"{ids.dtype}"
            raise InputError(
                f"{what} is {text}, where {self._because} says that nodes are called by their "
                "numbers; give features and labels as tables with an id column"
            )
        least, most = (int(ids.min()), int(ids.max())) if len(ids) else (0, -1)
        if least < 0 or most >= self.num_nodes:
            wrong = least if least < 0 else most
            raise InputError(
                f"{what} {wrong} is not from 0 to {self.num_nodes - 1}, which {self._because} says "
                "nodes are; give features and labels as tables with an id column"
            )
        return ids.astype(np.int64, copy=False)

    def look_up(self, ids: Any) -> np.ndarray:
        """See `NodeIds.look_up`."""
        return np.where((ids >= 0) & (ids < self.num_nodes), ids, -1).astype(np.int64, copy=False)


class Integers:
    """Nodes that are called by integers of any kind.

    Args:
        ids: int64 `[num_nodes]`, of which no two are equal; may lie in a file.
        memory: bytes for a table of all numbers from the least to the greatest, which is faster
            than a search.
    """

    def __init__(self, ids: np.ndarray, memory: int) -> None:
        self.num_nodes = ids.size
        ids = ids if ids.flags.writeable else ids.copy()  # torch warns of read-only memory
        self.names = NodeNames(torch.from_numpy(ids))
        ascending = bool((ids[1:] > ids[:-1]).all())
        self._order = None if ascending else np.argsort(ids)
        self._sorted = ids if self._order is None else ids[self._order]
        self._least = int(self._sorted[0]) if ids.size else 0
        self._span = int(self._sorted[-1]) - self._least + 1 if ids.size else 0
        self._table = None
        if 8 * self._span <= memory:
            self._table = np.full(self._span, -1, np.int64)
            self._table[ids - self._least] = np.arange(ids.size)

    def find(self, ids: Any, what: str) -> np.ndarray:
        """See `NodeIds.find`."""
        if (kind := getattr(ids, "dtype", np.dtype(object)).kind) not in "iu":
            raise InputError(f"{what} is {'text' if kind == 'O' else ids.dtype}, nodes integers")
        nodes = self.look_up(ids)
        if (absent := nodes < 0).any():
            raise _absent(ids[absent], what)
        return nodes

    def look_up(self, ids: Any) -> np.ndarray:
        """See `NodeIds.look_up`."""
        ids = ids.astype(np.int64, copy=False)
        if not self.num_nodes or not ids.size:
            return np.full(ids.size, -1)
        if self._table is not None:
            inside = (ids >= self._least) & (ids < self._least + self._span)
            if inside.all():
                return self._table[ids - self._least]
            nodes = np.full(ids.size, -1)
            nodes[inside] = self._table[ids[inside] - self._least]
            return nodes
        # Sorted first, so that a search through a file goes through it once.
        unique, inverse = np.unique(ids, return_inverse=True)
        places = np.searchsorted(self._sorted, unique).clip(max=self.num_nodes - 1)
        known = self._sorted[places] == unique
        nodes = places if self._order is None else self._order[places]
        return np.where(known, nodes, -1)[inverse]


class Texts:
    """Nodes that are called by text, held in memory; where it is looked up, 12 to 23 bytes a name.

    Args:
        names: of which no two are equal.
    """

    def __init__(self, names: pyarrow.Array) -> None:
        self.num_nodes = len(names)
        self.names = NodeNames.from_arrow(names)
        self._known: TextSet | None = None

    def find(self, ids: Any, what: str) -> np.ndarray:
        """See `NodeIds.find`."""
        ids = as_text(ids)
        if ids.null_count:
            raise InputError(f"{what} is empty {ids.null_count:,} times; fill it in")
        nodes = self.look_up(ids)
        if (absent := nodes < 0).any():
            raise _absent(ids.filter(pyarrow.array(absent)).unique().to_pylist(), what)
        return nodes

    def look_up(self, ids: Any) -> np.ndarray:
        """See `NodeIds.look_up`."""
        if self._known is None:
            self._known = TextSet(self.names.to_arrow())
        nodes = self._known.find(as_text(ids)).astype(np.int64)
        nodes[nodes == ABSENT] = -1
        return nodes


def as_text(ids: object) -> pyarrow.Array:
    """Ids as a column of text, whatever they are in the file."""
    column = ids if isinstance(ids, pyarrow.Array) else pyarrow.array(ids)
    return column.cast(pyarrow.large_string())


def all_integers(chunks: Iterable[np.ndarray], memory: int, folder: Path) -> np.ndarray:
    """All different ids, ascending, in bounded memory.

    Args:
        chunks: int64 `[k]`.
        memory: bytes to use.
        folder: of files for what does not fit; the result may lie in one.

    Returns:
        int64 `[ids]`.
    """
    most = max(_LEAST_RUN, memory // 24)  # ids, their copy when they are put together, and the sort
    held: list[np.ndarray] = []
    merged = np.empty(0, np.int64)
    runs: list[np.ndarray] = []
    for chunk in chunks:
        held.append(_ascending(chunk))
        if sum(part.size for part in held) <= max(most, merged.size) // 2:
            continue
        merged, held = _ascending(np.concatenate([merged, *held])), []
        if merged.size > most:
            runs.append(_in_file([merged], folder))
            merged = np.empty(0, np.int64)
    merged = _ascending(np.concatenate([merged, *held]))
    if not runs:
        return merged
    return _in_file(_merged([*runs, merged]), folder)


def _merged(runs: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Ascending runs as one, in blocks, each id once."""
    starts = [0] * len(runs)
    while any(start < run.size for start, run in zip(starts, runs, strict=True)):
        ahead = [run[s : s + _AT_ONCE] for s, run in zip(starts, runs, strict=True)]
        # Up to the least of the last ids, nothing can come any more.
        last = min(int(part[-1]) for part in ahead if part.size)
        ends = [int(np.searchsorted(part, last, side="right")) for part in ahead]
        yield _ascending(np.concatenate([p[:e] for p, e in zip(ahead, ends, strict=True)]))
        starts = [s + e for s, e in zip(starts, ends, strict=True)]


def _ascending(ids: np.ndarray) -> np.ndarray:
    """Different ids, ascending. `np.unique` hashes, which takes 60 times as long for some ids."""
    ids = np.sort(ids)
    first = np.ones(ids.size, dtype=bool)
    np.not_equal(ids[1:], ids[:-1], out=first[1:])
    return ids[first]


def _in_file(blocks: Iterable[np.ndarray], folder: Path) -> np.ndarray:
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".ids", delete=False) as file:
        for block in blocks:
            file.write(block.data)
        size = file.tell() // 8
    return map_array(Path(file.name), np.dtype(np.int64), (size,)).numpy()


def _absent(ids: Any, what: str) -> InputError:
    first = ids[0] if isinstance(ids[0], str) else int(ids[0])
    return InputError(f"{len(ids):,} times {what} is of no node, first {first!r}; name it once")
