"""What is appended to a store is the graph that would have been built of all tables at once."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.train import load_run


def tables(rng, ids, edges, named=True):
    nodes = pd.DataFrame({"person": ids})
    nodes["age"] = rng.normal(size=len(ids))
    nodes["city"] = rng.choice(["x", "y"], len(ids))
    nodes["team"] = rng.choice(["red", "blue"], len(ids))
    pairs = pd.DataFrame({"from": rng.choice(ids, edges), "to": rng.choice(ids, edges)})
    return pairs, nodes


def by_name(graph):
    """Edges by the names of their ends, and what is known of every node by its name."""
    names = graph.names[:].tolist() if graph.names is not None else list(range(graph.num_nodes))
    source, target = graph.edge_index.tolist()
    when = [0] * len(source) if graph.edge_time is None else graph.edge_time.tolist()
    edges = Counter((names[s], names[t], w) for s, t, w in zip(source, target, when, strict=True))
    joined = [0] * len(names) if graph.node_time is None else graph.node_time.tolist()
    rows = zip(graph.x.tolist(), graph.y.tolist(), joined, strict=True)
    return edges, dict(zip(names, rows, strict=True))


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["text", "integers", "numbers"]),
    st.booleans(),
    st.booleans(),
)
def test_the_whole_is_what_all_tables_give(tmp_path_factory, seed, kind, directed, timed):
    folder = tmp_path_factory.mktemp("grown")
    rng = np.random.default_rng(seed)
    old, new = int(rng.integers(4, 20)), int(rng.integers(0, 6))
    made = {
        "text": [f"p{i}" for i in range(old + new)],
        "integers": [5 * i + 11 for i in range(old + new)],
        "numbers": list(range(old + new)),
    }[kind]
    ids = np.array(made)
    pairs, nodes = tables(rng, ids, 60)
    nodes.loc[[0, 1], "team"] = ["red", "blue"]  # the classes are those of the old nodes
    nodes.loc[[0, 1], "city"] = ["x", "y"]
    early = pairs["from"].isin(ids[:old]) & pairs["to"].isin(ids[:old])
    told = {"labels": "team", "id": "person", "undirected": not directed}
    if timed:
        nodes["joined"], told["time"] = rng.integers(2000, 2020, len(nodes)), ["when", "joined"]
        days = pd.to_timedelta(rng.integers(0, 999, len(pairs)), "D")
        pairs["when"] = pd.Timestamp("2015-01-01") + days
    first = gs.from_edge_list(pairs[early], nodes[:old], **told)
    gs.cluster(first, gs.partition(first, 2, "random"), path=folder / "s")
    later = nodes[old:].sample(frac=1, random_state=seed)
    grown = gs.append(folder / "s", pairs[~early], later, undirected=not directed)
    whole = gs.from_edge_list(pairs, nodes, recipe=first.schema, **told)
    assert by_name(grown.original()) == by_name(whole)
    assert grown.original().schema == first.schema
    assert gs.open_graph(folder / "s").num_nodes == old + new


def test_a_run_goes_on_from_its_weights_and_scores_what_is_new(tmp_path):
    rng = np.random.default_rng(0)
    ids = np.array([f"p{i}" for i in range(66)])
    pairs, nodes = tables(rng, ids, 200)
    old = pairs["from"].isin(ids[:60]) & pairs["to"].isin(ids[:60])
    graph = gs.from_edge_list(pairs[old], nodes[:60], "team", splits="60/20/20")
    clustered = gs.cluster(graph, gs.partition(graph, 4, "random"), path=tmp_path / "s")
    model = gs.nn.GraphSAGE(graph.num_features, 8, 2, 2)
    trainer = gs.ClusterTrainer(
        model, clustered, clusters_per_batch=2, epochs=2, run_dir=tmp_path / "r"
    )
    trainer.fit()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    later = nodes[60:].copy()
    later.loc[later.index[0], "team"] = None
    grown = gs.append(tmp_path / "s", pairs[~old], later)
    assert grown.original().train_mask[60:].tolist() == [False] + 5 * [True]
    run = load_run(tmp_path / "r", graph=grown, run_dir=tmp_path / "r2", epochs=1)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, before[name])
    scores = run.trainer.predict(nodes=ids[60:], out=tmp_path / "new.csv")
    assert scores.shape == (6, 2)
    table = pd.read_csv(tmp_path / "new.csv")
    assert table["id"].tolist() == ids[60:].tolist()
    assert set(table["prediction"]) <= {"red", "blue"}
    assert len(run.trainer.fit().rows) == 1
    # Months later: other people, scored by the recipe that the run keeps.
    pairs, nodes = tables(rng, np.array([f"q{i}" for i in range(30)]), 90)
    recipe = json.loads((tmp_path / "r" / "run.json").read_text())["schema"]["recipe"]
    assert set(recipe) == {"age", "city"}
    june = gs.from_edge_list(pairs, nodes.drop(columns="team"), recipe=graph.schema)
    scored = load_run(tmp_path / "r", graph=june, run_dir=None).trainer
    assert scored.predict().shape == (30, 2) and june.class_names == ("blue", "red")
    with pytest.raises(InputError, match="no training nodes"):
        scored.fit()


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(1)
    pairs, nodes = tables(rng, np.array([f"p{i}" for i in range(20)]), 40)
    graph = gs.from_edge_list(pairs, nodes, "team")
    return gs.cluster(graph, gs.partition(graph, 2, "random"), path=tmp_path / "s"), nodes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.assign(person=["p3", "q1"]), "are in graph already, 'p3' first"),
        (lambda f: f.assign(person=["q1", "q1"]), "there before"),
        (lambda f: f.drop(columns="city"), "no column city"),
        (lambda f: f.assign(team="green"), "'green', none of the 2 classes"),
        (lambda f: f.assign(age="old"), "age is text, and was number"),
        (lambda f: None, "give a table of them, nodes="),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_the_store(store, change, words):
    clustered, nodes = store
    meta = (clustered.path / "meta.json").read_bytes()
    new = change(nodes[:2].assign(person=["q0", "q1"]))
    with pytest.raises(InputError, match=words):
        gs.append(clustered.path, pd.DataFrame({"from": ["q1"], "to": ["p1"]}), new)
    assert (clustered.path / "meta.json").read_bytes() == meta


def test_edges_alone_and_arrays(tmp_path):
    ring = np.stack([np.arange(10), (np.arange(10) + 1) % 10])
    x = np.random.default_rng(0).random((12, 3), np.float32)
    graph = gs.Graph.from_arrays(ring, x=x[:10], undirected=True)
    clustered = gs.cluster(graph, gs.partition(graph, 2, "contiguous"))
    with pytest.raises(InputError, match="give path="):
        gs.append(clustered, ring)
    grown = gs.append(clustered, np.array([[10, 11], [0, 10]]), x[10:], path=tmp_path / "s")
    assert torch.equal(grown.original().x, torch.from_numpy(x))
    assert grown.graph.num_edges == 24 and grown.graph.adj.symmetric
    again = gs.append(tmp_path / "s", np.array([[0], [5]]))
    assert again.num_nodes == 12 and again.graph.num_edges == 26
    bare = gs.from_edge_list(pd.DataFrame({"from": ["a"], "to": ["b"]}))
    gs.cluster(bare, gs.partition(bare, 1), path=tmp_path / "b")
    named = gs.append(tmp_path / "b", pd.DataFrame({"from": ["c"], "to": ["a"]}))
    assert named.original().names[:].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("given", ["matrix", "torch", "file", "array"])
@pytest.mark.parametrize("stored", ["sparse", "dense"])
def test_features_come_sparse_or_dense_and_values_with_edges(tmp_path, given, stored):
    rng = np.random.default_rng(0)
    x = rng.random((12, 5), np.float32) * (rng.random((12, 5)) < 0.4)
    edges, new = rng.integers(0, 10, (2, 30)), np.array([[10, 11, 3], [0, 10, 11]])
    attr, kind = rng.random((33, 2), np.float32), rng.integers(0, 3, 33)
    types = rng.integers(0, 2, 12)

    def made(stop, ends):
        count = ends.shape[1]
        return gs.Graph.from_arrays(
            ends, x=scipy.sparse.csr_array(x[:stop]) if stored == "sparse" else x[:stop],
            edge_attr=attr[:count], edge_type=kind[:count], node_type=types[:stop],
            undirected=True,
        )  # fmt: skip

    graph = made(10, edges)
    gs.cluster(graph, gs.partition(graph, 2, "random"), path=tmp_path / "s")
    scipy.sparse.save_npz(tmp_path / "x.npz", scipy.sparse.csr_array(x[10:]))
    nodes = {
        "matrix": scipy.sparse.csc_array(x[10:]),
        "torch": torch.from_numpy(x[10:]).to_sparse(),
        "file": tmp_path / "x.npz",
        "array": x[10:],
    }[given]
    own = {"edge_attr": attr[30:], "edge_type": kind[30:], "node_type": types[10:]}
    grown = gs.append(tmp_path / "s", new, nodes, **own).original()
    wanted = made(12, np.concatenate([edges, new], axis=1))
    assert grown.num_edges == wanted.num_edges and isinstance(grown.x, type(wanted.x))
    row = lambda graph, i: graph.x[i] if stored == "dense" else graph.x.select_rows(i)  # noqa: E731
    for i in range(12):
        one = torch.tensor([i])
        ours, theirs = row(grown, one), row(wanted, one)
        if stored == "sparse":
            assert dict(zip(ours.indices.tolist(), ours.values.tolist(), strict=True)) == dict(
                zip(theirs.indices.tolist(), theirs.values.tolist(), strict=True)
            )
        else:
            assert torch.equal(ours, theirs)
    both = [
        Counter(
            zip(*g.edge_index.tolist(), map(tuple, g.edge_attr.tolist()), g.edge_type.tolist(),
                strict=True)
        )
        for g in (grown, wanted)
    ]  # fmt: skip
    assert both[0] == both[1] and grown.node_type.tolist() == types.tolist()


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({}, "have edge_type: give those of the new ones, edge_type="),
        ({"edge_type": [0.5]}, "edge_type= holds float64; it must be whole numbers"),
        ({"edge_type": [0, 1]}, r"has shape \[2\]; it must be \[1\]"),
        ({"edge_type": [-1]}, "goes from -1"),
        ({"edge_type": [0], "edge_attr": [1.0]}, "edge_attr=: the edges of graph have none"),
    ],
)
def test_values_that_do_not_go_along_are_refused(tmp_path, own, words):
    graph = gs.Graph.from_arrays(np.array([[0, 1], [1, 2]]), edge_type=[0, 1])
    gs.cluster(graph, gs.partition(graph, 1), path=tmp_path / "s")
    with pytest.raises(InputError, match=words):
        gs.append(tmp_path / "s", np.array([[0], [2]]), **own)
    assert gs.open_graph(tmp_path / "s").graph.num_edges == 2


def test_a_second_run_adds_nothing_unless_it_is_said(tmp_path):
    graph = gs.Graph.from_arrays(np.array([[0, 1], [1, 2]]), edge_weight=[1.0, 2.0])
    gs.cluster(graph, gs.partition(graph, 1), path=tmp_path / "s")
    new = pd.DataFrame({"source": [2, 0], "target": [0, 1], "weight": [1.0, 5.0]})
    grown = gs.append(tmp_path / "s", new)  # 0 to 1 weighs otherwise: another edge
    assert grown.graph.num_edges == 4
    with pytest.raises(InputError, match="all 2 new edges are in graph already"):
        gs.append(tmp_path / "s", new)
    assert gs.open_graph(tmp_path / "s").graph.num_edges == 4
    told = []
    twice = gs.append(tmp_path / "s", new, parallel=True, after=told.append)
    assert twice.graph.num_edges == 6 and told[0].repeated == 2 and told[0].edges == 2


@settings(max_examples=25)
@given(
    st.permutations(range(5)),
    st.sampled_from(["dense", "float64", "sparse"]),
    st.booleans(),
    st.data(),
)
def test_rows_in_any_order_are_of_their_nodes(tmp_path_factory, order, stored, named, data):
    """Of a graph of arrays, and tables of new nodes: numbers stay as they are."""
    folder = tmp_path_factory.mktemp("order")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = np.round(rng.random((13, 3)) * 1e5, 1).astype(np.float32) * (rng.random((13, 3)) < 0.6)
    x[:, 0] = np.arange(13) + 50_000
    if stored == "float64":
        x = x.astype(np.float64) + 2**24 + 1 / 3  # more than float32 holds
    y, when, kind = rng.integers(0, 2, 13), rng.integers(1, 99, 13), rng.integers(0, 3, 13)
    y[:2] = 0, 1
    edges = np.stack([np.arange(8), (np.arange(8) + 1) % 8])
    graph = gs.Graph.from_arrays(
        edges, x=scipy.sparse.csr_array(x[:8]) if stored == "sparse" else x[:8], y=y[:8],
        node_type=kind[:8], node_time=when[:8], task="classification",
    )  # fmt: skip
    gs.cluster(graph, gs.partition(graph, 2, "random"), path=folder / "s")
    new = np.arange(8, 13)
    table = pd.DataFrame({"id": new, "a": x[8:, 0], "b": x[8:, 1], "c": x[8:, 2]})
    table = table.assign(label=y[8:], when=when[8:]).iloc[list(order)]
    told = {"id": "id"} if named else {}
    grown = gs.append(
        folder / "s", np.stack([new, new - 8]), table, time="when", node_type=kind[new[order]],
        **told,
    ).original()  # fmt: skip
    own = grown.x.to_dense() if stored == "sparse" else grown.x
    assert own.tolist() == x.tolist()
    assert grown.y.tolist() == y.tolist() and grown.node_time.tolist() == when.tolist()
    assert grown.node_type.tolist() == kind.tolist()


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["Rome", "Bonn"], "city is text; the features of graph came as an array"),
        ([None, 5.0], "city has empty cells"),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), "city is date"),
    ],
)
def test_columns_that_are_no_numbers_are_no_array(tmp_path, column, words):
    graph = gs.Graph.from_arrays(np.array([[0, 1], [1, 0]]), x=np.eye(2, dtype=np.float32))
    gs.cluster(graph, gs.partition(graph, 1), path=tmp_path / "s")
    new = pd.DataFrame({"id": [2, 3], "age": [50_000, 60_000], "city": column})
    with pytest.raises(InputError, match=words):
        gs.append(tmp_path / "s", np.array([[2], [0]]), new)
    new["city"] = 0.5
    odd = scipy.sparse.csr_array(np.array([[1, np.inf], [0, 0]]))
    for more in (new.assign(age=[1e39, 0]), np.array([[1, np.nan], [0, 0]]), odd):
        with pytest.raises(InputError, match="NaN, infinite or too large for float32"):
            gs.append(tmp_path / "s", np.array([[2], [0]]), more)
    wide = pd.DataFrame({"id": [2, 3], "both": [[50_000, 0.5], [60_000, 0.5]]})
    for more in (new, wide):
        grown = gs.append(tmp_path / "s", np.array([[2], [0]]), more, path=tmp_path / "g")
        assert grown.original().x[2:].tolist() == [[50_000, 0.5], [60_000, 0.5]]
