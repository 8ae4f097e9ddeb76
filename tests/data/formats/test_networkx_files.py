"""Files of networkx: what it writes is the graph that it reads, names and attributes kept."""

from __future__ import annotations

import gzip
import json

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.data import load
from gnnscale.errors import InputError

NAMES = ["ann", "bob lee", "çid", "d&d", "7", "x<y", 'q"q']


@st.composite
def made(draw, blanks=True):
    """A graph with names and attributes of several kinds, with parallel edges perhaps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds = (nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph)
    graph = draw(st.sampled_from(kinds))()
    names = NAMES if blanks else [name.replace(" ", "_") for name in NAMES]
    if draw(st.booleans()):
        names = list(range(7))
    for i in rng.permutation(7):
        graph.add_node(names[i], age=float(rng.random()), size=int(i), label=["p", "q"][i % 2])
    for u, v in rng.integers(0, 7, (10, 2)):
        graph.add_edge(names[u], names[v], weight=float(rng.random()), years=int(u))
    return graph


def told(graph):
    """Edges by names, in both directions where they have none, with weight and years."""
    listed = [(str(u), str(v), d["weight"], d["years"]) for u, v, d in graph.edges(data=True)]
    if not graph.is_directed():
        listed += [(v, u, *rest) for u, v, *rest in listed if u != v]
    return sorted(listed)


def ours(graph):
    names = [str(name) for name in (graph.names[:] if graph.names else range(graph.num_nodes))]
    rows = zip(
        *graph.edge_index.tolist(),
        graph.edge_weight.tolist(),
        graph.edge_attr[:, 0].tolist(),
        strict=True,
    )
    return names, sorted((names[u], names[v], w, y) for u, v, w, y in rows)


WRITERS = {
    "graphml": nx.write_graphml,
    "json": lambda graph, path: path.write_text(
        json.dumps(nx.node_link_data(graph, edges="links"))
    ),
    "gml": nx.write_gml,
    "gexf": lambda graph, path: nx.write_gexf(_without_labels(graph), path),
}


def _without_labels(graph):
    """GEXF has labels of its own."""
    graph = graph.copy()
    for _, data in graph.nodes(data=True):
        data["team"] = data.pop("label")
    return graph


@given(graph=made(), suffix=st.sampled_from(list(WRITERS)), packed=st.booleans())
def test_names_attributes_and_edges(tmp_path_factory, graph, suffix, packed):
    if suffix == "gml":  # whose label is what a node is called
        nx.set_node_attributes(graph, nx.get_node_attributes(graph, "label"), "team")
        for _, data in graph.nodes(data=True):
            del data["label"]
    file = tmp_path_factory.mktemp("nx") / f"a.{suffix}"
    WRITERS[suffix](graph, file)
    if packed:
        content = gzip.compress(file.read_bytes())
        file = file.with_name(f"{file.name}.gz")
        file.write_bytes(content)
    labels = {} if suffix in ("graphml", "json") else {"labels": "team"}
    read = load(file, **labels)
    names, edges = ours(read)
    assert names == [str(node) for node in graph.nodes]
    expected = told(graph)
    assert [row[:2] for row in edges] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2:] for row in edges], [row[2:] for row in expected], rtol=1e-6)
    data = [d for _, d in graph.nodes(data=True)]
    assert read.schema.features == ("age", "size")
    np.testing.assert_allclose(read.x, [[d["age"], d["size"]] for d in data], rtol=1e-6)
    said = [d.get("label", d.get("team")) for d in data]
    assert [read.schema.classes[c] for c in read.y] == said
    assert load(read.source).fingerprint() == read.fingerprint()


@given(graph=made(blanks=False), directed=st.booleans())
def test_lists(tmp_path_factory, graph, directed):
    folder = tmp_path_factory.mktemp("lists")
    plain = nx.DiGraph(graph) if directed else nx.Graph(graph)
    nx.write_edgelist(plain, folder / "a.edgelist")
    nx.write_edgelist(plain, folder / "b.txt", data=False)
    nx.write_adjlist(nx.Graph(graph), folder / "a.adjlist")
    read = load(folder / "a.edgelist", undirected=not directed)
    _, edges = ours(read)
    np.testing.assert_array_equal([e[:2] for e in edges], [e[:2] for e in told(plain)])
    read = load(folder / "a.adjlist")
    names = read.names[:] if read.names else range(read.num_nodes)
    again = nx.read_adjlist(folder / "a.adjlist")
    assert [str(name) for name in names] == list(again.nodes)
    assert read.num_edges == sum(1 if u == v else 2 for u, v in again.edges)


def test_edges_in_braces_as_they_are_found(tmp_path):
    file = tmp_path / "e.txt"
    file.write_text("1 2 {}\n1 3 {}\n1 4 {}\n")
    graph = load(file)
    assert (graph.num_nodes, graph.num_edges) == (4, 6)
    assert graph.names[:].tolist() == [1, 2, 3, 4]
    file.write_text("1 2 {'weight': 2}\n2 1 {'weight': 2}\n")
    assert load(file).num_edges == 2  # both directions are there
    file.write_text("1 2 {__import__('os')}\n")
    with pytest.raises(InputError, match="is not read as edgelist"):
        load(file)


def test_files_of_others(tmp_path):
    """GML of M. Newman's page (polblogs has parallel edges without a word), GEXF 1.3 of Gephi."""
    node = '  node\n  [\n    id {}\n    label "{}"\n    value {}\n  ]\n'
    edge = "  edge\n  [\n    source {}\n    target {}\n  ]\n"
    text = 'Creator "Mark Newman"\ngraph\n[\n  directed 1\n'
    text += "".join(node.format(i, name, i % 2) for i, name in enumerate(("a.com", "b.org", "c")))
    text += edge.format(0, 1) * 2 + edge.format(2, 1) + "]\n"
    (tmp_path / "polblogs.gml").write_text(text)
    graph = load(tmp_path / "polblogs.gml", labels="value")
    assert graph.names[:].tolist() == ["a.com", "b.org", "c"]
    assert graph.edge_index.tolist() == [[0, 0, 2], [1, 1, 1]] and graph.y.tolist() == [0, 1, 0]
    twice = text.replace("b.org", "a.com")
    (tmp_path / "twice.gml").write_text(twice)
    assert load(tmp_path / "twice.gml", drop="value,label").num_nodes == 3
    (tmp_path / "g.gexf").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<gexf xmlns="http://gexf.net/1.3" version="1.3"><graph defaultedgetype="undirected">'
        '<nodes><node id="0" label="Valjean"/><node id="1" label="Javert"/></nodes>'
        '<edges><edge id="0" source="0" target="1" weight="2.5"/></edges></graph></gexf>'
    )
    graph = load(tmp_path / "g.gexf")
    assert graph.names[:].tolist() == ["Valjean", "Javert"]
    assert graph.edge_weight.tolist() == [2.5, 2.5]


