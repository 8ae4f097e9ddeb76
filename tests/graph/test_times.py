"""What was known by a moment, splits by time, and that times and cuts live on in every store."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph import Graph, cluster, open_graph, subgraph
from gnnscale.graph.clustered import write_store
from gnnscale.graph.store.graph_folder import open_stored_graph, store_graph
from gnnscale.graph.store.known import store_known
from gnnscale.graph.times import Cuts, cuts_of, known_by, parts_by_time, read_moment, read_times
from tests.helpers.graphs import assert_same_graph, parts
from tests.helpers.strategies import graphs

TIMED = graphs(edge_attr=None, weighted=None, sparse_x=None, unlabelled=True)


def with_cuts(graph: Graph) -> Graph:
    """The graph, with a split by time where nodes have times."""
    split = graph.split()
    graph.splits["timed"] = type(split)(split.train, split.val, split.test, cuts=Cuts(3, 5.5))
    return graph


@given(TIMED, st.integers(-1, 9))
def test_until_is_the_subgraph_of_known_nodes_and_edges(graph, moment):
    nodes = torch.ones(graph.num_nodes, dtype=torch.bool)
    if graph.node_time is not None:
        nodes = graph.node_time <= moment
    expected = subgraph(graph, nodes)
    if expected.edge_time is not None:
        kept = expected.edge_time <= moment
        expected = Graph.from_arrays(
            expected.edge_index[:, kept],
            expected.x,
            expected.y,
            num_nodes=expected.num_nodes,
            **{
                name: values[kept] if name.startswith("edge") else values
                for name in ("edge_weight", "edge_attr", "edge_type", "edge_time")
                if (values := getattr(expected, name)) is not None
            },
            node_type=expected.node_type,
            node_time=expected.node_time,
            splits={
                name: {part: split[part] for part in ("train", "val", "test")}
                for name, split in expected.splits.items()
            },
            num_classes=graph.num_classes,
            task=graph.task,
        )
    assert_same_graph(graph.until(moment), expected)


@settings(max_examples=30)
@given(TIMED, st.integers(-1, 9))
def test_what_is_known_is_the_same_in_files(tmp_path_factory, graph, moment):
    graph, folder = with_cuts(graph), tmp_path_factory.mktemp("known")
    stored = store_graph(graph, folder / "whole")
    for name, one in (("a", graph), ("b", stored)):
        known = store_known(one, moment, folder / name)
        expected = graph.until(moment)
        assert known.cuts == expected.cuts == ({"timed": Cuts(3, 5.5)} if moment > 3 else {})
        known.source = None
        assert_same_graph(known, expected)


@settings(max_examples=30)
@given(TIMED)
def test_times_and_cuts_live_on_in_every_store(tmp_path_factory, graph):
    graph, folder = with_cuts(graph), tmp_path_factory.mktemp("timed")
    part = parts(graph, 2)
    for clustered in (cluster(graph, part), cluster(graph, part, folder / "a")):
        assert clustered.graph.cuts == graph.cuts
        assert_same_graph(clustered.original(), cluster(graph, part).original())
        for again in (clustered.original(), clustered.original(folder / "original")):
            assert again.cuts == graph.cuts
            for name in ("edge_time", "node_time"):
                before, after = getattr(graph, name), getattr(again, name)
                assert (before is None) == (after is None)
            if graph.edge_time is not None:
                assert torch.equal(again.node_time, graph.node_time)
                one, other = (
                    torch.stack([*g.edge_index, g.edge_time, g.edge_type]) for g in (again, graph)
                )
                assert torch.equal(one.unique(dim=1), other.unique(dim=1))
        write_store(clustered, folder / "b")
        assert_same_graph(open_graph(folder / "b").graph, clustered.graph)
    assert_same_graph(store_graph(graph, folder / "graph"), graph)
    assert open_stored_graph(folder / "graph").fingerprint() == graph.fingerprint()
    assert graph.fingerprint() != with_cuts_at(graph, 4).fingerprint()
    assert Graph.from_data(graph.to_data()).until(3).num_edges == graph.until(3).num_edges


def with_cuts_at(graph: Graph, train: float) -> Graph:
    split = graph.split("timed")
    moved = type(split)(split.train, split.val, split.test, cuts=Cuts(train, 5.5))
    return gs.Graph(**{**vars(graph), "splits": {**graph.splits, "timed": moved}})


@given(
    st.lists(st.integers(0, 12), min_size=3, max_size=60),
    st.sampled_from(["60/20/20", "50/0/50", "80/20/0", "100/0/0", "98/1/1"]),
)
def test_shares_by_time_are_the_nearest_that_keep_moments_together(times, text):
    times = torch.tensor(times)
    shares = [float(share) for share in text.split("/")]
    if len(times.unique()) < sum(share > 0 for share in shares):
        with pytest.raises(InputError, match="different times"):
            cuts_of(text, times, dates=False)
        return
    cuts = cuts_of(text, times, dates=False)
    split = parts_by_time(times, torch.ones(len(times), dtype=torch.bool), cuts)
    assert torch.equal(sum(mask.long() for mask in split.values()), torch.ones(len(times)).long())
    for share, mask in zip(shares, split.values(), strict=True):
        assert bool(mask.any()) or share == 0
    largest = int(times.unique(return_counts=True)[1].max())
    wanted = len(times) * shares[0] / 100
    room = len(times.unique()) - sum(share > 0 for share in shares)
    if room and abs(int(split["train"].sum()) - wanted) > largest:
        assert not known_by(times, times.unique()[room]).logical_and(~split["train"]).any()
    assert times[split["train"]].max() == cuts.train


def test_dates_are_known_to_their_end():
    day = 86400.0
    assert read_moment("1970-01-01", dates=False) == math.nextafter(day, 0)
    assert read_moment("1970-01", dates=False) == math.nextafter(31 * day, 0)
    assert read_moment("1970", dates=True) == math.nextafter(365 * day, 0)
    assert read_moment("1970", dates=False) == 1970
    assert read_moment("1971-12", dates=True) == read_moment("1971", dates=True)
    assert read_moment("1970-01-01T00:00:01Z", dates=False) == 1
    assert read_moment("17.5", dates=True) == 17.5
    for wrong in ("1970-13", "soon", "nan", ""):
        with pytest.raises(InputError):
            read_moment(wrong, dates=True)
    dates = np.array(["1970-01-01", "1970-01-02T12", "NaT"], "datetime64[s]")
    times = read_times(dates, "times")
    assert known_by(times, read_moment("1970-01-01", dates=True)).tolist() == [True, False, False]
    # Not as float32 would compare them.
    assert known_by(torch.tensor([1546300801]), 1546300800.5).tolist() == [False]


def test_what_is_no_split_by_time_is_refused_by_name():
    edges, times = torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([1.0, 2, 3, math.nan])

    def make(**given):
        return Graph.from_arrays(edges, num_nodes=4, **given)

    split = {"train": [0, 1], "test": [2, 3]}
    assert make(node_time=times, splits="time:1/2").cuts == {"default": Cuts(1, 2)}
    faults = {
        "training nodes are later": {
            "node_time": times,
            "splits": {"default": {**split, "cuts": (1, 2)}},
        },
        "node_time=": {"splits": "time:60/20/20"},
        "two moments": {"node_time": times, "splits": "time:60/20"},
        "as text it is by time": {"node_time": times, "splits": "60/20/20"},
        "no node with a label is known by 0": {"node_time": times, "splits": "time:0/2"},
        "ends before training": {"node_time": times, "splits": "time:2/1"},
        "cuts are two numbers": {"splits": {"default": {**split, "cuts": 3}}},
        r"edge_time has shape \(2,\)": {"edge_time": [1, 2]},
        r"node_time has shape \(3,\)": {"node_time": [1, 2, 3]},
    }
    faults["two moments"]["splits"] = "time:60/20/10"
    for message, given_ in faults.items():
        with pytest.raises(InputError, match=message):
            make(**given_)
