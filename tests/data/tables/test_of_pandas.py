"""A graph written by pandas, in any way that pandas writes: the same graph is read, or it is asked.

What is compared is named: edges by the ids of their ends, features and labels by the id of a node.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph import Graph

IDS = {
    "numbers": lambda n: list(range(n)),
    "from one": lambda n: list(range(1, n + 1)),
    "with gaps": lambda n: [7 * i * i + 3 for i in range(n)],
    "negative": lambda n: [i - 2 for i in range(n)],
    "times": lambda n: [1_300_000_000 + i for i in range(n)],
    "large": lambda n: [2**53 + 1 + i for i in range(n)],
    "text": lambda n: ["zoë", "Bob", "#1", "a b", "it's", "NA2", "x,y", "é"][:n],
    "padded": lambda n: [f"{i:03}" for i in range(n)],
    "digits as text": lambda n: [str(10 * i + 1) for i in range(n)],
}
ENDS = [
    ("source", "target"),
    ("user_1", "user_2"),
    ("FromNodeId", "ToNodeId"),
    ("hero1", "hero2"),
    ("citing", "cited"),
    ("person", "other"),
    ("node_a", "node_b"),
]


def write(frame: pd.DataFrame, path: Path, data: st.DataObject) -> Any:
    """The frame, or a file of it in one of pandas' dialects."""
    index = data.draw(st.sampled_from(["none", "default", "shuffled", "filtered"]), label="index")
    if index == "shuffled":
        frame = frame.set_axis(np.random.default_rng(3).permutation(len(frame)))
    elif index == "filtered":
        frame = frame.set_axis(np.arange(len(frame)) * 3 + 5)
    kept = index != "none"
    kind = data.draw(
        st.sampled_from(["csv", "parquet", "feather", "memory", "arrow"]), label="kind"
    )
    if kind == "memory":
        return frame
    if kind == "arrow":
        return pyarrow.Table.from_pandas(frame, preserve_index=kept or None)
    path = path.with_suffix(f".{kind}")
    if kind == "parquet":
        frame.to_parquet(path, index=kept or None)
    elif kind == "feather":
        frame.reset_index(drop=True).to_feather(path)
    else:
        sep = data.draw(st.sampled_from([",", ";", "\t", "|"]), label="sep")
        frame.to_csv(path, index=kept, sep=sep, lineterminator=data.draw(st.sampled_from("\n\r")))
    return path


def called(graph: Graph) -> list[str]:
    """What every node is called, as text."""
    return [*map(str, range(graph.num_nodes) if graph.names is None else graph.names[:].tolist())]


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_graph_of_pandas_is_the_same_or_asked_for(tmp_path: Path, data: st.DataObject) -> None:
    n = data.draw(st.integers(3, 8))
    ids = IDS[data.draw(st.sampled_from([*IDS]), label="ids")](n)
    seed = data.draw(st.integers(0, 9), label="seed")
    rng = np.random.default_rng(seed)
    # Every node has an edge, so that a table without ids may be in their order.
    ends = np.array([*zip(range(n), np.roll(range(n), 1), strict=True)] + [(0, 2)] * (seed % 2))
    ends = ends[rng.permutation(len(ends))]
    names = data.draw(st.sampled_from(ENDS), label="names")
    weight = data.draw(st.sampled_from([None, "weight", "score", "time"]), label="third")
    frame = pd.DataFrame({name: [ids[i] for i in ends[:, k]] for k, name in enumerate(names)})
    if weight == "time":
        frame["time"] = 1_289_241_911 + rng.integers(0, 10**6, len(frame))
    elif weight is not None:
        frame[weight] = rng.integers(1, 9, len(frame)) / 2
    order = rng.permutation(n)
    nodes = pd.DataFrame(
        {
            data.draw(st.sampled_from(["id", "paper", "Name", "user_id"])): [ids[i] for i in order],
            "age": [float(7 * i) + 0.5 if i else np.nan for i in order],
            "team": [["red", "blue", None][i % 3] for i in order],
        }
    )
    nodes = nodes[data.draw(st.permutations(nodes.columns.tolist()), label="columns")]
    with_nodes = data.draw(st.booleans(), label="nodes")
    given_ = [write(frame, tmp_path / "e", data)]
    options: dict[str, Any] = {"undirected": False}
    if with_nodes:
        given_.append(write(nodes, tmp_path / "n", data))
        options["labels"] = "team"
    try:
        graph = gs.from_edge_list(*given_, **options)
    except InputError as error:
        assert "=" in str(error), "what is asked has the words that answer it"
        assert weight == "score" or names == ("person", "other"), str(error)
        return
    there = called(graph)
    weights = [None] * len(ends) if graph.edge_weight is None else graph.edge_weight.tolist()
    read = Counter(
        (there[i], there[j], w)
        for (i, j), w in zip(graph.edge_index.T.tolist(), weights, strict=True)
    )
    wanted = [None] * len(ends) if weight != "weight" else frame["weight"].tolist()
    assert read == Counter(
        (str(ids[i]), str(ids[j]), w) for (i, j), w in zip(ends.tolist(), wanted, strict=True)
    )
    if not with_nodes:
        return
    age = graph.x[:, graph.feature_names.index("age")].tolist()
    ages = {str(ids[i]): 7 * i + 0.5 for i in range(1, n)}
    assert {name: a for name, a in zip(there, age, strict=True) if name in ages} == ages
    teams = [None if c < 0 else graph.class_names[c] for c in graph.y.tolist()]
    assert dict(zip(there, teams, strict=True)) == {
        str(own): ["red", "blue", None][i % 3] for i, own in enumerate(ids)
    }


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_list_without_header_is_the_same_or_asked_for(
    tmp_path: Path, data: st.DataObject
) -> None:
    n = data.draw(st.integers(3, 8))
    ids = IDS[data.draw(st.sampled_from([*IDS]), label="ids")](n)
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    ends = np.array([*zip(range(n), np.roll(range(n), 1), strict=True)])[rng.permutation(n)]
    frame = pd.DataFrame([[ids[i], ids[j]] for i, j in ends])
    more = {
        "fractions": rng.integers(1, 9, n) / 2 + 0.25,
        "whole": rng.integers(1, 9, n),
        "times": 1_289_241_911 + rng.integers(0, 10**6, n),
        "one": np.ones(n, np.int64),
    }
    chosen = data.draw(st.lists(st.sampled_from([*more]), max_size=2, unique=True), label="more")
    for place, name in enumerate(chosen, 2):
        frame[place] = more[name]
    suffix, sep = data.draw(st.sampled_from([(".csv", ","), (".txt", "\t"), (".tsv", "\t")]))
    path = tmp_path / f"e{suffix}"
    frame.to_csv(path, header=False, index=False, sep=sep)
    try:
        graph = gs.from_edge_list(path, undirected=False)
    except InputError as error:
        assert "=" in str(error)
        return
    assert "whole" not in chosen, "whole numbers may be weights or something else"
    there = called(graph)
    weights = [None] * n if graph.edge_weight is None else graph.edge_weight.tolist()
    wanted = more["fractions"].tolist() if "fractions" in chosen else [None] * n
    read = zip(graph.edge_index.T.tolist(), weights, strict=True)
    assert Counter((there[i], there[j], w) for (i, j), w in read) == Counter(
        (str(ids[i]), str(ids[j]), w) for (i, j), w in zip(ends.tolist(), wanted, strict=True)
    )
