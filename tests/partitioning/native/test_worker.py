"""A worker that crashes is an exception here, and leaves neither process nor files."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from gnnscale.errors import PartitionError
from gnnscale.partitioning import dispatch, partition
from gnnscale.partitioning.native import launch
from gnnscale.partitioning.native import libraries as native
from gnnscale.partitioning.native.structure import Structure
from gnnscale.storage import files
from tests.partitioning.partition_cases import NATIVE, planted


@pytest.fixture
def graph():
    return planted(200, 10)


def test_what_a_killed_process_left_is_cleared_away_by_the_next_job(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    abandoned = tmp_path / "gnnscale-partition-0badcafe"
    abandoned.mkdir()
    (abandoned / "indices.npy").touch()
    with launch.work_folder() as mine:
        with launch.work_folder() as other:
            assert {mine, other} == set(tmp_path.iterdir())
        assert [mine] == list(tmp_path.iterdir())


def test_a_worker_keeps_its_folder_when_its_parent_is_killed(tmp_path, forks):
    """The folder is held by the worker, too."""
    worker = tmp_path / "other_worker.py"
    worker.write_text("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    parent = (
        "import pathlib, tempfile; from gnnscale.partitioning.native import launch\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        f"launch.WORKER = pathlib.Path({str(worker)!r})\n"
        "with launch.work_folder() as folder:\n"
        "    print(folder, flush=True); launch.run_worker({'method': 'metis'}, folder)"
    )
    process = forks.start(parent)
    while not (folder := process.output.read_text()).endswith("\n"):
        time.sleep(0.01)
    folder = Path(folder.strip())
    said = folder / "output.txt"
    while not (said.exists() and (child := said.read_text().strip())):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    files.remove_abandoned(tmp_path, "gnnscale-partition-*")
    assert folder.exists()
    os.kill(int(child), signal.SIGKILL)
    while folder.exists():
        files.remove_abandoned(tmp_path, "gnnscale-partition-*")


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Put a script in the place of the worker; its temporary folders go to `tmp_path / "tmp"`."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(dispatch, "_installed", lambda name: True)

    def replace(text):
        path = tmp_path / "other_worker.py"
        path.write_text(text)
        monkeypatch.setattr(launch, "WORKER", path)

    yield replace
    assert list((tmp_path / "tmp").iterdir()) == []


posix = pytest.mark.skipif(sys.platform == "win32", reason="no signals")


@posix
@pytest.mark.parametrize("method", ["kaminpar", "metis"])
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_killed_worker(graph, script, method, name):
    script(f"import os, signal\nos.kill(os.getpid(), signal.{name})")
    with pytest.raises(PartitionError, match=rf"the {method} worker was killed by .*\({name}\)"):
        partition(graph, 10, method, cache=False)


def test_a_worker_that_fails(graph, script):
    script("import sys\nprint('something went wrong')\nsys.exit(3)")
    with pytest.raises(PartitionError, match=r"ended with status 3: something went wrong.*Try"):
        partition(graph, 10, "metis", cache=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pass", "left no readable result"),
        ("np.save(out, np.zeros(7, np.int32))", r"returned \[7\] ids"),
        ("np.save(out, np.full(200, 10, np.int32))", r"ids in \[10, 10\] for 200 nodes"),
        ("open(out, 'wb').write(b'no array')", "left no readable result"),
    ],
)
def test_a_worker_that_returns_nonsense(graph, script, text, message):
    script(
        "import json, sys\nimport numpy as np\n"
        f"out = json.load(open(sys.argv[1]))['tasks'][0]['out']\n{text}"
    )
    with pytest.raises(PartitionError, match=message):
        partition(graph, 10, "kaminpar", cache=False)


@posix
def test_auto_goes_on_with_the_next_method(graph, script):
    script("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.warns(RuntimeWarning) as warned:
        part = partition(graph, 10, cache=False)
    assert part.method == "streaming"
    assert "kaminpar worker was killed by signal 11 (SIGSEGV)" in str(warned[0].message)
    assert "Going on with 'metis'" in str(warned[0].message)
    assert "Going on with 'streaming'" in str(warned[1].message)


@pytest.mark.parametrize("method", NATIVE)
def test_temporary_files_are_gone(graph, tmp_path, monkeypatch, method):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    partition(graph, 10, method, cache=False)
    assert list(tmp_path.iterdir()) == []


def test_what_the_worker_says_is_logged(graph, script, caplog, capfd):
    script("import sys\nprint('from native code')\nsys.exit(1)")
    with caplog.at_level(logging.DEBUG, launch.__name__), pytest.raises(PartitionError):
        partition(graph, 10, "metis", cache=False)
    assert "from native code" in caplog.text
    assert "from native code" not in "".join(capfd.readouterr())


def test_a_full_disk(graph, script, monkeypatch):
    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    script("")
    monkeypatch.setattr(native, "write_parhip", no_space)
    with pytest.raises(PartitionError, match="No space left on device; set TMPDIR"):
        partition(graph, 10, "kaminpar", cache=False)


INTERRUPTED = """
import logging
from gnnscale.partitioning.native import launch
import pathlib, sys, tempfile, torch
from gnnscale.graph import Graph
from gnnscale.partitioning import dispatch, partition
tempfile.tempdir = sys.argv[1]
launch.WORKER = pathlib.Path(sys.argv[2])
dispatch._installed = lambda name: True
ring = torch.arange(50)
graph = Graph.from_arrays(torch.stack([ring, (ring + 1) % 50]), num_nodes=50, undirected=True)
partition(graph, 5, "metis", cache=False)
"""


def gone(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_an_interrupted_call_leaves_no_worker(tmp_path, name, forks):
    if name == "SIGKILL" and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent is gone")
    started, tmp = tmp_path / "started", tmp_path / "tmp"
    tmp.mkdir()
    sleeper = tmp_path / "sleeper.py"
    # Does not listen to Ctrl-C, as native code does not.
    sleeper.write_text(
        "import os, pathlib, runpy, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"runpy.run_path({str(launch.WORKER)!r})['die_with_parent']()\n"
        f"part = pathlib.Path({str(started) + '.part'!r})\n"
        "part.write_text(str(os.getpid()))\n"
        f"part.rename({str(started)!r})\n"
        "time.sleep(60)\n"
    )
    process = forks.start(INTERRUPTED, str(tmp), str(sleeper))
    give_up = time.monotonic() + 60
    while not started.exists() and time.monotonic() < give_up:
        time.sleep(0.01)
    worker = int(started.read_text())
    os.kill(process.pid, getattr(signal, name))
    process.wait()
    while not gone(worker) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert gone(worker)
    if name == "SIGINT":
        assert list(tmp.iterdir()) == []


def test_the_worker_imports_neither_torch_nor_gnnscale():
    code = (
        "import runpy, sys\n"
        f"runpy.run_path({str(launch.WORKER)!r})\n"
        "assert not {'torch', 'gnnscale', 'numba'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parhip_layout(tmp_path):
    structure = Structure(np.array([0, 1, 3, 4]), np.array([1, 0, 2, 1], np.int32))
    native.write_parhip(tmp_path / "plain", structure)
    native.write_parhip(tmp_path / "weighted", structure, np.array([5, 6, 7]))
    plain, weighted = (tmp_path / "plain").read_bytes(), (tmp_path / "weighted").read_bytes()
    head = np.frombuffer(plain, "<u8", 7)
    assert head.tolist() == [11, 3, 4, 56, 60, 68, 72]
    assert np.frombuffer(plain, "<u4", offset=56).tolist() == [1, 0, 2, 1]
    assert weighted[0] == 9
    assert weighted[8:72] == plain[8:]
    assert np.frombuffer(weighted, "<i8", offset=72).tolist() == [5, 6, 7]
