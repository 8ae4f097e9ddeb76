"""Which files a table consists of: packed, called as patterns are, in folders called so."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import secrets
import sys
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.tables.id_list import read_id_list
from gnnscale.data.tables.table import open_table
from gnnscale.errors import GnnscaleError, InputError, StoreError
from gnnscale.graph.names import NodeNames

quick = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
EDGES = "source,target\n1,2\n2,3\n3,1\n"


def zipped(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return packed.getvalue()


@quick
@given(st.text(st.sampled_from("[]*?!a1-"), min_size=1, max_size=5))
def test_a_file_is_found_by_its_name_before_it_is_a_pattern(tmp_path, name):
    folder = tmp_path / "[a]?"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.csv"
    path.write_text(EDGES)
    for graph in (gs.from_edge_list(path), gs.load(str(path))):
        assert graph.name == name and graph.num_edges == 6
    path.unlink()


def test_a_pattern_in_a_folder_called_as_one(tmp_path):
    folder = tmp_path / "[2020]"
    folder.mkdir()
    (folder / "part-1.csv").write_text(EDGES)
    (folder / "part-2.csv").write_text("source,target\n3,4\n")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "part-1.csv").write_text("source,target\n7,8\n")
    for pattern in ("*.csv", "part-?.csv", "part-[12].csv", "**/*.csv"):
        for graph in (gs.from_edge_list(folder / pattern), gs.load(str(folder / pattern))):
            assert graph.num_nodes == 4 and graph.name == "[2020]"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.csv.zip", zipped(e_csv=EDGES)),
        ("e.zip", zipped(e_csv=EDGES)),
        ("e.csv", zipped(e_csv=EDGES)),
        ("e.csv", gzip.compress(EDGES[:20].encode()) + gzip.compress(EDGES[20:].encode())),
        ("e.dat", b"1::2\n2::3\n3::1\n"),
        ("e.dat", b"1::2::5::978300760\n2::3::4::978302109\n3::1::3::978301968\n"),
        ("e.edges", b"1;2\n2;3\n3;1\n"),
    ],
)
def test_load_reads_what_from_edge_list_reads(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    options = {"weight": 2} if b"::5::" in content else {}
    loaded = gs.load(str(tmp_path / name), **options)
    read = gs.from_edge_list(tmp_path / name, **options)
    assert loaded.num_edges == read.num_edges == 6
    assert gs.load(loaded.source).num_nodes == 3


def test_a_zip_of_several_files_is_refused_by_name(tmp_path):
    for name, message in (("e.csv.zip", "holds 2 files"), ("e.zip", "is a zip archive")):
        (tmp_path / name).write_bytes(zipped(e_csv=EDGES, n_csv=EDGES))
        with pytest.raises(InputError, match=message):
            gs.load(str(tmp_path / name))


nothing = st.lists(st.sampled_from(["", " ", "# a comment", "#another", "\t"]), max_size=4).map(
    "\n".join
)


@quick
@given(nothing, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.booleans())
def test_a_file_without_a_row_is_refused_by_name(tmp_path, text, encoding, packed):
    content = text.encode(encoding)
    (tmp_path / "no.csv").write_bytes(gzip.compress(content) if packed else content)
    (tmp_path / "e.csv").write_text(EDGES)
    for given_files in ({"edges": "no.csv"}, {"edges": "e.csv", "features": "no.csv"}):
        files = {what: tmp_path / name for what, name in given_files.items()}
        with pytest.raises(InputError, match="is empty: it has no row"):
            gs.from_edge_list(**files)
    with pytest.raises(InputError, match="is empty: it has no row"):
        gs.from_edge_list(tmp_path / "e.csv", labels=tmp_path / "no.csv")


@quick
@given(st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True))
def test_edges_of_which_there_is_the_header_alone(tmp_path, ids):
    (tmp_path / "e.csv").write_text("source,target\n")
    (tmp_path / "n.csv").write_text("id,a\n" + "".join(f"{i},{i}.5\n" for i in ids))
    graph = gs.from_edge_list(tmp_path / "e.csv", tmp_path / "n.csv")
    assert graph.num_nodes == len(ids) and graph.num_edges == 0
    assert gs.from_edge_list(tmp_path / "e.csv", num_nodes=4).num_nodes == 4
    with pytest.raises(InputError, match="has no edge, and nothing says which nodes there are"):
        gs.from_edge_list(tmp_path / "e.csv")
    (tmp_path / "n.csv").write_text("id,a\n")
    with pytest.raises(InputError, match="names columns, and has no row"):
        gs.from_edge_list(tmp_path / "e.csv", tmp_path / "n.csv")


def test_reading_leaves_the_folder_of_the_files_as_it_was(tmp_path, monkeypatch):
    """Nothing is opened for writing there: a folder that nobody may write in does as well."""
    folder = tmp_path / "read_only"
    (folder / "parts").mkdir(parents=True)
    for name in ("e.csv", "parts/part-0.csv"):
        (folder / name).write_text(EDGES)
    (folder / "e.csv.gz").write_bytes(gzip.compress(EDGES.encode()))
    (folder / "n.csv").write_text("id,a\n1,.5\n2,.25\n3,.125\n")
    tried = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        written = event == "open" and set(str(arguments[1])) & set("wax+")
        if (written or event in ("os.mkdir", "os.rename", "os.remove")) and str(
            arguments[0]
        ).startswith(str(folder)):
            tried.append((event, arguments))

    sys.addaudithook(note)
    for name in ("e.csv", "e.csv.gz", "parts"):
        assert gs.from_edge_list(folder / name, folder / "n.csv").num_edges == 6
        assert gs.load(str(folder / name)).num_edges == 6
    folder = tmp_path / "no more"  # the hook stays for as long as the process
    assert tried == []


def test_a_folder_that_cannot_be_written_is_refused_before_work(tmp_path, monkeypatch):
    (tmp_path / "e.csv").write_text(EDGES)
    (tmp_path / "locked").mkdir()
    access = os.access
    monkeypatch.setattr(
        "os.access", lambda path, mode: "locked" not in str(path) and access(path, mode)
    )
    monkeypatch.setattr("gnnscale.data.tables.edge_list.Tables", None)  # nothing is read
    for path in (tmp_path / "locked" / "g", tmp_path / "locked" / "a" / "g", tmp_path / "e.csv"):
        with pytest.raises(StoreError, match=r"cannot be written: .*locked|is not a folder"):
            gs.from_edge_list(tmp_path / "e.csv", path=path)


@quick
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=5),
        min_size=1, max_size=4,
    ),
    st.data(),
)  # fmt: skip
def test_part_files_with_a_header_each_or_in_the_first_alone(tmp_path, parts, data):
    folder = tmp_path / secrets.token_hex(4)
    folder.mkdir()
    (folder / "README.md").write_text("# what, this is\n")
    alone = data.draw(st.booleans())
    for i, rows in enumerate(parts):
        swapped = not alone and data.draw(st.booleans())
        rows = [("source", "target"), *rows] if i == 0 or not alone else rows
        lines = [f"{b},{a}" if swapped else f"{a},{b}" for a, b in rows]
        (folder / f"part-{i}.csv").write_text("\n".join(lines) + "\n")
    try:
        table = open_table(folder, "t")
    except InputError as error:
        assert alone and "may name the columns or be a row" in str(error)
        return
    found = [batch.to_pydict() for batch in table.batches(["source", "target"])]
    pairs = [pair for one in found for pair in zip(*one.values(), strict=True)]
    assert pairs == [row for rows in parts for row in rows]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"source,target\n1,2 # note\n2,3\n", "'2 # note' may be a number with a comment behind"),
        ("source,target\n東京,大阪\n".encode("iso2022_jp"), "say encoding='iso2022_jp'"),
    ],
)
def test_odd_texts_are_refused_by_name(tmp_path, content, message):
    (tmp_path / "e.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        gs.from_edge_list(tmp_path / "e.csv")


@pytest.mark.parametrize(
    "content",
    [EDGES.replace("\n", "\r\n").encode() + b"\x1a", b"1\x012\n2\x013\n3\x011\n"],
)
def test_odd_texts_are_read(tmp_path, content):
    (tmp_path / "e.csv").write_bytes(content)
    graph = gs.from_edge_list(tmp_path / "e.csv", undirected=False)
    assert graph.num_nodes == 3 and graph.num_edges == 3


def test_bytes_that_are_not_utf8_after_the_sample(tmp_path):
    rows = "".join(f"a{i},b{i}\n" for i in range(40_000))
    text = f"source,target\n{rows}".encode() + "Müller,Köln\n".encode("latin-1")
    (tmp_path / "e.csv").write_bytes(text)
    with pytest.raises(InputError, match=r"line 40002 is not written in utf-8: .*; say encoding="):
        gs.from_edge_list(tmp_path / "e.csv")
    assert gs.from_edge_list(tmp_path / "e.csv", encoding="latin-1").num_nodes == 80_002


@pytest.mark.parametrize(
    ("text", "message"),
    [(",,\n,,\n", "is empty: it has no row"),
     ("source,target\n'a\\'b','c'\n'c','d'\n", "in single quotes; double it")],
)  # fmt: skip
def test_separators_alone_and_backslashes_in_single_quotes(tmp_path, text, message):
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        gs.from_edge_list(tmp_path / "e.csv")


PACKED = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": lambda content: zipped(e_txt=content.decode()),
}
FORMATS = {
    "e.txt": "1 2\n2 3\n3 1\n",
    "e.graph": "3 3\n2 3\n1 3\n1 2\n",
    "e.adjlist": "1 2\n2 3\n3 1\n",
    "out.e": "% sym unweighted\n1 2\n2 3\n3 1\n",
    "e.mtx": "%%MatrixMarket matrix coordinate pattern general\n3 3 3\n1 2\n2 3\n3 1\n",
    "e.edgelist": "1 2 {}\n2 3 {}\n3 1 {}\n",
}


@quick
@given(st.sampled_from(sorted(PACKED)), st.sampled_from(sorted(FORMATS)), st.data())
def test_a_packed_file_that_is_damaged_is_refused_by_name(tmp_path, kind, name, data):
    text = FORMATS[name] * (1 if name != "e.txt" else data.draw(st.sampled_from([1, 2000])))
    path = tmp_path / f"{name}.{kind}"
    content = PACKED[kind](text.encode())
    path.write_bytes(content)
    ids = tmp_path / f"ids.{kind}"
    assert gs.load(path).num_nodes == 3
    at = data.draw(st.integers(0, len(content) - 1))
    whole = data.draw(st.booleans())
    broken = bytearray(content if whole else content[:at])
    if whole:
        broken[at] ^= data.draw(st.sampled_from([1, 16, 255]))
    for file in (path, ids):
        file.write_bytes(broken)
    for format_ in ("metis", "adjlist", "edgelist", "konect", "matrix-market", "edges", None):
        said = {} if format_ is None else {"format": format_}
        with contextlib.suppress(GnnscaleError):
            gs.load(path, **said)
    with contextlib.suppress(GnnscaleError):
        gs.from_edge_list(path)
    with contextlib.suppress(GnnscaleError):
        read_id_list(ids, NodeNames(torch.arange(1, 4)))


@pytest.mark.parametrize(
    ("name", "part"),
    [("license", True), ("licenses_2019", True), ("readmes", True), ("changelog-2020", True),
     ("LICENSE", False), ("README.md", False), ("changelog.txt", False), ("Licence.rst", False)],
)  # fmt: skip
def test_what_is_called_as_words_for_people_is_a_part_where_it_holds_data(tmp_path, name, part):
    (tmp_path / "apache.csv").write_text(EDGES)
    (tmp_path / (f"{name}.csv" if part else name)).write_text("source,target\n3,4\n")
    assert gs.from_edge_list(tmp_path).num_nodes == 3 + part


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_packed_file_that_is_cut_is_called_so(tmp_path, name):
    for kind, pack in PACKED.items():
        content = pack(FORMATS[name].encode())
        (tmp_path / f"{name}.{kind}").write_bytes(content[: len(content) // 2])
        with pytest.raises(StoreError, match=r"cannot be read: "):
            gs.load(tmp_path / f"{name}.{kind}")
