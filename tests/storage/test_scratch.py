"""Scratch files go to a disk where there is one to be found."""

import os
import tempfile
import warnings
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch

from gnnscale.errors import StoreError
from gnnscale.storage import memory
from gnnscale.storage.mapped import file_of, map_array


@pytest.fixture
def stored(tmp_path):
    """A tensor in a file of a folder, as an array of a stored graph is."""
    path = tmp_path / "data" / "graph" / "indices"
    path.parent.mkdir(parents=True)
    torch.arange(8).numpy().tofile(path)
    tensor = map_array(path, torch.arange(8).numpy().dtype, (8,))
    assert file_of(tensor[3:]) == path and file_of(torch.arange(8)) is None
    return tensor


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A temporary folder of the system, in memory."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(memory, "lies_in_memory", lambda folder: folder == tmp_path / "tmp")
    memory._warn.cache_clear()
    return tmp_path / "tmp"


def test_beside_the_graph_where_the_system_offers_memory_alone(stored, system, monkeypatch):
    beside = system.parent / "data"
    assert memory.scratch_root(torch.arange(3), stored) == beside
    assert memory.scratch_root(torch.arange(3)) == system  # no file to lie beside
    with memory.scratch_folder("some-", stored) as folder:
        assert folder.parent == beside
        assert (
            memory.scratch_root(map_array(_written(folder), stored.numpy().dtype, (2,))) == beside
        )
    assert [path.name for path in beside.iterdir()] == ["graph"]
    monkeypatch.setenv("TMPDIR", str(system))  # the user has said where
    assert memory.scratch_root(stored) == system
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(memory, "lies_in_memory", lambda _: False)
    assert memory.scratch_root(stored) == system


def _written(folder):
    """A file of two numbers in a scratch folder."""
    torch.arange(2).numpy().tofile(folder / "derived")
    return folder / "derived"


def test_what_cannot_be_helped_is_told_once(stored, system, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.warns(RuntimeWarning, match="lies in memory .*set TMPDIR to a folder on a disk"):
        assert memory.scratch_root(stored) == system
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert memory.scratch_root(stored) == system


def test_no_folder(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(StoreError, match=r"no temporary folder.*set TMPDIR"):
        memory.scratch_folder("some-").__enter__()


def test_the_file_system_that_holds_a_folder_is_the_innermost(tmp_path, monkeypatch):
    disk = namedtuple("disk", "mountpoint fstype")
    inner, deeper = tmp_path / "inner", tmp_path / "inner" / "deeper"
    deeper.mkdir(parents=True)
    mounts = [disk(str(inner), "tmpfs"), disk("/", "ext4"), disk(str(deeper), "tmpfs")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    assert not memory.lies_in_memory(tmp_path)
    assert memory.lies_in_memory(inner) and memory.lies_in_memory(deeper)
    mounts.append(disk(str(deeper), "xfs"))  # over the one before
    assert not memory.lies_in_memory(deeper)
    (tmp_path / "link").symlink_to(inner)
    assert memory.lies_in_memory(tmp_path / "link")
    mounts.clear()
    assert not memory.lies_in_memory(Path("/"))
