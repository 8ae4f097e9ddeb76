"""Different texts, numbered as they come: a hash table over their bytes, in kernels.

Where a table says which row is whose, and where edges say which nodes there are, most time goes
into looking texts up. Floor: three places of memory a text, far from each other: its slot in the
table, where it begins, and its bytes. They are visited in three loops over some thousand texts, in
which a processor waits for many at once.
"""

from __future__ import annotations

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from gnnscale.errors import InputError
from gnnscale.kernels.threads import njit_serial
from gnnscale.storage.arrow import pyarrow

# splitmix64's increment and multipliers (Steele et al., OOPSLA 2014), FNV-1a's prime.
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_PRIME = 0x100000001B3
ABSENT = 2**32 - 1
"""The number of a text that is not in a set."""
_LEAST_SLOTS = 1 << 10
_FULL = 0.7  # of the slots, above which there are made more
_SEED = np.uint64(0)
_TOGETHER = 1 << 12  # texts whose places in memory are waited for at once
_WORD = 8  # bytes that are compared at once in sorting


def parts_of(column: pyarrow.Array) -> tuple[np.ndarray, np.ndarray]:
    """Where each text begins and ends, int64 `[texts + 1]`, and their bytes, uint8."""
    column = column.cast(pyarrow.large_string())
    _, ends, text = column.buffers()
    if not len(column):
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    ends = np.frombuffer(ends, np.int64)[column.offset : column.offset + len(column) + 1]
    text = np.frombuffer(text or b"", np.uint8)
    return ends, text