def test_json_of_others(tmp_path):
    """D3's miserables.json names nodes; older files give their places."""
    nodes = [{"id": "Valjean", "group": 1}, {"id": "Javert", "group": 2}]
    links = [{"source": "Valjean", "target": "Javert", "value": 3}] * 2
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"nodes": nodes, "links": links}))
    graph = load(file, weight="value", labels="group")
    assert graph.names[:].tolist() == ["Valjean", "Javert"]
    assert graph.edge_weight.tolist() == [3.0] * 4
    places = [{"source": 0, "target": 1, "value": 3}] * 2
    file.write_text(json.dumps({"nodes": nodes, "links": places}))
    assert load(file, weight="value", labels="group").fingerprint() == graph.fingerprint()
    file.write_text(json.dumps({"nodes": nodes, "links": [{"source": "x", "target": "Javert"}]}))
    with pytest.raises(InputError, match="a link names 'x', which is the id of no node"):
        load(file)


def test_what_an_attribute_is_may_be_asked_and_said(tmp_path):
    graph = nx.path_graph(4)
    nx.set_node_attributes(graph, {0: "p", 1: "q", 3: "p"}, "class")
    nx.set_node_attributes(graph, dict.fromkeys(graph, 1.5), "a")
    nx.set_node_attributes(graph, {i: f"node {i}" for i in graph}, "title")
    file = tmp_path / "a.graphml"
    nx.write_graphml(graph, file)
    with pytest.raises(
        InputError, match=r"say labels='class', drop='class', or for a feature recipe="
    ):
        load(file)
    read = load(f"{file}?labels=class")
    assert read.y.tolist() == [0, 1, -1, 0] and read.schema.features == ("a",)
    assert "`title`: text that differs at every node, left out" in read.schema.columns
    assert torch.equal(load(file, drop="class").x, read.x)
    one_hot = load(file, recipe={"class": "one-hot"})
    assert one_hot.schema.features == ("class=p", "class=q", "a")
    assert load(one_hot.source).fingerprint() == one_hot.fingerprint()
    with pytest.raises(InputError, match="has no column clas; there are"):
        load(file, labels="clas")
    nx.set_node_attributes(graph, {0: "train", 1: "train", 2: "val", 3: "test"}, "split")
    nx.write_graphml(graph, file)
    assert load(file, drop="class").train_mask.tolist() == [True, True, False, False]
    nx.set_node_attributes(graph, {i: i != 2 for i in graph}, "train_mask")
    nx.write_graphml(graph, file)
    assert load(file, drop="class,split").train_mask.tolist() == [True, True, False, True]
    graph.edges[0, 1]["weight"] = 2
    nx.write_graphml(graph, file)
    with pytest.raises(InputError, match="1 of 3 edges have a number as 'weight'"):
        load(file, labels="class")
    file.write_text(file.read_text()[:-30])
    with pytest.raises(InputError, match="is not read as graphml by networkx"):
        load(file)


