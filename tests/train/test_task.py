"""Tasks: the losses of NodeTask are torch's, and what does not fit is said before training."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.train import ClusterTrainer, NodeTask
from tests.helpers.small_runs import HIDDEN, IN, small_graph
from tests.helpers.strategies import graphs


def labelled(y, **arguments) -> Graph:
    n = len(y)
    train = torch.arange(n) % 4 != 3
    return Graph.from_arrays(
        torch.randint(0, n, (2, 3 * n)), torch.randn(n, 4), y, train_mask=train, **arguments
    )


def batch_of(graph) -> SimpleNamespace:
    train = graph.train_mask
    index = train.nonzero().squeeze(1)
    return SimpleNamespace(y=graph.y, train_index=index, step_train_nodes=int(train.sum()))


def mean_loss(task, graph, out) -> torch.Tensor:
    task.prepare(graph, "default")
    batch = batch_of(graph)
    return task.loss(out, batch) / task.normaliser(batch)


@settings(max_examples=30)
@given(graph=graphs(min_nodes=2, classes=4, unlabelled=True), smoothing=st.sampled_from([0.0, 0.2]))
def test_classification_is_cross_entropy(graph, smoothing):
    out = torch.randn(graph.num_nodes, 4)
    train = graph.train_mask
    expected = functional.cross_entropy(out[train], graph.y[train], label_smoothing=smoothing)
    torch.testing.assert_close(mean_loss(NodeTask(label_smoothing=smoothing), graph, out), expected)


@settings(max_examples=30)
@given(graph=graphs(min_nodes=2, classes=4), weights=st.sampled_from(["balanced", [1, 2, 0.5, 3]]))
def test_class_weights_have_mean_one_over_the_training_nodes(graph, weights):
    task = NodeTask(class_weight=weights)
    out = torch.randn(graph.num_nodes, 4)
    found = mean_loss(task, graph, out)
    y = graph.y[graph.train_mask]
    counts = torch.bincount(y, minlength=4)
    if weights == "balanced":
        raw = len(y) / (4 * counts.clamp(min=1).float())
    else:
        raw = torch.tensor(weights)
    torch.testing.assert_close(task._weight[y].mean(), torch.tensor(1.0))
    torch.testing.assert_close(task._weight / task._weight[y[0]], raw / raw[y[0]])
    # torch divides by the sum of the weights: with a mean of 1 that is the number of nodes.
    torch.testing.assert_close(found, functional.cross_entropy(out[graph.train_mask], y, raw))


def test_balanced_is_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 0, 0, 1, 0])
    graph = labelled(y)
    task = NodeTask(class_weight="balanced")
    task.prepare(graph, "default")
    known = y[graph.train_mask].numpy()
    expected = compute_class_weight("balanced", classes=np.arange(3), y=known)
    torch.testing.assert_close(task._weight, torch.tensor(expected).float())


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0], "balanced"])
@pytest.mark.parametrize("unknown", [False, True])
def test_multilabel_is_binary_cross_entropy_over_what_is_known(weights, unknown):
    y = (torch.rand(24, 3) < 0.4).float()
    y[:, 0] = torch.arange(24) % 2
    if unknown:
        y[torch.arange(1, 24, 4), 1] = torch.nan
    graph = labelled(y, task="multilabel")
    task, out = NodeTask("multilabel", class_weight=weights), torch.randn(24, 3)
    found = mean_loss(task, graph, out)
    train = graph.train_mask
    known = ~torch.isnan(y[train])
    losses = functional.binary_cross_entropy_with_logits(
        out[train], y[train].nan_to_num(), reduction="none"
    )
    if weights is not None:
        assert float(task._weight.mean()) == pytest.approx(1)
        losses = losses * task._weight
    torch.testing.assert_close(found, (losses * known).sum() / losses.numel())
    if weights is None and not unknown:
        expected = functional.binary_cross_entropy_with_logits(out[train], y[train])
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 3)])
def test_regression_is_squared_error(shape):
    graph = labelled(torch.randn(shape), task="regression")
    out = torch.randn(20, shape[-1] if len(shape) > 1 else 1)
    train = graph.train_mask
    expected = functional.mse_loss(out.reshape(shape)[train], graph.y[train])
    torch.testing.assert_close(mean_loss(NodeTask("regression"), graph, out), expected)


def test_regression_leaves_unknown_targets_out():
    y = torch.randn(20, 2)
    y[::2, 0] = torch.nan
    graph = labelled(y, task="regression")
    out = torch.zeros(20, 2, requires_grad=True)
    mean_loss(NodeTask("regression"), graph, out).backward()
    assert torch.equal(out.grad[::2, 0], torch.zeros(10))
    assert out.grad.isfinite().all()


def test_normaliser_is_that_of_the_step_not_of_the_rank():
    assert NodeTask().normaliser(SimpleNamespace(step_train_nodes=17)) == 17


def test_headline_first_then_the_usual_ones():
    names = [metric.name for metric in NodeTask(metric="f1_micro").metrics()]
    assert names == ["f1_micro", "accuracy", "f1_macro"]
    assert [m.name for m in NodeTask("regression", "mse").metrics()] == ["mse", "mae"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "ranking"}, ["ranking", "multilabel"]),
        ({"metric": "accurracy"}, ["accurracy", "f1_macro"]),
        ({"metric": "mae"}, ["mae", "classification"]),
        ({"kind": "regression", "metric": "accuracy"}, ["accuracy", "mse"]),
        ({"kind": "regression", "class_weight": "balanced"}, ["class_weight"]),
        ({"class_weight": "balance"}, ["balance"]),
        ({"label_smoothing": 1.0}, ["label_smoothing=1.0"]),
        ({"label_smoothing": -0.1, "metric": "auc"}, ["label_smoothing", "auc"]),
        ({"kind": "multilabel", "label_smoothing": 0.1}, ["label_smoothing"]),
    ],
)
def test_faulty_arguments(arguments, named):
    with pytest.raises(InputError) as caught:
        NodeTask(**arguments)
    assert all(word in str(caught.value) for word in named)


def without_training_nodes(graph):
    graph.train_mask.zero_()
    return graph


def with_unlabelled_training_nodes(graph):
    graph.y[graph.train_mask.nonzero()[:3]] = -1
    return graph


@pytest.mark.parametrize(
    ("graph", "task", "named"),
    [
        (lambda: without_training_nodes(small_graph()), {}, "training set is empty"),
        (lambda: with_unlabelled_training_nodes(small_graph()), {}, "3 of 24 training nodes"),
        (lambda: Graph.from_arrays([[0], [1]], torch.ones(2, 1), [0, 1]), {}, "no training nodes"),
        (lambda: Graph.from_arrays([[0], [1]], torch.ones(2, 1)), {}, "no labels"),
        (
            lambda: Graph.from_arrays([[0], [1]], torch.ones(2, 1), [1], y_level="graph"),
            {},
            "graph-level",
        ),
        (small_graph, {"kind": "multilabel"}, "for classification, the task is multilabel"),
        (small_graph, {"kind": "regression"}, "for classification, the task is regression"),
        (small_graph, {"class_weight": [1, 2]}, "3 weights"),
        (small_graph, {"class_weight": [1, -2, 3]}, "from 0 on"),
        (small_graph, {"metric": "roc_auc"}, "two classes"),
    ],
)
def test_what_cannot_be_trained_on(graph, task, named):
    with pytest.raises(InputError, match=named):
        NodeTask(**task).prepare(graph(), "default")


def test_outputs_for_every_class():
    graph, task = small_graph(), NodeTask()
    task.check_output(3, graph)
    task.check_output(4, graph)  # a class that this graph happens not to have
    with pytest.raises(InputError, match=r"2 outputs, the graph 3 classes.*out_channels=3"):
        task.check_output(2, graph)
    two = labelled(torch.randn(8, 2), task="regression")
    with pytest.raises(InputError, match="3 outputs, the graph 2 labels"):
        NodeTask("regression").check_output(3, two)


class Reconstruction:
    """A task without labels: features from the neighbours' features."""

    name, headline = "reconstruction", "loss"

    def prepare(self, graph, split):
        pass

    def loss(self, out, batch):
        return (out - batch.x).square().mean(1).sum()

    def normaliser(self, batch):
        return batch.num_nodes

    def metrics(self):
        return []


def test_a_task_of_ones_own(tmp_path):
    graph = small_graph()
    graph.y, graph.splits = None, {}
    model = gs.nn.GCN(IN, HIDDEN, 2, IN)
    settings = {"task": Reconstruction(), "epochs": 30, "progress": False, "run_dir": tmp_path}
    trainer = ClusterTrainer(model, graph, **settings)
    report = trainer.fit()
    assert report.final == {}
    assert report.rows[-1]["loss"] < report.rows[0]["loss"]
    assert "reconstruction" in (tmp_path / "run.json").read_text()
    again = gs.load_run(tmp_path, task=Reconstruction())
    assert torch.equal(again.trainer.predict(), trainer.predict())
