"""OGB's raw files are read in blocks, which put together are the file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.data.ogb import npz, raw
from gnnscale.errors import StoreError
from tests.helpers import ogb_layout


@given(
    rows=st.integers(0, 40),
    columns=st.integers(1, 5),
    most=st.integers(150, 800),
    columns_first=st.booleans(),
)
def test_blocks_put_together_are_the_file(
    rows: int,
    columns: int,
    most: int,
    columns_first: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(rows)
    table, edges = rng.standard_normal((rows, columns)), rng.integers(0, 99, (2, rows))
    ogb_layout.write_csv(folder / "a.csv.gz", table)
    saved = np.asfortranarray(edges) if columns_first else edges
    np.savez_compressed(folder / "a.npz", table=table, edges=saved)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "_TEXT_AT_ONCE", most)
        patch.setattr(npz, "_BYTES_AT_ONCE", most)
        text = [np.empty((0, columns)), *raw.csv_blocks(folder / "a.csv.gz", np.float64)]
        assert np.array_equal(np.concatenate(text), table)
        with npz.open_npz(folder / "a.npz", folder) as arrays:
            assert arrays.shape("table") == table.shape
            blocks = [np.empty((0, columns)), *arrays.rows("table")]
            assert np.array_equal(np.concatenate(blocks), table)
            pairs = [np.empty((0, 2), np.int64), *arrays.pairs("edges")]
            assert np.array_equal(np.concatenate(pairs), edges.T)


@pytest.mark.parametrize("library", ["isal", "zlib"])
def test_blocks_of_any_numerals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    path = tmp_path / "a.csv.gz"
    monkeypatch.setattr(raw, "_TEXT_AT_ONCE", 24)
    if library == "zlib":
        monkeypatch.setattr(raw, "open_gzip", gzip.open)
    # Two members; blocks that are plain and blocks that only Arrow reads.
    rows = b"1,2.5\n-3,1e-3\n", b"nan,\n,+4\r\n\n6,0.1234567890123456789\n7,8"
    path.write_bytes(b"".join(gzip.compress(part) for part in rows))
    none = np.nan
    table = [[1, 2.5], [-3, 1e-3], [none, none], [none, 4], [6, 0.12345678901234568], [7, 8]]
    for dtype in (np.float32, np.float64):
        blocks = list(raw.csv_blocks(path, dtype))
        assert len(blocks) > 1
        np.testing.assert_array_equal(np.concatenate(blocks), np.array(table, dtype), strict=True)
    path.write_bytes(gzip.compress(b"1,2\n" + b"3" * 60))
    with pytest.raises(StoreError, match="a line of more than 24 bytes"):
        list(raw.csv_blocks(path, np.int64))


@given(st.lists(st.integers(1, 6)), st.lists(st.integers(1, 6)))
def test_in_step_pairs_rows(first: list[int], second: list[int]) -> None:
    def blocks(sizes: list[int]) -> list[np.ndarray]:
        return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]) if sizes else []

    pairs = list(raw.in_step(blocks(first), blocks(second)))
    joined = [row for a, b in pairs for row in zip(a, b, strict=True)]
    assert joined == [(i, i) for i in range(min(sum(first), sum(second)))]
