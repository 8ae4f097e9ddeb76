import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import StoreError
from gnnscale.storage import mapped
from tests.helpers.memory import linux, resident_file_pages


def stored(path: Path, array: np.ndarray) -> torch.Tensor:
    np.save(path, array)
    offset = path.stat().st_size - array.nbytes
    return mapped.map_array(path, array.dtype, array.shape, offset)


@given(data=st.data())
def test_read_rows_equals_slicing(data, tmp_path_factory):
    rows, width = data.draw(st.integers(1, 5000)), data.draw(st.integers(1, 7))
    array = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    tensor = stored(tmp_path_factory.mktemp("m") / "a.npy", array)
    a = data.draw(st.integers(0, rows))
    b = data.draw(st.integers(a, rows))
    expected = torch.from_numpy(array)[a:b]
    assert torch.equal(mapped.read_rows(tensor, a, b), expected)
    assert torch.equal(mapped.read_rows(tensor[a:], 0, b - a), expected)  # a view of a map
    ranges = [(a, b), (0, a), (b, b), (a, rows)]
    pieces = torch.cat([torch.from_numpy(array)[start:stop] for start, stop in ranges])
    assert torch.equal(mapped.read_ranges(tensor, ranges), pieces)
    assert torch.equal(mapped.read_ranges(torch.from_numpy(array), ranges), pieces)
    out = torch.empty(b - a, width)
    assert mapped.read_rows(tensor, a, b, out) is out
    assert torch.equal(out, expected)
    mapped.release(tensor[a:b])
    assert torch.equal(tensor[a:b], expected)


def test_in_memory_tensors_are_sliced_without_a_copy():
    tensor = torch.arange(10)
    assert not mapped.is_mapped(tensor)
    assert mapped.read_rows(tensor, 2, 5).data_ptr() == tensor[2:].data_ptr()
    mapped.release(tensor)
    assert torch.equal(tensor, torch.arange(10))


@linux
def test_reading_leaves_nothing_resident_and_release_lets_go(tmp_path):
    array = np.ones((4_000, 1_000), np.float32)  # 16 MB, 3,900 pages
    tensor = stored(tmp_path / "a.npy", array)
    before = resident_file_pages(tmp_path)
    for start in range(0, 4_000, 500):
        mapped.read_rows(tensor, start, start + 500)
    assert resident_file_pages(tmp_path) < before + 1_000
    tensor.sum()
    assert resident_file_pages(tmp_path) > before + 2_500
    mapped.release(tensor)
    assert resident_file_pages(tmp_path) < before + 1_000


def test_a_map_and_what_is_read_by_range_are_of_one_file(tmp_path, monkeypatch):
    """Another process may put a file in its place at any moment: here, once it is mapped."""
    np.save(tmp_path / "b.npy", np.zeros(9_000))
    memmap = np.memmap

    def replaced(*arguments):
        try:
            return memmap(*arguments)
        finally:
            os.replace(tmp_path / "b.npy", tmp_path / "a.npy")

    monkeypatch.setattr(np, "memmap", replaced)
    tensor = stored(tmp_path / "a.npy", np.ones(9_000))
    assert mapped.read_rows(tensor, 0, 9_000).eq(1).all() and tensor.eq(1).all()


def test_a_truncated_file_is_named_an_error(tmp_path):
    tensor = stored(tmp_path / "a.npy", np.ones(100_000, np.float64))
    os.truncate(tmp_path / "a.npy", 1_000)
    with pytest.raises(StoreError, match="truncated"):
        mapped.read_rows(tensor, 50_000, 60_000)
    with pytest.raises(StoreError, match="truncated"):
        mapped.read_ranges(tensor, [(0, 10), (50_000, 60_000)])


@linux
def test_a_map_and_its_descriptor_go_with_the_last_tensor(tmp_path):
    gc.collect()
    before = len(mapped._mappings), len(os.listdir("/proc/self/fd"))
    tensor = stored(tmp_path / "a.npy", np.ones(100))
    view = tensor[10:]
    del tensor
    gc.collect()
    assert mapped.is_mapped(view)
    del view
    gc.collect()
    assert (len(mapped._mappings), len(os.listdir("/proc/self/fd"))) == before


def test_threads_read_at_once(tmp_path):
    array = np.arange(400_000, dtype=np.int64)
    tensor = stored(tmp_path / "a.npy", array)
    wrong = []

    def read(at: int) -> None:
        for start in range(at, 390_000, 9_973):
            if not torch.equal(
                mapped.read_rows(tensor, start, start + 10_000), torch.arange(start, start + 10_000)
            ):
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
