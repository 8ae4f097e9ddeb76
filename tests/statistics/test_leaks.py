"""Leaks: those that were planted are found, and of graphs without any nothing is said."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.graph import Graph
from gnnscale.kernels import CSR
from gnnscale.statistics.called import Called
from gnnscale.statistics.homophily import homophily
from gnnscale.statistics.leaks import find_leaks

COUNT = 400


def found_in(graph):
    return {leak.kind: leak for leak in find_leaks(Called(graph), homophily(graph))}


def edges_of(kind, seed):
    other = {
        "sparse": lambda: nx.gnm_random_graph(COUNT, 500, seed),
        "dense": lambda: nx.gnm_random_graph(COUNT, 6000, seed),
        "hubs": lambda: nx.barabasi_albert_graph(COUNT, 2, seed),
        "star": lambda: nx.star_graph(COUNT - 1),
        "groups": lambda: nx.random_partition_graph([100] * 4, 0.1, 0.01, seed),
    }[kind]()
    return np.array(list(other.edges)).T


def features_of(kind, random):
    return {
        "normal": lambda: random.normal(size=(COUNT, 20)),
        "few values": lambda: random.integers(0, 3, (COUNT, 4)),
        "bits": lambda: random.random((COUNT, 16)) < 0.5,
        "one-hot": lambda: np.eye(12)[random.integers(0, 12, COUNT)],
        "words": lambda: random.random((COUNT, 300)) < 0.01,
        "constant": lambda: np.ones((COUNT, 5)),
        "number": lambda: np.arange(COUNT)[:, None],
    }[kind]().astype(np.float32)


def labels_of(kind, random):
    return {
        "even": lambda: random.integers(0, 4, COUNT),
        "rare": lambda: (random.random(COUNT) < 0.03).astype(int),
        "many": lambda: random.integers(0, 60, COUNT),
        "several": lambda: (random.random((COUNT, 5)) < 0.3).astype(np.int64),
        "quantities": lambda: random.normal(size=COUNT),
    }[kind]()


@settings(max_examples=60, deadline=None)
@given(
    edges=st.sampled_from(["sparse", "dense", "hubs", "star", "groups"]),
    features=st.sampled_from(
        ["normal", "few values", "bits", "one-hot", "words", "constant", "number"]
    ),
    labels=st.sampled_from(["even", "rare", "many", "several", "quantities"]),
    sparse=st.booleans(),
    undirected=st.booleans(),
    carried=st.sampled_from([None, "edge_weight", "edge_attr", "edge_type"]),
    seed=st.integers(0, 10**6),
)
def test_no_alarm_where_nothing_leaks(edges, features, labels, sparse, undirected, carried, seed):
    random = np.random.default_rng(seed)
    index = edges_of(edges, seed)
    x = features_of(features, random)
    values = {
        None: lambda: {},
        "edge_weight": lambda: {"edge_weight": random.random(index.shape[1]) + 0.1},
        "edge_attr": lambda: {"edge_attr": random.normal(size=(index.shape[1], 3))},
        "edge_type": lambda: {"edge_type": random.integers(0, 3, index.shape[1])},
    }[carried]()
    y = labels_of(labels, random)
    order = random.permutation(COUNT)
    parts = zip(("train", "val", "test"), np.split(order, [200, 300]), strict=True)
    graph = Graph.from_arrays(
        index,
        CSR.from_dense(torch.from_numpy(x)) if sparse else x,
        y,
        num_nodes=COUNT,
        splits={"a": dict(parts)},
        task={"several": "multilabel", "quantities": "regression"}.get(labels, "classification"),
        undirected=undirected,
        **values,
    )
    assert found_in(graph) == {}


def planted(seed=0, sparse=False, y=None, **changes):
    """A graph without leaks, and then with what `changes` make of x and edges."""
    random = np.random.default_rng(seed)
    index = edges_of("dense", seed)
    x = features_of("words" if sparse else "normal", random)
    y = random.integers(0, 4, COUNT) if y is None else y
    order = random.permutation(COUNT)
    split = dict(zip(("train", "val", "test"), np.split(order, [200, 300]), strict=True))
    given = {"index": index, "x": x, "carried": {}} | {
        name: change(index, x, y, split, random) for name, change in changes.items()
    }
    x = torch.from_numpy(given["x"].astype(np.float32))
    return Graph.from_arrays(
        given["index"],
        CSR.from_dense(x) if sparse else x,
        y,
        num_nodes=COUNT,
        splits={"a": split},
        undirected=True,
        **given["carried"],
    )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_copied_rows_are_found_and_named(sparse, seed):
    copies = {}

    def copied(index, x, y, split, random):
        x = x.copy()
        for k in range(5):
            a, b = int(split["test"][k]), int(split["train"][k])
            if sparse:
                x[b, random.integers(0, 300, 9)] = 1
            x[a] = x[b]
            copies[a] = b
        return x

    leak = found_in(planted(seed, sparse, x=copied))["features"]
    assert leak.count == 5 and all(copies[a] == b for a, b in leak.examples)
    assert "5 of 200 nodes" in leak.words


@pytest.mark.parametrize("seed", range(3))
def test_copied_neighbours_are_found(seed):
    def copied(index, x, y, split, random):
        a, b = int(split["val"][0]), int(split["train"][0])
        index = index[:, ~((index == a).any(0) | ((index == a).any(0) & (index == b).any(0)))]
        near = [*index[1, index[0] == b], *index[0, index[1] == b]]
        return np.concatenate([index, np.array([[a] * len(near), near])], axis=1)

    graph = planted(seed, index=copied)
    assert found_in(graph)["neighbours"].count == 1


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, -2.5])
def test_a_column_that_is_the_label_is_found(sparse, seed, scale):
    def with_label(index, x, y, split, random):
        return np.concatenate([x, scale * y[:, None]], axis=1)

    leak = found_in(planted(seed, sparse, x=with_label))["column"]
    column = 300 if sparse else 20
    assert leak.examples == ((column,),) and "tells the class" in leak.words


@pytest.mark.parametrize("sparse", [False, True])
def test_columns_that_are_classes_are_found(sparse):
    def with_classes(index, x, y, split, random):
        return np.concatenate([x, np.eye(4)[y][:, 1:]], axis=1)

    leak = found_in(planted(0, sparse, x=with_classes))["column"]
    first = 300 if sparse else 20
    assert leak.count == 3 and leak.examples == ((first, 1), (first + 1, 2), (first + 2, 3))


@pytest.mark.parametrize("task", ["multilabel", "regression"])
@pytest.mark.parametrize("sparse", [False, True])
def test_columns_that_are_labels_or_targets_are_found(task, sparse):
    random = np.random.default_rng(3)
    y = random.normal(size=COUNT) + 9
    if task == "multilabel":
        y = (random.random((COUNT, 5)) < 0.3).astype(np.int64)

    def with_label(index, x, y, split, random):
        return np.concatenate([x, 2 * (y if y.ndim == 1 else y[:, 3])[:, None] + 1], axis=1)

    leak = found_in(planted(0, sparse, y=y, x=with_label))["column"]
    assert leak.examples == ((300 if sparse else 20, 3 if task == "multilabel" else 0),)


@pytest.mark.parametrize("name", ["edge_weight", "edge_attr", "edge_type"])
def test_edges_that_carry_labels_are_found(name):
    def carried(index, x, y, split, random):
        same = (y[index[0]] == y[index[1]]).astype(np.int64)
        noise = random.random(same.size)
        values = {
            "edge_weight": 0.5 + same + 0.4 * noise,
            "edge_attr": np.stack([noise, 3 * same - noise], axis=1),
            "edge_type": same,
        }
        return {name: values[name]}

    leak = found_in(planted(0, carried=carried))["edges"]
    assert leak.words.startswith(name) and "both ends are of one class" in leak.words


def test_edges_within_classes_only_and_overlapping_parts_are_said():
    random = np.random.default_rng(0)
    y = np.sort(random.integers(0, 4, COUNT))
    index = random.integers(0, COUNT, (2, 6000))
    index = index[:, y[index[0]] == y[index[1]]]
    parts = {"train": [0, 1, 2], "val": [2, 5], "test": [7]}
    graph = Graph.from_arrays(index, y=y, splits={"a": parts})
    found = found_in(graph)
    assert "100.0%" in found["edges"].words and found["split"].examples == ((2,),)


def test_a_column_of_nodes_may_tell_the_class_of_their_graph():
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 300)
    x = random.normal(size=(1200, 4))
    x[:, 2] = np.repeat(y, 4)
    graph = Graph.from_arrays(
        np.zeros((2, 0), int), x, y, y_level="graph", node_ptr=np.arange(0, 1201, 4)
    )
    assert found_in(graph)["column"].examples == ((2,),)
