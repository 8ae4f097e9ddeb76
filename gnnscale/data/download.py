"""Downloads of large files: streamed, resumed, checked, and whole when they get their name.

What has come so far is in ``<name>.part``, and beside it in ``<name>.part.json`` which version of
the file it is of (ETag, Last-Modified), so that the parts of two versions are never joined. Nothing
is asked on the terminal. Proxies are those that the environment names (``HTTPS_PROXY``, ...).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError as TransportError
from urllib3.exceptions import NameResolutionError

from gnnscale.errors import InputError, StoreError
from gnnscale.storage.files import expanded, write_json
from gnnscale.storage.posix import NoLocks, lock

logger = logging.getLogger(__name__)

TRIES = 5
BACKOFF = 0.5  # seconds before the second try, twice as many before each further one
TIMEOUT = (10.0, 60.0)  # seconds to connect, and without a byte
_BLOCK = 1 << 20
_BUSY = (429, 500, 502, 503, 504)


def fetch(url: str, path: str | Path, *, size: int | None = None, progress: bool = True) -> Path:
    """Download a file, going on where an interrupted download of it stopped.

    A file that is there already is left as it is: only a whole one gets the name. Of two processes
    that want the same file, one downloads it and the other waits.

    Args:
        url: http or https.
        path: the file to write; its folder is made where it is missing.
        size: bytes that the file must have, where that is known.
        progress: show a bar, on a terminal only.

    Returns:
        The path.

    Raises:
        InputError: the URL is none of http or https.
        StoreError: the server cannot be reached, refuses, sends a web page in place of the file,
            less than it announced or another size than ``size``; the disk is full. It says what to
            save where by hand, and whether a further call goes on from what has come.
    """
    path = expanded(path)
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"url={url!r} is no address that starts with http:// or https://")
    if _is_whole(path, size):
        return path
    download = _Download(url, path, size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_part(download.part) as file:
            if not _is_whole(path, size):  # another process may have finished it meanwhile
                with _bar(path.name, progress) as show:
                    _with_retries(download, file, show)
                file.flush()
                os.fsync(file.fileno())
                os.replace(download.part, path)
            download.about.unlink(missing_ok=True)
    except OSError as error:
        remedy = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"; free some space and call again: it goes on from {download.part}"
        raise StoreError(f"could not write {path}: {error.strerror or error}{remedy}") from error
    return path


class _Lost(Exception):
    """The connection was lost or the server is busy: worth another try."""


class _Download:
    """One file on its way.

    Attributes:
        part: what has come so far.
        about: which version of the file that is of.
    """

    def __init__(self, url: str, path: Path, size: int | None) -> None:
        self.url, self.path, self.size = url, path, size
        self.part = path.with_name(f"{path.name}.part")
        self.about = path.with_name(f"{path.name}.part.json")

    def attempt(self, file: IO[bytes], show: _Show) -> None:
        """Download what is missing.

        Raises:
            _Lost: worth another try.
            StoreError: not worth one.
        """
        have = file.seek(0, os.SEEK_END)
        version = self._version()
        headers = {"Accept-Encoding": "identity"}  # what is counted is what is stored
        if have and version.get("validator"):
            headers |= {"Range": f"bytes={have}-", "If-Range": version["validator"]}
        with self._answer(headers) as answer:
            start, total = self._place(answer, have, version)
            self._check_size(have if start is None else total)
            if start is None:  # all of it is here
                return
            _check_disk(self.url, self.path.parent, 0 if total is None else total - start)
            blocks = _blocks(answer)
            first = _received(blocks, start, total)
            if start == 0:  # nothing is thrown away for a page of a proxy
                self._check_kind(answer, first)
                file.truncate(0)
                about = {"url": self.url, "validator": _validator(answer), "size": total}
                write_json(self.about, about)
            file.seek(start)
            done = start
            while first:
                file.write(first)
                done += len(first)
                show(done, total)
                first = _received(blocks, done, total)
            if self.size not in (None, done):
                file.truncate(0)
            self._check_size(done)

    def _version(self) -> dict[str, Any]:
        try:
            about = json.loads(self.about.read_bytes())
        except (OSError, ValueError):
            return {}
        return about if isinstance(about, dict) and about.get("url") == self.url else {}

    def _answer(self, headers: dict[str, str]) -> requests.Response:
        try:
            return requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT)
        except (requests.ConnectionError, requests.Timeout) as error:
            reason = getattr(error.args[0] if error.args else None, "reason", None)
            if isinstance(reason, NameResolutionError):
                host = urlsplit(self.url).hostname
                raise self.failure(f"the name {host} cannot be resolved: no network?") from error
            if isinstance(error, requests.exceptions.SSLError):
                raise self.failure(f"{reason or error}") from error
            raise _Lost(_reason(error)) from error
        except requests.RequestException as error:
            raise self.failure(str(error)) from error

    def _place(
        self, answer: requests.Response, have: int, version: dict[str, Any]
    ) -> tuple[int | None, int | None]:
        """Where in the file the answer starts (None: all is here), and the size of the whole."""
        code = answer.status_code
        span = answer.headers.get("Content-Range", "")
        if code == 416 and have:
            total = re.fullmatch(r"bytes \*/(\d+)", span)
            if total and int(total[1]) == have and version.get("size") in (None, have):
                return None, have
        if code == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", span)
            if found and int(found[1]) == have and version.get("size") in (None, int(found[2])):
                return have, int(found[2])
        if code in (206, 416):  # of another file than was begun
            self.about.unlink(missing_ok=True)  # the next try starts anew
            raise _Lost(f"the server answered a request to go on with {code} {span}")
        if code in _BUSY:
            raise _Lost(f"the server answered {code} {answer.reason}")
        if code != 200:
            raise self.failure(f"the server answered {code} {answer.reason}")
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None

    def _check_size(self, total: int | None) -> None:
        if total is not None and self.size not in (None, total):
            raise self.failure(f"the server's file has {total:,} bytes, expected {self.size:,}")

    def _check_kind(self, answer: requests.Response, first: bytes) -> None:
        if self.path.suffix in (".html", ".htm"):
            return
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        opening = first[:100].lstrip().lower()
        if kind == "text/html" or opening.startswith((b"<!doctype html", b"<html")):
            lines = first.decode("utf-8", "replace").split("\n")
            line = next((line.strip() for line in lines if line.strip()), "")
            raise self.failure(f"the server sent a web page, which begins {line[:200]!r}")

    def failure(self, reason: str) -> StoreError:
        """The error of a download that cannot go on."""
        return StoreError(
            f"could not download {self.url}: {reason}. Save the file by other means as {self.path}"
        )


_Show = Callable[[int, int | None], None]


def _with_retries(download: _Download, file: IO[bytes], show: _Show) -> None:
    tries = 0
    while True:
        before = file.seek(0, os.SEEK_END)
        try:
            return download.attempt(file, show)
        except _Lost as lost:
            file.flush()
            kept = file.seek(0, os.SEEK_END)
            tries = 1 if kept - before >= _BLOCK else tries + 1  # a try that got on costs none
            if tries >= TRIES:
                again = f"; a further call goes on from {kept:,} bytes" if kept else ""
                raise download.failure(f"{lost}, {tries} tries without success{again}") from lost
            wait = BACKOFF * 2 ** (tries - 1)
            logger.warning("%s: %s; trying again in %g s", download.url, lost, wait)
            time.sleep(wait)


def _blocks(answer: requests.Response) -> Iterator[bytes]:
    # read1: what came before a connection was lost is not thrown away with a half-filled block.
    while block := answer.raw.read1(_BLOCK, decode_content=False):
        yield block


def _received(blocks: Iterator[bytes], done: int, total: int | None) -> bytes:
    """The next block, or b"" at the end."""
    count = f"{done:,} bytes" if total is None else f"{done:,} of {total:,} bytes"
    try:
        block = next(blocks, b"")
    except TransportError as error:
        raise _Lost(f"the connection was lost after {count} ({_reason(error)})") from error
    if not block and total not in (None, done):
        raise _Lost(f"the connection ended after {count}")
    return block


def _check_disk(url: str, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"{url} takes {needed:,} more bytes; the disk of {folder} has {free:,} left: free some "
            "space, or choose a folder on another disk"
        )


def _is_whole(path: Path, size: int | None) -> bool:
    return path.is_file() and (size is None or path.stat().st_size == size)


def _validator(answer: requests.Response) -> str | None:
    """What If-Range takes: an ETag that vouches for every byte, else the time of the change."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _reason(error: Exception) -> str:
    """What the innermost error says: those of urllib3 and requests repeat URL and objects."""
    inner: Any = error
    while True:
        causes = [getattr(inner, "reason", None), *getattr(inner, "args", ())]
        cause = next((cause for cause in causes if isinstance(cause, Exception)), None)
        if cause is None:
            break
        inner = cause
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner) or type(inner).__name__


@contextlib.contextmanager
def _bar(name: str, wanted: bool) -> Iterator[_Show]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield lambda done, total: None
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}")
    with Progress(text, *columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def locked_part(part: Path) -> Iterator[IO[bytes]]:
    """Open a part for reading and writing, when no other process has it open; made where missing.

    Empty at the end, it is not kept. It may be renamed meanwhile: those who wait then open another.

    Raises:
        OSError: it cannot be made or opened.
    """
    while True:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            try:
                if not lock(file.fileno()):
                    logger.info("another process is downloading %s; waiting for it", part)
                    lock(file.fileno(), wait=True)
            except NoLocks:
                logger.warning("%s: no locks here; download it in one process at a time", part)
            if not _is_at(file, part):
                continue  # what was waited for is whole, and has its name
            try:
                yield file
            finally:
                with contextlib.suppress(OSError):
                    file.flush()
                if _is_at(file, part) and os.fstat(file.fileno()).st_size == 0:
                    part.unlink()
            return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
