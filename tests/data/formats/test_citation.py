"""Text layouts of small benchmarks, each against PyG's reader or written by hand from its page."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.datasets import Actor, Planetoid, TUDataset, WebKB

from gnnscale.data import load
from gnnscale.data.pyg.catalogue import find_pyg
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from tests.helpers.pyg_layout import write_planetoid, write_tu


def dense(x):
    return x if isinstance(x, torch.Tensor) else x.to_dense(torch.float32)


def same(graph, data):
    made = Graph.from_data(data)
    assert graph.structure_fingerprint() == made.structure_fingerprint()
    assert torch.equal(dense(graph.x), made.x)
    assert torch.equal(graph.y, made.y)


@pytest.mark.parametrize("place", ["", "raw", "raw/ind.cora.graph", "raw/ind.cora.test.index"])
def test_planetoid_against_pyg(tmp_path, place):
    write_planetoid(tmp_path / "Cora" / "raw")
    graph = load(tmp_path / "Cora" / place)
    data = Planetoid(tmp_path, "Cora")[0]
    same(graph, data)
    for part in ("train", "val", "test"):
        assert torch.equal(graph.split()[part], data[f"{part}_mask"])


def test_planetoid_with_code_in_it_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    write_planetoid(tmp_path / "cora")
    (tmp_path / "cora" / "ind.cora.graph").write_bytes(pickle.dumps({0: Evil()}))
    with pytest.raises(StoreError, match=r"exec.*runs no code out of files"):
        load(tmp_path / "cora")


# linqs.org's README of Cora: a line of .content is <paper_id> <word_attributes>+ <class_label>,
# one of .cites is <ID of cited paper> <ID of citing paper>, separated by a tab.
CONTENT = "35\t0\t1\tTheory\n1033\t1\t0\tRL\n103482\t0\t0\tTheory\n"
CITES = "35\t1033\n35\t103482\n1033\t35\n7\t35\n"


def test_linqs(tmp_path, caplog):
    (tmp_path / "cora").mkdir()
    (tmp_path / "cora" / "cora.cites").write_text(CITES)
    alone = load(tmp_path / "cora")
    assert (alone.num_nodes, alone.num_features) == (4, 0)
    (tmp_path / "cora" / "cora.content").write_text(CONTENT)
    graph = load(tmp_path / "cora")
    assert "1 edges are left out, of 1 nodes" in caplog.text
    assert graph.names[:].tolist() == [35, 1033, 103482]
    assert graph.schema.classes == ("RL", "Theory")
    assert graph.y.tolist() == [1, 0, 1] and graph.x.tolist() == [[0, 1], [1, 0], [0, 0]]
    assert sorted(zip(*graph.edge_index.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    cited = load(tmp_path / "cora" / "cora.content", undirected=False)
    assert sorted(zip(*cited.edge_index.tolist(), strict=True)) == [(0, 1), (1, 0), (2, 0)]
    assert load(cited.source).fingerprint() == cited.fingerprint()
    (tmp_path / "cora" / "cora.content").write_text(CONTENT.replace("\t0\tRL", "\tRL"))
    with pytest.raises(InputError, match="line 2 has 3 cells, expected 4"):
        load(tmp_path / "cora")


def write_geom_gcn(raw, name, rows):
    """As bingzhewei/geom-gcn has them in new_data/NAME, and PyG in raw/."""
    raw.mkdir(parents=True)
    lines = [f"{i}\t{row}\t{i % 3}" for i, row in rows]
    table = "node_id\tfeature\tlabel\n" + "".join(f"{line}\n" for line in lines)
    (raw / "out1_node_feature_label.txt").write_text(table)
    pairs = np.random.default_rng(0).integers(0, len(rows), (20, 2))
    listed = "".join(f"{a}\t{b}\n" for a, b in [*pairs, pairs[0]])
    (raw / "out1_graph_edges.txt").write_text("node_id\tnode_id\n" + listed)
    for k in range(10):
        part = np.random.default_rng(k).integers(0, 3, len(rows))
        masks = {f"{p}_mask": part == i for i, p in enumerate(("train", "val", "test"))}
        np.savez(raw / f"{name}_split_0.6_0.2_{k}.npz", **masks)


@pytest.mark.parametrize("name", ["texas", "film"])
def test_geom_gcn_against_pyg(tmp_path, name):
    rng = np.random.default_rng(1)
    if name == "texas":
        rows = [(i, ",".join(map(str, rng.integers(0, 2, 5)))) for i in rng.permutation(8)]
        write_geom_gcn(tmp_path / "texas" / "raw", name, rows)
        data = WebKB(tmp_path, "texas")[0]
        order = torch.tensor([i for i, _ in rows])  # PyG reads rows in their order, whatever the id
        data.x[order], data.y[order] = data.x.clone(), data.y.clone()
    else:
        rows = [(i, ",".join(map(str, rng.permutation(9)[: 1 + i % 4]))) for i in range(8)]
        write_geom_gcn(tmp_path / "texas" / "raw", name, rows)
        data = Actor(tmp_path / "texas")[0]
    graph = load(tmp_path / "texas" / "raw")
    same(graph, data)
    for k in range(10):
        assert torch.equal(graph.splits[f"fold{k}"].test, data.test_mask[:, k])
    named = load("webkb/texas", root=tmp_path) if name == "texas" else None
    assert named is None or named.structure_fingerprint() == graph.structure_fingerprint()


def test_a_list_of_geom_gcn_alone(tmp_path):
    (tmp_path / "e.txt").write_text("node_id\tnode_id\n5\t6\n5\t2\n")
    graph = load(tmp_path / "e.txt")
    assert sorted(zip(*graph.edge_index.tolist(), strict=True)) == [(5, 2), (5, 6)]


@pytest.mark.parametrize("labels", [False, True])
def test_tu_against_pyg(tmp_path, labels):
    raw = tmp_path / "MINE" / "raw"
    written = write_tu(raw, "MINE", 20, labels)
    nodes, edges = int(written["node_ptr"][-1]), written["edges"].shape[1]
    rng = np.random.default_rng(0)
    if labels:
        attributes = "".join(f"{a:.3f}, {b:.3f}\n" for a, b in rng.random((nodes, 2)))
        (raw / "MINE_node_attributes.txt").write_text(attributes)
        (raw / "MINE_edge_labels.txt").write_text("".join(f"{i % 3}\n" for i in range(edges)))
        weights = "".join(f"{a:.3f}\n" for a in rng.random(edges))
        (raw / "MINE_edge_attributes.txt").write_text(weights)
    graph = load(raw)
    assert graph.num_graphs == 20 and graph.y_level == "graph" and len(graph.splits) == 10
    own = TUDataset(tmp_path, "MINE", use_node_attr=True, use_edge_attr=True)
    data = Batch.from_data_list(list(own))
    made = Graph.from_data(data)
    assert graph.structure_fingerprint() == made.structure_fingerprint()
    assert torch.equal(graph.y, made.y)
    if labels:
        assert torch.equal(dense(graph.x), made.x) and graph.num_features == 5
        assert torch.equal(graph.edge_attr, made.edge_attr) and graph.edge_attr.size(1) == 4
    assert load(raw / "MINE_A.txt").fingerprint() == graph.fingerprint()


@pytest.mark.parametrize(
    ("name", "class_name", "member"),
    [
        ("webkb/texas", "WebKB", "texas"),
        ("WebKB/Texas", "WebKB", "texas"),
        ("heterophilous/minesweeper", "HeterophilousGraphDataset", "minesweeper"),
        ("heterophilous/roman-empire", "HeterophilousGraphDataset", "roman_empire"),
        ("HeterophilousGraphDataset/Tolokers", "HeterophilousGraphDataset", "tolokers"),
        ("actor", "Actor", None),
    ],
)
def test_names(name, class_name, member):
    entry = find_pyg(name)
    assert (entry.class_name, entry.member) == (class_name, member)
    with pytest.raises(StoreError, match="download=True"):
        load(name)
