"""The registry: each path is of one format, or is refused with what to do."""

from __future__ import annotations

import contextlib
import pickle
import sqlite3
import zipfile

import numpy as np
import pandas as pd
import pytest

from gnnscale.data import from_edge_list, load
from gnnscale.data.formats import registry
from gnnscale.data.formats.registry import Format, find_format, list_formats
from gnnscale.errors import GnnscaleError, InputError

SAMPLES = {
    "a.mtx": "%%MatrixMarket matrix coordinate pattern symmetric\n2 2 1\n2 1\n",
    "a.txt": "# Directed graph: a.txt\n# Nodes: 2 Edges: 1\n# FromNodeId\tToNodeId\n0\t1\n",
    "out.a": "% sym unweighted\n1 2\n",
    "a.csv": "src,dst\n0,1\n",
    "b.txt": "0 1\n1 2\n",
    "a.edgelist": "0 1 {}\n",
    "a.adjlist": "0 1\n1\n",
    "a.gml": 'graph [\n node [\n id 0\n label "a"\n ]\n]\n',
    "a.graphml": '<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph '
    'edgedefault="directed"><node id="a"/></graph></graphml>',
    "a.gexf": '<gexf xmlns="http://www.gexf.net/1.2draft"><graph><nodes><node id="a" label="a"/>'
    "</nodes><edges/></graph></gexf>",
    "a.json": '{"nodes": [{"id": "a"}, {"id": "b"}], "links": [{"source": "a", "target": "b"}]}',
    "a.net": "*Vertices 2\n*Edges\n1 2\n",
    "a.cites": "35\t1033\n",
    "a.col": "c a comment\np edge 2 1\ne 1 2\n",
    "out1_graph_edges.txt": "node_id\tnode_id\n0\t1\n",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_is_of_one_format_and_loads_again_by_its_source(tmp_path, name):
    file = tmp_path / name
    file.write_text(SAMPLES[name])
    graph = load(file)
    assert load(graph.source).fingerprint() == graph.fingerprint()
    chosen = find_format(file)
    assert load(file, format=chosen.name).fingerprint() == graph.fingerprint()
    assert load(f"{file}?format={chosen.name}").fingerprint() == graph.fingerprint()
    own = [f for f in list_formats() if not f.general and f.recognises(file)]
    assert len(own) <= 1 and (chosen.general or own == [chosen])


@pytest.mark.parametrize(
    "name", ["e.npy", "e.feather", "e.edges", "parts", "e.csv.xz", "e.parquet"]
)
def test_tables_of_edges_by_path(tmp_path, name):
    """One graph, whatever it is in: and its nodes in another table."""
    frame = pd.DataFrame({"source": [0, 1, 2, 0], "target": [1, 2, 3, 3]})
    file = tmp_path / name
    if name == "parts":
        file.mkdir()
        frame[:2].to_parquet(file / "part-0.parquet")
        frame[2:].to_parquet(file / "part-1.parquet")
    elif name == "e.npy":
        np.save(file, frame.to_numpy())
    elif name == "e.edges":
        file.write_text("% of networkrepository.com\n0 1\n1 2\n2 3\n0 3\n")
    elif name == "e.csv.xz":
        frame.to_csv(file, index=False)
    else:
        getattr(frame, f"to_{name.partition('.')[2]}")(file)
    graph = load(file)
    expected = from_edge_list(frame)
    assert graph.structure_fingerprint() == expected.structure_fingerprint()
    (tmp_path / "n.csv").write_text("id,a,team\n3,.3,x\n2,.2,y\n1,.1,x\n0,.0,y\n")
    graph = load(file, features=tmp_path / "n.csv", labels="team")
    assert graph.schema.classes == ("x", "y") and graph.num_features == 1
    said = load(f"{file}?features={tmp_path / 'n.csv'}&labels=team&undirected=false")
    assert said.num_edges == 4
    assert load(said.source).fingerprint() == said.fingerprint()


def test_edges_and_nodes_in_a_folder_are_told_apart(tmp_path):
    (tmp_path / "edges.csv").write_text("source,target\n0,1\n")
    (tmp_path / "nodes.csv").write_text("id,a\n0,1\n1,2\n")
    with pytest.raises(InputError, match=r"from_edge_list\(edges, features=nodes\)"):
        load(tmp_path)


def test_names_are_one_each_and_every_format_says_what_it_is():
    known = list_formats()
    assert len({made.name for made in known}) == len(known)
    for made in known:
        assert made.name == made.name.lower() and " " not in made.name
        assert made.what and made.looks and made.documented


def test_recognising_raises_nothing(tmp_path):
    for i, content in enumerate((b"", b"\x1f\x8b\x08", b"BZh9", b"PK\x03\x04", b"\xff" * 99)):
        for suffix in ("npz", "mtx", "txt", "pt", "gml", "net", "cites", "csv.gz", "bin", "xz"):
            file = tmp_path / f"{i}.{suffix}"
            file.write_bytes(content)
            try:
                load(file)  # an empty text is a table without rows
            except GnnscaleError as error:
                assert f"{i}.{suffix}" in str(error)


@pytest.mark.parametrize("made", list_formats(), ids=lambda made: made.name)
def test_what_is_none_of_a_format_that_is_said_is_refused_by_name(tmp_path, made):
    """Whatever is given as whatever: an error of ours, or a graph."""
    for i, content in enumerate((b"", b"0 1\n", b"{}", b"# a\n", b"a,b\n1,2\n", bytes(99))):
        file = tmp_path / f"a{i}.txt"
        file.write_bytes(content)
        with contextlib.suppress(GnnscaleError):
            load(file, format=made.name)
    with contextlib.suppress(GnnscaleError):
        load(tmp_path, format=made.name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(GnnscaleError):
        load(tmp_path / "folder", format=made.name)


def test_what_may_be_two_formats_is_asked(tmp_path, monkeypatch):
    file = tmp_path / "out.a"
    file.write_text(SAMPLES["out.a"])
    other = Format("other", "another", "*", lambda path: True, lambda path, given: None)
    known = (*list_formats(), other)
    monkeypatch.setattr(registry, "list_formats", lambda: known)
    with pytest.raises(
        InputError, match=r"2 ways; say which: format='konect' .* or format='other'"
    ):
        load(file)
    assert load(file, format="konect").num_nodes == 2


def test_a_format_that_there_is_not(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("0 1\n")
    with pytest.raises(
        InputError, match=r"no format is called 'grahpml'. Did you mean 'graphml'\?"
    ):
        load(file, format="grahpml")
    with pytest.raises(InputError, match="unknown option 'splt'; did you mean 'split'"):
        load(tmp_path, splt="a", format="pyg-root")


def sqlite(path):
    sqlite3.connect(path).execute("create table a (b)").connection.close()


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "0 1")
        file.writestr("b.txt", "0 1")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pkl", pickle.dumps({1: 2}), "a pickle .* gnnscale loads none"),
        ("a.weird", pickle.dumps([1, 2]), "a pickle .* gnnscale loads none"),
        ("a.xlsx", archive, "an Excel workbook, .* save its tables as CSV"),
        ("a.zip", archive, "zip archive, which is not read: unpack it"),
        ("a.db", sqlite, "an SQLite database, .* save its tables as CSV"),
        ("a.json", b'{"a": 1}', "JSON of no known layout"),
        ("a.html", b"<!DOCTYPE html><html>", "a web page, .* download the file itself"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
        ("a.mat", b"MATLAB 5.0 MAT-file" + bytes(99), "a MATLAB file, .*loadmat"),
        ("a.rdf", b"<a> <b> <c> .\n", "a list of triples"),
        ("a.unknown", b"some words\n", "of no format that is known .* format='edges'"),
        ("a.binary", bytes(99), "of no format that is known"),
        ("a.empty", b"", "is empty"),
    ],
)
def test_what_is_of_no_format_says_what_to_do(tmp_path, name, content, words):
    file = tmp_path / name
    if callable(content):
        content(file)
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        load(file)
    assert name in str(caught.value) and "damaged" not in str(caught.value)


def test_a_folder_of_no_format_says_what_is_in_it(tmp_path):
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(InputError, match=r"holds notes\.md: no format is known by that"):
        load(tmp_path)


def test_a_bare_name_says_how_the_file_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mtx").write_text(SAMPLES["a.mtx"])
    with pytest.raises(InputError, match=r"write '\./a\.mtx' to load it"):
        load("a.mtx")
    assert load("./a.mtx").num_nodes == 2