@given(
    st.lists(st.integers(-3, 12), min_size=1, max_size=8, unique=True),
    st.sampled_from(["integers", "floats", "text", "words"]),
    st.booleans(),
    st.data(),
)
def test_ids_of_nodes_are_never_places(tmp_path_factory, ids, kind, directed, data):
    """Of integers in any order, with gaps, and of links to what is no node."""
    write = {"floats": float, "text": str, "words": "n{}".format}.get(kind, int)
    made = nx.DiGraph() if directed else nx.Graph()
    made.add_nodes_from((write(i), {"a": i / 4}) for i in ids)
    ends = st.sampled_from(ids)
    made.add_edges_from(
        (write(i), write(j)) for i, j in data.draw(st.lists(st.tuples(ends, ends), max_size=9))
    )
    content = nx.node_link_data(made, edges="links")
    file = tmp_path_factory.mktemp("nx") / "a.json"
    file.write_text(json.dumps(content))
    graph = load(file)
    names = range(graph.num_nodes) if graph.names is None else graph.names[:].tolist()
    called = [str(name) for name in names]
    there = {
        str(int(n)) if kind == "floats" else str(n): data["a"] for n, data in made.nodes.items()
    }
    assert dict(zip(called, graph.x[:, 0].tolist(), strict=True)) == there
    both = made if directed else made.to_directed()
    wanted = [[str(int(n)) if kind == "floats" else str(n) for n in edge] for edge in both.edges]
    read = [[called[i], called[j]] for i, j in graph.edge_index.T.tolist()]
    assert sorted(read) == sorted(wanted)
    absent = next(i for i in range(len(ids) + 1) if i not in ids)
    content["links"].append({"source": write(ids[0]), "target": absent})
    file.write_text(json.dumps(content))
    if kind != "words":
        with pytest.raises(InputError, match=f"a link names {absent}, which is the id of no node"):
            load(file)
    content["links"].pop()
    content["nodes"].append({"id": str(write(ids[0]))})
    file.write_text(json.dumps(content))
    if kind != "floats":
        with pytest.raises(InputError, match="two nodes have the id"):
            load(file)
