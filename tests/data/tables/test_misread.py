"""Ordinary tables with something odd in them: read as they are meant, or asked about."""

from __future__ import annotations

import numpy as np
import pandas as pd
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
rows = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=3, max_size=30)


def edges_of(graph: gs.Graph) -> list[tuple[str, str]]:
    names = graph.names[:].tolist() if graph.names is not None else range(graph.num_nodes)
    called = [str(name) for name in names]
    source, target = graph.to_data().edge_index.tolist()
    return sorted((called[s], called[t]) for s, t in zip(source, target, strict=True))


@quick
@given(
    rows,
    st.integers(0, 29),
    st.sampled_from(["NA", "", "7.5", "#4", "% 4", "nan", "3\0", "source,target", "x"]),
)
def test_one_odd_row_among_integers(tmp_path, monkeypatch, pairs, at, odd):
    monkeypatch.setattr("gnnscale.data.tables.text.part._SAMPLE_BYTES", 64)
    monkeypatch.setattr("gnnscale.data.tables.text.lines.BYTES_AT_ONCE", 64)
    lines = [f"{s},{t}" for s, t in pairs]
    lines.insert(at, odd if "," in odd else f"{odd},9")
    (tmp_path / "e.csv").write_text("source,target\n" + "\n".join(lines) + "\n")
    if odd == "x":  # a node, as well as others
        graph = gs.from_edge_list(tmp_path / "e.csv", undirected=False)
        assert edges_of(graph) == sorted([*((str(s), str(t)) for s, t in pairs), ("x", "9")])
    else:
        with pytest.raises(InputError):
            gs.from_edge_list(tmp_path / "e.csv", undirected=False)


@quick
@given(
    st.sampled_from(
        [("cp1251", "абвгдежзиклмнопрстуфхцч"), ("cp1253", "αβγδεζηθικλμνξοπρστυφχψ"),
         ("gb18030", "北京上海广州深圳天津重庆"), ("latin-1", ""), ("cp1252", "")]
    ),
    st.data(),
)  # fmt: skip
def test_words_in_an_encoding_that_is_not_said(tmp_path, of, data):
    encoding, letters = of
    words = (
        st.text(st.sampled_from(letters), min_size=3, max_size=7)
        if letters
        else st.sampled_from(["Müller", "Österreich", "garçon", "año", "crème brûlée", "Ærø", "à"])
    )
    pairs = data.draw(st.lists(st.tuples(words, words), min_size=4, max_size=9, unique=True))
    text = "source;target\n" + "".join(f"{s};{t}\n" for s, t in pairs)
    (tmp_path / "e.csv").write_bytes(text.encode(encoding))
    said = gs.from_edge_list(tmp_path / "e.csv", undirected=False, encoding=encoding)
    assert edges_of(said) == sorted(pairs)
    if letters:
        with pytest.raises(InputError, match="say encoding="):
            gs.from_edge_list(tmp_path / "e.csv", undirected=False)
    else:
        assert edges_of(gs.from_edge_list(tmp_path / "e.csv", undirected=False)) == sorted(pairs)


@pytest.mark.parametrize(
    "header", ["start,end", "parent,child", "personA,personB", ":START_ID,:END_ID", "~from,~to",
               "_start,_end", "payer,payee", ":START_ID(Person),:END_ID(Film)"],
)  # fmt: skip
def test_a_header_over_text_as_programs_write_it(tmp_path, header):
    (tmp_path / "e.csv").write_text(header + "\nann,bob\nbob,cid\n")
    graph = gs.from_edge_list(tmp_path / "e.csv", undirected=False)
    assert edges_of(graph) == [("ann", "bob"), ("bob", "cid")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("| source | target |\n|---|---|\n| 1 | 2 |\n", "is a rule under the header"),
        ("source|target\n--------+------\n1|2\n", "."),
        ("0,1\n5,6\n6,7\n", "may name the columns or be a row"),
        ("source,target\n12e5,13e5\n13e5,1e3\n", "may be a rounded number or text"),
        ("source,target\n9007199254740993.0,1\n1.0,2\n", "ids are integers or text"),
        ("source,target\n9007199254740993.0,1\n1,2\n", "write ids in one way"),
        ("user,item\n" + "".join(f"{i},{i + 300_000}\n" for i in range(70_000)) + "9,5\n",
         "hold the same numbers"),
        ("uid,iid\n1,1\n1,2\n2,1\n", "hold the same numbers"),
    ],
)  # fmt: skip
def test_edges_that_may_be_others(tmp_path, text, message):
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        gs.from_edge_list(tmp_path / "e.csv")


