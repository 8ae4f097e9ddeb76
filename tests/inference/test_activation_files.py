"""Activations in files: what is read is what was written, whatever is on its way to the disk."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import StoreError
from gnnscale.inference.activation_file import ActivationsInFile, WriteBehind
from gnnscale.inference.activations import ActivationStore

few = settings(max_examples=40, deadline=None)


@few
@given(
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40), st.integers(0, 29)), max_size=12),
)
def test_a_layer_is_what_was_put_last(num_rows, width, memory_columns, puts):
    """Rows and blocks put in any order, each followed by a change of the caller's own tensor."""
    with tempfile.TemporaryDirectory() as folder:
        layers = ActivationStore(
            num_rows, 7, torch.device("cpu"), Path(folder), 4 * num_rows * memory_columns
        )
        layer = layers.new(width, torch.float32)
        assert isinstance(layer, ActivationsInFile)
        expected = torch.randn(num_rows, width)
        layer.put(0, expected)
        for first, count, which in puts:
            first = first % num_rows
            rows = torch.randn(min(count, num_rows - first), width)
            block = layer.blocks[which % len(layer.blocks)]
            columns = block if which % 2 else None
            piece = rows[:, slice(*block)].clone() if columns else rows
            where = (slice(first, first + len(rows)), slice(*(columns or (0, width))))
            expected[where] = piece
            layer.put(first, piece, columns)
            piece.zero_()
            assert torch.equal(layer.rows(first, num_rows), expected[first:])
        for block in layer.blocks:
            assert torch.equal(layers.columns(layer, block), expected[:, slice(*block)])
        nodes = torch.randperm(num_rows)
        if len(layer.blocks) == 1:
            assert torch.equal(layer.gather(nodes), expected[nodes])


@few
@given(st.integers(1, 1000), st.integers(1, 600), st.integers(1, 600))
def test_blocks_are_the_fewest_that_memory_bears(num_rows, width, most):
    layers = ActivationStore(num_rows, 7, torch.device("cpu"), Path(), 4 * num_rows * most)
    blocks = layers._blocks(width, torch.float32)
    assert [a for a, _ in blocks] == [0, *(b for _, b in blocks[:-1])]
    assert blocks[-1][1] == width
    assert max(b - a for a, b in blocks) <= most
    assert len(blocks) == -(-width // most)


def test_reads_of_what_is_not_being_written_do_not_wait(tmp_path, monkeypatch):
    layer = ActivationsInFile(tmp_path, (8, 3), torch.float32, [(0, 3)])
    layer.put(0, torch.ones(8, 3))
    assert torch.equal(layer.rows(0, 8), torch.ones(8, 3))
    allowed, write = threading.Event(), os.pwritev

    def held(*arguments):
        assert allowed.wait(60)
        return write(*arguments)

    monkeypatch.setattr(os, "pwritev", held)
    layer.put(0, torch.zeros(4, 3))
    assert torch.equal(layer.rows(4, 8), torch.ones(4, 3))
    allowed.set()
    assert torch.equal(layer.rows(3, 5), torch.tensor([[0.0] * 3, [1.0] * 3]))


@pytest.mark.parametrize("at", ["the next write", "a read"])
def test_a_disk_that_fills_up_later_is_an_error(at, tmp_path, monkeypatch):
    layer = ActivationsInFile(tmp_path, (8, 3), torch.float32, [(0, 3)])

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(StoreError, match=r"could not be kept in a file: No space left"):
        for row in range(8):
            layer.put(row, torch.ones(1, 3))
            if at == "a read":
                layer.rows(row, row + 1)


def test_the_file_is_closed_when_all_is_written():
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - its writer closes it
    copy = os.dup(file.fileno())
    before = set(threading.enumerate())
    behind = WriteBehind(file)
    (thread,) = set(threading.enumerate()) - before
    for at in range(20):
        behind.write([(at, memoryview(bytes([at])))])
    del behind
    thread.join(60)
    assert file.closed
    assert os.pread(copy, 20, 0) == bytes(range(20))
    os.close(copy)
