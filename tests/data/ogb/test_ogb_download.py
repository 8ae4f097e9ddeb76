"""`load("ogbn-arxiv", download=True)` from a local server: whole, or a clear error and no trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import gnnscale as gs
from gnnscale.data import download
from gnnscale.data.ogb import loading
from gnnscale.data.ogb.catalogue import find_entry
from gnnscale.errors import InputError, StoreError
from tests.helpers.file_server import FileServer, file_server
from tests.helpers.ogb_layout import (
    random_graph_set,
    random_node_set,
    write_graph_csv,
    write_node_csv,
    write_node_npz,
    zipped,
)

ARCHIVES: dict[str, Callable[[Path], Path]] = {
    "ogbn-arxiv": lambda root: write_node_csv(root, random_node_set()),
    "ogbn-papers100M": lambda root: write_node_npz(root, random_node_set()),
    "ogbg-molhiv": lambda root: write_graph_csv(root, random_graph_set()),
}


@pytest.fixture(scope="module")
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture(autouse=True)
def here(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OGB's catalogue, but for the address; and a cache of the test's own."""
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def nearby(name: str) -> object:
        entry = find_entry(name)
        return dataclasses.replace(entry, url=server.url(entry.url.rpartition("/")[2]))

    monkeypatch.setattr(loading, "find_entry", nearby)
    server.files.clear()


def archive_of(name: str, folder: Path, leave_out: str = "") -> bytes:
    raw = ARCHIVES[name](folder / "raw-data")
    for file in raw.rglob(leave_out) if leave_out else ():
        file.unlink()
    return zipped(raw, folder / "archive.zip").read_bytes()


def put(server: FileServer, name: str, content: bytes, **how: object) -> object:
    return server.put(find_entry(name).archive, content, **how)


