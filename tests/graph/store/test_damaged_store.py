"""A damaged store gives an error of gnnscale, or the figures of before; never a signal."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import DamagedStore
from gnnscale.graph import open_graph, verify_store
from gnnscale.storage import array_folder
from gnnscale.storage.mapped import Bound, map_array, prove, read_ranges, read_rows

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def figures(monkeypatch):
    """The part of the fault campaign that flips bits of stores in use."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from faults import figures

    return figures


@pytest.mark.parametrize("sparse", [pytest.param(False, marks=pytest.mark.slow), True])
def test_no_flip_ends_the_process(sparse, figures, forks, tmp_path):
    """Of a store of which only some bytes are compared with checksums, as of a large one."""
    store, chance = figures.make_store(tmp_path / "store", sparse), random.Random(0)
    flips, out = [figures.draw_flip(store, chance, True) for _ in range(24)], tmp_path / "outcomes"
    (tmp_path / "flips").write_text(json.dumps(flips))
    code = Path(figures.__file__).read_text()
    run = forks.start(code, str(store), str(tmp_path / "flips"), str(out))
    status = run.wait()
    outcomes = [json.loads(line) for line in out.read_text().splitlines()]
    assert status == 0, (status, outcomes[-1:], run.errors.read_text()[-2000:])
    outcomes = [o for o in outcomes if o[-1] != "crash"]
    bad = [o for o in outcomes if o[-1] not in ("named error", "same", "other")]
    assert not bad, bad
    silent = [o for o in outcomes if o[-1] == "other" and not o[0].startswith(figures.VALUES)]
    assert not silent, silent
    assert sum(o[-1] == "named error" for o in outcomes) > 12


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_a_small_store_tells_of_any_flip_when_it_is_opened(sparse, figures, tmp_path):
    store, chance = figures.make_store(tmp_path / "store", sparse), np.random.default_rng(0)
    for path in sorted(store.glob("*.npy")):
        content = path.read_bytes()
        changed = bytearray(content)
        changed[chance.integers(len(content))] ^= chance.integers(1, 256)
        path.write_bytes(changed)
        for read in (open_graph, verify_store):
            with pytest.raises(DamagedStore, match=path.name):
                read(store)
        path.write_bytes(content)


@given(st.data())
def test_what_is_read_keeps_to_its_bound(tmp_path_factory, data):
    """By row, by range and whole: found wherever what is read holds it, and nowhere else."""
    dtype = data.draw(st.sampled_from([np.int32, np.int64]))
    numbers = np.sort(np.array(data.draw(st.lists(st.integers(0, 9), min_size=2)), dtype))
    at = data.draw(st.integers(0, len(numbers) - 1))
    wrong = data.draw(st.sampled_from([-1, 10, np.iinfo(dtype).min, np.iinfo(dtype).max]))
    ascending = data.draw(st.booleans())
    numbers[at] = wrong
    path = tmp_path_factory.mktemp("array") / "a"
    numbers.tofile(path)
    array = map_array(path, numbers.dtype, numbers.shape, bound=Bound(0, 10, ascending))
    start = data.draw(st.integers(0, len(numbers)))
    stop = data.draw(st.integers(start, len(numbers)))
    span = (start, stop)
    for read in (lambda: read_rows(array, *span), lambda: read_ranges(array, [span])):
        if start <= at < stop:
            with pytest.raises(DamagedStore, match=f"numbers outside .*, such as {wrong}"):
                read()
        else:
            assert read().numpy().tolist() == numbers[start:stop].tolist()
    with pytest.raises(DamagedStore, match=r"info .* --verify"):
        prove(array)
    with pytest.raises(DamagedStore):
        read_ranges(array, [(0, len(numbers) + 1)])


def test_pointers_ascend_within_a_range_not_from_one_to_the_next(tmp_path):
    np.array([0, 4, 2, 6]).tofile(tmp_path / "a")
    array = map_array(tmp_path / "a", np.dtype(np.int64), (4,), bound=Bound(0, 7, True))
    assert read_ranges(array, [(2, 4), (0, 2)]).tolist() == [2, 6, 0, 4]
    for read in (lambda: read_rows(array, 1, 3), lambda: prove(array)):
        with pytest.raises(DamagedStore, match="do not ascend"):
            read()


def test_masks_hold_truth_values(tmp_path):
    np.array([0, 1, 64], np.uint8).tofile(tmp_path / "a")
    array = map_array(tmp_path / "a", np.dtype(bool), (3,), bound=Bound(0, 2))
    assert read_rows(array, 0, 2).tolist() == [False, True]
    with pytest.raises(DamagedStore, match="such as 64"):
        prove(array)


def test_a_whole_store_is_opened_alike_whether_or_not_it_is_compared(
    figures, tmp_path, monkeypatch
):
    store = figures.make_store(tmp_path / "s", True)
    small = open_graph(store).graph.fingerprint()
    monkeypatch.setattr(array_folder, "VERIFIED", 0)
    clustered = open_graph(store)
    assert clustered.graph.fingerprint() == small
    assert torch.equal(clustered.graph.adj.t().indices, open_graph(store).graph.adj.t().indices)
