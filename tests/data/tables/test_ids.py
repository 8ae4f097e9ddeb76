"""Sets of ids: texts and integers numbered as they come, as a dictionary of Python's does."""

from __future__ import annotations

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.data.tables.ids import integer_set
from gnnscale.data.tables.ids.integer_set import IntegerSet
from gnnscale.data.tables.ids.numbered import NumberedEdges
from gnnscale.data.tables.ids.text_set import ABSENT, TextSet, find_texts, hash_texts, parts_of
from gnnscale.data.tables.node_ids import Texts
from gnnscale.errors import InputError

_BITS = 2**64 - 1
# What is compared word by word, and shares a beginning with others.
texts = st.text(st.sampled_from("ab\0é"), max_size=24)
integers = st.one_of(st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1))


def reference(text: bytes, seed: int) -> int:
    z = (seed + 1) * 0x9E3779B97F4A7C15 & _BITS
    for byte in text:
        z = (z ^ byte) * 0x100000001B3 & _BITS
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _BITS
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _BITS
    return z ^ (z >> 31)


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 2**64 - 1))
def test_hashes_are_those_of_the_reference(texts, seed):
    ends = np.cumsum([0, *map(len, texts)])
    text = np.frombuffer(b"".join(texts), np.uint8)
    ends.flags.writeable = False
    hashes = np.empty(len(texts), np.uint64)
    hash_texts(ends, text, np.uint64(seed), hashes)
    assert hashes.tolist() == [reference(one, seed) for one in texts]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(texts, max_size=30), max_size=5))
def test_texts_are_numbered_as_they_come_and_ordered_by_their_bytes(chunks):
    known: dict[str, int] = {}
    numbered = TextSet()
    for chunk in chunks:
        wanted = [known.setdefault(text, len(known)) for text in chunk]
        column = pyarrow.array(["cut off", *chunk], pyarrow.large_string())[1:]
        assert numbered.add(column).tolist() == wanted
    ordered = sorted(known, key=str.encode)
    names, places = numbered.ordered()
    assert names.to_pylist() == ordered
    assert [ordered[place] for place in places] == list(known)
    wanted = pyarrow.array([*ordered, "nobody"])
    assert len(numbered) == 0
    for found in (TextSet(names), TextSet(pyarrow.array(["-", *ordered])[1:])):
        assert found.find(wanted).tolist() == [*range(len(ordered)), ABSENT]
    with pytest.raises(InputError, match="1 times id is of no node, first 'nobody'"):
        Texts(names).find(wanted, "id")


def test_two_texts_may_share_half_of_a_hash():
    ends, text = (array.copy() for array in parts_of(pyarrow.array(["one", "another"])))
    codes = [reference(b"one", 0), reference(b"another", 0)]
    slots = np.zeros(1024, np.uint64)
    at = codes[1] % 1024
    slots[at] = (codes[1] >> 32 << 32) + 1  # as if "one" had the upper half of the other's
    slots[(at + 1) % 1024] = (codes[1] >> 32 << 32) + 2
    for array in (ends, text):
        array.flags.writeable = False
    numbers = np.empty(2, np.uint32)
    find_texts(ends, text, ends, text, np.uint64(0), slots, numbers)
    assert numbers[1] == 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(integers, max_size=30), max_size=5), st.integers(0, 1 << 14))
def test_integers_are_numbered_as_they_come(chunks, memory):
    known: dict[int, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integer_set, "_LEAST_SLOTS", 4)
        numbered = IntegerSet(memory)
        for chunk in chunks:
            wanted = [known.setdefault(one, len(known)) for one in chunk]
            found = numbered.add(np.array(chunk, dtype=np.int64))
            if found is None:
                assert memory < 12 * 8 * len(known)
                return
            assert found.tolist() == wanted
    ids, places = numbered.ordered()
    assert ids.tolist() == sorted(known)
    assert ids[places].tolist() == list(known)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=9), max_size=4))
def test_numbered_edges_come_back_as_they_were(tmp_path_factory, chunks):
    arrays = [np.array(chunk, dtype=np.int64).reshape(-1, 2).T for chunk in chunks]
    for weighted in (False, True):
        edges = NumberedEdges(tmp_path_factory.mktemp("edges"))
        given = [(a, b, *([a / 3] if weighted else [])) for a, b in arrays]
        assert edges.take(given, lambda ids: ids.astype(np.uint32))
        places = np.arange(10, dtype=np.uint32)[::-1]
        for found, wanted in zip(edges.chunks(places), given, strict=True):
            assert found[0].tolist() == (9 - wanted[0]).tolist()
            assert found[1].tolist() == (9 - wanted[1]).tolist()
            assert [one.tolist() for one in found[2:]] == [one.tolist() for one in wanted[2:]]
        assert not edges.take(given or [([1], [1])], lambda ids: None)
