"""Downloads from a local server: whole or not at all, resumed, and every fault said clearly."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gnnscale.data import download
from gnnscale.data.download import fetch
from gnnscale.errors import InputError, StoreError
from tests.helpers.file_server import DATE, FileServer, file_server

CONTENT = os.urandom(300_000)


@pytest.fixture(scope="module")
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def broken_off(server: FileServer, path: Path, at: int, **how: object) -> None:
    """Leave what an interrupted download leaves."""
    served = server.put("a.zip", CONTENT, breaks=[at] + [0] * (download.TRIES - 1), **how)
    with pytest.raises(StoreError):
        fetch(server.url("a.zip"), path)
    served.asked.clear()


def test_a_file_arrives_whole_in_a_new_folder_and_nothing_stays_beside_it(
    server: FileServer, tmp_path: Path
) -> None:
    server.put("a.zip", CONTENT)
    path = fetch(server.url("a.zip"), tmp_path / "new" / "a.zip", size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["a.zip"]


def test_a_file_that_is_there_is_left_alone_unless_its_size_is_wrong(
    server: FileServer, tmp_path: Path
) -> None:
    served = server.put("a.zip", CONTENT)
    (tmp_path / "a.zip").write_bytes(b"by hand")
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == b"by hand"
    assert not served.asked
    fetch(server.url("a.zip"), tmp_path / "a.zip", size=len(CONTENT))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_file_of_no_bytes_and_one_of_unannounced_length(
    server: FileServer, tmp_path: Path
) -> None:
    server.put("empty.zip", b"")
    server.put("unknown.zip", CONTENT, length=-1)
    assert fetch(server.url("empty.zip"), tmp_path / "empty.zip").read_bytes() == b""
    assert fetch(server.url("unknown.zip"), tmp_path / "unknown.zip").read_bytes() == CONTENT
    assert names(tmp_path) == ["empty.zip", "unknown.zip"]


def test_a_lost_connection_is_taken_up_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    served = server.put("a.zip", CONTENT, breaks=[1000, 2000])
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == CONTENT
    assert served.asked == [None, "bytes=1000-", "bytes=3000-"]


@pytest.mark.parametrize(
    "headers",
    [{"ETag": '"v1"'}, {"Last-Modified": DATE}, {"ETag": 'W/"v1"', "Last-Modified": DATE}],
)
def test_a_further_call_goes_on(
    server: FileServer, tmp_path: Path, headers: dict[str, str]
) -> None:
    path = tmp_path / "a.zip"
    broken_off(server, path, 1234, headers=headers)
    assert names(tmp_path) == ["a.zip.part", "a.zip.part.json"]
    served = server.put("a.zip", CONTENT, headers=headers)
    assert fetch(server.url("a.zip"), path).read_bytes() == CONTENT
    assert served.asked == ["bytes=1234-"]
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize(
    "how",
    [
        {"ranges": False},
        {"headers": {"ETag": '"v2"'}},
        {"headers": {}},
    ],
)
def test_parts_of_different_versions_are_not_joined(
    server: FileServer, tmp_path: Path, how: dict[str, object]
) -> None:
    path = tmp_path / "a.zip"
    broken_off(server, path, 1234)
    server.put("a.zip", CONTENT[::-1], **how)
    assert fetch(server.url("a.zip"), path).read_bytes() == CONTENT[::-1]


def test_what_names_no_version_or_another_address_is_begun_anew(
    server: FileServer, tmp_path: Path
) -> None:
    broken_off(server, tmp_path / "a.zip", 1234, headers={})
    served = server.put("a.zip", CONTENT, headers={})
    fetch(server.url("a.zip"), tmp_path / "a.zip")
    assert served.asked == [None]
    broken_off(server, tmp_path / "b.zip", 1234)
    served = server.put("b.zip", CONTENT)
    fetch(server.url("b.zip"), tmp_path / "b.zip")
    assert served.asked == [None]
    assert (tmp_path / "b.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_part_that_is_whole_only_gets_its_name(
    server: FileServer, tmp_path: Path, size: int | None
) -> None:
    path = tmp_path / "a.zip"
    broken_off(server, path, 1234)
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    server.put("a.zip", CONTENT)
    assert fetch(server.url("a.zip"), path, size=size).read_bytes() == CONTENT
    assert names(tmp_path) == ["a.zip"]


def test_a_part_longer_than_the_file_is_begun_anew(server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    broken_off(server, path, 1234)
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    server.put("a.zip", CONTENT)
    assert fetch(server.url("a.zip"), path).read_bytes() == CONTENT


def test_a_short_body_says_how_much_came_and_that_a_call_goes_on(
    server: FileServer, tmp_path: Path
) -> None:
    server.put("a.zip", CONTENT, breaks=[700] + [0] * download.TRIES)
    with pytest.raises(StoreError, match=r"700 of 300,000 bytes.*goes on from 700 bytes"):
        fetch(server.url("a.zip"), tmp_path / "a.zip")


def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    served = server.put("a.zip", CONTENT, codes=[503, 429])
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == CONTENT
    assert len(served.asked) == 3


@pytest.mark.parametrize(("code", "tries"), [(500, download.TRIES), (403, 1), (404, 1)])
def test_a_refusal_names_the_address_and_where_to_save_by_hand(
    server: FileServer, tmp_path: Path, code: int, tries: int
) -> None:
    served = server.put("a.zip", CONTENT, codes=[code] * 10)
    with pytest.raises(StoreError) as caught:
        fetch(server.url("a.zip"), tmp_path / "a.zip")
    for part in (server.url("a.zip"), str(code), f"other means as {tmp_path / 'a.zip'}"):
        assert part in str(caught.value)
    assert len(served.asked) == tries
    assert names(tmp_path) == []


PAGE = b"\n  <!DOCTYPE html>\n<html><body>Log in to the network</body></html>"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_no_archive_and_costs_nothing_that_has_come(
    server: FileServer, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "a.zip"
    broken_off(server, path, 1234)
    server.put("a.zip", PAGE, kind=kind, headers={})
    with pytest.raises(StoreError, match="web page, which begins '<!DOCTYPE html>'"):
        fetch(server.url("a.zip"), path)
    served = server.put("a.zip", CONTENT)
    assert fetch(server.url("a.zip"), path).read_bytes() == CONTENT
    assert served.asked == ["bytes=1234-"]


def test_a_page_is_wanted_where_its_name_says_so(server: FileServer, tmp_path: Path) -> None:
    server.put("a.html", PAGE, kind="text/html")
    assert fetch(server.url("a.html"), tmp_path / "a.html").read_bytes() == PAGE


@pytest.mark.parametrize("length", [None, -1])
def test_a_file_of_another_size_than_expected_is_not_kept(
    server: FileServer, tmp_path: Path, length: int | None
) -> None:
    server.put("a.zip", CONTENT, length=length)
    with pytest.raises(StoreError, match=r"has 300,000 bytes, expected 123"):
        fetch(server.url("a.zip"), tmp_path / "a.zip", size=123)
    assert not (tmp_path / "a.zip").exists()
    assert not (tmp_path / "a.zip.part").exists()


def test_no_room_is_said_before_anything_is_written(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("a.zip", CONTENT)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"300,000 more bytes.*has 1,000 left: free some space"):
        fetch(server.url("a.zip"), tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_meanwhile(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("a.zip", CONTENT)

    def full(done: int, total: int | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_bar", lambda name, wanted: contextlib.nullcontext(full))
    with pytest.raises(StoreError, match=r"No space left on device; free some space and call"):
        fetch(server.url("a.zip"), tmp_path / "a.zip")
    assert names(tmp_path) == ["a.zip.part", "a.zip.part.json"]


def test_an_interrupt_keeps_what_came(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zip"
    served = server.put("a.zip", CONTENT)

    def interrupted(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(download, "_bar", lambda name, wanted: contextlib.nullcontext(interrupted))
        with pytest.raises(KeyboardInterrupt):
            fetch(server.url("a.zip"), path)
    kept = (tmp_path / "a.zip.part").stat().st_size
    assert fetch(server.url("a.zip"), path).read_bytes() == CONTENT
    assert served.asked == [None, f"bytes={kept}-"]


def test_of_two_that_want_a_file_one_downloads_it(server: FileServer, tmp_path: Path) -> None:
    both = threading.Barrier(2)
    served = server.put("a.zip", CONTENT, before=lambda: both.wait(10))
    path = tmp_path / "a.zip"
    threads = [threading.Thread(target=fetch, args=(server.url("a.zip"), path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait(10)  # one is being answered; the other asks for nothing
    for thread in threads:
        thread.join()
    assert path.read_bytes() == CONTENT
    assert len(served.asked) == 1
    assert names(tmp_path) == ["a.zip"]


def test_no_server_and_no_network(tmp_path: Path) -> None:
    with file_server() as gone:
        url = gone.url("a.zip")
    with pytest.raises(StoreError, match=r"refused.*5 tries.*other means as .*a\.zip"):
        fetch(url, tmp_path / "a.zip")
    with pytest.raises(StoreError, match=r"name nowhere\.invalid cannot be resolved"):
        fetch("http://nowhere.invalid/a.zip", tmp_path / "a.zip")
    assert names(tmp_path) == []


def test_a_proxy_of_the_environment(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    served = server.put("http://nowhere.invalid/a.zip", CONTENT)
    assert fetch("http://nowhere.invalid/a.zip", tmp_path / "a.zip").read_bytes() == CONTENT
    assert served.asked == [None]


def test_a_silent_server(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", (1.0, 0.05))
    over = threading.Event()
    server.put("a.zip", CONTENT, before=lambda: over.wait(10))
    with pytest.raises(StoreError, match="timed out"):
        fetch(server.url("a.zip"), tmp_path / "a.zip")
    over.set()


def test_addresses_that_are_none(tmp_path: Path) -> None:
    for url in ("ftp://example.org/a.zip", "a.zip", "", None):
        with pytest.raises(InputError, match="http:// or https://"):
            fetch(url, tmp_path / "a.zip")


def test_a_folder_that_cannot_be_made(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"could not write .*a\.zip"):
        fetch(server.url("a.zip"), tmp_path / "file" / "a.zip")
