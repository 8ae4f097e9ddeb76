"""The store: on disk is what was in memory; damage is found; nothing half-written is accepted."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError, StoreError
from gnnscale.graph import (
    Graph,
    Partition,
    cluster,
    files,
    is_store,
    open_graph,
    store,
    verify_store,
)
from gnnscale.graph.files import (
    atomic_folder,
    atomic_write,
    held_folder,
    read_json,
    remove_abandoned,
    write_json,
)
from tests.graph.same import assert_same_clustered, assert_same_graph, tensors
from tests.strategies import graphs, partitions

WHOLE = graphs(edge_attr=None, sparse_x=None, unlabelled=True)


def ring(nodes: int = 12, value: float = 1.0) -> Graph:
    """A directed ring with everything a graph may hold."""
    ids = torch.arange(nodes)
    return Graph.from_arrays(
        torch.stack([ids, ids.roll(-1)]),
        torch.full((nodes, 3), value),
        ids % 3,
        edge_weight=1.0 + ids,
        edge_attr=torch.stack([ids, -ids], dim=1),
        splits={"default": {"train": ids % 2 == 0}, "other": {"test": [3]}},
        metric="f1_macro",
        name="ring",
        source="synthetic:ring",
    )


def parts(graph: Graph, count: int = 4) -> Partition:
    return Partition(torch.arange(graph.num_nodes) % count, count, "metis", 3)


@pytest.fixture
def path(tmp_path):
    """A stored ring of 12 nodes."""
    cluster(ring(), parts(ring()), tmp_path / "store")
    return tmp_path / "store"


# --- what is written is what is read --------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(WHOLE, st.data())
def test_on_disk_equals_in_memory(tmp_path_factory, graph, data):
    part = data.draw(partitions(graph))
    path = tmp_path_factory.mktemp("store") / "a" / "graph"
    stored = cluster(graph, part, path)
    assert_same_clustered(stored, cluster(graph, part))
    assert_same_clustered(open_graph(str(path), verify=True), stored)
    assert_same_graph(stored.original(), graph)
    assert stored.original().fingerprint() == graph.fingerprint()
    assert stored.path == path and str(path) in repr(stored)
    assert [p.name for p in path.parent.iterdir()] == ["graph"]


def test_everything_a_graph_holds_is_kept(path):
    stored = open_graph(path)
    assert_same_clustered(stored, cluster(ring(), parts(ring())))
    assert (stored.method, stored.seed) == ("metis", 3)
    meta = json.loads((path / "meta.json").read_text())
    assert meta["format"] == "gnnscale-clustered-graph" and meta["version"] == 1
    assert {f.name for f in path.iterdir()} == {"meta.json"} | {
        about["file"] for about in meta["arrays"].values()
    }


def test_several_graphs_and_edge_labels(tmp_path):
    several = Graph.from_arrays([[0], [1]], y=[1, 0], num_nodes=3, node_ptr=[0, 2, 3],
                                y_level="graph")  # fmt: skip
    assert_same_graph(cluster(several, Partition([0, 0, 1], 2), tmp_path / "a").original(), several)
    edges = Graph.from_arrays([[0, 1], [1, 0]], y=[1, 0], y_level="edge")
    assert_same_graph(cluster(edges, Partition([1, 0], 2), tmp_path / "b").original(), edges)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_types_of_features_are_kept(tmp_path, dtype):
    graph = Graph.from_arrays([[0], [1]], torch.rand(2, 3).to(dtype))
    assert cluster(graph, Partition([0, 1], 2), tmp_path / "s").graph.x.dtype == dtype


def test_types_that_cannot_be_stored(tmp_path):
    graph = Graph.from_arrays([[0], [1]], torch.rand(2, 3).bfloat16())
    with pytest.raises(InputError, match="x: bfloat16 cannot be stored"):
        cluster(graph, Partition([0, 1], 2), tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_files_are_not_written_through(path):
    """Maps are copy-on-write: a change in memory stays there, and does not kill the process."""
    stored = open_graph(path)
    for tensor in tensors(stored.graph).values():
        tensor.zero_()
    verify_store(path)
    assert open_graph(path).graph.x.sum() == 36


# --- what cannot be opened ------------------------------------------------------------------


def test_missing(tmp_path, path):
    with pytest.raises(StoreError, match=r"no gnnscale clustered graph at .*: meta.json is"):
        open_graph(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"meta\.json is missing"):
        verify_store(tmp_path)
    assert is_store(path) and not is_store(tmp_path) and not is_store(tmp_path / "nowhere")
    os.remove(path / "indices.npy")
    for opens in (open_graph, verify_store):
        with pytest.raises(StoreError, match=r"indices.npy is missing or unreadable: No such"):
            opens(path)


@pytest.mark.parametrize("content", ["[]", '{"format": "zip"}', "3"])
def test_another_format(path, content):
    (path / "meta.json").write_text(content)
    with pytest.raises(StoreError, match="is not a gnnscale clustered graph"):
        open_graph(path)
    assert not is_store(path)


def test_another_version(path):
    meta = read_json(path / "meta.json")
    write_json(path / "meta.json", {**meta, "version": 2})
    with pytest.raises(StoreError, match="format version 2; this gnnscale reads 1"):
        open_graph(path)


@pytest.mark.parametrize("array", ["indptr", "indices", "x", "y", "node_id", "split0_train"])
def test_truncated_or_grown_files(path, array):
    file = path / f"{array}.npy"
    size = file.stat().st_size
    for changed in (size - 1, 0, size + 1):
        os.truncate(file, changed)
        with pytest.raises(StoreError, match=rf"{array}.npy has {changed} bytes; {size} were"):
            open_graph(path)


def test_a_damaged_meta_file(path):
    """Wherever it is cut or changed, it is not taken for whole."""
    file = path / "meta.json"
    whole = file.read_bytes()
    for size in range(0, len(whole) - 2, 83):
        file.write_bytes(whole[:size])
        with pytest.raises(StoreError, match="is not valid JSON"):
            open_graph(path)
    for place in range(0, len(whole), 17):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError):
            open_graph(path)
    meta = json.loads(whole)
    del meta["arrays"]["y"]
    write_json(file, meta)
    with pytest.raises(StoreError, match=r"meta.json is damaged: its checksum differs"):
        open_graph(path)


def test_a_flipped_byte_is_found_by_verify(path):
    for file in sorted(path.glob("*.npy")):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 8]))
        assert open_graph(path).num_parts == 4  # sizes are right: only a whole read can tell
        with pytest.raises(StoreError, match=rf"the checksum differs for {file.name}$"):
            verify_store(path)
        with pytest.raises(StoreError, match=rf"the checksum differs for {file.name}$"):
            open_graph(path, verify=True)
        file.write_bytes(whole)
    verify_store(path)


def test_a_damaged_header_moves_no_data(path):
    """Headers serve other readers; sizes and types are taken from meta.json."""
    file = path / "x.npy"
    whole = file.read_bytes()
    for place in range(128):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 32]) + whole[place + 1 :])
        assert torch.equal(open_graph(path).graph.x, torch.ones(12, 3))
        with pytest.raises(StoreError, match=r"the checksum differs for x\.npy"):
            verify_store(path)


def test_numpy_reads_the_arrays(path):
    stored = open_graph(path)
    assert np.array_equal(np.load(path / "x.npy"), stored.graph.x.numpy())
    assert np.array_equal(np.load(path / "node_id.npy"), stored.node_id.numpy())
    assert np.load(path / "split1_test.npy").dtype == bool


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
@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["full", "ctrl-c"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_write_changes_nothing(tmp_path, monkeypatch, after, error, existing):
    """Every file is flushed: 15 arrays, meta.json and the folder."""
    path = tmp_path / "store"
    if existing:
        cluster(ring(5), parts(ring(5)), path)
    clustered = cluster(ring(), parts(ring()))
    assert len(dict(store._arrays(clustered))) == 15
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


def run(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )


WRITE = """
    import os, resource, signal, sys
    import torch
    from gnnscale.errors import InputError, StoreError
    from gnnscale.graph import Graph, Partition, cluster
    path, how = sys.argv[1:]
    graph = Graph.from_arrays([[0], [1]], torch.zeros(200_000, 2))
    part = Partition(torch.arange(200_000) % 5, 5)
    if how == "full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    else:
        calls = []
        def fsync(_):
            calls.append(0)
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = fsync
    try:
        cluster(graph, part, path)
    except StoreError as error:
        print(error)
        sys.exit(3)