def files_in(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


@pytest.mark.parametrize("name", ARCHIVES)
def test_it_is_downloaded_stored_once_and_opened_without_the_network(
    server: FileServer, tmp_path: Path, name: str
) -> None:
    served = put(server, name, archive_of(name, tmp_path))
    graph = gs.load(name, download=True)
    by_hand = gs.load(name, data=str(tmp_path / "archive.zip"))
    assert graph.fingerprint() == by_hand.fingerprint()
    server.files.clear()
    again = gs.load(name, download=True)
    assert again.fingerprint() == gs.load(name).fingerprint() == graph.fingerprint()
    assert len(served.asked) == 1
    assert gs.load(graph.source).fingerprint() == graph.fingerprint()
    assert not [
        file for file in files_in(tmp_path / "cache") if ".zip" in file and "json" not in file
    ]


def test_in_a_root_the_archive_is_kept(server: FileServer, tmp_path: Path) -> None:
    content = archive_of("ogbn-arxiv", tmp_path)
    put(server, "ogbn-arxiv", content)
    graph = gs.load("ogbn-arxiv", root=tmp_path / "root", download=True)
    assert files_in(tmp_path / "root") == ["arxiv.zip"]
    assert (tmp_path / "root/arxiv.zip").read_bytes() == content
    assert gs.load("ogbn-arxiv", root=tmp_path / "root").fingerprint() == graph.fingerprint()


def test_an_archive_placed_in_the_cache_by_hand_is_kept(tmp_path: Path) -> None:
    archive = tmp_path / "cache/ogb/arxiv.zip"
    archive.parent.mkdir(parents=True)
    content = archive_of("ogbn-arxiv", tmp_path)
    archive.write_bytes(content)
    graph = gs.load("ogbn-arxiv", download=True)
    assert archive.read_bytes() == content and graph.source == "ogbn-arxiv"
    archive.write_bytes(content[:-9])
    with pytest.raises(StoreError, match="no zip"):
        gs.load("ogbn-arxiv")
    assert archive.read_bytes() == content[:-9]


def test_one_placed_after_a_download_is_read_and_kept(server: FileServer, tmp_path: Path) -> None:
    put(server, "ogbn-arxiv", archive_of("ogbn-arxiv", tmp_path))
    gs.load("ogbn-arxiv", download=True)
    archive = tmp_path / "cache/ogb/arxiv.zip"
    content = zipped(write_node_csv(tmp_path / "new", random_node_set(1)), archive).read_bytes()
    new = gs.load("ogbn-arxiv")
    assert archive.read_bytes() == content
    assert new.fingerprint() == gs.load("ogbn-arxiv", data=archive).fingerprint()


def test_a_download_broken_off_is_taken_up_by_a_further_call(
    server: FileServer, tmp_path: Path
) -> None:
    content = archive_of("ogbn-arxiv", tmp_path)
    put(server, "ogbn-arxiv", content, breaks=[1000] + [0] * (download.TRIES - 1))
    with pytest.raises(StoreError, match=rf"1,000 of {len(content):,} bytes.*goes on from 1,000"):
        gs.load("ogbn-arxiv", download=True)
    assert not [file for file in files_in(tmp_path / "cache") if file.startswith("graphs")]
    served = put(server, "ogbn-arxiv", content)
    gs.load("ogbn-arxiv", download=True)
    assert served.asked == ["bytes=1000-"]


def test_without_download_it_says_what_to_place_where(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        gs.load("ogbg-molhiv")
    for part in ("download=True", "hiv.zip", "ogbg_molhiv", str(tmp_path / "cache")):
        assert part in str(caught.value)


PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.mark.parametrize("name", ["ogbn-arxiv", "ogbg-molhiv"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("html", "web page, which begins '<!DOCTYPE html>"),
        ("half", r"no zip.*removed: load it once more with download=True"),
        ("flipped", r"damaged.*removed: load it once more with download=True"),
        ("split", r"valid\.csv\.gz is missing"),
        ("edges", r"edge\.csv\.gz is missing"),
        ("404", "404"),
    ],
)
def test_a_fault_is_named_and_the_next_call_succeeds(
    server: FileServer, tmp_path: Path, name: str, fault: str, message: str
) -> None:
    whole = archive_of(name, tmp_path)
    content, how = whole, {}
    if fault == "html":
        content, how = PAGE, {"kind": "text/html", "headers": {}}
    elif fault == "half":
        content = whole[: len(whole) // 2]
    elif fault == "flipped":
        at = whole.index(b"raw/edge.csv.gz") + 60
        content = whole[:at] + bytes(255 - byte for byte in whole[at : at + 30]) + whole[at + 30 :]
    elif fault in ("split", "edges"):
        missing = {"split": "valid.csv.gz", "edges": "edge.csv.gz"}[fault]
        content = archive_of(name, tmp_path / "less", leave_out=missing)
    elif fault == "404":
        how = {"codes": [404]}
    put(server, name, content, **how)
    with pytest.raises(StoreError, match=message):
        gs.load(name, download=True)
    assert not [file for file in files_in(tmp_path / "cache") if file.startswith("graphs")]
    if fault in ("split", "edges"):  # a sound archive is not thrown away
        next((tmp_path / "cache").rglob("*.zip")).unlink()
    put(server, name, whole, headers={"ETag": '"v2"'})
    assert gs.load(name, download=True).num_nodes > 0
    assert not list((tmp_path / "cache" / "graphs").glob(".*"))


def test_no_room_for_the_archive(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server, "ogbn-arxiv", archive_of("ogbn-arxiv", tmp_path))
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"more bytes; the disk .* has 100 left"):
        gs.load("ogbn-arxiv", download=True)
    assert files_in(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["ogbn-arxiv", "ogbg-molhiv"])
def test_no_room_for_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    archive_of(name, tmp_path)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match="the disk has 100 left"):
        gs.load(name, data=str(tmp_path / "archive.zip"))
    assert files_in(tmp_path / "cache") == []


def test_raw_data_are_left_as_they_are(tmp_path: Path) -> None:
    folder = write_graph_csv(tmp_path / "root", random_graph_set())
    before = {file: (folder / file).read_bytes() for file in files_in(folder)}
    graph = gs.load("ogbg-molhiv", root=tmp_path / "root")
    assert {file: (folder / file).read_bytes() for file in files_in(folder)} == before
    assert gs.load(graph.source).fingerprint() == graph.fingerprint()
    assert np.array_equal(graph.node_ptr, gs.load("ogbg-molhiv", root=tmp_path / "root").node_ptr)


def test_a_name_that_ogb_does_not_have() -> None:
    with pytest.raises(InputError, match="Did you mean 'ogbn-arxiv'"):
        gs.load("ogbn-arxive", download=True)
