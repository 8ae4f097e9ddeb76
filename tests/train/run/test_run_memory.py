"""What a process and its children hold, and a run on a graph in files beside one in memory."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time

import pytest
import torch

import gnnscale as gs
from gnnscale.graph import is_store
from gnnscale.train.run.process import MemoryMeter, footprint, memory_use, resident_arrays
from tests.helpers.memory import few_columns
from tests.helpers.small_runs import small_graph

MIB = 1 << 20


def taken(size: int) -> mmap.mmap:
    """Pages of their own, which go when it is closed: the heap of a long process keeps its own."""
    data = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    data.write(b"1" * size)
    return data


def test_a_peak_stays_when_its_memory_is_gone():
    with MemoryMeter() as meter:
        before = meter.reset()
        data = taken(64 * MIB)
        meter.look()
        data.close()
        after = footprint()
    assert meter.peak.together >= after.together + 50 * MIB
    assert meter.peak.anonymous >= before.anonymous + 50 * MIB
    use = memory_use(meter)
    assert use["peak_pss"] == meter.peak.together
    assert use.keys() == {"peak_rss", "peak_pss", "peak_pss_anonymous", "peak_pss_file"}


def test_children_count():
    work = "import sys; data = bytearray(b'1' * (64 << 20)); print(flush=True); sys.stdin.read()"
    with MemoryMeter() as meter:
        before = meter.reset().anonymous
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-c", work], stdin=pipe, stdout=pipe) as child:
            child.stdout.readline()
            assert meter.look().anonymous >= before + 50 * MIB
            child.stdin.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    graph = small_graph()
    path = tmp_path_factory.mktemp("graph") / "store"
    part = gs.partition(graph, 6, method="random", seed=0)
    return gs.cluster(graph, part, path), gs.cluster(graph, part)


def trained(data, **arguments):
    torch.manual_seed(0)
    graph = data.graph if isinstance(data, gs.ClusteredGraph) else data
    model = gs.nn.GraphSAGE(graph.num_features, 20, 3, graph.num_classes, norm="graph_norm")
    trainer = gs.ClusterTrainer(
        model, data, clusters_per_batch=2, epochs=2, evaluate_every=1, chunk_rows=16,
        progress=False, **arguments,
    )  # fmt: skip
    return trainer, trainer.fit()


def figures(report):
    timed = ("seconds", "nodes_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in report.rows], report.final


def test_a_run_out_of_core_is_the_run_in_memory(store, tmp_path):
    on_disk, in_memory = store
    with few_columns(1000):
        one, found = trained(on_disk, storage=tmp_path)
    other, expected = trained(in_memory)
    assert figures(found) == figures(expected)
    assert torch.equal(one.predict(), other.predict())
    assert not list(tmp_path.iterdir())
    large = {"graph.x", "graph.adj.indices"}
    assert not large & found.memory["arrays"].keys()
    assert large <= expected.memory["arrays"].keys() <= resident_arrays(other.clustered).keys()


def test_a_mapped_graph_is_clustered_into_the_run_folder(store, tmp_path):
    mapped = store[0].graph
    options = {"num_parts": 6, "method": "random", "run_dir": tmp_path / "run"}
    trainer, report = trained(mapped, **options)
    assert is_store(tmp_path / "run" / "store")
    assert trainer.clustered.path == tmp_path / "run" / "store"
    written = (tmp_path / "run" / "store" / "meta.json").stat().st_mtime_ns
    again, resumed = trained(mapped, **options)
    assert figures(resumed) == figures(report)
    # Before it is clustered again the graph stands in its original order, and sums round otherwise.
    torch.testing.assert_close(again.predict(), trainer.predict())
    assert torch.equal(again.clustered.node_id, trainer.clustered.node_id)
    assert (tmp_path / "run" / "store" / "meta.json").stat().st_mtime_ns == written


def test_a_reset_begins_with_what_there_is_then(monkeypatch):
    monkeypatch.setattr("gnnscale.train.run.process._SHARE", 1e-9)  # looks at growth alone

    def wait_for(anonymous):
        deadline = time.monotonic() + 60
        while meter.peak.anonymous < anonymous:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with MemoryMeter() as meter:
        before = footprint().anonymous
        data = taken(128 * MIB)
        wait_for(before + 100 * MIB)
        data.close()
        meter.reset()
        data = taken(48 * MIB)
        wait_for(before + 40 * MIB)
        data.close()


def test_arrays_of_one_name_add_up_and_shared_ones_count_once():
    one, two = torch.ones(4), torch.ones(8)
    held = {"cache": {1: one, 2: two}, "again": one, "other": torch.ones(2)}
    assert list(resident_arrays(held).items()) == [("cache", 48), ("other", 8)]


def test_a_report_lists_the_graph_as_given_and_the_first_hop():
    _, report = trained(small_graph(), num_parts=6, method="random", precompute=True)
    arrays = report.memory["arrays"]
    assert {"graph.x", "given.x", "first_hop"} <= arrays.keys()
    assert arrays["given.x"] == arrays["graph.x"] == arrays["first_hop"]


def test_a_store_that_another_run_replaced_is_written_again(tmp_path):
    one, other = small_graph(), small_graph()
    other.x = other.x + 1
    options = {"num_parts": 6, "method": "contiguous", "store": tmp_path / "store"}
    trained(one, run_dir=tmp_path / "one", **options)
    trained(other, run_dir=tmp_path / "other", **options)
    again, _ = trained(one, run_dir=tmp_path / "one", **options)
    again.prepare()
    assert torch.equal(again.clustered.graph.x, one.x[again.clustered.node_id])