"""


def test_a_file_that_may_not_grow(tmp_path):
    """A limit on file sizes: the same as a full disk, from the kernel itself."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = run(WRITE, str(tmp_path / "store"), "full")
    assert done.returncode == 3, done.stderr
    assert "could not write the graph" in done.stdout and "File too large" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_killed_write_leaves_nothing_that_is_taken_for_a_store(tmp_path):
    path = tmp_path / "store"
    done = run(WRITE, str(path), "killed")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not path.exists()
    (leftover,) = tmp_path.iterdir()
    with pytest.raises(StoreError):
        open_graph(leftover)
    # The next write of the same store clears it away, and leaves alone what another one is writing.
    with atomic_folder(path) as writing:
        cluster(ring(), parts(ring()), path)
        assert writing.is_dir() and not leftover.exists()
        shutil.rmtree(path)
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


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


def test_a_path_that_is_none():
    for opens in (open_graph, read_json, Partition.load):
        with pytest.raises(InputError, match=r"a path is text or a Path, not 1\.5"):
            opens(1.5)


def test_any_change_of_the_meta_file_is_found_by_verify(path):
    """Also one that changes nothing of what it says."""
    file = path / "meta.json"
    file.write_bytes(file.read_bytes().replace(b"\n  ", b"\n\t ", 1))
    open_graph(path)
    with pytest.raises(StoreError, match=r"the checksum differs for meta\.json$"):
        verify_store(path)


def test_json_that_is_none(tmp_path):
    with pytest.raises(StoreError, match="could not read"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff{")
    with pytest.raises(StoreError, match="is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()
