"""What is kept in the cache is removed when its damage is proven, and never before."""

from __future__ import annotations

import builtins
import errno
import json
import shutil

import numpy as np
import pytest

import gnnscale as gs
from gnnscale.data import kept
from gnnscale.data.kept import open_kept
from gnnscale.graph import build_graph
from gnnscale.partitioning.cache import read_entry
from gnnscale.storage import files, mapped
from gnnscale.storage.array_folder import _meta_checksum

EDGES = np.array([[0, 1, 2], [1, 2, 0]])


@pytest.fixture
def path(tmp_path):
    build_graph(tmp_path / "graphs/kept", 3, [EDGES], x=[np.ones((3, 2), np.float32)])
    return tmp_path / "graphs/kept"


def listing(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


ERRORS = [OSError(number, "told") for number in (errno.EMFILE, errno.EACCES, errno.EIO)]


@pytest.mark.parametrize("error", [*ERRORS, MemoryError(), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("where", ["meta.json", ".npy", "mapping"])
def test_what_cannot_be_opened_just_now_is_left(path, error, where, monkeypatch):
    before, real = listing(path), builtins.open

    def failing(file, *arguments, **keywords):
        if where in str(file):
            raise error
        return real(file, *arguments, **keywords)

    def no_map(*_, **__):
        raise error

    def read_bytes(self):
        with failing(self, "rb") as file:
            return file.read()

    with monkeypatch.context() as patch:
        if where == "mapping":
            patch.setattr(mapped.np, "memmap", no_map)
        else:
            for module in (files, mapped):
                patch.setattr(module, "open", failing, raising=False)
            patch.setattr(files.Path, "read_bytes", read_bytes)
        if isinstance(error, OSError):
            with pytest.raises(gs.StoreError, match=r"left as it is(.|\n)*GNNSCALE_CACHE"):
                open_kept(path)
        else:
            with pytest.raises(type(error)):
                open_kept(path)
    assert listing(path) == before
    assert open_kept(path).num_nodes == 3


def test_another_version_is_left(path):
    meta = json.loads((path / "meta.json").read_text()) | {"version": 99}
    meta["checksum"] = _meta_checksum(meta)
    (path / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(gs.StoreError, match=r"version 99(.|\n)*left as it is"):
        open_kept(path)
    assert path.exists()


@pytest.mark.parametrize("what", ["cut", "flipped", "meta", "no meta", "file gone"])
def test_what_is_damaged_is_removed(path, what):
    file = path / ("meta.json" if "meta" in what else "indices.npy")
    content = file.read_bytes()
    if what == "cut":
        file.write_bytes(content[:-1])
    elif what == "flipped":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif what == "meta":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
    with pytest.warns(RuntimeWarning, match="the cached graph is damaged"):
        assert open_kept(path) is None
    assert not list(path.parent.iterdir())


def test_what_another_process_has_just_made_is_kept(path, monkeypatch):
    """Between the look that found damage and the removal, a whole graph took its place."""
    whole = path.with_name("whole")
    shutil.copytree(path, whole)
    (path / "indices.npy").write_bytes(b"")
    real, looks = kept.open_stored_graph, []

    def opened(folder):
        looks.append(folder)
        try:
            return real(folder)
        finally:
            if len(looks) == 1:
                shutil.rmtree(path)
                whole.rename(path)

    monkeypatch.setattr(kept, "open_stored_graph", opened)
    assert open_kept(path).num_nodes == 3
    assert [p.name for p in path.parent.iterdir()] == ["kept"]


def test_a_partition_that_cannot_be_read_just_now_is_left(tmp_path, monkeypatch):
    from gnnscale.partitioning import cache

    path = tmp_path / "p.npz"
    gs.Partition(np.array([0, 1, 1]), 2).save(path)
    before = path.read_bytes()

    def failing(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "open", failing, raising=False)
        with pytest.raises(gs.StoreError, match="cannot be read: Too many open files"):
            read_entry(path, 3, 2)
    assert path.read_bytes() == before and read_entry(path, 3, 2) is not None


def test_without_a_home_there_is_a_cache_of_ones_own(tmp_path, monkeypatch):
    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GNNSCALE_CACHE", raising=False)
    monkeypatch.setattr(files.Path, "home", homeless)
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    files._cache_without_home.cache_clear()
    with pytest.warns(RuntimeWarning, match="no home folder.*GNNSCALE_CACHE"):
        root = files.cache_root()
    assert root.parent == tmp_path and root.stat().st_mode & 0o777 == 0o700
    assert files.cache_root() == root  # told once
    files._cache_without_home.cache_clear()
    root.chmod(0o777)
    with pytest.raises(gs.StoreError, match="set GNNSCALE_CACHE"):
        files.cache_root()
    assert files.expanded("~nobody-of-this-name/x") == files.Path("~nobody-of-this-name/x")
