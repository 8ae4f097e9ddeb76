"""Predictions as tables: keyed by what nodes are called, whatever the order they are stored in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph import NodeNames, Schema
from gnnscale.storage.arrow import pyarrow
from gnnscale.train.predictions import write_table

TASKS = st.sampled_from(["classification", "multilabel", "regression", "embedding", None])


@settings(max_examples=40)
@given(TASKS, st.integers(0, 9), st.integers(1, 3), st.booleans(), st.booleans(), st.booleans())
def test_cells_are_the_outputs(tmp_path_factory, task, count, channels, texts, called, as_csv):
    path = tmp_path_factory.mktemp("table") / ("t.csv" if as_csv else "t.parquet")
    rng = np.random.default_rng(count)
    rows = torch.from_numpy(rng.normal(size=(count, channels)).astype(np.float32))
    ids = torch.from_numpy(rng.permutation(12)[:count])
    known = [f"é{i}" for i in range(12)]
    names = NodeNames.from_arrow(pyarrow.array(known)) if texts else None
    labels = ["id", "b,c", "d"][:channels] if called else None
    write_table(path, rows, ids, names, task, labels)
    table = pd.read_csv(path) if as_csv else pd.read_parquet(path)
    assert len(table) == count
    assert table["id"].tolist() == [known[i] if texts else i for i in ids.tolist()]
    values = table.iloc[:, 1:]
    if task == "classification":
        if count:
            best = rows.argmax(1).tolist()
            assert table["prediction"].tolist() == [labels[i] if labels else i for i in best]
        values, rows = table.iloc[:, 2:], torch.softmax(rows, 1)
    elif task == "multilabel":
        rows = torch.sigmoid(rows)
    np.testing.assert_allclose(values.to_numpy(np.float32), rows.numpy(), rtol=1e-5)
    for column, label in zip(values, labels or (), strict=False):
        assert label in column or task in ("embedding", None)


@pytest.fixture
def trained():
    rng = np.random.default_rng(0)
    graph = gs.Graph.from_arrays(
        rng.integers(0, 30, (2, 90)),
        x=rng.random((30, 4), np.float32),
        y=rng.integers(0, 2, 30),
        train_mask=np.arange(30) < 15,
        num_classes=2,
    )
    graph.names = NodeNames.from_arrow(pyarrow.array([f"n{i}" for i in range(30)]))
    graph.schema = Schema(classes=("cat", "dog"))
    model = gs.nn.GCN(4, 8, 2, 2)

    def make(clustered):
        data = gs.cluster(graph, gs.partition(graph, 3, "random")) if clustered else graph
        trainer = gs.ClusterTrainer(model, data, num_parts=None if clustered else 3, epochs=1)
        trainer.fit()
        return trainer

    return make


@pytest.mark.parametrize("clustered", [False, True])
def test_of_a_trainer(trained, clustered, tmp_path):
    trainer = trained(clustered)
    whole = trainer.predict()
    rows = trainer.predict(out=tmp_path / "all.parquet")
    torch.testing.assert_close(rows, whole)
    table = pd.read_parquet(tmp_path / "all.parquet")
    assert table["id"].tolist() == [f"n{i}" for i in range(30)]
    assert table["prediction"].tolist() == [["cat", "dog"][i] for i in whole.argmax(1)]
    some = trainer.predict(nodes=["n7", "n2", "n7"], out=tmp_path / "some.csv")
    torch.testing.assert_close(some, whole[[7, 2, 7]])
    assert pd.read_csv(tmp_path / "some.csv")["id"].tolist() == ["n7", "n2", "n7"]
    mask = np.arange(30) % 7 == 0
    trainer.embed(nodes=mask, out=tmp_path / "e.parquet")
    embedded = pd.read_parquet(tmp_path / "e.parquet")
    assert embedded.shape == (5, 9) and embedded["id"].tolist() == ["n0", "n7", "n14", "n21", "n28"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.parquet", "e.parquet", "some.csv"]
    with pytest.raises(InputError, match="'nobody'"):
        trainer.predict(nodes=["nobody"])
    trainer.graph.names = None
    with pytest.raises(InputError, match="called by their numbers"):
        trainer.predict(nodes=["n7"])


@pytest.mark.parametrize("clustered", [False, True])
def test_figures_of_classes_are_scikit_learns(trained, clustered):
    metrics = pytest.importorskip("sklearn.metrics")
    trainer = trained(clustered)
    found = trainer.evaluate_classes("train")
    assert list(found) == ["cat", "dog"]
    best = trainer.predict().argmax(1)[:15].numpy()
    y = trainer.graph.y if trainer.position is None else trainer.graph.y[trainer.position]
    wanted = metrics.precision_recall_fscore_support(
        y[:15].numpy(), best, labels=[0, 1], zero_division=np.nan
    )
    for name, i in (("cat", 0), ("dog", 1)):
        row = [figures[i] for figures in wanted]
        np.testing.assert_allclose(list(found[name].values()), row)
    assert trainer.report.run["classes"] == ["cat", "dog"]
    with pytest.raises(InputError, match="no test"):
        trainer.evaluate_classes()
