"""Writing a store: nothing half-written is accepted, nothing foreign is replaced."""

import errno
import os
import resource
import shutil
import signal
import textwrap
from pathlib import Path

import pytest

from gnnscale.errors import StoreError
from gnnscale.graph import cluster, open_graph, verify_store
from gnnscale.storage import files
from gnnscale.storage.files import (
    atomic_folder,
    atomic_write,
    held_folder,
    read_json,
    remove_abandoned,
    write_json,
)
from tests.helpers.graphs import assert_same_graph, parts, ring


@pytest.fixture
def path(tmp_path):
    """A stored ring of 12 nodes."""
    cluster(ring(), parts(ring()), tmp_path / "store")
    return tmp_path / "store"


# --- what may be replaced -------------------------------------------------------------------


def test_a_store_is_replaced_whole(path):
    opened = open_graph(path)
    small = ring(5, 2.0)
    again = cluster(small, parts(small, 2), path)
    assert_same_graph(again.original(), small)
    assert [p.name for p in path.parent.iterdir()] == ["store"]
    assert not [f for f in path.iterdir() if f.suffix == ".part"]
    # Who has the old one open goes on reading it.
    assert opened.graph.x.sum() == 36
    verify_store(path)


def test_a_graph_may_replace_the_store_it_is_read_from(path):
    opened = open_graph(path)
    again = cluster(opened.graph, parts(opened.graph, 3), path)
    assert again.num_parts == 3 and again.graph.x.sum() == 36
    verify_store(path)


@pytest.mark.parametrize("content", ["notes.txt", "meta.json"])
def test_foreign_folders_are_refused(tmp_path, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / content).write_text("{}")
    with pytest.raises(StoreError, match="exists and is no gnnscale store"):
        cluster(ring(), parts(ring()), tmp_path / "mine")
    assert (tmp_path / "mine" / content).read_text() == "{}"


def test_a_store_with_other_files_in_it_is_refused(path):
    (path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"also holds notes.txt; replacing it would delete that"):
        cluster(ring(), parts(ring()), path)
    assert (path / "notes.txt").read_text() == "mine"
    verify_store(path)


