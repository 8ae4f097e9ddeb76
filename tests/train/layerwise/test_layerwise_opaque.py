"""Layers whose aggregation cannot be separated, trained on clusters; and all layers fine-tuned."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from torch import nn
from torch_geometric.nn import GATConv

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph.store.graph_folder import store_graph
from gnnscale.train import Callback, ClusterTrainer, FixedEpochs, LayerwiseTrainer
from gnnscale.train.layerwise.training import TrainedSection
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
from tests.train.layerwise.opaque_cases import (
    StepsUntil,
    StopAt,
    clustered,
    gat,
    mixture,
    trainer_of,
)

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
