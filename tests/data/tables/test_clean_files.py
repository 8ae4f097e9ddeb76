"""Clean files, however small or regular, are read without a question."""

from __future__ import annotations

import pandas as pd
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import gnnscale as gs

quick = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = ["Ann", "Bob", "Cid", "Dora", "Ed", "Flo", "Gus", "Hal", "Ida"]
GROWING = [1, 1, 2, 4, 8, 16, 32, 64, 128, 256]

few = st.integers(3, 9)
begin = st.sampled_from([0, 1, 100])
heads = st.sampled_from([("source", "target"), ("from", "to"), ("src", "dst"), ("u", "v"),
                         ("node_1", "node_2"), ("FromNodeId", "ToNodeId")])  # fmt: skip
seps = st.sampled_from(
    [(",", ".csv"), ("\t", ".tsv"), (";", ".csv"), (" ", ".txt"), ("\t", ".txt")]
)


@st.composite
def shapes(draw) -> list[tuple[int, int]]:
    """Edges between nodes 0 to n − 1, in some order that people list them in."""
    n = draw(few)
    trees = st.tuples(*[st.integers(0, i) for i in range(n - 1)]).map(
        lambda parents: [(p, i + 1) for i, p in enumerate(parents)]
    )
    pairs = draw(
        st.sampled_from([
            [(i, i + 1) for i in range(n - 1)],
            [(0, i) for i in range(1, n)],
            [(i, (i + 1) % n) for i in range(n)],
            [(i, j) for i in range(n) for j in range(i)],
        ])
        | trees
        | st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), min_size=3, max_size=12)
    )  # fmt: skip
    pairs = [(b, a) for a, b in pairs] if draw(st.booleans()) else pairs
    order = draw(st.sampled_from(["as is", "sorted", "backwards"]))
    return {"as is": pairs, "sorted": sorted(pairs), "backwards": pairs[::-1]}[order]


def edges_of(graph: gs.Graph) -> list[tuple[str, str]]:
    names = range(graph.num_nodes) if graph.names is None else graph.names[:].tolist()
    return sorted((str(names[s]), str(names[t])) for s, t in graph.edge_index.T.tolist())


@quick
@given(shapes(), heads, seps, begin, st.data())
def test_lists_of_edges_with_names(tmp_path, pairs, head, form, least, data):
    sep, suffix = form
    last = data.draw(st.sampled_from(["Max", "Min", "All", "Count", "Jo"]))
    called = [*NAMES[: max(map(max, pairs))], last] if data.draw(st.booleans()) else None
    frame = pd.DataFrame(
        [[called[i] if called else i + least for i in pair] for pair in pairs], columns=[*head]
    )
    size = len(pairs)
    weights = data.draw(
        st.sampled_from([None, [0] * size, [*range(size)], [2**i for i in range(size)]])
        | st.lists(st.integers(0, 3), min_size=size, max_size=size)
        | st.lists(st.sampled_from([0.5, 1.5, 2.0, 4.0]), min_size=size, max_size=size)
    )
    if weights is not None:
        frame["weight"] = weights
    path = tmp_path / f"e{suffix}"
    frame.to_csv(path, sep=sep, index=False)
    for given_ in (path, frame):
        graph = gs.from_edge_list(given_, undirected=False)
        assert edges_of(graph) == sorted((str(a), str(b)) for a, b in frame[[*head]].to_numpy())
        if weights is not None:
            assert sorted(graph.edge_weight.tolist()) == sorted(weights)


@quick
@given(shapes(), seps, begin)
def test_lists_of_edges_without_names(tmp_path, pairs, form, least):
    sep, suffix = form
    rows = [(a + least, b + least) for a, b in pairs]
    (a, b), *others = rows
    assume((a, b) != (0, 1) or {0, 1} & {one for row in others for one in row})
    assume(b != len(others) or a < max(map(max, others)))  # numbers of nodes and edges
    assume(len(rows) > 2)  # or a matrix of two nodes
    path = tmp_path / f"e{suffix}"
    path.write_text("".join(f"{a}{sep}{b}\n" for a, b in rows))
    graph = gs.from_edge_list(path, undirected=False)
    assert edges_of(graph) == sorted((str(a), str(b)) for a, b in rows)


NO_NAMES = ["Ida", "Cid", "Madrid", "David", "Idaho", "Astrid", "Max", "Covid", "idle"]


@quick
@given(shapes(), seps, st.booleans(), st.sampled_from(["", "date", "weight"]))
def test_rows_of_names_and_of_dates_are_no_header(tmp_path, pairs, form, text, third):
    sep, suffix = form
    called = NO_NAMES if text else [*range(1, 10)]
    rows = [(str(called[a]), str(called[b])) for a, b in pairs]
    behind = {"": [""], "date": ["2020-01-05", "2020-02-17"], "weight": ["0.5", "1.5"]}[third]
    assume(text or third == "date")
    # Of names that are nowhere again, and are above nothing but names, nobody knows.
    assume(third or {*rows[0]} & {one for row in rows[1:] for one in row})
    path = tmp_path / f"e{suffix}"
    path.write_text(
        "".join(
            sep.join([*row, behind[i % 2 % len(behind)]]).rstrip(sep) + "\n"
            for i, row in enumerate(rows)
        )
    )
    graph = gs.from_edge_list(path, undirected=False)
    assert edges_of(graph) == sorted(rows)
    assert (graph.edge_time is not None) == (third == "date")


@quick
@given(few, begin, st.booleans(), seps, st.data())
def test_tables_of_nodes(tmp_path, n, least, text, form, data):
    sep, suffix = form
    last = data.draw(st.sampled_from(["Max", "Min", "All", "Count", "Jo"]))
    ids = [*NAMES[: n - 1], last] if text else [*range(least, least + n)]
    columns = st.sampled_from([GROWING[:n], [0] * n, [*range(n)], [0, 1] * 5]) | st.lists(
        st.integers(0, 3) | st.sampled_from([0.5, 2.0]), min_size=n, max_size=n
    )
    features = [column[:n] for column in data.draw(st.lists(columns, min_size=1, max_size=3))]
    labels = data.draw(st.sampled_from([[0, 1, 0, 1, 0, 2, 1, 0, 3][:n], ["a", "b", "c"] * 3]))[:n]
    assume(not text or n < 6 or not all(c[-1] == sum(c[:-1]) > 0 for c in features) or
           not all(c[-1] > 2 * max(c[:-1]) for c in features))  # fmt: skip
    nodes = pd.DataFrame({"id": ids, **{f"a{i}": c for i, c in enumerate(features)}})
    nodes["label"] = labels
    edges = pd.DataFrame({"source": ids, "target": ids[1:] + ids[:1]})
    files = tmp_path / f"e{suffix}", tmp_path / f"n{suffix}"
    for frame, file in zip((edges, nodes), files, strict=True):
        frame.to_csv(file, sep=sep, index=False)
    for tables in (files, (edges, nodes)):
        graph = gs.from_edge_list(*tables, undirected=False, recipe="as is")
        assert graph.num_nodes == n == graph.num_edges
        assert graph.num_features == len(features)
        assert len(graph.class_names or set(graph.y.tolist())) == len(set(labels))
