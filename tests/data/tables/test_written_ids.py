"""Ids are numbers only where printing the numbers gives what is written; else they are text."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError

quick = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PLAIN = st.integers(-50, 10**12).map(str)
ODD = st.one_of(
    st.integers(0, 10**12).map("+{}".format),
    st.integers(0, 99).map("00{}".format),
    st.sampled_from(
        ["-0", "+0", "0x1F", "1_000", "-007", "1e5", "1E-3", "1.0", "-2.0", "5.", "'7"]
    ),
)


def called(graph: gs.Graph) -> list[str]:
    own = range(graph.num_nodes) if graph.names is None else graph.names[:].tolist()
    return [str(name) for name in own]


@quick
@given(
    st.lists(st.one_of(PLAIN, PLAIN, ODD), min_size=2, max_size=8, unique=True),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([64, 1 << 18]),
)
def test_ids_of_a_text_stay_what_is_written(tmp_path, monkeypatch, ids, nodes, quoted, turn, size):
    monkeypatch.setattr("gnnscale.data.tables.text.part._SAMPLE_BYTES", size)
    monkeypatch.setattr("gnnscale.data.tables.text.lines.BYTES_AT_ONCE", size)
    ends = [*zip(ids, ids[1:] + ids[:1], strict=True)]
    cell = '"{}"'.format if quoted else str
    lines = [f"{cell(s)},{cell(t)}\n" for s, t in ends]
    (tmp_path / "e.csv").write_text("source,target\n" + "".join(lines))
    rows = np.roll(np.arange(len(ids)), turn).tolist()
    table = "".join(f"{cell(ids[i])},{i}.5\n" for i in rows)
    (tmp_path / "n.csv").write_text("id,a\n" + table)
    try:
        graph = gs.from_edge_list(
            tmp_path / "e.csv", tmp_path / "n.csv" if nodes else None, undirected=False
        )
    except InputError as error:
        assert any(re.search(r"[.eE]", one) for one in ids), str(error)
        return
    names = called(graph)
    pairs = sorted((names[s], names[t]) for s, t in graph.to_data().edge_index.T.tolist())
    plain = [re.sub(r"\.0$", "", one) for one in ids]
    if pairs != sorted(ends):  # numbers that a program wrote as floats, all of them
        assert all(one.endswith(".0") for one in ids)
        assert pairs == sorted(zip(plain, plain[1:] + plain[:1], strict=True))
    if nodes:
        features = dict(zip(names, graph.x[:, 0].tolist(), strict=True))
        assert [features[one] for one in (ids if ids[0] in features else plain)] == [
            i + 0.5 for i in range(len(ids))
        ]


KINDS = {
    "int64": lambda ids: np.array(ids),
    "uint64": lambda ids: np.array(ids, np.uint64),
    "float64": lambda ids: np.array(ids, float),
    "Int64": lambda ids: pd.array(ids, dtype="Int64"),
    "object": lambda ids: pd.Series(ids, dtype=object),
    "string": lambda ids: pd.array([str(i) for i in ids], dtype="string"),
    "text": lambda ids: [str(i) for i in ids],
    "category": lambda ids: pd.Categorical(ids),
    "category of text": lambda ids: pd.Categorical([str(i) for i in ids]),
}


@quick
@given(
    st.sampled_from([*KINDS]),
    st.sampled_from([*KINDS]),
    st.sampled_from([*KINDS]),
    st.booleans(),
    st.sampled_from([0, 3, 2**40]),
)
def test_ids_of_any_type_are_the_same_nodes(tmp_path, source, target, node, files, first):
    ids = [first + 2 * i for i in range(6)]
    edges = pd.DataFrame({"source": KINDS[source](ids), "target": KINDS[target](ids[1:] + ids[:1])})
    nodes = pd.DataFrame({"who": KINDS[node](ids[::-1]), "a": [0.5 + i for i in range(6)]})
    given_ = [edges, nodes]
    if files:
        given_ = [tmp_path / "e.parquet", tmp_path / "n.parquet"]
        edges.to_parquet(given_[0])
        nodes.to_parquet(given_[1])
    graph = gs.from_edge_list(*given_, undirected=False)
    names = called(graph)
    pairs = {(names[s], names[t]) for s, t in graph.to_data().edge_index.T.tolist()}
    assert pairs == {(str(i), str(j)) for i, j in zip(ids, ids[1:] + ids[:1], strict=True)}
    wanted = {str(i): 0.5 + k for k, i in enumerate(ids[::-1])}
    assert dict(zip(names, graph.x[:, 0].tolist(), strict=True)) == wanted


@pytest.mark.parametrize("kind", ["float64", "Int64", "object", "category", "string"])
def test_a_missing_id_is_named_in_any_type(kind):
    frame = pd.DataFrame({"source": [1, 2, 3], "target": [2, 3, 1]})
    nodes = pd.DataFrame({"id": pd.Series([1, 2, None]).astype(kind), "a": [1.0, 2, 3]})
    with pytest.raises(InputError, match=r"1 cells of features: id are empty|1 empty cells"):
        gs.from_edge_list(frame, nodes, id="id")
    with pytest.raises(InputError, match="1 cells of edges: source are empty"):
        gs.from_edge_list(frame.assign(source=nodes["id"]), source="source", target="target")


def test_ids_beyond_int64_are_text():
    large = np.array([2**63 + 1, 2**63 + 2, 5], np.uint64)
    graph = gs.from_edge_list(pd.DataFrame({"u": large, "v": large[::-1]}))
    assert graph.names[:].tolist() == ["5", "9223372036854775809", "9223372036854775810"]


UNSEEN = "\u200b\ufeff\u00ad\u2060\u200e"


@quick
@given(
    st.lists(st.text(st.sampled_from("abé"), min_size=2, max_size=4), min_size=3, unique=True),
    st.sampled_from(UNSEEN),
    st.integers(0, 9),
    st.booleans(),
    st.sampled_from(["edges", "nodes"]),
)
def test_characters_that_nobody_sees_in_ids(tmp_path, caplog, ids, sign, which, twin, of):
    """They are said; two ids that differ by them alone are refused by name."""
    caplog.clear()
    own = list(ids)
    odd = own[which % len(own)]
    changed = odd[:1] + sign + odd[1:]
    own = [*own, changed] if twin else [changed if name == odd else name for name in own]
    edges = pd.DataFrame({"source": own, "target": own[1:] + own[:1]})
    edges.to_csv(tmp_path / "e.csv", index=False)
    pd.DataFrame({"id": own, "a": range(len(own))}).to_csv(tmp_path / "n.csv", index=False)
    files = [tmp_path / "e.csv", *([tmp_path / "n.csv"] if of == "nodes" else [])]
    if twin:
        with pytest.raises(InputError, match="differ by characters without width alone"):
            gs.from_edge_list(*files)
    else:
        assert changed in called(gs.from_edge_list(*files))
        assert f"1 ids hold characters without width, as {changed!r}" in caplog.text
