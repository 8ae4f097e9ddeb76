"""What is asked about a table of nodes is answered as the message says, in both languages."""

from __future__ import annotations

import re
import shlex
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import gnnscale as gs
from gnnscale.cli import app
from gnnscale.data.options import by_table
from gnnscale.data.tables.id_list import read_id_list
from gnnscale.data.tables.text.questions import of_table
from gnnscale.errors import InputError
from gnnscale.graph import NodeNames
from gnnscale.storage.arrow import pyarrow

quick = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
EDGES = "from,to\n" + "".join(f"{a},{b}\n" for a in range(1, 5) for b in range(1, 5) if a != b)
ROWS = [(1, "Rome"), (2, "Bonn"), (3, "Oslo"), (4, "Rome")]
RING = "from,to\n" + "".join(f"{a},{a % 98 + 1}\n" for a in range(1, 99))
FAR = [*ROWS, *((number, "Bonn") for number in range(5, 99))]


def rows(sep=",", head="", cells=ROWS):
    return head + "".join(f"{number}{sep}{city}\n" for number, city in cells)


#: Tables of nodes that may be read in two ways, and of which keyword that is asked.
ASKED = {
    "header": (EDGES, rows(head="who,7\n", cells=[(1, 0), (2, 1), (3, 0), (4, 1)]), "header"),
    "header over text": (
        re.sub(r"(\d)", r"n\1", EDGES),
        "n1,Rome\nn2,Bonn\nn3,Oslo\nn4,Kiel\n",
        "header",
    ),
    "separator": (
        EDGES, "id;place,land\n" + rows(";", cells=[(n, f"{c},x") for n, c in ROWS]), "sep",
    ),
    "encoding": (EDGES, rows(head="id,place\n", cells=[(1, "fête"), *ROWS[1:]]), "encoding"),
    "comment": (EDGES, rows(head="id,place\n") + "#5,Rome\n", "comment"),
    "comment far below": (RING, rows(head="id,place\n", cells=FAR) + "#500,Rome\n", "comment"),
    "comment above": (RING, "#id,place\n#7,Bonn\n" + rows(cells=FAR) + "#500,Rome\n", "comment"),
}  # fmt: skip