class TextSet:
    """Different texts, each with the number of how many came before it.

    Memory: their bytes, 8 for where each begins, and 8 a slot, of which 0.35 to 0.7 are full.

    Args:
        names: of which no two are equal; none at first when not given.
    """

    def __init__(self, names: pyarrow.Array | None = None) -> None:
        self._empty()
        if names is not None:
            self._ends, self._text = parts_of(names)
            self._count = len(names)
            self._slots = _slots_for(self._count)
            fill_slots(*_frozen(self._ends, self._text), self._count, _SEED, self._slots)

    def __len__(self) -> int:
        return self._count

    def add(self, column: pyarrow.Array) -> np.ndarray:
        """Numbers of texts, uint32 `[k]`: those that are new are added."""
        ends, text = parts_of(column)
        size = len(column)
        self._make_room(size, int(ends[-1] - ends[0]))
        numbers = np.empty(size, np.uint32)
        given = _frozen(ends, text)
        self._count = add_texts(
            *given, _SEED, self._slots, self._ends, self._text, self._count, numbers
        )
        return numbers

    def find(self, column: pyarrow.Array) -> np.ndarray:
        """Numbers of texts, uint32 `[k]`; `ABSENT` of those that are not here."""
        numbers = np.empty(len(column), np.uint32)
        arrays = _frozen(*parts_of(column), self._ends, self._text)
        find_texts(*arrays, _SEED, self._slots, numbers)
        return numbers

    def ordered(self) -> tuple[pyarrow.Array, np.ndarray]:
        """The texts ascending by their bytes, and the place of each among them, uint32 `[texts]`.

        The set is empty then.
        """
        self._slots = np.empty(0, np.uint64)
        order = ascending(self._ends[: self._count + 1], self._text)
        ends = np.zeros(self._count + 1, np.int64)
        text = np.empty(int(self._ends[self._count]), np.uint8)
        take_texts(self._ends, self._text, order, ends, text)
        places = np.empty(order.size, np.uint32)
        places[order] = np.arange(order.size, dtype=np.uint32)
        buffers = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(text)]
        names = pyarrow.Array.from_buffers(pyarrow.large_string(), self._count, buffers)
        self._empty()
        return names, places

    def _empty(self) -> None:
        self._count = 0
        self._slots = np.zeros(_LEAST_SLOTS, np.uint64)
        self._ends, self._text = np.zeros(1, np.int64), np.empty(0, np.uint8)

    def _make_room(self, texts: int, size: int) -> None:
        most = self._count + texts
        if most >= ABSENT:
            raise InputError(f"{most:,} different ids of text; 2^32 - 2 are the most")
        if most > _FULL * self._slots.size:
            self._slots = np.empty(0, np.uint64)
            self._slots = _slots_for(most)
            fill_slots(*_frozen(self._ends, self._text), self._count, _SEED, self._slots)
        # Grown in place: the system moves pages, and copies nothing.
        if most + 1 > self._ends.size:
            self._ends.resize(max(most + 1, self._ends.size * 9 // 8), refcheck=False)
        used = int(self._ends[self._count])
        if used + size > self._text.size:
            self._text.resize(max(used + size, self._text.size * 9 // 8), refcheck=False)


def _slots_for(texts: int) -> np.ndarray:
    return np.zeros(max(_LEAST_SLOTS, 1 << int(texts / _FULL).bit_length()), np.uint64)


def _frozen(*arrays: np.ndarray) -> list[np.ndarray]:
    """Read-only views, for one compiled kernel."""
    views = [array.view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    return views


def ascending(ends: np.ndarray, text: np.ndarray) -> np.ndarray:
    """The order of texts by their bytes, int64.

    By the first word of bytes behind what all begin with, and what is then equal by the next.
    """
    size = ends.size - 1
    if size < 2:
        return np.arange(size)
    depth = common_prefix(ends, text)
    keys = np.empty(size, np.uint64)
    order = np.arange(size)
    word_keys(ends, text, order, depth, keys)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    equal = np.concatenate([[False], keys[1:] == keys[:-1]])
    del keys
    while equal.any():
        tied = np.flatnonzero(equal | np.concatenate([equal[1:], [False]]))
        groups = np.cumsum(~equal[tied])
        nodes = order[tied]
        keys = np.empty(tied.size, np.uint64)
        word_keys(ends, text, nodes, depth, keys)
        left = (ends[nodes + 1] - ends[nodes] - depth).clip(max=_WORD)  # of those that end here
        inner = np.lexsort((left, keys, groups))
        order[tied] = nodes[inner]
        keys, left, groups = keys[inner], left[inner], groups[inner]
        # Two that are the same up to here, and both go on.
        same = (keys[1:] == keys[:-1]) & (groups[1:] == groups[:-1])
        same &= (left[1:] == _WORD) & (left[:-1] == _WORD)
        equal[tied] = np.concatenate([[False], same])
        depth += _WORD
    return order


@njit_serial
def hash_texts(ends, text, seed, hashes):
    """Hash each text: FNV-1a over its bytes, mixed by splitmix64's finaliser.

    Floor: the bytes of text: each is a multiplication that waits for the last.

    Args:
        ends: int64 ``[texts + 1]``, where each begins and ends in ``text``.
        text: uint8 ``[bytes]``, one after the other.
        seed: uint64; another seed gives other hashes.
        hashes: uint64 ``[texts]``: filled.
    """
    for i in range(hashes.shape[0]):
        hashes[i] = hash_text(text, ends[i], ends[i + 1], seed)


@njit_serial
def hash_text(text, start, stop, seed):
    """The hash of one text."""
    z = (seed + np.uint64(1)) * np.uint64(_GOLDEN)
    for at in range(start, stop):
        z = (z ^ np.uint64(text[at])) * np.uint64(_PRIME)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return z ^ (z >> np.uint64(31))


@intrinsic
def word_at(_typing, text, index):
    """Return the eight bytes from ``text[index]`` on as a uint64; no bounds are checked."""

    def generate(context, builder, signature, arguments):
        array = make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        word = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(text, types.intp), generate


@njit_serial
def same_text(ends, text, i, known_ends, known_text, j):
    """Whether text i of some and text j of others are the same bytes: word by word, 6 × as fast."""
    start, known = ends[i], known_ends[j]
    size = ends[i + 1] - start
    if size != known_ends[j + 1] - known:
        return False
    if size < _WORD:
        for at in range(size):  # noqa: SIM110 - compiled
            if text[start + at] != known_text[known + at]:
                return False
        return True
    for at in range(0, size - _WORD, _WORD):
        if word_at(text, start + at) != word_at(known_text, known + at):
            return False
    last = size - _WORD  # over some bytes of the one before
    return word_at(text, start + last) == word_at(known_text, known + last)


@njit_serial
def probe(code, slots, skipped):
    """The slot where a hash is, or would be: the first that is empty or has its upper half.

    Args:
        code: uint64, the hash.
        slots: uint64 ``[slots]``: the upper half of a hash, and the number of its text plus one.
        skipped: how many with the same half were looked at before.
    """
    mask = np.uint64(slots.shape[0] - 1)
    half = code >> np.uint64(32)
    at = code & mask
    while slots[at] != 0:
        if slots[at] >> np.uint64(32) == half:
            if skipped == 0:
                break
            skipped -= 1
        at = (at + np.uint64(1)) & mask
    return at


@njit_serial
def guess_texts(ends, text, seed, slots, known_ends, known_text, first, last, codes, numbers):
    """Number texts by the first slot that has half of their hash; 2^32 - 1 if that is another's.

    Three loops, so that the places in memory of many texts are waited for at once.
    """
    for i in range(first, last):
        codes[i - first] = hash_text(text, ends[i], ends[i + 1], seed)
    for i in range(first, last):
        slot = slots[probe(codes[i - first], slots, 0)]
        numbers[i] = np.uint32((slot & np.uint64(0xFFFFFFFF)) - np.uint64(1))
    for i in range(first, last):
        j = np.int64(numbers[i])
        if j != ABSENT and not same_text(ends, text, i, known_ends, known_text, j):
            numbers[i] = ABSENT


@njit_serial
def place_of(ends, text, i, code, slots, known_ends, known_text):
    """The slot of text i, or the empty one where it belongs."""
    skipped = 0
    while True:
        at = probe(code, slots, skipped)
        if slots[at] == 0:
            return at
        j = np.int64(slots[at] & np.uint64(0xFFFFFFFF)) - 1
        if same_text(ends, text, i, known_ends, known_text, j):
            return at
        skipped += 1


@njit_serial
def find_texts(ends, text, known_ends, known_text, seed, slots, numbers):
    """Number the texts that are known; 2^32 - 1 for others."""
    codes = np.empty(_TOGETHER, np.uint64)
    for first in range(0, numbers.shape[0], _TOGETHER):
        last = min(first + _TOGETHER, numbers.shape[0])
        guess_texts(ends, text, seed, slots, known_ends, known_text, first, last, codes, numbers)
        for i in range(first, last):
            if numbers[i] == ABSENT:
                at = place_of(ends, text, i, codes[i - first], slots, known_ends, known_text)
                numbers[i] = np.uint32((slots[at] & np.uint64(0xFFFFFFFF)) - np.uint64(1))


@njit_serial
def add_texts(ends, text, seed, slots, known_ends, known_text, count, numbers):
    """Number texts, adding those that are new behind the ``count`` known ones: how many then are.

    There is room for all of them.
    """
    codes = np.empty(_TOGETHER, np.uint64)
    for first in range(0, numbers.shape[0], _TOGETHER):
        last = min(first + _TOGETHER, numbers.shape[0])
        guess_texts(ends, text, seed, slots, known_ends, known_text, first, last, codes, numbers)
        for i in range(first, last):
            if numbers[i] != ABSENT:
                continue
            code = codes[i - first]
            at = place_of(ends, text, i, code, slots, known_ends, known_text)
            if slots[at] == 0:
                start = known_ends[count]
                size = ends[i + 1] - ends[i]
                known_text[start : start + size] = text[ends[i] : ends[i + 1]]
                count += 1
                known_ends[count] = start + size
                slots[at] = (code >> np.uint64(32) << np.uint64(32)) | np.uint64(count)
            numbers[i] = np.uint32((slots[at] & np.uint64(0xFFFFFFFF)) - np.uint64(1))
    return count


@njit_serial
def fill_slots(ends, text, count, seed, slots):
    """Put the first ``count`` texts, of which no two are equal, into empty slots."""
    mask = np.uint64(slots.shape[0] - 1)
    for i in range(count):
        code = hash_text(text, ends[i], ends[i + 1], seed)
        at = code & mask
        while slots[at] != 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = (code >> np.uint64(32) << np.uint64(32)) | np.uint64(i + 1)


@njit_serial
def take_texts(ends, text, order, new_ends, new_text):
    """Copy texts in another order."""
    to = 0
    for i in range(order.shape[0]):
        start, stop = ends[order[i]], ends[order[i] + 1]
        new_text[to : to + stop - start] = text[start:stop]
        to += stop - start
        new_ends[i + 1] = to


@njit_serial
def common_prefix(ends, text):
    """How many bytes all texts begin with."""
    size = ends[1] - ends[0]
    for i in range(1, ends.shape[0] - 1):
        size = min(size, ends[i + 1] - ends[i])
        for at in range(size):
            if text[ends[i] + at] != text[ends[0] + at]:
                size = at
                break
    return size


@njit_serial
def word_keys(ends, text, order, depth, keys):
    """Eight bytes of each text from ``depth`` on as a number that orders; zeros behind its end."""
    for i in range(order.shape[0]):
        start, stop = ends[order[i]] + depth, ends[order[i] + 1]
        key = np.uint64(0)
        if start + _WORD <= stop:
            word = word_at(text, start)
            for _ in range(_WORD):
                key = (key << np.uint64(8)) | (word & np.uint64(0xFF))
                word >>= np.uint64(8)
        else:
            for at in range(_WORD):
                byte = np.uint64(text[start + at]) if start + at < stop else np.uint64(0)
                key = (key << np.uint64(8)) | byte
        keys[i] = key
