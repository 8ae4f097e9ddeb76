"""Edges spread and sorted are the references', which are NumPy's stable sorts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.kernels.rows import reference
from gnnscale.kernels.rows.cpu import sort_edges, spread_edges


@given(st.integers(0, 300), st.booleans(), st.booleans(), st.integers(0, 12), st.integers(0, 999))
def test_spread_edges_are_ordered_by_bucket(
    edges: int, both: bool, weighted: bool, shift: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    nodes = 2_000
    source, target = rng.integers(0, rng.integers(1, nodes), (2, edges)).astype(np.int32)
    weight = rng.random(edges if weighted else 0, np.float32)
    most = edges * (1 + both)
    row, col = np.empty(most, np.uint16), np.empty(most, np.int32)
    value = np.empty(most if weighted else 0, np.float32)
    counts = np.zeros((nodes >> shift) + 1, np.int64)
    found, wanted = ([array.copy() for array in (counts, row, col, value)] for _ in range(2))
    size = spread_edges(source, target, weight, both, shift, *found)
    assert size == reference.spread_edges(source, target, weight, both, shift, *wanted)
    assert np.array_equal(found[0], wanted[0])
    for mine, theirs in zip(found[1:], wanted[1:], strict=True):
        assert np.array_equal(mine[:size], theirs[:size])


@pytest.mark.parametrize("row_type", [np.uint16, np.uint32])
@given(st.integers(0, 400), st.integers(1, 31), st.integers(1, 50), st.data())
def test_sorted_edges_are_in_the_order_of_row_column_and_value(
    row_type: type, entries: int, bits: int, rows: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(entries)
    first = data.draw(st.integers(0, 2**20))  # of which a row type of 16 bits drops some
    weighted = data.draw(st.booleans())
    row = rng.integers(first, first + rows, entries)
    # Few columns of few, so that some are equal, and the largest there may be.
    col = rng.choice([*rng.integers(0, 2**bits, 9), 2**bits - 1], entries).astype(np.int32)
    value = rng.random(entries if weighted else 0, np.float32)
    given_ = row.astype(row_type), col.copy(), value.copy()
    pointers, cols, values = np.zeros(rows + 1, np.int64), np.empty_like(col), np.empty_like(value)
    sort_edges(*given_, first, bits, pointers, cols, values)

    wanted = np.zeros(rows + 1, np.int64), np.empty_like(col), np.empty_like(value)
    reference.sort_edges(row.astype(row_type), col, value, first, bits, *wanted)
    for mine, theirs in zip((pointers, cols, values), wanted, strict=True):
        assert np.array_equal(mine, theirs)
    for before, after in zip((row.astype(row_type), col, value), given_, strict=True):
        assert np.array_equal(before, after)  # what is given is only read