def called(command, *args):
    done = CliRunner().invoke(app, [command, *map(str, args)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def answers(message, keyword):
    """What a message says may be said."""
    found = re.findall(rf"{keyword}=(\{{.*?\}})(?=[\s,.;]|$)", message)
    return [literal_eval(one) for one in found]


@pytest.mark.parametrize("of", ["features", "labels"])
@pytest.mark.parametrize("asked", sorted(ASKED))
def test_a_question_is_answered_as_it_says(tmp_path, monkeypatch, of, asked):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr("gnnscale.data.tables.text.part._SAMPLE_BYTES", 512)
    monkeypatch.setattr("gnnscale.data.tables.text.lines.BYTES_AT_ONCE", 512)
    edges, text, keyword = ASKED[asked]
    Path("edges.csv").write_text(edges)
    Path("nodes.csv").write_bytes(text.encode("latin-1"))
    told = {of: "nodes.csv", "absent": "drop"}
    with pytest.raises(InputError) as caught:
        gs.from_edge_list("edges.csv", **told)
    message = str(caught.value)
    assert f"{{{of!r}: " in message and not re.search(rf"\b{keyword}=[^{{]", message), message
    said = answers(message, keyword)
    assert said
    files = ["edges.csv", *(["nodes.csv"] if of == "features" else ["--labels", "nodes.csv"])]
    command = ["import", *files, "--absent", "drop", "--out", "g"]
    done = called(*command)
    assert done.exit_code == 2
    written = re.findall(rf"--{keyword} ('[^']*'|[^\s,;.]+)", done.stderr)
    assert len(written) == len(said), done.stderr
    read = []
    for one, option in zip(said, written, strict=True):
        try:
            graph = gs.from_edge_list("edges.csv", **told, **{keyword: one})
        except InputError as error:  # another question, as what no longer is a header is
            assert keyword not in str(error) or repr(one) not in str(error)
            continue
        done = called(*command, f"--{keyword}", *shlex.split(option))
        assert done.exit_code == 0, done.stderr
        assert gs.load("./g").fingerprint() == graph.fingerprint()
        read.append(graph)
    assert read


def test_what_is_said_of_several_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("edges.csv").write_bytes(b"1;2\n2;3\n3;1\n")
    Path("nodes.csv").write_bytes("1|fête\n2|Rome\n3|Rome\n".encode("latin-1"))
    Path("labels.txt").write_text("1 a\n2 b\n3 b\n")
    own = {"edges": False, "features": ["id", "place"], "labels": ["id", "team"]}
    wanted = gs.from_edge_list(
        "edges.csv",
        "nodes.csv",
        "labels.txt",
        sep={"edges": ";", "features": "|", "labels": " "},
        header=own,
        encoding={"features": "latin-1"},
    )
    assert wanted.feature_names == ("place=Rome", "place=fête")
    said = ["--sep", "edges=;,features=|", "--sep", "labels= ", "--header", "no"]
    said += ["--header", "features=id,place,labels=id,team", "--encoding", "features=latin-1"]
    done = called("import", "edges.csv", "nodes.csv", "--labels", "labels.txt", *said, "--out", "g")
    assert done.exit_code == 0, done.stderr
    assert gs.load("./g").fingerprint() == wanted.fingerprint()
    with pytest.raises(InputError, match="'nodes' is none of edges, features, labels"):
        gs.from_edge_list("edges.csv", sep={"nodes": ";"})


@quick
@given(
    st.dictionaries(
        st.sampled_from(["edges", "features", "labels"]),
        st.text(st.characters(codec="ascii", exclude_characters="="), max_size=5),
        min_size=1,
    )
)
def test_what_is_said_by_table_is_read_again(said):
    assert by_table(",".join(f"{table}={one}" for table, one in said.items())) == said
    for one in said.values():
        assert by_table(one) == one


@quick
@given(
    st.sampled_from(["sep", "header", "comment", "encoding"]),
    st.one_of(st.booleans(), st.text(max_size=4), st.lists(st.sampled_from("ab"), max_size=2)),
    st.sampled_from(["features", "labels"]),
)
def test_an_option_is_said_of_its_table_once(key, value, table):
    message = f"x.csv may be two things; say {key}={value!r}, or take it out"
    told = of_table(message, table)
    assert told == message.replace(repr(value), repr({table: value}))
    assert of_table(told, table) == told and of_table(message, "edges") == message
    assert literal_eval(told[told.index("=") + 1 : told.rindex(", or")]) == {table: value}


def test_a_file_of_which_nothing_can_be_said_is_written_otherwise(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes("fête\n".encode("latin-1"))
    names = NodeNames.from_arrow(pyarrow.array(["fête"]))
    with pytest.raises(InputError, match=r"letters may be others; write ids in UTF-8, one a line$"):
        read_id_list(path, names)
    path.write_text("1;a,train\n2;b,val\n")
    with pytest.raises(InputError, match="2 ways; write it in UTF-8, with commas"):
        gs.from_edge_list(np.array([[0, 1], [1, 0]]), splits=path)


def test_columns_of_nodes_by_their_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("edges.csv").write_text("1,2,0.5\n2,3,1.5\n3,1,2.5\n")
    Path("nodes.csv").write_text("1,4,30\n2,4,40\n3,5,50\n")
    told = {"drop": {"features": 2}, "recipe": {1: "one-hot"}}
    wanted = gs.from_edge_list("edges.csv", "nodes.csv", **told)
    assert wanted.feature_names == ("f1=4", "f1=5") and wanted.edge_weight is not None
    said = ["--drop", "features=2", "--feature-recipe", "1=one-hot"]
    done = called("import", "edges.csv", "nodes.csv", *said, "--out", "g")
    assert done.exit_code == 0 and gs.load("./g").fingerprint() == wanted.fingerprint()
    both = gs.from_edge_list("edges.csv", "nodes.csv", drop={"edges": [2], "features": ["f1", 2]})
    assert both.edge_weight is None and both.x is None
    with pytest.raises(InputError, match="drop: 'labels' is none of edges, features"):
        gs.from_edge_list("edges.csv", "nodes.csv", drop={"labels": 1})
    with pytest.raises(InputError, match="has no column 7"):
        gs.from_edge_list("edges.csv", "nodes.csv", recipe={7: "one-hot"})
    for own in ("2", "[1, 2]"):
        told = of_table(f"may be two things; say drop={own}", "features")
        assert told == f"may be two things; say drop={{'features': {own}}}"
        assert of_table(told, "features") == told
