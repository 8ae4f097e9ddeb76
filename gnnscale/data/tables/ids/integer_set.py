"""Different integers, numbered as they come: a hash table, in kernels.

Floor: the slot of each, far from that of the one before: several are waited for at once.
"""

from __future__ import annotations

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def
import numpy as np

from gnnscale.kernels.threads import njit_serial

_LEAST_SLOTS = 1 << 10
_FULL = 0.7  # of the slots, above which there are made more
_MOST = 2**32 - 2
_GOLDEN = 0x9E3779B97F4A7C15  # splitmix64's increment (Steele et al., OOPSLA 2014)
_TOGETHER = 1 << 12


class IntegerSet:
    """Different integers, each with the number of how many came before it.

    Args:
        memory: bytes that it may take: 12 a slot, of which 0.35 to 0.7 are full, and 8 an integer.
    """

    def __init__(self, memory: int) -> None:
        self._memory, self._count = memory, 0
        self._keys = np.empty(_LEAST_SLOTS, np.int64)
        self._numbers = np.zeros(_LEAST_SLOTS, np.uint32)  # plus one; 0 where a slot is empty

    def add(self, ids: np.ndarray) -> np.ndarray | None:
        """Numbers of integers, uint32 `[k]`: those that are new are added. None: no memory is left.

        Args:
            ids: int64 `[k]`.
        """
        numbers = np.empty(ids.size, np.uint32)
        ids = np.ascontiguousarray(ids).view()
        ids.flags.writeable = False  # for one compiled kernel
        done = 0
        while True:
            most = int(_FULL * self._keys.size)
            done, self._count = add_integers(
                ids, self._keys, self._numbers, self._count, most, done, numbers
            )
            if done == ids.size:
                return numbers
            slots = 2 * self._keys.size
            if 12 * (slots + self._keys.size) > self._memory or self._count > _MOST // 2:
                return None
            keys, codes = np.empty(slots, np.int64), np.zeros(slots, np.uint32)
            move_integers(self._keys, self._numbers, keys, codes)
            self._keys, self._numbers = keys, codes

    def ordered(self) -> tuple[np.ndarray, np.ndarray]:
        """The integers ascending, int64, and the place of each among them, uint32 `[integers]`.

        Nothing can be added then.
        """
        ids = np.empty(self._count, np.int64)
        full = self._numbers != 0
        ids[self._numbers[full] - 1] = self._keys[full]
        del full
        self._keys, self._numbers = np.empty(0, np.int64), np.empty(0, np.uint32)
        order = np.argsort(ids)
        places = np.empty(ids.size, np.uint32)
        places[order] = np.arange(ids.size, dtype=np.uint32)
        return ids[order], places


@njit_serial
def slot_of(key, keys, numbers):
    """The slot of an integer, or the empty one where it belongs."""
    mask = np.uint64(keys.shape[0] - 1)
    code = np.uint64(key) * np.uint64(_GOLDEN)
    at = (code ^ (code >> np.uint64(32))) & mask
    while numbers[at] != 0 and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return at


@njit_serial
def add_integers(ids, keys, numbers, count, most, done, found):
    """Number ids from ``ids[done]`` on, until ``most`` are there: how many are done, and there.

    Most ids of a long list are there already: those are found first, many at a time.
    """
    slots = np.empty(_TOGETHER, np.uint64)
    while done < ids.shape[0]:
        last = min(done + _TOGETHER, ids.shape[0])
        for i in range(done, last):
            slots[i - done] = slot_of(ids[i], keys, numbers)
        first = done
        for i in range(first, last):
            at = slots[i - first]
            if numbers[at] == 0 or keys[at] != ids[i]:  # new, or its slot was taken meanwhile
                at = slot_of(ids[i], keys, numbers)
                if numbers[at] == 0:
                    if count >= most:
                        return i, count
                    count += 1
                    keys[at] = ids[i]
                    numbers[at] = np.uint32(count)
            found[i] = numbers[at] - np.uint32(1)
        done = last
    return done, count


@njit_serial
def move_integers(keys, numbers, new_keys, new_numbers):
    """Put all integers into empty slots."""
    for i in range(keys.shape[0]):
        if numbers[i] != 0:
            at = slot_of(keys[i], new_keys, new_numbers)
            new_keys[at] = keys[i]
            new_numbers[at] = numbers[i]
