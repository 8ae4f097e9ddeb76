"""Layers whose aggregation cannot be separated, trained on clusters; and all layers fine-tuned."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal

import pytest
import torch
from torch import nn
from torch_geometric.nn import EdgeConv, GATConv, GCNConv, SAGEConv

import gnnscale as gs
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import cluster
from gnnscale.graph.store.graph_folder import store_graph
from gnnscale.train import Callback, ClusterTrainer, FixedEpochs, LayerwiseTrainer
from gnnscale.train.layerwise.training import TrainedSection
from gnnscale.train.steps.batch_step import WholeModel
from tests.helpers.memory import few_columns
from tests.helpers.small_runs import (
    CLASSES,
    HIDDEN,
    IN,
    assert_same,
    same_course,
    small_graph,
    weights_of,
)


def gat(**arguments):
    return gs.nn.GAT(IN, HIDDEN, 2, CLASSES, dropout=0.4, heads=2, **arguments)


def mixture(jk="max"):
    """GCN, GAT, EdgeConv and SAGE, with residuals, norms and jumping knowledge."""
    edge = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.ReLU())
    blocks = [
        gs.nn.Block(GCNConv(IN, HIDDEN), norm="batch_norm", dropout=0.2),
        gs.nn.Block(GATConv(HIDDEN, HIDDEN, dropout=0.3), norm="graph_norm", residual=True),
        gs.nn.Block(EdgeConv(edge), order="norm-act-dropout-conv", dropout=0.1),
        gs.nn.Block(SAGEConv(HIDDEN, HIDDEN), residual=True),
    ]
    wide = 4 * HIDDEN if jk == "cat" else HIDDEN
    return gs.nn.LayeredGNN(blocks, nn.Linear(wide, CLASSES), jk=jk)


def trainer_of(model, graph=None, run_dir=None, **options):
    torch.manual_seed(7)
    settings = {
        "controller": FixedEpochs(2),
        "batch_rows": 8,
        "num_parts": 6,
        "clusters_per_batch": 2,
        "lr": 0.02,
        "evaluate_every": 1,
        "progress": False,
        **options,
    }
    graph = small_graph() if graph is None else graph
    if isinstance(graph, gs.ClusteredGraph):
        del settings["num_parts"]
    return LayerwiseTrainer(model(), graph, run_dir=run_dir, **settings)


def clustered(graph, parts=6):
    part = gs.partition(graph, parts, method="random", view="train", seed=3)
    return cluster(graph, part)


class StopAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == self.epoch:
            raise KeyboardInterrupt


class StepsUntil:
    """Interrupts the n-th step of what is trained, by Ctrl-C where there is a checkpoint."""

    def __init__(self, kind, steps, ctrl_c=False):
        self.calls = 0
        real = kind.ready

        def counted(trained, batch):
            self.calls += 1
            if self.calls == steps and ctrl_c:
                os.kill(os.getpid(), signal.SIGINT)
            elif self.calls == steps:
                raise KeyboardInterrupt
            return real(trained, batch)

        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(kind, "ready", counted)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.patch.undo()


# --- opaque layers ------------------------------------------------------------------------------


def test_a_layer_of_attention_is_trained_as_by_a_cluster_trainer():
    def one_layer():
        return gs.nn.LayeredGNN([gs.nn.Block(GATConv(IN, CLASSES, dropout=0.3), act=None)])

    graph = clustered(small_graph(), parts=1)
    torch.manual_seed(7)
    common = {"epochs": 5, "lr": 0.02, "keep": "last", "progress": False}
    expected = ClusterTrainer(one_layer(), graph, **common)
    expected.fit()
    trainer = trainer_of(one_layer, graph, controller=FixedEpochs(5), lr=0.02, keep="last")
    trainer.fit()
    assert_same(weights_of(trainer), weights_of(expected))
    assert trainer.report.final == expected.report.final


@pytest.mark.parametrize("inductive", [False, True])
@pytest.mark.parametrize("model", [gat, mixture])
def test_the_last_layer_is_evaluated_exactly(model, inductive):
    trainer = trainer_of(model, inductive=inductive, keep="last")
    report = trainer.fit()
    # Norms over all rows may take those of the rows there are, in separable layers.
    assert report.rows[-1]["val_accuracy"] == pytest.approx(report.final["val"]["accuracy"])
    layers = len(report.layers)
    assert [row["epochs"] for row in report.layers] == [2] * layers
    assert all(row["stopped"] == "fixed epochs" for row in report.layers)


def test_it_says_once_which_layers_are_opaque(caplog):
    with caplog.at_level(logging.WARNING):
        trainer = trainer_of(mixture)
        trainer.fit()
        trainer.fit(resume=False)
    (said,) = [r.getMessage() for r in caplog.records if "cannot be separated" in r.getMessage()]
    assert "layer 2 (GATConv), layer 3 (EdgeConv)" in said
    caplog.clear()
    no_clusters = {"num_parts": None, "clusters_per_batch": None}
    gcn = trainer_of(lambda: gs.nn.GCN(IN, HIDDEN, 2, CLASSES), **no_clusters)
    gcn.prepare()
    assert not caplog.records and gcn.position is None


def test_frozen_layers_do_not_change():
    seen = {}

    class Watch(Callback):
        def on_epoch_end(self, trainer, row):
            before = row["layer"] - 1
            for section in trainer._sessions.trained:
                weights = [p.detach().clone() for p in section.parameters.values()]
                if section.index < before and section.index in seen:
                    assert all(map(torch.equal, weights, seen[section.index]))
                if section.index == before:
                    seen[section.index] = weights

    trainer_of(mixture, callbacks=[Watch()], keep="last").fit()
    assert len(seen) == 4


@pytest.mark.parametrize("model", [mixture, lambda: mixture("cat"), lambda: gat(jk="max")])
def test_what_a_layer_reads_is_not_written_to(model):
    trainer = trainer_of(model, clustered(small_graph()))
    trainer.prepare()
    for section, streams in trainer._sessions.walk():
        if not section.is_separable:
            stream = streams[0]
            parts = [p for parts in stream.slots.values() for p in parts]
            before = [p.values.clone() for p in (stream.layer, *parts)]
            counts = {slot: len(parts) for slot, parts in stream.slots.items()}
            session = trainer._sessions.opened(section, streams)
            session.validator.validate()
            for batch in session.source:
                trainer.step(batch)
            assert {slot: len(parts) for slot, parts in stream.slots.items()} == counts
            assert all(map(torch.equal, before, (p.values for p in (stream.layer, *parts))))


def test_the_features_stay_as_they_are():
    def model():
        blocks = [gs.nn.Block(nn.Linear(IN, IN), norm="graph_norm"), GATConv(IN, CLASSES)]
        return gs.nn.LayeredGNN(blocks)

    graph = clustered(small_graph())
    x = graph.graph.x.clone()
    trainer_of(model, graph).fit()
    assert torch.equal(graph.graph.x, x)


@pytest.mark.parametrize("model", [gat, mixture])
def test_layers_in_files_are_those_in_memory(model, tmp_path):
    graph = clustered(small_graph())
    expected = trainer_of(model, graph)
    expected.fit()
    trainer = trainer_of(model, graph, storage=tmp_path)
    with few_columns(16):
        trainer.fit()
    assert_same(weights_of(trainer), weights_of(expected))


@pytest.mark.parametrize("sparse", [False, True])
def test_inductive_training_sees_training_nodes_alone(sparse):
    graph = small_graph()
    other = small_graph()
    other.x[~other.splits["default"].train] += 1.0
    if sparse:
        graph, other = (
            dataclasses.replace(g, x=gs.kernels.CSR.from_dense(g.x)) for g in (graph, other)
        )
    runs = [
        trainer_of(mixture, clustered(g), inductive=True, keep="last", evaluate_every=2)
        for g in (graph, other)
    ]
    first, second = (run.fit() for run in runs)
    assert [row["loss"] for row in first.rows] == [row["loss"] for row in second.rows]
    learnt = [dict(run.model.named_parameters()) for run in runs]
    assert_same(*learnt)


def test_edges_carry_their_weights_and_attributes():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(IN, CLASSES)

        def forward(self, x, edge_index, edge_weight, edge_attr):
            source, target = edge_index
            message = self.linear(x)[source] * edge_weight[:, None] * edge_attr
            return torch.zeros(len(x), CLASSES, dtype=x.dtype).index_add(0, target, message)

    graph = small_graph(weighted=True)
    graph = dataclasses.replace(graph, edge_attr=torch.rand(graph.num_edges, 1))

    def model():
        return gs.nn.LayeredGNN([gs.nn.Block(Weighted(), act=None, hops=1)])

    assert trainer_of(model, graph).fit().layers[0]["loss"] > 0


@pytest.mark.parametrize(("steps", "ctrl_c"), [(2, True), (9, False)])
def test_resumed_inside_a_layer_is_uninterrupted(steps, ctrl_c, tmp_path):
    graph = clustered(small_graph())
    expected = trainer_of(mixture, graph)
    report = expected.fit()
    path, options = tmp_path, {"checkpoint_every": 2}
    with (
        StepsUntil(TrainedSection, 6 + steps, ctrl_c),  # six in the first layer
        pytest.raises(KeyboardInterrupt),
    ):
        trainer_of(mixture, graph, path, **options).fit()
    trainer = trainer_of(mixture, graph, path, **options)
    assert trainer.fit().rows[0]["layer"] == 1
    assert_same(weights_of(trainer), weights_of(expected))
    same_course(trainer.report, report)


def test_a_run_goes_on_with_its_own_clusters(tmp_path):
    trainer = trainer_of(gat, run_dir=tmp_path, callbacks=[StopAt(2)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    given = trainer._data.clustered.partition.assignment
    again = trainer_of(gat, run_dir=tmp_path)
    again.fit()
    assert torch.equal(again._data.clustered.partition.assignment, given)
    assert again.predict().shape == (48, CLASSES)
    expected = trainer._data.graph.y[trainer._data.position]
    assert torch.equal(expected, small_graph().y)


@pytest.mark.parametrize("inductive", [False, True])
def test_a_graph_in_files_is_clustered_in_the_folder_of_the_run(inductive, tmp_path):
    graph = store_graph(small_graph(), tmp_path / "graph")
    options = {"inductive": inductive, "keep": "last"}
    expected = trainer_of(mixture, small_graph(), **options)
    report = expected.fit()
    trainer = trainer_of(mixture, graph, tmp_path / "run", **options, callbacks=[StopAt(5)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    trainer = trainer_of(mixture, graph, tmp_path / "run", **options)
    trainer.fit()
    assert_same(weights_of(trainer), weights_of(expected))
    same_course(trainer.report, report)
    assert trainer._data.clustered.path == tmp_path / "run" / "store"


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="num_parts=49"):
        trainer_of(gat, num_parts=49)
    with pytest.raises(InputError, match="has 6 clusters"):
        LayerwiseTrainer(gat(), clustered(small_graph()), num_parts=5)
    trainer_of(lambda: gs.nn.GCN(IN, HIDDEN, 2, CLASSES), num_parts=49)  # they need none


# --- fine-tuning --------------------------------------------------------------------------------

FINE_TUNE = {"epochs": 3, "num_parts": 4, "clusters_per_batch": 2, "method": "random"}


@pytest.mark.parametrize("model", [gat, lambda: gs.nn.GCN(IN, HIDDEN, 2, CLASSES)])
def test_fine_tuning_is_the_rest_of_the_report(model):
    told = []

    class Listen(Callback):
        def on_epoch_end(self, trainer, row):
            told.append((type(trainer).__name__, row["epoch"], row["layer"]))

    trainer = trainer_of(model, fine_tune={**FINE_TUNE, "keep": "last"}, callbacks=[Listen()])
    report = trainer.fit()
    assert [row["epoch"] for row in report.rows] == list(range(1, 8))
    assert [row["layer"] for row in report.rows] == [1, 1, 2, 2, *["fine-tuning"] * 3]
    name = type(trainer).__name__
    assert told == [(name, row["epoch"], row["layer"]) for row in report.rows]
    account = report.layers[-1]
    assert account["layer"] == "fine-tuning" and account["epochs"] == 3 and account["kept"]
    assert report.seconds["fine_tune"] >= account["seconds"] > 0
    assert report.seconds["total"] > report.seconds["fine_tune"]
    assert report.final["val"]["accuracy"] == account["val_accuracy"]


@pytest.mark.parametrize("lr", [0.01, 30.0])
@pytest.mark.parametrize("seed", range(2))
def test_fine_tuning_is_never_worse_on_validation(lr, seed):
    def model():
        return gs.nn.GCN(IN, HIDDEN, 2, CLASSES)

    options = {"controller": FixedEpochs(8), "seed": seed}
    greedy = trainer_of(model, **options)
    before = greedy.fit().final["val"]["accuracy"]
    tuned = trainer_of(model, **options, fine_tune={**FINE_TUNE, "lr": lr})
    report = tuned.fit()
    account = report.layers[-1]
    assert account["val_accuracy_before"] == before
    assert report.final["val"]["accuracy"] == max(before, account["val_accuracy"])
    assert account["kept"] == (account["val_accuracy"] > before)
    if not account["kept"]:
        assert_same(weights_of(tuned), weights_of(greedy))
        assert report.best_epoch == greedy.report.best_epoch


@pytest.mark.parametrize(
    ("model", "steps", "ctrl_c"),
    [
        (gat, 1, False),
        (gat, 3, True),
        (lambda: gs.nn.GCN(-1, HIDDEN, 2, CLASSES, dropout=0.3), 4, False),
    ],
)
def test_resumed_inside_fine_tuning_is_uninterrupted(model, steps, ctrl_c, tmp_path):
    fine_tune = {**FINE_TUNE, "keep": "last", "checkpoint_every": 2}
    expected = trainer_of(model, fine_tune=fine_tune)
    report = expected.fit()
    path = tmp_path
    trainer = trainer_of(model, run_dir=path, fine_tune=fine_tune)
    with StepsUntil(WholeModel, steps, ctrl_c), pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert not (path / "fine_tune" / "graph").exists()  # the run has it already
    trainer = trainer_of(model, run_dir=path, fine_tune=fine_tune)
    trainer.fit()
    assert_same(weights_of(trainer), weights_of(expected))
    same_course(trainer.report, report)
    assert len(trainer.report.layers) == 3


def test_a_run_that_is_replaced_leaves_no_fine_tuning(tmp_path):
    graph = clustered(small_graph())
    fine_tune = {"epochs": 2}
    first = trainer_of(gat, graph, tmp_path, fine_tune=fine_tune).fit()
    again = trainer_of(gat, graph, tmp_path, fine_tune=fine_tune)
    same_course(again.fit(resume=False), first)
    assert again.report.seconds["fine_tune"] != first.seconds["fine_tune"]
    trainer_of(gat, graph, tmp_path).fit(resume=False)
    assert not (tmp_path / "fine_tune").exists()


def test_fine_tuning_that_diverges_gives_the_layers_back():
    def model():
        return gs.nn.GCN(IN, HIDDEN, 2, CLASSES)

    greedy = trainer_of(model)
    greedy.fit()
    trainer = trainer_of(model, fine_tune={**FINE_TUNE, "lr": 1e38})
    with pytest.raises(GnnscaleError, match=r"fine-tuning failed.*epoch"):
        trainer.fit()
    assert_same(weights_of(trainer), weights_of(greedy))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epoch": 3, "seed": 1}, "no argument epoch, seed .*there are accumulate"),
        ({"epochs": 0, "lr": -1}, "fine_tune: epochs=0.*\n.*fine_tune: lr=-1"),
        ({"num_parts": 99}, "fine_tune: num_parts=99"),
        ([3], "fine_tune=.*a dict"),
    ],
)
def test_what_fine_tuning_cannot_be_given_is_refused_at_once(given, said):
    with pytest.raises(InputError, match=said):
        trainer_of(gat, fine_tune=given)
