"""A range of buckets has what was added to it, whatever memory holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.graph.build.runs import Runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@given(st.integers(0, 9), st.integers(1, 7), st.integers(0, 3_000), st.data())
def test_runs_are_read_by_bucket(
    folder: Path, count: int, buckets: int, memory: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(count)
    given_: list[list[tuple[np.ndarray, np.ndarray]]] = []
    for _ in range(count):
        few, many = rng.integers(0, 9, (2, buckets))
        numbers = rng.integers(0, 2**16, few.sum()).astype(np.uint16)
        given_.append([(numbers, few), (rng.random((many.sum(), 3)), many)])
    first = data.draw(st.integers(0, buckets))
    last = data.draw(st.integers(first, buckets))
    with Runs(folder, memory) as runs:
        for run in given_:
            runs.add(run)
        read = list(runs.read(first, last))
        runs.flush()
        flushed = list(runs.read(first, last))
        alone = [arrays for (arrays,) in runs.read(first, last, 1)]
    assert not list(folder.iterdir())
    for i in range(2):
        wanted = [
            part for run in given_ for part in np.split(run[i][0], np.cumsum(run[i][1]))[first:last]
        ]
        for found in (read, flushed):
            assert in_order([arrays[i] for arrays in found]) == in_order(wanted)
    assert in_order(alone) == in_order([arrays[0] for arrays in flushed])


def in_order(arrays: list[np.ndarray]) -> list[str]:
    """All rows: buckets that were merged have theirs side by side."""
    return sorted(str(row) for array in arrays for row in array.tolist())
