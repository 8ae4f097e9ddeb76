"""Labels are read alike by every door: decided where values allow one reading, asked where more."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from torch_geometric.data import Data

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.reading.labels import known_labels, labelled, read_labels
from gnnscale.inference import make_metric
from gnnscale.train import NodeTask
from tests.graph.reading.test_reading import DOORS, NODES, ONE_RING

NAN = float("nan")
CLASSES = st.lists(st.integers(-1, 3), min_size=NODES, max_size=NODES).map(
    lambda y: np.array([0, *y[1:]])  # some class, and -1 is not "no"
)
MARKS = st.lists(
    st.lists(st.sampled_from([-1, 0, 1]), min_size=3, max_size=3), min_size=NODES, max_size=NODES
).map(lambda y: np.array([[0, 0, 0], [1, 1, 0], *y[2:]]))  # no one-hot rows
QUANTITIES = st.lists(
    st.floats(-9, 9, width=32).filter(lambda v: v != round(v)), min_size=NODES, max_size=NODES
).map(np.array)


def floats(y):
    """With NaN for what is unknown."""
    return np.where(y < 0, NAN, y)


def as_classes(y, data):
    """The same classes in a form of them, and what has to be said of it."""
    kind = data.draw(st.sampled_from(["int8", "int16", "int32", "int64", "column", "float", "hot"]))
    if kind == "column":
        return y[:, None], {}
    if kind == "float":
        has_nan = bool((y < 0).any())
        return floats(y)[:, None], {} if has_nan else {"task": "classification"}
    if kind == "hot":
        return np.eye(4, dtype=np.int8)[y] * (y >= 0)[:, None], {"task": "classification"}
    return y.astype(kind), {}


@pytest.mark.parametrize("door", DOORS)
@ONE_RING
@given(CLASSES, st.data())
def test_classes_are_the_same_in_every_form_and_door(tmp_path, door, y, data):
    form, said = as_classes(y, data)
    graph = DOORS[door](tmp_path, y=form, **said)
    assert graph.task == "classification" and graph.y.dtype == torch.int64
    assert graph.y.tolist() == y.tolist()
    assert graph.num_classes == (form.shape[1] if form.shape[1:] == (4,) else y.max() + 1)
    again = DOORS[door](tmp_path, y=graph.y.numpy(), num_classes=graph.num_classes, task=graph.task)
    assert torch.equal(again.y, graph.y)


@pytest.mark.parametrize("door", DOORS)
@ONE_RING
@given(MARKS, st.sampled_from(["int8", "int64", "float32", "nan", "bool"]))
def test_several_labels_are_the_same_in_every_form_and_door(tmp_path, door, y, kind):
    if kind == "bool":
        y = y.clip(min=0)
    graph = DOORS[door](tmp_path, y=floats(y) if kind == "nan" else y.astype(kind))
    assert graph.task == "multilabel" and graph.num_classes == 3
    known = known_labels(graph.y, "multilabel")
    assert known.tolist() == (y >= 0).tolist()
    assert torch.where(known, graph.y, -1).tolist() == y.tolist()
    assert labelled(graph.y, "multilabel").tolist() == (y >= 0).any(1).tolist()
    assert graph.y.dtype == torch.from_numpy(y.astype("float64" if kind == "nan" else kind)).dtype


@pytest.mark.parametrize("door", DOORS)
@ONE_RING
@given(QUANTITIES, st.booleans(), st.lists(st.booleans(), min_size=NODES - 1, max_size=NODES - 1))
def test_quantities_are_the_same_in_every_door(tmp_path, door, y, column, known):
    y = np.where([True, *known], y, NAN)
    graph = DOORS[door](tmp_path, y=y[:, None] if column else y)
    assert graph.task == "regression" and graph.num_classes == 1
    assert np.array_equal(graph.y.reshape(-1).numpy(), y, equal_nan=True)
    counts = np.arange(NODES) - 2
    graph = DOORS[door](tmp_path, y=counts, task="regression")
    assert graph.y.is_floating_point() and graph.y.tolist() == counts.tolist()  # -1 is a quantity
    assert labelled(graph.y, "regression").all()


HOT = np.eye(3, dtype=int)[np.arange(NODES) % 3]
ASKED = [
    (HOT, "single 1 in every row", {"classification", "multilabel"}),
    (HOT.astype(bool), "single 1 in every row", {"classification", "multilabel"}),
    (np.where(HOT.any(1, keepdims=True) & (np.arange(NODES) > 4)[:, None], NAN, HOT),
     "single 1 in every row", {"classification", "multilabel"}),
    (np.arange(NODES, dtype=float), "whole numbers as floats, from 0 to 6",
     {"classification", "regression"}),
    (np.array([0, 1, NAN, 2, -1, 0, 1]), "whole numbers as floats, from -1 to 2",
     {"classification", "regression"}),
    (np.full(NODES, -1.0), "whole numbers as floats, from -1 to -1", {"regression"}),
    (np.full(NODES, NAN), "NaN everywhere", {"classification", "regression", "multilabel"}),
    (np.array([-1, 1, 1, -1, 1, 1, 1]), "-1 and 1 and no 0", {"regression"}),
    (np.array([[0, 1]] * 4 + [[1, 9]] * 3), "0, 1 and 9", {"regression"}),
    (np.array([255, 0, 1, 2, 3, 0, 1], np.uint8), "uint8 and holds 255", {"regression"}),
    (np.array([0, 1, 70_000, 2, 3, 0, 1]), "labels go up to 70,000 for 7 rows", {"regression"}),
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("y", "words", "answers"), ASKED)
def test_what_has_two_readings_is_asked_in_every_door(tmp_path, door, y, words, answers):
    with pytest.raises(InputError, match=words):
        DOORS[door](tmp_path, y=y)
    for task in answers:
        assert DOORS[door](tmp_path, y=y, task=task).task == task


WRONG = [
    ([0, 1, 2.7, 0, 1, 2, 0], "classification", "y holds 2.7 in row 2, which is no class"),
    ([0, 1, np.inf, 0, 1, 2, 0], "classification", "y holds inf in row 2"),
    ([0, 1, -3, 0, 1, 2, 0], None, "labels go down to -3.* say task='regression'"),
    (np.ones((NODES, 2)), "classification", "row 0 has several"),
    ([0, 1, 2, 0, 1, 2, 0], "multilabel", "y of 0 and 1.*y holds 2"),
    (np.full((NODES, 2), 255, np.uint8), "multilabel", "y holds 255"),
    (np.array([[1, -1]] * NODES), "multilabel", "-1 and 1 and no 0"),
    (np.zeros((NODES, 2, 2)), None, r"y has shape \(7, 2, 2\)"),
    (np.zeros((NODES, 0)), "multilabel", r"y has shape \(7, 0\)"),
    (np.full(NODES, 2**64 - 1, np.uint64), None, "y holds 18446744073709551615; whole numbers go"),
    ([0, 1, 1e300, 0, 1, 2, 0], "classification", r"labels go up to 1e\+300"),
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("y", "task", "words"), WRONG)
def test_what_is_no_label_is_refused_in_every_door(tmp_path, door, y, task, words):
    with pytest.raises(InputError, match=words):
        DOORS[door](tmp_path, y=np.asarray(y), task=task)


def test_what_was_decided_is_said_in_a_line(caplog):
    caplog.set_level("INFO", "gnnscale")
    DOORS["from_arrays"](None, y=floats(np.array([0, 5, 9, -1, 0, 5, 9]))[:, None], name="few")
    assert "few: y, float64 [7, 1], is read for classification, 10 classes" in caplog.text
    assert "1 of 7 nodes without one" in caplog.text
    (warned,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "no row is of 7 of these 10 classes (1, 2, 3, 4, 6, 7, …)" in warned
    caplog.clear()
    DOORS["from_arrays"](None, y=[0, 5, 9, -1, 0, 5, 9], num_classes=10, task="classification")
    assert not caplog.records
    DOORS["from_arrays"](None, y=[3] * NODES)
    DOORS["from_arrays"](None, y=HOT * (np.arange(NODES) > 2)[:, None])
    assert "all labels are of class 3" in caplog.text
    assert "no row of y has more than one label" in caplog.text


def test_labels_in_a_file_stay_there(tmp_path):
    for y in (np.arange(9) % 4, np.arange(18).reshape(9, 2) % 3 == 0, np.random.rand(9)):
        array = torch.from_numpy(y)
        assert read_labels(array).y.data_ptr() == array.data_ptr()


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "float32", "bool"])
@pytest.mark.parametrize("gaps", ["rows", "cells"])
def test_a_table_for_some_nodes_leaves_the_others_unlabelled(tmp_path, kind, gaps):
    np.save(tmp_path / "e.npy", np.array([[0, 1, 2, 3], [1, 2, 3, 0]]))
    marks = np.array([[1, 1, 0], [0, 1, 1]]).astype(kind)
    table = {"id": [2, 0], **{f"t{i}": marks[:, i] for i in range(3)}}
    if gaps == "cells":
        table = {key: [*value.tolist(), None, None] for key, value in table.items() if key != "id"}
        table = {"id": [2, 0, 1, 3], **table}
    table = pyarrow.table(
        {key: pyarrow.array(value, None if key == "id" else kind) for key, value in table.items()}
    )
    parquet.write_table(table, tmp_path / "y.parquet")
    read = {"labels": tmp_path / "y.parquet", "num_nodes": 4}
    graph = gs.from_edge_list(tmp_path / "e.npy", **read)
    assert graph.task == "multilabel"
    known = known_labels(graph.y, "multilabel")
    assert labelled(graph.y, "multilabel").tolist() == [True, False, True, False]
    assert torch.where(known, graph.y, -1).tolist() == [[0, 1, 1], [-1] * 3, [1, 1, 0], [-1] * 3]
    graph = gs.from_edge_list(tmp_path / "e.npy", task="regression", **read)
    assert torch.isnan(graph.y[[1, 3]]).all() and graph.y[0].tolist() == [0, 1, 1]


def test_a_trainers_task_reads_labels_anew(tmp_path):
    def trained(data, task, out=2):
        model = gs.nn.GCN(2, 4, 1, out)
        options = {"num_parts": 2, "epochs": 1, "progress": False, "method": "contiguous"}
        trainer = gs.ClusterTrainer(model, data, task=task, run_dir=tmp_path / "run", **options)
        trainer.fit(resume=False)
        assert trainer.task.name == task
        again = gs.load_run(tmp_path / "run")
        assert again.trainer.graph.task == task
        assert torch.equal(again.trainer.predict(), trainer.predict())
        # A graph keeps the order that it was given in; one that came in clusters has theirs.
        y, position = trainer.graph.y, trainer.position
        return y if position is None else y[position]

    everyone = torch.ones(6, dtype=torch.bool)
    data = Data(x=torch.rand(6, 2), edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=6)
    data.train_mask, data.y = everyone, torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 3)
    for task in ("classification", "multilabel"):
        assert trained(data, task).shape == ((6,) if task == "classification" else (6, 2))
    data.y = torch.tensor([0.0, NAN, 1, 1, 0, 1])
    data.train_mask = ~data.y.isnan()
    graph = Graph.from_data(data)
    assert graph.task == "classification"
    targets = trained(graph, "regression", out=1)
    assert np.array_equal(targets.numpy(), data.y.numpy(), equal_nan=True)
    stored = gs.cluster(graph, gs.partition(graph, 2, method="contiguous"), tmp_path / "store")
    again = trained(stored, "regression", out=1).numpy()
    assert np.array_equal(again, data.y.numpy(), equal_nan=True)
    graphs = [
        Data(x=torch.rand(3, 2), edge_index=data.edge_index, y=float(i % 2)) for i in range(6)
    ]
    model = gs.nn.GraphModel(gs.nn.GCN(2, 4, 1, 2), "mean")
    split = {"train": range(6)}
    with pytest.raises(InputError, match="classes, or quantities"):
        gs.GraphTrainer(model, graphs, split=split)
    trainer = gs.GraphTrainer(model, graphs, split=split, task="classification")
    assert trainer.graph.y.tolist() == [0, 1] * 3
    with pytest.raises(InputError, match=r"y holds 0\.5 in row ., which is no class"):
        half = targets.roll(-1) / 2
        gs.ClusterTrainer(model, dataclasses.replace(graph, y=half, task="regression"),
                          task="classification")  # fmt: skip


def test_with_task_goes_back_and_forth():
    graph = DOORS["from_arrays"](None, y=[0, 1, -1, 1, 0, 1, 0])
    for task in ("multilabel", "regression", "classification"):
        graph = graph.with_task(task)
        assert labelled(graph.y, task).tolist() == [i != 2 for i in range(NODES)]
    assert graph.y.tolist() == [0, 1, -1, 1, 0, 1, 0]
    with pytest.raises(InputError, match="y holds 2"):
        DOORS["from_arrays"](None, y=[0, 1, 2, 1, 0, 1, 0]).with_task("multilabel")


@settings(max_examples=5)
@given(MARKS, st.integers(0, 2**20))
def test_an_unknown_label_counts_nowhere(y, seed):
    """Neither in the loss nor in a metric, whether it is -1 or NaN."""
    out = torch.randn(NODES, 3, generator=torch.Generator().manual_seed(seed))
    for name in ("accuracy", "f1_micro", "f1_macro", "roc_auc", "average_precision"):
        found = []
        for labels in (torch.from_numpy(y), torch.from_numpy(floats(y))):
            metric = make_metric(name)
            metric.update(out, labels)
            found.append(metric.compute())
        assert found[0] == found[1] or np.isnan(found).all()
    losses = [
        NodeTask("multilabel").loss(
            out, SimpleNamespace(y=torch.from_numpy(labels), train_index=torch.arange(NODES))
        )
        for labels in (y, y.astype(np.int8), floats(y))
    ]
    assert losses[0] == losses[1] == losses[2]