def test_files_are_refused_and_empty_folders_taken(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="exists and is not a folder"):
        cluster(ring(), parts(ring()), tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert cluster(ring(), parts(ring()), tmp_path / "empty").num_parts == 4


def test_the_working_directory_and_links(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    for _ in range(2):
        cluster(ring(), parts(ring()), tmp_path / "link")
        verify_store(tmp_path / "here")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "link"]
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(StoreError, match="is the working directory"):
        cluster(ring(), parts(ring()), ".")


# --- writes that fail -----------------------------------------------------------------------


def failing(after: int, error: BaseException):
    """A stand-in for os.fsync that fails at the `after`-th call."""
    calls = iter(range(after + 1))

    def fsync(descriptor):
        if next(calls, after) == after:
            raise error

    return fsync


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("after", [0, 3, 14, 15, 16])
@pytest.mark.parametrize(
    ("error", "existing"),
    [(FULL, False), (FULL, True), (KeyboardInterrupt(), True)],
    ids=["full", "full-existing", "ctrl-c-existing"],
)
def test_a_failed_write_changes_nothing(tmp_path, monkeypatch, after, error, existing):
    """Every file is flushed: 15 arrays, meta.json and the folder."""
    path = tmp_path / "store"
    if existing:
        cluster(ring(5), parts(ring(5)), path)
    whole = cluster(ring(), parts(ring()), tmp_path / "whole").path
    assert len(list(whole.glob("*.npy"))) == 15
    shutil.rmtree(whole)
    monkeypatch.setattr(os, "fsync", failing(after, error))
    if error is FULL:
        with pytest.raises(StoreError, match=r"could not write .*: No space left on device"):
            cluster(ring(), parts(ring()), path)
    else:
        with pytest.raises(KeyboardInterrupt):
            cluster(ring(), parts(ring()), path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == (["store"] if existing else [])
    if existing:
        assert_same_graph(open_graph(path, verify=True).original(), ring(5))


def test_a_store_is_replaced_in_one_step(path, monkeypatch):
    """There is no moment, when a kill could come, without the old or the new one."""
    exchange, seen = files._exchange, []

    def looked_at(one, other):
        seen.append(open_graph(path, verify=True).num_parts)
        done = exchange(one, other)
        seen.append(open_graph(path, verify=True).num_parts)
        return done

    monkeypatch.setattr(files, "_exchange", looked_at)
    cluster(ring(5), parts(ring(5), 2), path)
    assert seen in ([4, 2], [4, 4])  # the latter: the file system cannot
    assert open_graph(path, verify=True).num_parts == 2
    assert [p.name for p in path.parent.iterdir()] == ["store"]


def test_a_failed_rename_puts_the_old_store_back(path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda *_: False)  # a system that cannot
    rename, calls = Path.rename, []

    def second_fails(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise FULL
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(StoreError, match="No space left"):
        cluster(ring(5), parts(ring(5)), path)
    assert [p.name for p in path.parent.iterdir()] == ["store"]
    assert_same_graph(open_graph(path, verify=True).original(), ring())


def test_space_is_looked_at_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 7))
    with pytest.raises(StoreError, match=r"takes [\d,]+ bytes; the disk has 7 left"):
        cluster(ring(), parts(ring()), tmp_path / "store")
    assert not list(tmp_path.iterdir())


WRITES = """
    import os, resource, signal, sys
    import torch
    from gnnscale.errors import StoreError
    from gnnscale.graph import Graph, Partition, cluster
    full, killed = sys.argv[1:]
    graph = Graph.from_arrays([[0], [1]], torch.zeros(200_000, 2))
    part = Partition(torch.arange(200_000) % 5, 5)

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        cluster(graph, part, full)
    except StoreError as error:
        print(error, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    calls = []
    def fsync(_):
        calls.append(0)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
    os.fsync = fsync
    cluster(graph, part, killed)
"""


def test_a_file_that_may_not_grow_and_a_killed_write(tmp_path, forks):
    """A limit on file sizes is a full disk, from the kernel itself."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    full, path = tmp_path / "full" / "store", tmp_path / "killed" / "store"
    process = forks.start(textwrap.dedent(WRITES), str(full), str(path))
    assert process.wait() == -signal.SIGKILL, process.errors.read_text()
    said = process.output.read_text()
    assert "could not write the graph" in said and "File too large" in said
    assert not full.exists() and not any(full.parent.glob("*"))

    assert not path.exists()
    (leftover,) = path.parent.iterdir()
    with pytest.raises(StoreError):
        open_graph(leftover)
    # The next write of the same store clears it away, and leaves alone what another one is writing.
    with atomic_folder(path) as writing:
        cluster(ring(), parts(ring()), path)
        assert writing.is_dir() and not leftover.exists()
        shutil.rmtree(path)
    assert [p.name for p in path.parent.iterdir()] == ["store"]


def test_a_folder_that_is_taken_for_abandoned_before_it_is_locked(tmp_path):
    """Another process clears away: the one that writes makes another folder."""
    made = []

    def make():
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(folder)
        if len(made) == 1:
            remove_abandoned(tmp_path, "?")
        return folder

    folder, held = held_folder(make)
    remove_abandoned(tmp_path, "?")
    assert folder == made[1] and folder.exists() and not made[0].exists()
    os.close(held)
    remove_abandoned(tmp_path, "?")
    assert not folder.exists()


# --- single files ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), ValueError("x")])
def test_a_file_is_whole_or_as_it_was(tmp_path, error):
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"a": 1})
    expected = StoreError if error is FULL else type(error)
    with pytest.raises(expected), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert read_json(path) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_killed_write_of_a_file_is_cleared_away_by_the_next(tmp_path):
    path = tmp_path / "file.json"
    (tmp_path / ".file.json.0badcafe.part").write_text("half")
    with atomic_write(path) as file:
        file.write(b"{}")
        writing = {p.name for p in tmp_path.iterdir()}
        write_json(path, {"a": 1})  # leaves alone what another one is writing
        assert writing < {p.name for p in tmp_path.iterdir()} and len(writing) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_json_that_is_none(tmp_path):
    with pytest.raises(StoreError, match="could not read"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff{")
    with pytest.raises(StoreError, match="is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()
