"""Times go with their edges through the external sort."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.graph import Graph, build_graph
from gnnscale.graph.store.graph_folder import store_graph


@st.composite
def timed_edges(draw, weighted: bool):
    """Edges, weights and times; of both ways, none, some or all are there."""
    nodes, count = draw(st.integers(1, 20)), draw(st.integers(0, 120))
    numbers = np.random.default_rng(draw(st.integers(0, 2**20)))
    edges = numbers.integers(0, nodes, (2, count))
    values = [numbers.integers(1, 4, count).astype(float)]
    values += [numbers.integers(0, 5, count).astype(float)]
    if draw(st.booleans(), label="a time is unknown") and count:
        values[1][0] = np.nan
    if draw(st.booleans(), label="both ways"):
        back = edges[0] != edges[1]
        edges = np.concatenate([edges, edges[::-1, back]], 1)
        values = [np.concatenate([v, v[back]]) for v in values]
        if draw(st.booleans(), label="at other times") and back.any():
            values[1][-1] += 10
    order = numbers.permutation(edges.shape[1])
    weight, time = (v[order] for v in values)
    return nodes, edges[:, order], weight if weighted else None, time


def rows_of(graph: Graph) -> np.ndarray:
    columns = [*graph.edge_index.numpy(), graph.edge_time.numpy()]
    if graph.edge_weight is not None:
        columns.append(graph.edge_weight.numpy())
    table = np.stack([column.astype(float) for column in columns], 1)
    return table[np.lexsort(table.T)]


@settings(max_examples=30)
@given(st.data(), st.booleans(), st.booleans(), st.sampled_from([True, False, "unless given"]))
def test_times_follow_their_edges(tmp_path_factory, data, weighted, coalesce, undirected):
    nodes, edges, weight, time = data.draw(timed_edges(weighted))
    size = data.draw(st.integers(1, 50))
    chunks = [
        (*edges[:, a : a + size], *(None if v is None else v[a : a + size] for v in (weight, time)))
        for a in range(0, max(1, edges.shape[1]), size)
    ]
    path = tmp_path_factory.mktemp("timed") / "graph"
    wanted = {"undirected": undirected, "coalesce": coalesce, "node_time": np.arange(nodes)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        if weighted and coalesce:
            with pytest.raises(InputError, match="leave coalesce, weights or times out"):
                build_graph(path, nodes, chunks, **wanted)
            return
        built = build_graph(path, nodes, chunks, memory=data.draw(st.integers(1, 4000)), **wanted)
    given_ = {"edge_weight": weight, "edge_time": time, "num_nodes": nodes}
    plain = Graph.from_arrays(edges, **given_)
    back = {"edge_index": plain.edge_index.flip(0), "edge_time": plain.edge_time}
    if weighted:
        back["edge_weight"] = plain.edge_weight
    both_given = np.array_equal(
        rows_of(Graph.from_arrays(**back, num_nodes=nodes)), rows_of(plain), equal_nan=True
    )
    added = not both_given if undirected == "unless given" else undirected
    expected = rows_of(Graph.from_arrays(edges, **given_, undirected=bool(added)))
    if coalesce:  # what is known first counts, and NaN is last
        expected = expected[np.lexsort((expected[:, 2], expected[:, 0], expected[:, 1]))]
        ends = expected[:, :2]
        expected = expected[np.r_[True, (ends[1:] != ends[:-1]).any(1)][: len(expected)]]
        expected = expected[np.lexsort(expected.T)]
    assert np.array_equal(rows_of(built), expected, equal_nan=True)
    assert built.node_time.tolist() == list(range(nodes))
    assert bool((built.adj.indices.diff()[built.adj.row_index.diff() == 0] >= 0).all())
    again = store_graph(built, path.parent / "again")
    assert np.array_equal(rows_of(again), expected, equal_nan=True)


def test_chunks_have_times_or_none(tmp_path):
    edges = (np.array([0]), np.array([1]))
    for chunks, message in (
        ([(*edges, None, np.array([1.0])), edges], "some chunks of edges have times"),
        ([(*edges, None, np.array([1.0, 2.0]))], r"times are float64 \(2,\)"),
        ([(*edges, None, np.array(["a"]))], "they are numbers or dates"),
    ):
        with pytest.raises(InputError, match=message):
            build_graph(tmp_path / "never", 2, chunks)
