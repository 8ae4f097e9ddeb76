"""The cache gives back what was computed from the same content, and never stands in the way."""

import os

import pytest
import torch

from gnnscale.partitioning import partition, streaming
from gnnscale.partitioning.native import launch
from tests.partitioning.partition_cases import installed, planted

METHOD = next((name for name in ("metis", "kaminpar") if installed(name)), "streaming")


@pytest.fixture
def graph():
    return planted(200, 10)


def test_a_hit_starts_no_worker(graph, tmp_path, monkeypatch):
    first = partition(graph, 10, METHOD, cache=tmp_path)
    assert first.seconds > 0

    def fail(*_):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(launch, "run_worker", fail)
    second = partition(planted(200, 10), 10, METHOD, cache=str(tmp_path))
    assert second.seconds == 0
    assert torch.equal(first.assignment, second.assignment)
    assert second.method == first.method == METHOD
    assert second.parameters == first.parameters


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_other_content_is_another_entry(graph, tmp_path):
    other = planted(200, 10, seed=1)
    assert other.num_edges > 0
    for g, parts, options in [
        (graph, 10, {}),
        (other, 10, {}),
        (graph, 11, {}),
        (graph, 10, {"seed": 1}),
        (graph, 10, {"balance": "edges"}),
        (graph, 10, {"balance": 30}),
        (graph, 10, {"imbalance": 0.1}),
    ]:
        before = len(entries(tmp_path))
        partition(g, parts, "streaming", cache=tmp_path, **options)
        assert len(entries(tmp_path)) == before + 1


def test_what_is_not_kept(graph, tmp_path):
    partition(graph, 10, "random", cache=tmp_path)
    partition(graph, 10, "contiguous", cache=tmp_path)
    partition(graph, 10, lambda graph, num_parts, seed: torch.zeros(200).long(), cache=tmp_path)
    partition(graph, 1, "streaming", cache=tmp_path)
    assert entries(tmp_path) == []


def test_cache_folder_of_the_environment(graph, tmp_path, monkeypatch):
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path))
    partition(graph, 10, "streaming", cache=False)
    assert entries(tmp_path) == []
    partition(graph, 10, "streaming")
    assert len(entries(tmp_path / "partitions")) == 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "of another graph"])
def test_a_damaged_entry_is_computed_again(graph, tmp_path, damage):
    first = partition(graph, 10, "streaming", cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    elif damage == "empty":
        content = b""
    else:
        partition(planted(100, 10), 10, "streaming", cache=False).save(tmp_path / "other.npz")
        content = (tmp_path / "other.npz").read_bytes()
    entry.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="damaged"):
        again = partition(graph, 10, "streaming", cache=tmp_path)
    assert torch.equal(again.assignment, first.assignment)
    assert partition(graph, 10, "streaming", cache=tmp_path).seconds == 0


def test_an_unwritable_cache_only_warns(graph, tmp_path):
    file = tmp_path / "file"
    file.write_text("a file, where the folder should be")
    with pytest.warns(RuntimeWarning, match="not cached"):
        part = partition(graph, 10, "streaming", cache=file / "below")
    assert part.num_parts == 10


def test_a_write_that_fails_leaves_nothing(graph, tmp_path, monkeypatch):
    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        partition(graph, 10, "streaming", cache=tmp_path)
    assert entries(tmp_path) == []


def test_streaming_runs_once(graph, tmp_path, monkeypatch):
    partition(graph, 10, "streaming", cache=tmp_path)
    monkeypatch.setattr(streaming, "_restream", None)
    assert partition(graph, 10, "streaming", cache=tmp_path).seconds == 0