def test_ids_of_an_array_beyond_int64():
    edges = np.array([[0, 2**63 + 5], [1, 2], [3, 4]], np.uint64)
    with pytest.raises(InputError, match="9223372036854775813; ids in an array are below"):
        gs.from_edge_list(edges)


@quick
@given(st.integers(1, 4), st.permutations(range(5)))
def test_indices_that_pandas_wrote_again_and_again(tmp_path, times, order):
    frame = pd.DataFrame({"source": [5, 6, 7, 5, 9], "target": [6, 7, 5, 9, 12]}).iloc[order]
    for _ in range(times):
        frame.to_csv(tmp_path / "e.csv")
        frame = pd.read_csv(tmp_path / "e.csv")
    assert gs.from_edge_list(tmp_path / "e.csv").num_nodes == 5
    frame = pd.DataFrame({"source": [5, 6, 7], "target": [6, 7, 5]})
    for _ in range(min(times, 2)):  # "index", then "level_0"
        frame = frame.reset_index()
    frame.to_csv(tmp_path / "e.csv", index=False)
    graph = gs.from_edge_list(tmp_path / "e.csv")
    assert graph.num_nodes == 3 and graph.edge_weight is None


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("id,label\n1,red\n2,NA\n3,red\n", "holds 'NA': a class, or no label"),
        ("id,label\n1,0\n2,?\n3,1\n", "holds '\\?': a class, or no label"),
        ('id,label\n1,"1,500"\n2,"2,250"\n3,"1,125"\n', "which may be 1500 or 1.500: say decimal="),
        (
            "id,a\n1,5%\n2,5kg\n3,7%\n",
            "holds '5%' and '5kg', of several units: write all in one way",
        ),
        ("rank,a\n3,.5\n1,.25\n2,.1\n0,.1\n", "is called as a quantity is"),
    ],
)
def test_nodes_that_may_be_others(tmp_path, nodes, message):
    (tmp_path / "e.csv").write_text(EDGES)
    (tmp_path / "n.csv").write_text(nodes)
    with pytest.raises(InputError, match=message):
        gs.from_edge_list(tmp_path / "e.csv", tmp_path / "n.csv")


def test_masks_are_zeros_and_ones_too(tmp_path):
    (tmp_path / "e.csv").write_text(EDGES)
    (tmp_path / "n.csv").write_text(
        "id,label,train_mask,val_mask,test_mask\n3,0,1,0,0\n1,1,0,1,0\n2,0,0,0,1\n"
    )
    graph = gs.from_edge_list(tmp_path / "e.csv", tmp_path / "n.csv")
    assert graph.train_mask.nonzero().flatten().tolist() == graph.names.find([3]).tolist()


def test_names_of_rows_that_r_wrote(tmp_path):
    (tmp_path / "e.csv").write_text(EDGES)
    (tmp_path / "n.csv").write_text('"id" "age"\n"7" 3 3.5\n"2" 1 2.5\n"9" 2 1.5\n')
    graph = gs.from_edge_list(tmp_path / "e.csv", tmp_path / "n.csv")
    assert graph.feature_names == ("age",)
    assert graph.x[graph.names.find([3, 1, 2])].flatten().tolist() == [3.5, 2.5, 1.5]


def test_a_row_behind_a_mark_after_the_sample(tmp_path):
    rows = "".join(f"{i},{i + 1}\n" for i in range(40_000))
    (tmp_path / "e.csv").write_text(f"source,target\n{rows}#2,3\n")
    with pytest.raises(InputError, match="may be a comment or a row"):
        gs.from_edge_list(tmp_path / "e.csv")
    for comment, edges in (("#", 40_000), ("", 40_001)):
        graph = gs.from_edge_list(tmp_path / "e.csv", comment=comment, undirected=False)
        assert graph.num_edges == edges
