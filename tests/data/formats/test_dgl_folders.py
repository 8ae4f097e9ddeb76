"""Folders of DGL's CSVDataset and OnDiskDataset, as its user guide describes them (4.6 and 6.5).

The guide's examples of both are in the tests; `benchmarks/formats.py` compares with DGL itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.formats.dgl import on_disk
from tests.helpers.same_graph import assert_edges, assert_nodes, assert_split

ONE = {"node_data": [{"file_name": "nodes.csv"}], "edge_data": [{"file_name": "edges.csv"}]}


def write(folder: Path, meta: dict, **tables: pd.DataFrame | str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = "metadata.yaml" if "graph" in meta else "meta.yaml"
    (folder / name).write_text(yaml.safe_dump({"dataset_name": "mine", **meta}))
    for file, table in tables.items():
        text = table if isinstance(table, str) else table.to_csv(index=False)
        (folder / f"{file}.csv").write_text(text)
    return folder


def quoted(rows: np.ndarray) -> list[str]:
    return [", ".join(map(str, row)) for row in rows.tolist()]


@given(
    seed=st.integers(0, 99),
    sep=st.sampled_from([",", ";", "\t", "|"]),
    names=st.sampled_from(["plain", "gaps", "text"]),
    index=st.booleans(),
)
def test_nodes_are_found_by_their_ids_in_any_order(tmp_path_factory, seed, sep, names, index):
    rng = np.random.default_rng(seed)
    n, e = int(rng.integers(1, 9)), int(rng.integers(0, 20))
    ids = np.arange(n) if names == "plain" else np.sort(rng.choice(1000, n, replace=False)) + n
    called = [f"n{i:04d}" for i in ids] if names == "text" else ids.tolist()
    edges, x = rng.integers(0, n, (2, e)), rng.integers(-9, 9, (n, 2)) / 8
    order = rng.permutation(n)
    nodes = pd.DataFrame({
        "label": np.arange(n)[order] % 3,
        "feat": quoted(x[order]),
        "node_id": [called[i] for i in order],
        "train_mask": order % 2 == 0,
        "val_mask": (order % 2 == 1).astype(int),
    })  # fmt: skip
    ends = pd.DataFrame({
        "src_id": [called[i] for i in edges[0]],
        "dst_id": [called[i] for i in edges[1]],
        "weight": np.arange(e) / 4,
        "feat": quoted(edges.T),
    })  # fmt: skip
    folder = write(
        tmp_path_factory.mktemp("csv"),
        {**ONE, "separator": sep},
        nodes=nodes.to_csv(sep=sep, index=index),
        edges=ends.to_csv(sep=sep, index=index),
    )
    graph = gs.load(folder)
    assert_nodes(graph, x, np.arange(n) % 3)
    assert_split(graph, train=np.arange(n) % 2 == 0, val=np.arange(n) % 2 == 1)
    carried = {"edge_attr": edges.T} if e else {"edge_attr": np.empty((0, 1))}
    assert_edges(graph, edges, edge_weight=np.arange(e) / 4, **carried)
    if names == "plain":
        assert graph.names is None
    else:
        assert graph.names[:].tolist() == called


def test_several_graphs_with_labels_of_their_own(tmp_path):
    """As in the guide, with ids of nodes that begin anew in each graph; graphs in another order."""
    nodes = pd.DataFrame({
        "graph_id": [7, 3, 3, 7, 7],
        "node_id": [2, 1, 0, 0, 1],
        "feat": ["2, 7", "1, 3", "0, 3", "0, 7", "1, 7"],
    })  # fmt: skip
    edges = pd.DataFrame({
        "graph_id": [3, 7, 3, 7],
        "src_id": [0, 2, 1, 0],
        "dst_id": [1, 0, 1, 1],
    })  # fmt: skip
    graphs = pd.DataFrame({"graph_id": [7, 3, 9], "label": [1, 0, 2]})
    meta = {**ONE, "graph_data": {"file_name": "graphs.csv"}}
    graph = gs.load(write(tmp_path / "g", meta, nodes=nodes, edges=edges, graphs=graphs))
    assert graph.node_ptr.tolist() == [0, 3, 5, 5]
    assert_nodes(graph, [[0, 7], [1, 7], [2, 7], [0, 3], [1, 3]], [1, 0, 2])
    assert_edges(graph, [[2, 0, 3, 4], [0, 1, 4, 4]])


def test_types_are_refused_by_name_or_made_one_node_space(tmp_path):
    meta = {
        "node_data": [
            {"file_name": "users.csv", "ntype": "user"},
            {"file_name": "items.csv", "ntype": "item"},
        ],
        "edge_data": [
            {"file_name": "buys.csv", "etype": ["user", "buys", "item"]},
            {"file_name": "likes.csv", "etype": ["user", "likes", "user"]},
        ],
    }
    folder = write(
        tmp_path / "typed",
        meta,
        users=pd.DataFrame({"node_id": [0, 1], "label": [1, 0], "feat": ["1, 2", "3, 4"]}),
        items=pd.DataFrame({"node_id": [0], "feat": ["5, 6"]}),
        buys=pd.DataFrame({"src_id": [0, 1], "dst_id": [0, 0]}),
        likes=pd.DataFrame({"src_id": [0], "dst_id": [1]}),
    )
    with pytest.raises(gs.InputError, match=r"item, user.*homogeneous=True"):
        gs.load(folder)
    graph = gs.load(folder, homogeneous=True)
    assert_nodes(graph, [[5, 6], [1, 2], [3, 4]], [-1, 1, 0])
    assert_edges(graph, [[1, 2, 1], [0, 0, 2]], edge_type=[0, 0, 1])
    assert graph.node_type.tolist() == [0, 1, 1]


def test_labels_of_text_are_classes_with_names(tmp_path):
    nodes = pd.DataFrame({"node_id": [1, 0, 2], "label": ["red", "blue", None], "feat": [1, 2, 3]})
    nodes["title"] = ["A b", "C", "D, e"]  # left out, and said so
    edges = pd.DataFrame({"src_id": [0], "dst_id": [1]})
    graph = gs.load(write(tmp_path / "g", ONE, nodes=nodes, edges=edges))
    assert_nodes(graph, [[2], [1], [3]], [0, 1, -1])
    assert graph.schema.classes == ("blue", "red")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"src_id": [0, 9]}, "src_id.*first: 9"),
        ({"node_id": [1, 1]}, "node 1 is there twice"),
        ({"age": [3, 4]}, "`size`, `age`: which are features.*features='size,age'"),
        ({"graph_id": [0, 5]}, "graph_id"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, words):
    nodes = {"node_id": [0, 1], "size": [1, 2]}
    edges = {"src_id": [0, 1], "dst_id": [1, 0]}
    for name, column in change.items():
        for table in (nodes, edges):
            if name in table:
                table[name] = column
    nodes |= {k: v for k, v in change.items() if k == "age"}
    edges |= {k: v for k, v in change.items() if k == "graph_id"}
    folder = write(tmp_path / "g", ONE, nodes=pd.DataFrame(nodes), edges=pd.DataFrame(edges))
    with pytest.raises(gs.InputError, match=words):
        gs.load(folder, features="size" if "graph_id" in change or "src_id" in change else None)


# --- OnDiskDataset ----------------------------------------------------------------------------

RNG = np.random.default_rng(1)
EDGES, X = RNG.integers(0, 10, (2, 25)), RNG.standard_normal((10, 3)).astype(np.float32)
Y = RNG.integers(0, 4, 10)
SETS = {"train": [4, 0, 7], "validation": [1], "test": [9, 2]}


def on_disk_folder(folder: Path, edges: str, tensors: str, **task: object) -> Path:
    """The homogeneous example of the guide."""
    folder.mkdir()

    def save(name: str, array: object) -> dict:
        kind = "numpy" if tensors == "csv" and name == "feat" else tensors
        file = f"{name}.{dict(numpy='npy', torch='pt', csv='csv')[kind]}"
        if kind == "numpy":
            np.save(folder / file, array)
        elif kind == "csv":
            pd.DataFrame(array).to_csv(folder / file, index=False, header=False)
        else:
            torch.save(torch.as_tensor(np.asarray(array)), folder / file)
        return {"format": kind, "in_memory": True, "path": file}

    if edges == "csv":
        pd.DataFrame(EDGES.T).to_csv(folder / "edges.csv", index=False, header=False)
    else:
        np.save(folder / "edges.npy", EDGES)
    path = "edges.csv" if edges == "csv" else "edges.npy"
    sets = {
        f"{part}_set": [{
            "data": [
                {"name": "seeds", **save(f"{part}_seeds", ids)},
                {"name": "labels", **save(f"{part}_labels", Y[ids])},
            ]
        }]
        for part, ids in SETS.items()
    }  # fmt: skip
    feature = {"domain": "node", "name": "feat", **save("feat", X)}
    meta = {
        "graph": {"nodes": [{"num": 10}], "edges": [{"format": edges, "path": path}]},
        "feature_data": [feature],
        "tasks": [{"name": "node_classification", "num_classes": 5, **sets, **task}],
    }
    return write(folder, meta)


def assert_on_disk(graph: gs.Graph) -> None:
    known = np.isin(np.arange(10), [i for ids in SETS.values() for i in ids])
    assert_edges(graph, EDGES)
    assert_nodes(graph, X, np.where(known, Y, -1))
    assert graph.num_classes == 5
    masks = {
        part[:3].replace("tra", "train").replace("tes", "test"): ids for part, ids in SETS.items()
    }
    assert_split(graph, **{part: np.isin(np.arange(10), ids) for part, ids in masks.items()})


@pytest.mark.parametrize("edges", ["csv", "numpy"])
@pytest.mark.parametrize("tensors", ["numpy", "torch", "csv"])
@pytest.mark.parametrize("large", [False, True])
def test_an_on_disk_dataset_is_read(tmp_path, edges, tensors, large, monkeypatch):
    if large:
        monkeypatch.setattr(on_disk, "LARGE", 0)
    assert_on_disk(gs.load(on_disk_folder(tmp_path / "raw", edges, tensors)))


def test_links_and_several_tasks_are_named(tmp_path):
    folder = on_disk_folder(tmp_path / "raw", "numpy", "numpy")
    meta = yaml.safe_load((folder / "metadata.yaml").read_text())
    pairs = {"name": "link_prediction", "train_set": [{"data": [{"name": "node_pairs"}]}]}
    meta["tasks"].append(pairs)
    assert_on_disk(gs.load(write(folder, meta)))  # that of nodes is the only one of its kind
    meta["tasks"].append({**meta["tasks"][0], "name": "other"})
    with pytest.raises(gs.InputError, match="of_task='node_classification'"):
        gs.load(write(folder, meta))
    assert_on_disk(gs.load(folder, of_task="other"))


def test_what_dgl_has_preprocessed_is_refused(tmp_path):
    (tmp_path / "preprocessed").mkdir()
    (tmp_path / "preprocessed/metadata.yaml").write_text("graph_topology: {type: x, path: y}\n")
    with pytest.raises(gs.InputError, match="folder above"):
        gs.load(tmp_path / "preprocessed")
