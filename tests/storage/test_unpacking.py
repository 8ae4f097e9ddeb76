"""What a compressed file unpacks to is bounded, in every format that is read."""

from __future__ import annotations

import gzip
import stat
import zipfile

import numpy as np
import pytest

import gnnscale as gs
from gnnscale.data.ogb.npz import open_npz
from gnnscale.data.ogb.raw import open_raw, read_csv
from gnnscale.data.tables.table import open_table
from gnnscale.storage import unpacking
from gnnscale.storage.unpacking import check_archive, unpack_limit

READERS = {
    "npz": lambda folder: gs.load(folder / "a.npz"),
    "csv.gz": lambda folder: read_csv(folder / "a.csv.gz", np.int64),
    "table": lambda folder: list(open_table(folder / "a.csv.gz", "t").batches()),
    "npz of OGB's": lambda folder: open_npz(folder / "a.npz", folder).__enter__(),
    "zip": lambda folder: open_raw(folder / "a.zip").__enter__(),
}


@pytest.fixture
def bombs(tmp_path, monkeypatch):
    """Files of zeros that unpack to 200 kB, of which they take a hundredth."""
    monkeypatch.setattr(unpacking, "ALWAYS", 1_000)
    monkeypatch.setattr(unpacking, "RATIO", 20)
    monkeypatch.delenv(unpacking.VARIABLE, raising=False)
    edges = np.zeros((2, 12_500), np.int64)
    np.savez_compressed(tmp_path / "a.npz", edge_index=edges, num_nodes=3)
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(b"0,0\n" * 50_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.csv.gz", "arxiv/raw/a.csv.gz")
    return tmp_path


@pytest.mark.parametrize("kind", READERS)
def test_more_than_the_bound_is_refused_with_how_to_raise_it(kind, bombs, monkeypatch):
    if kind == "zip":
        with zipfile.ZipFile(bombs / "a.zip", "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("arxiv/raw/zeros", bytes(200_000))
    with pytest.raises(gs.StoreError, match=r"unpacks to more than .* set GNNSCALE_UNPACK_LIMIT"):
        READERS[kind](bombs)
    monkeypatch.setenv("GNNSCALE_UNPACK_LIMIT", "10MB")
    READERS[kind](bombs)


def test_within_a_zip(bombs, monkeypatch):
    monkeypatch.setattr(unpacking, "ALWAYS", 10_000)
    with open_raw(bombs / "a.zip") as raw:
        monkeypatch.setattr(unpacking, "ALWAYS", 1_000)
        with pytest.raises(gs.StoreError, match=r"unpacks to more than"):
            read_csv(raw / "raw" / "a.csv.gz", np.int64)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\\..\\x"])
def test_paths_out_of_an_archive(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("raw/x", "")
        archive.writestr(name, "")
    with pytest.raises(gs.StoreError, match="a path out of the archive"):
        open_raw(tmp_path / "a.zip").__enter__()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFBLK, stat.S_IFIFO])
def test_links_and_devices(kind, tmp_path):
    entry = zipfile.ZipInfo("raw/link")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
        with pytest.raises(gs.StoreError, match="a link or a device"):
            check_archive(archive, "it", 10)


def test_small_files_may_unpack_to_a_gigabyte(monkeypatch):
    monkeypatch.delenv(unpacking.VARIABLE, raising=False)
    assert unpack_limit(10) == 1 << 30
    assert unpack_limit(1 << 30) == 400 << 30
    monkeypatch.setenv(unpacking.VARIABLE, "a lot")
    with pytest.raises(gs.InputError):
        unpack_limit(10)


def test_raw_files_of_pygs(bombs, tmp_path):
    raw = tmp_path / "Flickr" / "raw"
    raw.mkdir(parents=True)
    for name in ("class_map.json", "role.json", "feats.npy", "adj_full.npz"):
        (raw / name).write_bytes((bombs / "a.npz").read_bytes())
    with pytest.raises(gs.StoreError, match=r"adj_full.npz .* unpacks to more than"):
        gs.load("flickr", root=tmp_path)
