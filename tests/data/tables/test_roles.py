"""What a column is: by its name, its type and its cells; asked where it may be two things."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.tables.ids import text_set
from gnnscale.data.tables.roles import evidence
from gnnscale.data.tables.roles.edges import edge_roles
from gnnscale.data.tables.roles.evidence import words_of
from gnnscale.data.tables.table import Table, open_table
from gnnscale.errors import InputError

RING = pd.DataFrame({"src": [0, 1, 2, 3], "dst": [1, 2, 3, 0]})
TENS = RING * 10 + 10
FRIENDS = pd.DataFrame({"from": ["ann", "bob", "cid"], "to": ["bob", "cid", "ann"]})
SECONDS = [1_289_241_911, 1_289_241_941, 1_289_243_140]
ENDS = [[6, 6, 1], [2, 5, 15]]


def edges(*columns, **named):
    """Roles, and columns by number where they have no names."""
    frame = pd.DataFrame({**dict(enumerate(columns)), **named})
    return {r.column: r.role for r in edge_roles(open_table(frame, "edges"))}


def nodes(**columns):
    return pd.DataFrame(columns)


def test_names_are_words():
    assert words_of("FromNodeId") == ["from", "node", "id"]
    assert words_of("user_1") == ["user", "1"] and words_of("srcID2") == ["src", "id", "2"]


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ({"dst": [1, 2], "src": [2, 3]}, ["target", "source"]),
        ({"kind": [1, 1], "user_1": [5, 6], "user_2": [6, 7]}, ["left out", "source", "target"]),
        ({"neighbor": [1, 2], "src": [2, 3]}, ["target", "source"]),
        ({"hero": ["a", "b"], "friend": ["b", "a"]}, ["source", "target"]),
        ({"u": [1], "v": [2], "weight": [3]}, ["source", "target", "weight"]),
        ({"u": [1, 1], "v": [2, 3], "w": [1, 1]}, ["source", "target", "weight"]),
        ({"u": [1, 2], "v": [2, 3], "when": [3, 4]}, ["source", "target", "time"]),
        ({"u": [1, 2], "v": [2, 3], "type": ["a", "b"]}, ["source", "target", "left out"]),
        ({"Source": [4, 5], "Target": [5, 6], "Id": [0, 1]}, ["source", "target", "left out"]),
        ({"u": [], "v": []}, ["source", "target"]),
    ],
)
def test_columns_of_edges_with_names(columns, roles):
    assert [*edges(**columns).values()] == roles


@pytest.mark.parametrize(
    ("third", "role"),
    [
        ([0.5, 1.5, 2.5], "weight"),
        (SECONDS, "time"),
        ([1000 * s for s in SECONDS], "time"),
        ([20100102, 20110809, 20120131], "time"),
        (pd.to_datetime(["2020-01-01"] * 2 + ["2021-01-01"]), "time"),
        (["2020-01-01", "2020-01-02", "2020-01-03"], "time"),
        ([1, 1, 1], "left out"),
        ([0.5, 0.5, 0.5], "weight"),
        ([None, None, None], "left out"),
        (np.full(3, np.nan), "left out"),
        (["{}"] * 3, "left out"),
    ],
)
def test_the_third_of_columns_without_names(third, role):
    assert edges(*ENDS, third)["2"] == role


@pytest.mark.parametrize(
    ("columns", "named", "says"),
    [
        ([*ENDS, [4, 2, 1]], {}, "weight=2, time=2 or drop=2"),
        ([*ENDS, [4, 2, 1], SECONDS], {}, "weight=2, time=2 or drop=2"),
        ([*ENDS, [2, 2, 2]], {}, "weight=2"),
        ([*ENDS, [0.5, 0.1, 1], [2, 7, 1]], {}, r"drop=\[2, 3\]"),
        ([["a", "b"], ["likes", "knows"], ["b", "a"]], {}, "Say source= and target="),
        ([SECONDS, *ENDS], {}, "Say source= and target="),
        ([], {"u": [1, 2], "v": [2, 3], "score": [1, 2]}, "weight='score'"),
        ([], {"userId": [1, 2, 3], "movieId": [2, 3, 4]}, "hold the same numbers"),
        ([], {"u": [1], "v": [2], "from": [3], "to": [4]}, "Say source= and target="),
        ([], {"p": [1.5], "q": [2.5]}, "ids are integers or text"),
        ([], {"u": [1, 2], "v": [2, 3], "w": ["a", "b"]}, "drop='w'"),
        ([], {"only": [1, 2]}, "has one column, only"),
    ],
)
def test_columns_of_edges_that_are_asked_about(columns, named, says):
    with pytest.raises(InputError, match=says):
        edges(*columns, **named)


def test_a_rating_beside_a_time_is_what_is_said(tmp_path):
    (tmp_path / "s.csv").write_text("6,2,4,1289241911\n6,5,2,1289241941\n1,15,1,1289243140\n")
    said = gs.from_edge_list(tmp_path / "s.csv", weight=2, undirected=False)
    assert sorted(said.edge_weight.tolist()) == [1, 2, 4]
    assert "`f3`: time (seconds since 1970)" in said.schema.columns
    assert gs.from_edge_list(tmp_path / "s.csv", drop=2).edge_weight is None
    for wrong, says in (
        ({"weight": 9}, "has no column 9"),
        ({"source": "f0", "target": 0}, "named as target and source"),
        ({"drop": "nothing"}, "no table has such a column"),
        ({"source": True}, "a column is a name or a number"),
    ):
        with pytest.raises(InputError, match=says):
            gs.from_edge_list(tmp_path / "s.csv", **wrong)


@pytest.mark.parametrize("name", ["paper", "id", "Unnamed", "name"])
def test_the_id_is_what_holds_the_ids_of_edges(name):
    table = nodes(**{name: [3, 2, 1, 0]}, age=[30, 20, 10, 5], label=[1, 1, 0, 0])
    graph = gs.from_edge_list(RING, table)
    assert graph.y.tolist() == [0, 0, 1, 1] and graph.x[:, 0].tolist() == [5, 10, 20, 30]
    assert graph.names is None and f"`{name}`: node id (unique integers)" in graph.schema.columns


def test_ids_of_one_kind_in_every_table():
    whole = nodes(id=[1, 2, 3], a=[0.5, 1.5, 2.5])
    for ends in ([1.0, 2.0, 3.0], ["1", "2", "3"], [1, 2, 3]):
        graph = gs.from_edge_list(pd.DataFrame({"u": ends, "v": ends[1:] + ends[:1]}), whole)
        assert [*map(str, graph.names[:])] == ["1", "2", "3"] and graph.x.tolist() == [
            [0.5],
            [1.5],
            [2.5],
        ]
    padded = pd.DataFrame({"u": ["001", "002"], "v": ["002", "003"]})
    with pytest.raises(InputError, match="the edges' ids are text, as '001'"):
        gs.from_edge_list(padded, whole)
    assert gs.from_edge_list(padded).names[:].tolist() == ["001", "002", "003"]
    # Numbers with a point may be a feature; where nothing else can hold the ids, they are them.
    counts = nodes(count=[3.0, 2, 1, 0])
    assert gs.from_edge_list(RING, counts).x[:, 0].tolist() == [3, 2, 1, 0]
    points = nodes(paper=[30.0, 20, 10, 40], a=[3.0, 2, 1, 4])
    assert gs.from_edge_list(TENS, points).names[:].tolist() == [30, 20, 10, 40]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (nodes(id=[0, 1, 2, 3], paper=[40, 30, 20, 10]), "id='paper' or id='id'"),
        (nodes(paper=[10, 20, 30, 40], author=[40, 30, 20, 10]), "id='paper' or id='author'"),
        (nodes(id=[0, 1, 2, 3], a=[0.1, 0.2, 0.3, 0.4]), "column id .* holds no id"),
        (nodes(id=[True, False, True, False]), "column id .* holds no id"),
        (nodes(paper=[10, 20, 30, 50]), "paper .75% of them.: say id='paper'"),
        (nodes(a=[0.1, 0.2, 0.3, 0.4]), "the edges name a node 40, where 4 rows are 0 to 3"),
        (nodes(id=[10, 20, 30]), "2 of 4 edges name 1 nodes that have no row .* as 40"),
        (nodes(id=[10, 20, 30, 40, 40]), "1 ids that are there before"),
        (nodes(id=[10, 20, 30, 40], y=[0, 1, 0, 1]), "say labels='y', drop='y'"),
    ],
)
def test_rows_of_no_known_node_are_asked_about(table, says):
    with pytest.raises(InputError, match=says):
        gs.from_edge_list(TENS, table)


def test_edges_without_a_row_are_dropped_where_that_is_said(caplog):
    graph = gs.from_edge_list(TENS, nodes(id=[10, 20, 30]), absent="drop")
    assert graph.num_nodes == 3 and graph.num_edges == 4
    assert "2 edges are left out" in caplog.text
    isolated = gs.from_edge_list(TENS, nodes(id=[50, 10, 20, 30, 40], a=[5.0, 1, 2, 3, 4]))
    assert isolated.num_nodes == 5 and isolated.x[:, 0].tolist() == [5, 1, 2, 3, 4]


def test_rows_in_order_are_as_many_as_the_edges_name():
    values = [0.5, 0.2, 0.3, 0.4]
    assert (
        gs.from_edge_list(RING, nodes(a=values)).x[:, 0].tolist() == torch.tensor(values).tolist()
    )
    more = nodes(a=[*values, 0.9])
    with pytest.raises(InputError, match="say num_nodes=5"):
        gs.from_edge_list(RING, more)
    assert gs.from_edge_list(RING, more, num_nodes=5).num_nodes == 5
    with pytest.raises(InputError, match="say num_nodes=5"):
        gs.from_edge_list(RING + 1, more)  # from 1 on: rows would be one off


@pytest.mark.parametrize("kind", ["parquet", "memory"])
def test_an_index_is_data_only_where_it_must_be(tmp_path, kind):
    def given(frame):
        if kind == "memory":
            return frame
        frame.to_parquet(tmp_path / "n.parquet")
        return tmp_path / "n.parquet"

    by_name = given(pd.DataFrame({"a": [0.5, 0.25, 1]}, index=["bob", "ann", "cid"]))
    graph = gs.from_edge_list(FRIENDS, by_name)
    assert graph.names[:].tolist() == ["bob", "ann", "cid"] and graph.num_features == 1
    shuffled = given(pd.DataFrame({"a": [0.0, 1, 2, 3]}, index=[2, 0, 1, 3]))
    with pytest.raises(InputError, match=r"id='__index_level_0__' or drop='__index_level_0__'"):
        gs.from_edge_list(RING, shuffled)
    by_index = gs.from_edge_list(RING, shuffled, id="__index_level_0__")
    assert by_index.x[:, 0].tolist() == [1, 2, 0, 3]
    in_order = gs.from_edge_list(RING, shuffled, drop="__index_level_0__")
    assert in_order.x[:, 0].tolist() == [0, 1, 2, 3]


def test_what_names_a_row_is_no_feature_of_it():
    table = nodes(
        node=[0, 1, 2, 3], user_id=[3, 2, 1, 0], name=["p", "q", "r", "s"], city=[*"abab"]
    )
    graph = gs.from_edge_list(RING, table)
    assert graph.feature_names == ("city=a", "city=b")
    said = gs.from_edge_list(RING, table, recipe={"name": "one-hot"}, drop="city")
    assert said.feature_names == ("name=p", "name=q", "name=r", "name=s")


def test_columns_of_every_type():
    polars = pytest.importorskip("polars")
    lists = pyarrow.table({"u": [0, 1], "v": [1, 2], "when": [[1], [2]], "void": pyarrow.nulls(2)})
    assert [r.role for r in edge_roles(open_table(lists, "edges"))] == [
        "source",
        "target",
        "left out",
        "left out",
    ]
    friends = FRIENDS.astype("category")
    kinds = polars.DataFrame({"u": ["a", "b"], "v": ["b", "c"]})
    for frame in (kinds, kinds.cast(polars.Categorical), friends):
        called = {*frame["u"], *frame["v"]} if frame is not friends else {"ann", "bob", "cid"}
        assert gs.from_edge_list(frame).names[:].tolist() == sorted(called)
    for whole in ("int8", "uint64", "Int64", "float32"):
        assert gs.from_edge_list(RING.astype(whole)).names is None
    none = gs.from_edge_list(RING[:0], nodes(id=[5, 7], a=[0.5, 1]))
    assert none.num_edges == 0 and none.names[:].tolist() == [5, 7]
    for frame, says in (
        (pyarrow.table({"u": [b"a"], "v": [b"b"]}), "is binary; ids are integers or text"),
        (RING.assign(w=[0.5, None, 1, 1]), "1 cells of edges: w are empty"),
        (RING.assign(src=[0, None, 1, 2]), "1 cells of edges: src are empty"),
        (pd.DataFrame({"u": [2.0**60], "v": [1]}), "ids are integers or text"),
    ):
        with pytest.raises(InputError, match=says):
            gs.from_edge_list(frame)


def test_labels_in_every_form():
    wanted = {"ann": "x", "bob": None, "cid": "y"}
    series = pd.Series({"cid": "y", "ann": "x"})
    frame = nodes(team=["y", "x"], who=["cid", "ann"])
    only = nodes(id=["cid", "bob", "ann"], label=["y", None, "x"])
    forms = (None, {"ann": "x", "cid": "y"}), (None, series), (None, frame), (only, None)
    for features, labels in forms:
        graph = gs.from_edge_list(FRIENDS, features, labels)
        read = dict(zip(graph.names[:].tolist(), graph.y.tolist(), strict=True))
        assert {k: graph.class_names[c] if c >= 0 else None for k, c in read.items()} == wanted
        assert graph.x is None
    several = nodes(id=[3, 2, 1, 0], p=[1, 0, 1, 0], q=[0, 0, 1, 1])
    both = gs.from_edge_list(RING, several, ["p", "q"])
    assert both.task == "multilabel" and both.y.tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]
    assert gs.from_edge_list(RING, several, 1, drop="q").y.tolist() == [0, 1, 0, 1]
    apart = gs.from_edge_list(RING, several.rename(columns={"q": "label"}), [0, 1, 0, 1])
    assert apart.feature_names == ("p",) and apart.y.tolist() == [0, 1, 0, 1]
    with pytest.raises(InputError, match=r"labels='team' is no column .*id, p, q.* and no file"):
        gs.from_edge_list(RING, several, "team")
    with pytest.raises(InputError, match=r"labels: column id .'zed', .* holds no id"):
        gs.from_edge_list(FRIENDS, None, {"zed": 1})
    with pytest.raises(InputError, match="labels: ids, or labels, are of several types"):
        gs.from_edge_list(FRIENDS, None, {"ann": 1, 7: 2})


def parts(graph, name="default"):
    split = graph.splits[name]
    return [split[part].nonzero().flatten().tolist() for part in ("train", "val", "test")]


def test_splits_in_every_form(tmp_path: Path):
    table = nodes(id=[3, 2, 1, 0], where=["train", " Valid", "test", None], fold=[0, 1, 2, 7])
    wanted = [[3], [2], [1]]
    (tmp_path / "train.txt").write_text("3\n")
    (tmp_path / "valid.csv").write_text("id\n2\n")
    np.save(tmp_path / "test.npy", [1])
    table[["id", "where"]].dropna().to_csv(tmp_path / "all.csv", index=False)
    masks = pd.DataFrame(
        {f"{p}_mask": [i == k for i in range(4)] for k, p in enumerate(["train", "val", "test"])}
    )
    files = {
        "train": tmp_path / "train.txt",
        "val": tmp_path / "valid.csv",
        "test": tmp_path / "test.npy",
    }
    for features, splits in (
        (table, "where"),
        (table.rename(columns={"where": "split"}), None),
        (table, ("fold", {"train": 0, "val": [1], "test": ["2"]})),
        (table, {"train": [3], "val": [2], "test": [1]}),
        (table, {"default": {"train": [3], "val": [2], "test": [1]}}),
        (table, files),
        (table[["id"]].join(masks), None),
        (None, files),
        (None, tmp_path / "all.csv"),
    ):
        assert parts(gs.from_edge_list(RING, features, splits=splits)) == wanted
    (tmp_path / "all.csv").unlink()
    assert parts(gs.from_edge_list(RING, splits=tmp_path)) == wanted
    half = gs.from_edge_list(RING, labels=[0, 1, -1, 1], splits="50/25/25", seed=3)
    assert sorted(node for part in parts(half) for node in part) == [0, 1, 3]
    assert parts(half) == parts(
        gs.from_edge_list(RING, labels=[0, 1, -1, 1], splits="50/25/25", seed=3)
    )
    for splits, says in (
        ("fold", r"splits=\('fold', \{'train': \['0'\]"),
        ("50/75/25", "at most 100"),
        ("nothing", "is no column .*, no file, and no shares"),
        ({"trainn": [0]}, "no parts called trainn"),
        ({"train": [9]}, "train 9 is not from 0 to 3|9"),
        (5, "has no column 5"),
        (("fold", {"train": [8]}), "column fold holds no 8"),
    ):
        with pytest.raises(InputError, match=says):
            gs.from_edge_list(RING, table, splits=splits)
    (tmp_path / "names.txt").write_text("ann\nbob\n")
    assert parts(gs.from_edge_list(FRIENDS, splits={"train": tmp_path / "names.txt"}))[0] == [0, 1]


def test_both_directions_are_not_doubled(caplog):
    caplog.set_level(logging.INFO)
    both = pd.DataFrame({"u": [0, 1, 1, 2, 2], "v": [1, 0, 2, 1, 2], "weight": [1, 1, 2, 2, 5]})
    graph = gs.from_edge_list(both)
    assert graph.num_edges == 5 and graph.edge_weight.tolist() == [1, 1, 2, 2, 5]
    assert "hold the reverse of every edge" in caplog.text
    both.loc[0, "weight"] = 3
    assert gs.from_edge_list(both).num_edges == 9


def test_arrays_and_pairs_are_edges_too():
    for edges_ in (np.array([[0, 1], [1, 2], [2, 0]]), torch.tensor([[0, 1, 2], [1, 2, 0]])):
        assert gs.from_edge_list(edges_).num_edges == 6
    assert gs.from_edge_list([("ann", "bob"), ("bob", "cid")]).names[:].tolist() == [
        "ann",
        "bob",
        "cid",
    ]
    assert gs.from_edge_list([(0, 1), (1, 2)]).num_nodes == 3
    for wrong in (5, np.zeros((3, 3)), np.array([[0.5, 1]])):
        with pytest.raises(InputError, match="edges"):
            gs.from_edge_list(wrong)


def test_what_is_no_argument_is_named(tmp_path):
    RING.to_csv(tmp_path / "e.csv", index=False)
    table = nodes(a=[0.5, 0.2, 0.3, 0.4])
    wrong = {"undirected": "no", "num_nodes": "5", "seed": "a", "absent": "keep", "drop": 5.5}
    for name, value in (wrong | {"time": True, "recipe": ["a"]}).items():
        with pytest.raises(InputError, match=f"{name}="):
            gs.from_edge_list(RING, table, **{name: value})
    for name, value in {"id": "id", "labels": 1}.items():
        with pytest.raises(InputError, match=f"{name}=.*there is none: give features="):
            gs.from_edge_list(RING, **{name: value})
    with pytest.raises(InputError, match="'feature' is none of edges, features, labels"):
        gs.from_edge_list(tmp_path / "e.csv", sep={"feature": ";"})


def test_what_is_left_out_of_edges_is_said(caplog):
    caplog.set_level(logging.INFO)
    table = RING.assign(kind=["a", "b", "a", "b"], one=1)
    gs.from_edge_list(table)
    said = {record.getMessage(): record.levelname for record in caplog.records}
    assert said["edges: `src`: source (by its name)"] == "INFO"
    assert said["edges: `one`: always 1, left out"] == "INFO"
    assert said["edges: `kind`: text such as 'a', left out; drop='kind' says so"] == "WARNING"


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.integers(-9, 60), st.integers(40, 120)), min_size=1, max_size=12),
    st.sampled_from(["int32", "uint64", "float64", "category", "text"]),
    st.sampled_from(["memory", "csv"]),
)
def test_numbers_of_two_kinds_in_whatever_row_are_asked_about(
    tmp_path, monkeypatch, pairs, kind, form
):
    monkeypatch.setattr(evidence, "_MOST_ROWS", 2)
    monkeypatch.setattr(evidence, "_LEAST_ROWS", 2)
    monkeypatch.setattr("gnnscale.data.tables.text.part._SAMPLE_BYTES", 24)
    monkeypatch.setattr("gnnscale.data.tables.text.lines.BYTES_AT_ONCE", 24)
    frame = pd.DataFrame(pairs, columns=["userId", "movieId"]).abs()
    frame = frame.astype({"text": "int64"}.get(kind, kind))
    given = frame
    if form == "csv":
        given = tmp_path / "r.csv"
        frame.astype("int64").to_csv(given, index=False)
        if kind == "text":  # one id further on makes text of all
            given.write_text(given.read_text() + "x,y\n")
    same = not {*frame["userId"]}.isdisjoint(frame["movieId"])
    table = open_table(given, "edges")
    if same and all(column.kind != "text" for column in table.columns):
        with pytest.raises(InputError, match="hold the same numbers"):
            edge_roles(table)
    else:
        assert [role.role for role in edge_roles(table)] == ["source", "target"]


@pytest.mark.parametrize("name", ["y", "class", "target", "category"])
def test_lists_beside_labels_are_features(name):
    lists = [[0.5, 1.5], [2.5, 3.5], [4.5, 5.5], [6.5, 7.5]]
    table = nodes(id=[0, 1, 2, 3], label=["a", "b", "a", "b"], **{name: lists})
    graph = gs.from_edge_list(RING, table)
    assert graph.x.tolist() == lists and graph.class_names == ("a", "b")
    several = nodes(id=[0, 1, 2, 3], label=[["a"], ["b", "a"], [], ["b"]], **{name: [1, 2, 3, 4]})
    assert gs.from_edge_list(RING, several).feature_names == (name,)


@pytest.mark.parametrize("text", [False, True])
def test_names_are_hashed_once_for_all_edges(monkeypatch, text):
    """Where edges of unknown nodes are left out, or told of."""
    frame = TENS.astype(str) + "n" if text else TENS
    made, filled = [], text_set.fill_slots
    monkeypatch.setattr(text_set, "fill_slots", lambda *a: (made.append(a), filled(*a))[1])
    many = pd.concat([frame] * 5)
    batches = Table.batches
    monkeypatch.setattr(
        Table, "batches",
        lambda *a, **k: (b.slice(i, 1) for b in batches(*a, **k) for i in range(len(b))),
    )  # fmt: skip
    known = ["10n", "20n", "30n"] if text else [10, 20, 30]
    graph = gs.from_edge_list(many, nodes(id=known), id="id", absent="drop")
    assert graph.num_edges == 2 * 2 * 5 and len(made) == text
    with pytest.raises(InputError, match="10 of 20 edges name 1 nodes"):
        gs.from_edge_list(many, nodes(id=known), id="id")
    assert len(made) == 2 * text
