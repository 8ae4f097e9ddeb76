"""`gnnscale info` of a data set of OGB: its card without data, figures where there are some."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gnnscale.data.ogb import loading
from tests.cli.conftest import FAST
from tests.helpers.file_server import file_server
from tests.helpers.ogb_layout import random_node_set, write_node_csv, zipped


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GNNSCALE_DATASETS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")


def test_info_shows_the_card_where_there_are_no_data(gnnscale) -> None:
    done = gnnscale("info", "ogbn-arxiv", code=2)
    assert "arxiv.zip" in done.stderr and "--download fetches" in done.stderr
    for part in ("arXiv papers", "ODC-BY", "80 MB", "to_symmetric", "adds it too", "0.717"):
        assert part in done.stdout


def test_info_measures_where_there_are_data(gnnscale, tmp_path: Path) -> None:
    write_node_csv(tmp_path, random_node_set())
    told = gnnscale("info", "ogbn-arxiv", "--verify").stdout
    for part in ("60", "every edge both ways", "homophily", "40 classes", "split time", "on disk"):
        assert part in told


def test_what_the_leaderboard_does_not_do_is_said(gnnscale) -> None:
    assert "does not" in gnnscale("info", "ogbn-mag-cites", code=2).stdout


def test_a_benchmark_fetches_what_it_is_told_to(gnnscale, tmp_path, monkeypatch) -> None:
    raw = write_node_csv(tmp_path / "made", random_node_set(num_classes=40), "ogbn-arxiv")
    find_entry = loading.find_entry
    with file_server() as server:
        server.put("arxiv.zip", zipped(raw, tmp_path / "sent" / "arxiv.zip").read_bytes())

        def nearby(name: str) -> object:
            return dataclasses.replace(find_entry(name), url=server.url("arxiv.zip"))

        monkeypatch.setattr(loading, "find_entry", nearby)
        command = ("bench", "ogbn-arxiv", "--recipe", "none", "--epochs", "1", "--runs", "1", *FAST)
        done = gnnscale(*command, "--no-progress", "--download")
    assert "Final Test:" in done.stdout
    assert "Final Test:" in gnnscale(*command).stdout  # the graph is kept
