from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.data import load
from gnnscale.errors import InputError
from tests.data.formats.test_networkx_files import made


def edges(graph):
    names = [str(n) for n in (graph.names[:] if graph.names else range(graph.num_nodes))]
    weight = graph.edge_weight
    weight = [1.0] * graph.num_edges if weight is None else weight.tolist()
    rows = zip(*graph.edge_index.tolist(), weight, strict=True)
    return sorted((names[u], names[v], w) for u, v, w in rows)


@given(made(), st.booleans())
def test_what_networkx_writes(tmp_path_factory, graph, weighted):
    bare = type(graph)()
    bare.add_nodes_from(str(name).replace('"', "") for name in graph)
    for u, v, data in graph.edges(data=True):
        pair = (str(name).replace('"', "") for name in (u, v))
        bare.add_edge(*pair, **({"weight": data["weight"]} if weighted else {}))
    file = tmp_path_factory.mktemp("pajek") / "a.net"
    nx.write_pajek(bare, file)
    again = nx.read_pajek(file)
    expected = [(u, v, d.get("weight", 1.0)) for u, v, d in again.edges(data=True)]
    if not again.is_directed():
        expected += [(v, u, w) for u, v, w in expected if u != v]
    found, expected = edges(load(file)), sorted(expected)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    np.testing.assert_allclose([r[2] for r in found], [r[2] for r in expected], rtol=1e-6)


def test_by_hand(tmp_path):
    """By "Pajek, reference manual": vertices, arcs and edges apart, lists, a matrix, relations."""
    file = tmp_path / "a.net"
    head = '% a comment\n*Network mine\n*Vertices 3\n1 "a b" 0.1 0.2 0.5\n2 c\n3\n'
    file.write_text(head + '*Arcs :1 "likes"\n1 2 0.5\n*Edges\n2 3 2\n')
    graph = load(file)
    assert edges(graph) == [("3", "c", 2.0), ("a b", "c", 0.5), ("c", "3", 2.0)]
    file.write_text("*vertices 3\n*edgeslist\n1 2 3\n")
    assert [row[:2] for row in edges(load(file))] == [
        *(("1", "2"), ("1", "3"), ("2", "1"), ("3", "1"))
    ]
    file.write_text("*vertices 2\n*matrix\n0 2\n1 0\n")
    assert edges(load(file)) == [("1", "2", 2.0), ("2", "1", 1.0)]
    file.write_text('*vertices 2\n1 "x"\n2 "x"\n*arcs\n1 2\n')
    assert edges(load(file)) == [("1", "2", 1.0)]
    file.write_text("*vertices 2\n*arcs\n1 3\n")
    with pytest.raises(InputError, match="vertex 3 is none of 1 to 2"):
        load(file)
    file.write_text("*vertices 2\n*arcs\n1 b\n")
    with pytest.raises(InputError, match=r"'1 b' is no line of \*arcs"):
        load(file)
