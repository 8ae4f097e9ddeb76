"""Columns of times, and splits by them: as pandas reads the same cells, whatever their form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.tables.roles.evidence import looked_at
from gnnscale.data.tables.table import open_table
from gnnscale.data.tables.values.moments import Clock
from gnnscale.errors import InputError

DAY = 86_400
KINDS = {
    "times": lambda s: pd.to_datetime(s, unit="s"),
    "zoned": lambda s: pd.to_datetime(s, unit="s", utc=True),
    "dates": lambda s: pd.to_datetime(s // DAY * DAY, unit="s").date,
    "seconds": lambda s: s,
    "ms": lambda s: s * 1000,
    "ns": lambda s: s * 10**9,
    "text": lambda s: pd.to_datetime(s, unit="s").strftime("%Y-%m-%d %H:%M:%S"),
    "day as text": lambda s: pd.to_datetime(s, unit="s").strftime("%Y-%m-%d"),
    "day as number": lambda s: pd.to_datetime(s, unit="s").strftime("%Y%m%d").astype(int),
    "years": lambda s: 2000 + s % 20,
}
OF_DAYS = {"dates", "day as text", "day as number"}


@settings(max_examples=40)
@given(
    st.sampled_from([*KINDS]),
    st.lists(st.integers(900_000_000, 1_900_000_000), min_size=1, max_size=30),
    st.sampled_from(["frame", "csv", "parquet"]),
    st.booleans(),
)
def test_times_are_read_in_whatever_form_they_come(tmp_path_factory, kind, seconds, form, empty):
    moments = np.array(seconds, np.int64)
    frame = pd.DataFrame({"a": range(len(moments)), "when": KINDS[kind](moments)})
    frame.insert(2, "b", range(len(moments)))
    if empty and len(moments) > 1:
        frame.loc[1, "when"] = None
    given_ = frame
    if form != "frame":
        given_ = tmp_path_factory.mktemp("times") / f"t.{form}"
        frame.to_csv(given_, index=False) if form == "csv" else frame.to_parquet(given_)
    table = open_table(given_, "t")
    clock = Clock(looked_at(table)[1], "t")
    batches = table.batches(["when"], {"when": clock.type})
    found = np.concatenate([clock.read(batch[0]) for batch in batches])
    expected = (moments // DAY * DAY if kind in OF_DAYS else moments).astype(float)
    expected = 2000.0 + moments % 20 if kind == "years" else expected
    if empty and len(moments) > 1:
        expected[1] = np.nan
    assert np.allclose(found, expected, atol=1e-6, rtol=0, equal_nan=True)
    assert clock.dates == (kind != "years")


def tables(n=60, seed=0):
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2015-01-01")
    joined = start + pd.to_timedelta(rng.integers(0, 1800, n), "D")
    nodes = pd.DataFrame({"id": [f"n{i}" for i in range(n)], "age": rng.normal(size=n)})
    nodes["team"], nodes["joined"] = rng.choice(["x", "y"], n), joined
    edges = pd.DataFrame(rng.choice(nodes["id"], (200, 2)), columns=["from", "to"])
    edges["when"] = start + pd.to_timedelta(rng.integers(0, 1800 * DAY, 200), "s")
    return edges, nodes


@pytest.mark.parametrize("recipe", ["as is", "standardise"])
@pytest.mark.parametrize("timed", [["when", "joined"], "joined", "when"])
def test_what_is_known_is_what_the_rows_of_that_time_make(recipe, timed):
    """Also the mean and deviation that features are standardised by."""
    edges, nodes = tables()
    cut = pd.Timestamp("2018-01-01")
    splits = "time:2017/2018"
    if timed == "when":
        nodes, splits = nodes.drop(columns="joined"), "60/20/20 time:2017/2018"
    elif timed == "joined":
        edges = edges.drop(columns="when")
    wanted = {"labels": "team", "time": timed, "recipe": {"age": recipe}}
    graph = gs.from_edge_list(edges, nodes, splits=splits, **wanted)
    known_nodes = nodes[nodes["joined"] < cut] if "joined" in nodes else nodes
    known = edges[edges["from"].isin(known_nodes["id"]) & edges["to"].isin(known_nodes["id"])]
    known = known[known["when"] < cut] if "when" in known else known
    alone = gs.from_edge_list(known, known_nodes, **wanted)
    then = graph.until(graph.cuts["default"].train)
    assert then.structure_fingerprint() == alone.structure_fingerprint()
    assert (then.x == alone.x).all() and (then.y == alone.y).all()
    assert then.names.to_arrow().to_pylist() == known_nodes["id"].tolist()
    train = graph.split().train.numpy()
    if timed != "when":
        assert np.array_equal(train, (nodes["joined"] < cut).to_numpy())
    assert train.any()


def test_what_cannot_be_split_by_time_is_asked():
    edges, nodes = tables()
    given_ = {"features": nodes, "labels": "team"}
    for arguments, message in (
        ({"splits": "time:2017/2018"}, "edges have times and nodes have none.*as time='joined'"),
        ({"splits": "60/20/20 time:60/20/20"}, "nodes have no times that shares could be of"),
        ({"splits": "time:2017/2018", "drop": ["when"]}, r"is a time; name it, as time='joined'"),
        ({"splits": "time:soon/later", "time": "joined"}, "'soon' is no moment"),
        ({"splits": "60/20/20 time:2017/2018", "time": "joined"}, "nodes are later than the cut"),
        ({"time": ["id", "joined"]}, "has all of these"),
        ({"time": "team", "labels": None}, "which is time, is text"),
    ):
        with pytest.raises(InputError, match=message):
            gs.from_edge_list(edges, **{**given_, **arguments})
    years = nodes.assign(joined=nodes["joined"].dt.year % 7)
    with pytest.raises(InputError, match="times of nodes are numbers of another kind"):
        gs.from_edge_list(edges, years, labels="team", time="joined", splits="time:3/5")
    weighted = edges.assign(weight=1.5)
    with pytest.raises(InputError, match="leave coalesce, weights or times out"):
        gs.from_edge_list(weighted, nodes, labels="team", coalesce=True)
