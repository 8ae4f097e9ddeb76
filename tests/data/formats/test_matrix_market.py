"""Matrix Market: what SciPy writes is the graph of what SciPy reads."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.data import load
from gnnscale.errors import InputError, StoreError


def pairs(graph):
    weight = graph.edge_weight
    weight = np.ones(graph.num_edges) if weight is None else weight.numpy()
    return sorted(zip(*graph.edge_index.tolist(), weight.tolist(), strict=True))


def read_by_scipy(file):
    entries = scipy.io.mmread(file).tocoo()
    data = np.asarray(entries.data, np.float32).tolist()
    return sorted(zip(entries.row.tolist(), entries.col.tolist(), data, strict=True))


@st.composite
def matrices(draw):
    """A matrix, and the symmetry and field it is written with."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = int(rng.integers(1, 9))
    field = draw(st.sampled_from(("pattern", "integer", "real")))
    kinds = ("general", "symmetric") + (("skew-symmetric",) if field != "pattern" else ())
    symmetry = draw(st.sampled_from(kinds))
    dense = rng.integers(-9, 9, (size, size)) * (rng.random((size, size)) < 0.4)
    if field == "real":
        dense = dense * rng.random()
    dense = dense.astype(np.float64 if field == "real" else np.int64)
    if symmetry == "symmetric":
        dense = np.tril(dense) + np.tril(dense, -1).T
    elif symmetry == "skew-symmetric":
        dense = np.tril(dense, -1) - np.tril(dense, -1).T
    return scipy.sparse.coo_array(dense), field, symmetry


@given(matrices(), st.booleans(), st.sampled_from((" ", "\t", "   ")), st.booleans())
def test_what_scipy_writes(tmp_path_factory, made, packed, blank, comments):
    matrix, field, symmetry = made
    file = tmp_path_factory.mktemp("mtx") / "a.mtx"
    comment = "one\n%two % and more" if comments else ""
    scipy.io.mmwrite(file, matrix, comment, field, symmetry=symmetry)
    banner, *rest = file.read_text().splitlines()
    lines = [line if line[:1] == "%" else line.replace(" ", blank) for line in rest]
    text = "\n".join([banner, *lines]) + ("\n" if blank == " " else "")  # with no end, too
    file.write_text(text)
    expected = read_by_scipy(file)
    if packed:
        file = Path(f"{file}.gz")
        file.write_bytes(gzip.compress(text.encode()))
    graph = load(file)
    assert pairs(graph) == expected
    assert graph.num_nodes == matrix.shape[0]
    assert load(graph.source).fingerprint() == graph.fingerprint()


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


GENERAL = "%%MatrixMarket matrix coordinate real general"


@pytest.mark.parametrize(
    ("lines", "error", "words"),
    [
        ((GENERAL, "3 3 5", "1 2 0.5"), StoreError, "has 1 entries, and its header says 5"),
        ((GENERAL, "3 3 1", "1 2 1", "2 3 1"), StoreError, "has more entries"),
        ((GENERAL, "3 3 1", "0 2 1"), InputError, "row 0 is none of 1 to 3"),
        ((GENERAL, "3 3 1", "1 4 1"), InputError, "column 4 is none of 1 to 3"),
        ((GENERAL, "3 3 2", "1 2", "2 3 1 1"), InputError, "line '1 2' is not 3 numbers"),
        ((GENERAL, "3 3 1", "1 b 1"), InputError, "line '1 b 1' is not 3 numbers"),
        ((GENERAL, "3 2 1", "1 2 1"), InputError, "3 rows and 2 columns.*bipartite=True"),
        ((GENERAL, "3 3"), InputError, "no line of rows, columns and entries"),
        ((GENERAL,), StoreError, "ends before its sizes"),
        (("%%MatrixMarket matrix array real general", "1 1", "1"), InputError, "dense matrix"),
        (
            ("%%MatrixMarket matrix coordinate complex hermitian", "1 1 1", "1 1 1 0"),
            InputError,
            "is coordinate complex hermitian; a graph is coordinate, pattern, real, integer",
        ),
    ],
)
def test_what_is_at_fault_is_named(tmp_path, lines, error, words):
    with pytest.raises(error, match=words) as caught:
        load(write(tmp_path / "a.mtx", *lines))
    assert "a.mtx" in str(caught.value) and "damaged" not in str(caught.value)


def test_rows_and_columns_apart(tmp_path):
    file = write(tmp_path / "a.mtx", GENERAL, "2 3 2", "1 3 0.5", "2 1 2")
    graph = load(file, bipartite=True)
    assert pairs(graph) == [(0, 4, 0.5), (1, 2, 2.0), (2, 1, 2.0), (4, 0, 0.5)]
    assert graph.node_type.tolist() == [0, 0, 1, 1, 1]
    assert load(graph.source).fingerprint() == graph.fingerprint()


def test_one_direction_as_stored_or_both(tmp_path):
    file = write(tmp_path / "a.mtx", GENERAL, "2 2 1", "1 2 3")
    assert pairs(load(file)) == [(0, 1, 3.0)]
    assert pairs(load(f"{file}?undirected=true")) == [(0, 1, 3.0), (1, 0, 3.0)]


def test_in_a_stream(tmp_path, monkeypatch):
    """What is larger than a block, and kept on disk where it is larger than memory."""
    rng = np.random.default_rng(0)
    matrix = scipy.sparse.coo_array((rng.random(4_000), rng.integers(0, 99, (2, 4_000))), (99, 99))
    scipy.io.mmwrite(tmp_path / "a.mtx", matrix)
    expected = read_by_scipy(tmp_path / "a.mtx")
    monkeypatch.setattr("gnnscale.data.formats.text._BLOCK_BYTES", 1_000)
    monkeypatch.setattr("gnnscale.data.kept.IN_MEMORY", 1_000)
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    assert pairs(load(tmp_path / "a.mtx")) == expected
    (kept,) = (tmp_path / "cache" / "graphs").iterdir()
    before = kept.stat().st_mtime_ns
    assert pairs(load(tmp_path / "a.mtx")) == expected
    assert kept.stat().st_mtime_ns == before
