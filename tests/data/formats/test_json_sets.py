"""GraphSAINT, GraphSAGE and lines of JSON, written as their documentation says."""

from __future__ import annotations

import json
from pathlib import Path

import networkx
import numpy as np
import pytest
import scipy.sparse
from torch_geometric import datasets

import gnnscale as gs
from tests.helpers.same_graph import assert_edges, assert_nodes, assert_split

RNG = np.random.default_rng(0)
N = 14
ROLE = {"tr": list(range(6)), "va": [6, 7, 8], "te": list(range(9, 13))}  # the last is in none


def saint(folder: Path, labels: dict) -> np.ndarray:
    """As the README of GraphSAINT describes it."""
    folder.mkdir(parents=True)
    dense = RNG.random((N, N)) < 0.2
    dense = np.triu(dense, 1) | np.triu(dense, 1).T
    adj = scipy.sparse.csr_matrix(dense.astype(np.float32))
    seen = np.isin(np.arange(N), ROLE["tr"])
    scipy.sparse.save_npz(folder / "adj_full.npz", adj)
    scipy.sparse.save_npz(folder / "adj_train.npz", adj.multiply(np.outer(seen, seen)).tocsr())
    np.save(folder / "feats.npy", RNG.random((N, 3)))
    (folder / "class_map.json").write_text(json.dumps(labels))
    (folder / "role.json").write_text(json.dumps(ROLE))
    return np.stack(np.nonzero(dense))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("part", ["", "raw"])
def test_graphsaint_is_read_as_pyg_reads_it(tmp_path, several, part, capsys):
    labels = {str(i): [i % 2, int(i > 5), 1] if several else i % 3 for i in range(N)}
    edges = saint(tmp_path / "mine/raw", labels)
    graph = gs.load(tmp_path / "mine" / part)
    read = (datasets.Yelp if several else datasets.Flickr)(str(tmp_path / "mine"))[0]
    capsys.readouterr()
    assert np.array_equal(np.sort(read.edge_index.numpy()), np.sort(edges))
    assert_edges(graph, read.edge_index)
    assert_nodes(graph, read.x, read.y)
    assert_split(graph, train=read.train_mask, val=read.val_mask, test=read.test_mask)
    assert graph.task == ("multilabel" if several else "classification")


def sage(folder: Path, ids: list, *, places: bool = False, several: bool = False) -> networkx.Graph:
    """As the README of GraphSAGE describes it; links as networkx 1 and 2 write them."""
    folder.mkdir()
    graph = networkx.relabel_nodes(networkx.gnm_random_graph(len(ids), 25, 0), dict(enumerate(ids)))
    order = RNG.permutation(len(ids))
    for i, own in zip(order, graph.nodes.values(), strict=True):
        own.update(val=bool(i % 4 == 0), test=bool(i % 4 == 1))
    content = networkx.node_link_data(graph, edges="links")
    if places:
        place = {each["id"]: i for i, each in enumerate(content["nodes"])}
        for link in content["links"]:
            link.update(source=place[link["source"]], target=place[link["target"]])
    names = [str(i) for i in graph]
    id_map = dict(zip(names, RNG.permutation(len(ids)).tolist(), strict=True))
    labels = {n: [i % 2, 1] if several else i % 3 for i, n in enumerate(names)}
    for name, value in (("G", content), ("id_map", id_map), ("class_map", labels)):
        (folder / f"toy-{name}.json").write_text(json.dumps(value))
    np.save(folder / "toy-feats.npy", RNG.random((len(ids), 2)))
    return graph


