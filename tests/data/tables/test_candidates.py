"""A forgotten --labels, columns that tell labels again, and numbers of rows among features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError

N = 12
EDGES = pd.DataFrame({"source": range(N), "target": [*range(1, N), 0]})
FEW = {
    "text": lambda c: [["red", "blue", "green"][i] for i in c],
    "bool": lambda c: [i == 0 for i in c],
    "integer": lambda c: [i * 2 for i in c],
    "category": lambda c: pd.Categorical([str(i) for i in c]),
}


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([*FEW]), st.sampled_from(["team", "kind", "cluster"]), st.integers(0, 9))
def test_a_column_that_may_be_labels_is_named_where_none_is(kind, name, seed):
    rng = np.random.default_rng(seed)
    cells = FEW[kind](rng.permutation(N) % 3)
    nodes = pd.DataFrame({"id": range(N), "age": rng.random(N), name: cells})
    graph = gs.from_edge_list(EDGES, nodes, splits="60/20/20")
    assert graph.schema.may_be_labels == (name,)
    model = gs.nn.GCN(graph.num_features, 4, 2, 3)
    with pytest.raises(InputError, match=f"labels='{name}'"):
        gs.ClusterTrainer(model, graph, num_parts=2, epochs=1)
    labelled = gs.from_edge_list(EDGES, nodes, labels=name, splits="60/20/20")
    assert labelled.schema.may_be_labels == ()


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(["class", "category", "y"]), st.booleans(), st.integers(0, 9))
def test_labels_told_again_are_no_feature_in_silence(name, same, seed):
    classes = np.random.default_rng(seed).permutation(N) % 3
    again = classes + 5 if same else np.arange(N) % 4
    nodes = pd.DataFrame({"id": range(N), "label": [*map("abc".__getitem__, classes)], name: again})
    if same:
        with pytest.raises(InputError, match=f"'{name}' .* and tells 'label': say labels="):
            gs.from_edge_list(EDGES, nodes)
        assert gs.from_edge_list(EDGES, nodes, drop=name).x is None
    else:
        assert gs.from_edge_list(EDGES, nodes).feature_names == (name,)


@pytest.mark.parametrize("name", ["index", "row", "no", "level_0", "Index"])
@pytest.mark.parametrize("first", [0, 1])
def test_numbers_of_rows_are_no_feature(name, first):
    ids = [f"p{i}" for i in range(N)]
    edges = pd.DataFrame({"source": ids, "target": ids[::-1]})
    nodes = pd.DataFrame({"who": ids, name: np.arange(first, N + first), "a": [0.5] * N})
    assert gs.from_edge_list(edges, nodes).feature_names == ("a",)
    nodes[name] = nodes[name].to_numpy()[::-1]
    assert gs.from_edge_list(edges, nodes).feature_names == (name, "a")


@pytest.mark.parametrize("header", ["", "Unnamed: 0"])
@pytest.mark.parametrize("index", [[0.0, 1, 2], [4.0, 0, 7], [1.0, 1, 1]])
def test_an_index_of_floats_is_an_index(tmp_path, header, index):
    edges = pd.DataFrame({header: index, "source": [5, 6, 7], "target": [6, 7, 5]})
    nodes = pd.DataFrame({header: index, "id": [7, 5, 6], "a": [0.5, 0.25, 1]})
    edges.to_csv(tmp_path / "e.csv", index=False)
    nodes.to_csv(tmp_path / "n.csv", index=False)
    graph = gs.from_edge_list(tmp_path / "e.csv", tmp_path / "n.csv", undirected=False)
    assert graph.feature_names == ("a",) and graph.edge_weight is None and graph.num_nodes == 3


@pytest.mark.parametrize(
    ("header", "third"),
    [
        (":START_ID,weight:float,:END_ID", "weight"),
        (":START_ID,since:int,:END_ID,:TYPE", "time"),
        (":START_ID(P),role,:END_ID(P)", "left out"),
        (":END_ID,name:string,:START_ID", "left out"),
    ],
)
def test_columns_between_the_ends_as_neo4j_has_them(tmp_path, header, third):
    between = {"weight": ["0.5", "1.5"], "time": ["2001", "2004"]}.get(third, ["boss", "peer"])
    kind = ",KNOWS" if ":TYPE" in header else ""
    rows = [f"1,{between[0]},2{kind}", f"2,{between[1]},3{kind}"]
    (tmp_path / "e.csv").write_text("\n".join([header, *rows]) + "\n")
    graph = gs.from_edge_list(tmp_path / "e.csv", undirected=False)
    ends = [[0, 1], [1, 2]] if header.startswith(":START") else [[1, 0], [2, 1]]
    assert sorted(graph.edge_index.T.tolist()) == ends
    own = header.split(",")[1]
    (line,) = (one for one in graph.schema.columns if one.startswith(f"`{own}`"))
    assert third in line
