"""What memory a native partitioner will need, what there is, and what happens when it is short."""

import os
import signal
import sys

import pytest

from gnnscale.errors import InputError, PartitionError
from gnnscale.partitioning import dispatch, partition
from gnnscale.partitioning.native import launch
from tests.partitioning.partition_cases import planted

LEAST = 1 << 20  # less than any worker takes

posix = pytest.mark.skipif(sys.platform == "win32", reason="neither signals nor limits")


@pytest.fixture
def graph():
    return planted(200, 10)


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Put a script in the place of the worker."""
    monkeypatch.setattr(dispatch, "_installed", lambda name: True)

    def replace(text):
        path = tmp_path / "other_worker.py"
        path.write_text(text)
        monkeypatch.setattr(launch, "WORKER", path)

    return replace


@pytest.fixture
def killed(script, monkeypatch):
    """A worker that is killed once it has been seen to hold 64 MiB, however busy the machine."""
    script("held = bytearray(b'1') * (64 << 20)\nwhile True: __import__('time').sleep(1)")
    asked = launch.peak_memory

    def seen(pid):
        if (held := asked(pid)) > 64 << 20:
            os.kill(pid, signal.SIGKILL)
        return held

    monkeypatch.setattr(launch, "peak_memory", seen)


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
held = bytearray(2 << 30)
"""


@posix
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_killed_worker_says_what_it_held(graph, killed):
    with pytest.raises(PartitionError, match=r"\(SIGKILL\).*estimated to need 0.04 GB") as caught:
        partition(graph, 10, "kaminpar", cache=False)
    held = float(str(caught.value).split("it held ")[1].split(" GB")[0])
    assert 0.06 < held < 0.5  # of its own, not what its parent held when it was started


@posix
def test_a_worker_out_of_memory(graph, script):
    script(LIMITED)
    with pytest.raises(PartitionError, match=r"ended with status 1: MemoryError"):
        partition(graph, 10, "kaminpar", cache=False)


@posix
def test_auto_streams_where_the_kernel_kills(graph, script):
    script("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.warns(RuntimeWarning, match=r"SIGKILL.*Going on with"):
        assert partition(graph, 10, cache=False).method == "streaming"


def test_auto_streams_where_memory_is_short(graph, script):
    script("raise AssertionError('started nevertheless')")
    with pytest.warns(RuntimeWarning, match=r"estimated to need .* has 0\.00 GB") as warned:
        assert partition(graph, 10, memory=LEAST, cache=False).method == "streaming"
    assert len(warned) == 2


def test_the_preset_follows_memory_and_size_of_parts(graph):
    nodes, edges = 1_000_000, 50_000_000
    presets = ("default", "terapart-largek")
    rich, lean = (launch.estimated_peak(name, nodes, edges) for name in presets)
    assert lean < rich < launch.estimated_peak("metis", nodes, edges)
    for parts, preset in ((1000, "default"), (10_000, "fast")):
        assert launch.fitting_preset(nodes, edges, parts, rich) == preset
        assert launch.fitting_preset(nodes, edges, parts, rich - 1) == "terapart-largek"
    pytest.importorskip("kaminpar")
    for given, preset in ((None, "fast"), (LEAST, "terapart-largek")):
        part = partition(graph, graph.num_nodes // 20, "kaminpar", memory=given, cache=False)
        assert part.parameters["preset"] == preset


def test_memory_in_words(graph):
    assert partition(graph, 10, "streaming", memory="2 GB", cache=False).num_parts == 10
    with pytest.raises(InputError, match="memory='much' must be"):
        partition(graph, 10, memory="much")
