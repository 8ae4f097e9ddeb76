"""Edges that hold the reverse of every edge are seen, whatever their order, and not doubled."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs

EDGES = st.lists(st.tuples(*[st.integers(0, 5)] * 2, st.integers(1, 2)), max_size=12)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(EDGES, st.booleans(), st.booleans(), st.booleans(), st.data())
def test_no_edge_is_added_where_all_reverses_are_there(
    tmp_path, edges, weighted, both, coalesce, data
):
    given_ = edges + [(j, i, w) for i, j, w in edges if i != j] * both
    given_ = data.draw(st.permutations(given_))
    counts = Counter((i, j, w * weighted) for i, j, w in given_)
    there = all(counts[i, j, w] == counts[j, i, w] for i, j, w in counts)
    assert there or not both
    columns = np.array(given_, np.int64).reshape(-1, 3).T
    chunk = (*columns[:2], columns[2].astype(np.float32)) if weighted else tuple(columns[:2])
    with pytest.MonkeyPatch.context() as patch:  # several runs and ranges of a few edges each
        patch.setattr("gnnscale.graph.build.edge_sort._SPREAD_PIECE", 4)
        patch.setattr("gnnscale.graph.build.edge_sort._SORTED_PIECE", 4)
        graphs = [
            gs.build_graph(tmp_path / "g", 6, [chunk], undirected=undirected, coalesce=coalesce)
            for undirected in ("unless given", not there)
        ]
    read, wanted = (
        (g.edge_index.tolist(), None if g.edge_weight is None else g.edge_weight.tolist())
        for g in graphs
    )
    assert read == wanted
