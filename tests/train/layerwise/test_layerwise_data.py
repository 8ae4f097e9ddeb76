"""What training layer by layer promises of every kind of task, data and graph."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch_geometric import nn as pyg

import gnnscale as gs
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.graph import Graph, Partition, Split
from tests.helpers.graphs import several_graphs
from tests.helpers.small_runs import CLASSES, IN, assert_same, same_course, small_graph, weights_of
from tests.train.layerwise.layerwise_cases import HIDDEN, layerwise, sage, split_of

# --- tasks ------------------------------------------------------------------------------------


def labelled_by(graph: Graph, y, task: str) -> Graph:
    return Graph.from_arrays(
        graph.edge_index,
        graph.x,
        y,
        task=task,
        num_nodes=graph.num_nodes,
        **{f"{name}_mask": graph.splits["default"][name] for name in ("train", "val", "test")},
    )


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("inductive", [False, True])
def test_multilabel_and_regression(missing, inductive):
    graph = small_graph()
    signal = graph.x[:, :2] + 0.1 * torch.randn(graph.num_nodes, 2)
    several = (signal > 0.3).float()
    if missing:
        several[::5, 0] = float("nan")
        signal[::5, 0] = float("nan")
    for task, y in (("multilabel", several), ("regression", signal)):
        model = gs.nn.GraphSAGE(IN, HIDDEN, 2, 2)
        trainer = layerwise(
            model, labelled_by(graph, y, task), gs.FixedEpochs(6), inductive=inductive, lr=0.05
        )
        report = trainer.fit()
        for layer in (1, 2):
            losses = [row["loss"] for row in report.rows if row["layer"] == layer]
            assert losses[-1] < losses[0]
        assert report.final["test"].keys() == {m.name for m in trainer.task.metrics()}


def test_class_weights_and_unlabelled_nodes():
    graph = small_graph()
    split, y = graph.splits["default"], graph.y.clone()
    y[split.val.nonzero()[::2, 0]] = -1
    weighted, plain = (
        layerwise(sage(), dataclasses.replace(graph, y=y), class_weight=weight).fit()
        for weight in ([5.0, 1.0, 1.0], None)
    )
    assert weighted.rows[0]["loss"] != plain.rows[0]["loss"]
    assert weighted.final["val"]["accuracy"] >= 0


# --- data -------------------------------------------------------------------------------------


def trained(graph, **options):
    trainer = layerwise(sage(), graph, **options)
    return trainer, trainer.fit()


@pytest.mark.parametrize("sparse", [False, True])
def test_inductive_training_sees_training_nodes_alone(sparse):
    graph = small_graph()
    split = graph.splits["default"]
    other = graph.x.clone()
    other[~split.train] += 3 * torch.randn(int((~split.train).sum()), IN)
    weights = []
    for x in (graph.x, other):
        x = x * (x.abs() > 0.3)
        seen = dataclasses.replace(graph, x=gs.kernels.CSR.from_dense(x) if sparse else x)
        trainer, _ = trained(seen, inductive=True, keep="last")
        weights.append(weights_of(trainer))
    assert_same(*weights)


def test_transductive_training_sees_all_nodes():
    graph = small_graph()
    other = graph.x.clone()
    other[graph.splits["default"].test] += 1.0
    weights = [
        weights_of(trained(g, keep="last")[0]) for g in (graph, dataclasses.replace(graph, x=other))
    ]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("masks", ["first", "all"])
@pytest.mark.parametrize("inductive", [False, True])
def test_several_graphs(masks, inductive):
    model = gs.nn.GraphSAGE(IN, HIDDEN, 2, CLASSES).double()
    report = layerwise(model, several_graphs(masks), inductive=inductive).fit()
    assert report.stopped == "layers"
    assert ("val" in report.final) == (masks != "all")


def clustered_of(graph: Graph) -> gs.ClusteredGraph:
    random = torch.Generator().manual_seed(3)
    assignment = torch.randint(0, 4, (graph.num_nodes,), generator=random)
    return gs.cluster(graph, Partition(assignment, 4, "drawn"))


def test_a_clustered_graph_is_trained_on_as_a_graph_is():
    graph = small_graph()
    trainer, report = trained(clustered_of(graph))
    assert report.final.keys() == {"train", "val", "test"}
    out = trainer.predict()
    exact = trainer.model.eval()(graph.x, graph.adj)
    assert torch.allclose(out, exact, atol=1e-5)
    accuracy = (out.argmax(1) == graph.y)[graph.splits["default"].test].float().mean()
    assert report.final["test"]["accuracy"] == pytest.approx(float(accuracy))


def test_the_view_of_training_nodes_asks_for_inductive_training():
    clustered = clustered_of(small_graph())
    viewed, expected = trained(clustered.view("train")), trained(clustered, inductive=True)
    assert viewed[0].config.inductive
    assert_same(weights_of(viewed[0]), weights_of(expected[0]))
    same_course(viewed[1], expected[1])


@pytest.mark.parametrize("inductive", [False, True])
def test_a_graph_in_files_trains_to_the_same_weights(inductive, tmp_path):
    clustered = clustered_of(small_graph())
    expected = trained(clustered, inductive=inductive)
    gs.cluster(small_graph(), clustered.partition, path=tmp_path / "store")
    for options in ({}, {"storage": tmp_path, "memory": "100MB"}):
        mapped = trained(tmp_path / "store", inductive=inductive, **options)
        assert_same(weights_of(mapped[0]), weights_of(expected[0]))
        same_course(mapped[1], expected[1])


def test_no_validation_set():
    graph = small_graph()
    split = graph.splits["default"]
    without = split_of(graph, Split(split.train, torch.zeros_like(split.val), split.test))
    _, report = trained(without)
    assert report.final.keys() == {"train", "test"}
    assert not any("val_accuracy" in row for row in report.rows)
    with pytest.raises(InputError, match="Plateau goes by validation nodes; the split has none"):
        layerwise(sage(), without, gs.Plateau(monitor="metric")).fit()


def test_another_split():
    graph = small_graph()
    split = graph.splits["default"]
    both = dataclasses.replace(
        graph, splits={"default": split, "other": Split(split.test, split.val, split.train)}
    )
    swapped = split_of(graph, both.splits["other"])
    mine, expected = trained(both, split="other"), trained(swapped)
    assert_same(weights_of(mine[0]), weights_of(expected[0]))
    same_course(mine[1], expected[1])


def test_lazy_parameters_get_their_shapes():
    model = gs.nn.GraphSAGE(-1, HIDDEN, 2, CLASSES)
    trainer = layerwise(model, small_graph())
    trainer.fit()
    shapes = {name: value.shape for name, value in sage().state_dict().items()}
    assert {name: value.shape for name, value in weights_of(trainer).items()} == shapes


def test_data_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    graph = small_graph()
    wide = gs.nn.GCN(IN + 1, HIDDEN, 2, CLASSES)
    twice = pyg.GCNConv(IN, IN)
    for model, data, fault, said in (
        (wide, graph, InputError, f"takes {IN + 1} features, the graph has {IN}"),
        (sage(), dataclasses.replace(graph, splits={}), InputError, "split"),
        (sage(), dataclasses.replace(graph, x=None), InputError, "no features x"),
        (gs.nn.GCN(IN, HIDDEN, 2, CLASSES - 1), graph, InputError, f"{CLASSES} classes"),
        ([twice, twice, pyg.GCNConv(IN, CLASSES)], graph, UnsupportedModel, "layers 1 and 2"),
    ):
        with pytest.raises(fault, match=said):
            layerwise(model, data, run_dir=tmp_path / "run").fit()
        assert not (tmp_path / "run").exists()


def test_every_bad_argument_is_named_at_once():
    bad = {"batch_rows": 0, "rows_dtype": "int8", "epochs": 0, "keep": "worst", "lr": -1}
    with pytest.raises(InputError) as caught:
        layerwise(sage(), small_graph(), **bad)
    assert all(name in str(caught.value) for name in bad)


@pytest.mark.parametrize("rows_dtype", ["float16", "bfloat16"])
def test_half_rows_train_nearly_as_well(rows_dtype):
    graph = small_graph(nodes=120)
    exact, half = (
        trained(graph, rows_dtype=dtype, controller=gs.FixedEpochs(4))[1]
        for dtype in ("float32", rows_dtype)
    )
    for mine, theirs in zip(half.rows, exact.rows, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=0.03)


def test_rows_that_overflow_name_the_type():
    graph = small_graph()
    graph.x[:, 0] = 1e6
    with pytest.raises(InputError, match=r"rows_dtype='float16' holds 6\.55e"):
        trained(graph, rows_dtype="float16")


def test_runs_do_not_depend_on_torch_s_generator():
    """The seed gives batches, dropout and classifiers; initial weights are the caller's."""
    graph = small_graph()
    first, second = sage(), sage()
    reports = []
    for model, noise in ((first, 1), (second, 2)):
        torch.manual_seed(noise)
        reports.append(layerwise(model, graph).fit())
    assert_same(first.state_dict(), second.state_dict())
    third = sage()
    layerwise(third, graph, seed=1).fit()
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True)
    )