@pytest.mark.parametrize("places", [False, True])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("given", ["", "toy-G.json"])
def test_graphsage_is_read(tmp_path, places, several, given):
    made = sage(tmp_path / "toy", [f"t3_{i}" for i in range(11)], places=places, several=several)
    graph = gs.load(tmp_path / "toy" / given)
    number = json.loads((tmp_path / "toy/toy-id_map.json").read_text())
    labels = json.loads((tmp_path / "toy/toy-class_map.json").read_text())
    names = sorted(number, key=number.get)
    ends = np.array([[number[u], number[v]] for u, v in made.edges]).T
    assert_edges(graph, np.concatenate([ends, ends[::-1]], axis=1))
    assert_nodes(graph, np.load(tmp_path / "toy/toy-feats.npy"), [labels[name] for name in names])
    assert_split(
        graph,
        val=[made.nodes[name]["val"] for name in names],
        test=[made.nodes[name]["test"] for name in names],
    )
    assert graph.names[:].tolist() == names


def test_links_that_may_be_two_things_are_asked(tmp_path):
    made = sage(tmp_path / "toy", [3, 1, 0, 2])
    with pytest.raises(gs.InputError, match=r"links='ids'.*links='places'"):
        gs.load(tmp_path / "toy")
    number = json.loads((tmp_path / "toy/toy-id_map.json").read_text())
    for links, called in (("ids", [0, 1, 2, 3]), ("places", [*made])):
        graph = gs.load(tmp_path / "toy", links=links)
        ends = [[number[str(called[i])] for i in edge] for edge in made.edges]
        ends = np.array(ends).T
        assert_edges(graph, np.concatenate([ends, ends[::-1]], axis=1))


LINES = [
    {
        "edge_index": RNG.integers(0, n, (2, 2 * i)).tolist(),
        "num_nodes": n,
        "node_feat": RNG.integers(0, 5, (n, 2)).tolist(),
        "edge_attr": RNG.integers(0, 5, (2 * i, 3)).tolist(),
        "y": [i % 2],
    }
    for i, n in enumerate([4, 1, 3, 5])
]


def whole(lines: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first = np.cumsum([0, *(line["num_nodes"] for line in lines)])
    edges = [
        np.reshape(line["edge_index"], (2, -1)) + start
        for line, start in zip(lines, first, strict=False)
    ]
    attr = np.concatenate([np.reshape(line["edge_attr"], (-1, 3)) for line in lines])
    return first, np.concatenate(edges, axis=1), attr


def test_lines_of_json_are_graphs(tmp_path):
    path = tmp_path / "mutag.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    graph = gs.load(path)
    first, edges, attr = whole(LINES)
    assert graph.node_ptr.tolist() == first.tolist()
    assert_edges(graph, edges, edge_attr=attr)
    assert_nodes(graph, np.concatenate([line["node_feat"] for line in LINES]), [0, 1, 0, 1])


def test_a_folder_of_parts_is_one_set(tmp_path):
    for part, lines in (("train", LINES[:2]), ("validation", LINES[2:3]), ("test", LINES[3:])):
        (tmp_path / f"{part}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    graph = gs.load(tmp_path)
    sizes = graph.node_ptr.diff().tolist()
    assert graph.num_graphs == 4
    _, edges, attr = whole([LINES[i] for i in (3, 0, 1, 2)])  # files in the order of their names
    assert_edges(graph, edges, edge_attr=attr)
    assert_split(
        graph,
        test=np.repeat([1, 0, 0, 0], sizes),
        train=np.repeat([0, 1, 1, 0], sizes),
        val=np.repeat([0, 0, 0, 1], sizes),
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"edge_index": [[0], [9]], "num_nodes": 3}, "line 1.*there are 3"),
        ({"edge_index": [[0, 1], [1]], "num_nodes": 3}, "edge_index is no array"),
        ({"edge_index": [[0], [1]], "num_nodes": 3, "node_feat": [[1]]}, "1 rows for 3"),
        ({"edge_index": [[0], [1]], "num_nodes": 3, "y": ["a"]}, "y holds"),
    ],
)
def test_a_line_that_is_no_graph_is_named(tmp_path, line, words):
    (tmp_path / "g.jsonl").write_text(json.dumps(line))
    with pytest.raises(gs.InputError, match=words):
        gs.load(tmp_path / "g.jsonl")
