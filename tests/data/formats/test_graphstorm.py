"""Tables and the JSON that names them, as GraphStorm's user guide shows them (its ACM example)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gnnscale as gs
from tests.helpers.same_graph import assert_edges, assert_nodes, assert_split

RNG = np.random.default_rng(0)
IDS = [f"p{i:02d}" for i in range(12)]
X = RNG.random((12, 3)).astype(np.float32)
ENDS = RNG.integers(0, 12, (2, 30))


def write(folder: Path, kind: str = "parquet", **labels: object) -> Path:
    folder.mkdir()
    order = RNG.permutation(12)
    nodes = pd.DataFrame({"node_id": [IDS[i] for i in order], "year": 2000 + order})
    nodes["topic"] = [f"t{i % 3}" for i in order]
    if kind == "parquet":
        nodes["feat"] = [*X[order]]
    edges = pd.DataFrame(
        {"source_id": [IDS[i] for i in ENDS[0]], "dest_id": [IDS[i] for i in ENDS[1]]}
    )
    for name, table, parts in (("paper", nodes, 1), ("cites", edges, 2)):
        for i, rows in enumerate(np.array_split(np.arange(len(table)), parts)):
            path = folder / f"{name}_{i}.{kind}"
            piece = table.iloc[rows]
            piece.to_parquet(path) if kind == "parquet" else piece.to_csv(path, index=False)
    features = [{"feature_col": "feat"}] if kind == "parquet" else []
    features += [{"feature_col": ["year"], "transform": {"name": "no-op"}}]
    form = {"name": kind} | ({"separator": ","} if kind == "csv" else {})
    about = {
        "version": "gconstruct-v0.1",
        "nodes": [{
            "node_type": "paper", "format": form,
            "files": [f"/tmp/somewhere/{folder.name}/paper_0.{kind}"],
            "node_id_col": "node_id", "features": features,
            "labels": [{"label_col": "topic", "task_type": "classification", **labels}],
        }],
        "edges": [{
            "relation": ["paper", "cites", "paper"], "format": form,
            "files": [f"cites_{i}.{kind}" for i in range(2)],
            "source_id_col": "source_id", "dest_id_col": "dest_id",
        }],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("given", ["", "config.json"])
def test_tables_are_read(tmp_path, kind, given):
    graph = gs.load(write(tmp_path / "acm", kind, split_pct=[0.5, 0.25, 0.25]) / given)
    year = np.arange(12)[:, None] + 2000
    x = np.concatenate([X, year], axis=1) if kind == "parquet" else year
    assert_nodes(graph, x, np.arange(12) % 3)
    assert_edges(graph, ENDS)
    assert graph.names[:].tolist() == IDS
    assert graph.schema.classes == ("t0", "t1", "t2")
    assert [int(graph.split()[part].sum()) for part in ("train", "val", "test")] == [6, 3, 3]


def test_a_split_in_files_is_taken(tmp_path):
    folder = write(
        tmp_path / "acm",
        custom_split_filenames={
            "train": "tr.csv",
            "valid": "va.csv",
            "test": "te.csv",
            "column": "ID",
        },
    )
    parts = {"tr": IDS[:7:2], "va": IDS[7:9], "te": IDS[9:]}
    for name, ids in parts.items():
        pd.DataFrame({"ID": ids}).to_csv(folder / f"{name}.csv", index=False)
    masks = [np.isin(IDS, ids) for ids in parts.values()]
    assert_split(gs.load(folder), train=masks[0], val=masks[1], test=masks[2])


def test_types_and_what_is_missing_are_named(tmp_path):
    folder = write(tmp_path / "acm")
    about = json.loads((folder / "config.json").read_text())
    about["edges"][0]["relation"][2] = "author"
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(gs.InputError, match="author"):
        gs.load(folder)
    pd.DataFrame({"id": IDS}).to_csv(folder / "authors.csv", index=False)
    form = {"format": {"name": "csv"}, "files": "authors.csv"}
    about["nodes"].append({"node_type": "author", "node_id_col": "id", **form})
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(gs.InputError, match="homogeneous=True"):
        gs.load(folder)
    graph = gs.load(folder, homogeneous=True, features="none")
    assert_edges(graph, ENDS + np.array([[12], [0]]))
    assert graph.node_type.tolist() == [0] * 12 + [1] * 12
    (folder / "authors.csv").unlink()
    with pytest.raises(gs.StoreError, match=r"authors\.csv"):
        gs.load(folder)
