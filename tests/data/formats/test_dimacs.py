"""Graphs of the DIMACS challenges, by their documented layout: edges, arcs, or refused by name."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError

quick = settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(
                st.tuples(st.integers(1, n), st.integers(1, n), st.integers(1, 99)), max_size=9
            ),
        )
    ),
    st.sampled_from(["edge", "col", "sp", "max"]),
    st.sampled_from(["g.col", "g.gr", "g.txt", "g.gr.gz", "g"]),
)
def test_edges_and_arcs(tmp_path, drawn, problem, name):
    nodes, rows = drawn
    arcs = problem in ("sp", "max")
    lines = ["c made by hand", "c", f"p {problem} {nodes} {len(rows)}"]
    lines += ["n 1 s"] if problem == "max" else []
    lines += [f"a {a} {b} {w}" if arcs else f"e {a} {b}" for a, b, w in rows] + ["c the end", ""]
    content = "\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    graph = gs.load(tmp_path / name, undirected=False)
    assert graph.num_nodes == nodes
    assert graph.names is None or graph.names[:].tolist() == list(range(1, nodes + 1))
    found = [(a + 1, b + 1) for a, b in graph.edge_index.T.tolist()]
    assert sorted(found) == sorted((a, b) for a, b, _ in rows)
    if arcs and rows:
        weighted = zip(found, graph.edge_weight.tolist(), strict=True)
        assert sorted(weighted) == sorted(((a, b), float(w)) for a, b, w in rows)
    with pytest.raises(InputError, match=r"as DIMACS gives it, and no table: gnnscale.load\("):
        gs.from_edge_list(tmp_path / name)


def test_edges_have_no_direction_and_arcs_have(tmp_path):
    (tmp_path / "a.col").write_text("p edge 3 2\ne 1 2\ne 2 3\n")
    (tmp_path / "b.col").write_text("p edge 3 4\ne 1 2\ne 2 1\ne 2 3\ne 3 2\n")
    (tmp_path / "c.gr").write_text("p sp 3 2\na 1 2 5\na 2 3 5\n")
    counts = [gs.load(tmp_path / name).num_edges for name in ("a.col", "b.col", "c.gr")]
    assert counts == [4, 4, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p cnf 3 2\n1 -2 0\n", "'p cnf 3 2' is a problem of none of edge"),
        ("p edge 3 1\ne 1 4\n", "4 is none of its nodes, 1 to 3"),
        ("p edge 3 1\ne 1\n", "'e 1' is no line of an edge, as 'e 1 2'"),
        ("p edge 3 1\n1 2\n", "'1 2' is no line of an edge"),
        ("p sp 3 1\na 1 2 x\n", "holds what is no number"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    (tmp_path / "g.gr").write_text(text)
    with pytest.raises(InputError, match=message):
        gs.load(tmp_path / "g.gr")
