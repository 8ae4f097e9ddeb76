"""Where OGB's raw data are: in a folder that ogb left, in an archive, or on OGB's server."""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnnscale.data.cards import ROOT_VARIABLE, find_card
from gnnscale.data.ogb.catalogue import OGBEntry
from gnnscale.errors import InputError, StoreError
from gnnscale.storage.files import cache_root, expanded, read_json, write_json

logger = logging.getLogger(__name__)

# What reading a damaged archive raises, and a full disk does not.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError)


@dataclass(frozen=True)
class Place:
    """Where raw data are, or were.

    Attributes:
        path: the folder or the archive; None where it is gone and only the note of it is left.
        stamp: names, sizes and times of the files, which tell one version from another.
        found_by_name: whether the same name finds it again without ``root``.
        ours: whether gnnscale downloaded it to its own cache, as a note beside it says: one that
            was placed there by hand is not ours to remove.
    """

    path: Path | None
    stamp: list[Any]
    found_by_name: bool
    ours: bool


def find_place(entry: OGBEntry, root: str | Path | None = None) -> Place | None:
    """Look for raw data in ``root``, in what GNNSCALE_DATASETS names, and in the cache.

    Raises:
        InputError: ``root``, or what GNNSCALE_DATASETS names, is not a folder.
    """
    for folder, by_name in _folders(root):
        for path in _candidates(entry, folder):
            if path.is_file() or _has_entries(path / "raw"):
                stamp = stamp_of(path)
                ours = path == _download_path(entry) and stamp == _noted(entry)
                return Place(path, stamp, by_name, ours)
    noted = _noted(entry)
    return None if noted is None else Place(None, noted, True, True)


def place_at(path: str | Path) -> Place:
    """The raw data at a path: a folder that holds ``raw/`` and ``split/``, or an archive.

    Raises:
        StoreError: there is neither.
    """
    path = expanded(path).absolute()
    if not path.is_file() and not (path / "raw").is_dir():
        raise StoreError(f"{path} is neither an archive of OGB's nor a folder that has raw/")
    return Place(path, stamp_of(path), found_by_name=False, ours=False)


def fetch_archive(entry: OGBEntry, root: str | Path | None = None) -> Place:
    """Fetch the archive: to ``root`` where it is given, else to the cache.

    Raises:
        StoreError: it cannot be fetched or written; says what to place where by hand.
    """
    from gnnscale.data.download import fetch  # requests and what it needs, for this alone

    target = _download_path(entry)
    if root is not None:
        target = expanded(root).absolute() / entry.archive
    fetch(entry.url, target)
    place = Place(target, stamp_of(target), root is None, ours=root is None)
    if place.ours:
        try:
            write_json(_note_path(entry), {"stamp": place.stamp})
        except StoreError as error:  # it is whole, and used; only nobody removes it
            logger.warning("%s is kept: %s", target, error)
    return place


def remove_download(place: Place) -> None:
    """Remove an archive that gnnscale downloaded to its cache; the note of its stamp stays."""
    if not place.ours or place.path is None:
        return
    try:
        place.path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("could not remove %s, which is needed no more: %s", place.path, error)


def make_root(root: str | Path) -> None:
    """Make the folder that is to be downloaded to.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        expanded(root).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"could not make root={os.fspath(root)!r}: {error.strerror}") from error


def without_damaged_download(place: Place, error: StoreError) -> StoreError:
    """The error to raise where a graph could not be built; an archive to blame for it is removed.

    One that gnnscale downloaded itself, and that is damaged, would stand in the way of another.
    """
    if not place.ours or place.path is None or not isinstance(error.__cause__, _DAMAGE):
        return error
    place.path.unlink(missing_ok=True)
    place.path.with_name(f"{place.path.name}.json").unlink(missing_ok=True)
    return StoreError(f"{error}. It is removed: load it once more with download=True")


def not_found(entry: OGBEntry, root: str | Path | None = None) -> StoreError:
    """The error for raw data that are nowhere: what to fetch, from where, and where to put it."""
    card = find_card(entry.name)
    size = f" ({card.download})" if card is not None and card.download else ""
    looked = ", ".join(str(folder) for folder, _ in _folders(root))
    return StoreError(
        f"the data of {entry.name!r} are not on this machine. load({entry.name!r}, download=True) "
        f"fetches {entry.url}{size}. Or fetch that by hand and place {entry.archive}, or the "
        f"folder {entry.folders[0]} that ogb makes of it (with raw/ and split/), in a folder named "
        f"by root= or {ROOT_VARIABLE}, or in {cache_root() / 'ogb'}. Looked in: {looked}"
    )


def stamp_of(path: Path) -> list[Any]:
    """Names, sizes and times of an archive, or of what is in the folders ``raw`` and ``split``."""
    if path.is_file():
        return [_stamp(path, path.name)]
    files = [file for part in ("raw", "split") for file in sorted((path / part).rglob("*"))]
    return [_stamp(f, f.relative_to(path).as_posix()) for f in files if f.is_file()]


def _stamp(file: Path, name: str) -> list[Any]:
    about = file.stat()
    return [name, about.st_size, about.st_mtime_ns]


def _folders(root: str | Path | None) -> list[tuple[Path, bool]]:
    """The folders that are searched, and whether a name alone leads there."""
    found = []
    variable = os.environ.get(ROOT_VARIABLE) or None
    for label, given in (("root", root), (ROOT_VARIABLE, variable)):
        if given is not None:
            folder = expanded(given)
            if not folder.is_dir():
                raise InputError(f"{label}={os.fspath(given)!r} is not a folder of data sets")
            found.append((folder.absolute(), label != "root"))
    return [*found, (cache_root() / "ogb", True)]


def _candidates(entry: OGBEntry, folder: Path) -> list[Path]:
    below = [folder / name for name in (*entry.folders, entry.archive)]
    return [folder, *below] if folder.name in entry.folders else below


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())  # ogb leaves an empty one where it is stopped


def _download_path(entry: OGBEntry) -> Path:
    return cache_root() / "ogb" / entry.archive


def _note_path(entry: OGBEntry) -> Path:
    archive = _download_path(entry)
    return archive.with_name(f"{archive.name}.json")


def _noted(entry: OGBEntry) -> list[Any] | None:
    """The stamp of the archive that gnnscale downloaded to its cache last; None without one."""
    try:
        stamp = read_json(_note_path(entry))["stamp"]
    except (StoreError, KeyError, TypeError):
        return None
    return stamp if isinstance(stamp, list) else None
