"""Which files a table consists of: packed, called as patterns are, in folders called so."""

from __future__ import annotations

import gzip
import io
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError

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
