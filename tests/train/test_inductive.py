"""The inductive protocol: train on the training subgraph, test on the whole graph."""

from __future__ import annotations

import copy

import pytest
import torch
import torch_geometric.nn as pyg
from torch.nn import functional
from torch_geometric.utils import subgraph

import gnnscale as gs
from gnnscale.errors import InputError, RunMismatch
from gnnscale.train import Callback, ClusterTrainer
from tests.helpers.graphs import several_graphs
from tests.helpers.small_runs import CLASSES, HIDDEN, IN, assert_same, same_course, weights_of

KINDS = ("first", "masks", "one", "all")
LEAST = {"first": 1, "masks": 3, "one": 1, "all": 3}  # graphs that are trained on


def trainer_of(model, graph, run_dir=None, **options):
    settings = {"method": "random", "inductive": True, "keep": "last", "progress": False}
    return ClusterTrainer(model, graph, run_dir=run_dir, **{**settings, **options})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conv", ["GCN", "GraphSAGE", "GAT"])
def test_all_clusters_at_once_are_full_batch_on_the_training_subgraph(kind, conv):
    """Weights after five steps, and the metrics of a PyG forward on the whole graph."""
    graph = several_graphs(kind)
    model = getattr(pyg, conv)(IN, HIDDEN, 2, CLASSES).double()
    plain = copy.deepcopy(model)
    train = graph.train_mask
    edges = subgraph(train, graph.edge_index, relabel_nodes=True)[0]
    step = torch.optim.Adam(plain.parameters(), lr=0.01)
    for _ in range(5):
        step.zero_grad()
        functional.cross_entropy(plain(graph.x[train], edges), graph.y[train]).backward()
        step.step()
    trainer = trainer_of(model, graph, num_parts=LEAST[kind], clusters_per_batch=3, epochs=5)
    report = trainer.fit()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-7, atol=1e-9)
    plain.eval()
    with torch.no_grad():
        out = plain(graph.x, graph.edge_index)
    torch.testing.assert_close(trainer.predict(), out, rtol=1e-7, atol=1e-9)
    right = (out.argmax(1) == graph.y).double()
    for name in ("train", "val", "test"):
        if graph.split()[name].any():
            assert report.final[name]["accuracy"] == pytest.approx(
                float(right[graph.split()[name]].mean())
            )


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_subgraphs_of_the_training_nodes_of_their_clusters(kind):
    graph = several_graphs(kind)
    parts = 1 if kind == "one" else 6
    model = gs.nn.GCN(IN, HIDDEN, 2, CLASSES).double()
    trainer = trainer_of(model, graph, num_parts=parts, clusters_per_batch=2)
    trainer.prepare()
    assert trainer.loader.clusters_drawn == parts == trainer.config.num_parts
    untrained = 3 - LEAST[kind]
    assert trainer.clustered.num_parts == parts + untrained
    seen = []
    for batch in trainer.loader:
        inside = torch.zeros(graph.num_nodes, dtype=torch.bool)
        inside[batch.node_id] = True
        assert graph.train_mask[inside].all() and batch.num_nodes
        expected = subgraph(inside, graph.edge_index)[0]
        found = batch.node_id[batch.edge_index]
        assert sorted(found.T.tolist()) == sorted(expected.T.tolist())
        seen.append(batch.node_id)
    assert torch.equal(torch.cat(seen).sort().values, graph.train_mask.nonzero().squeeze(1))


class Stop(Callback):
    """Ctrl-C at the end of an epoch."""

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("kind", "inductive", "precompute"),
    [
        ("first", True, True),
        ("first", False, False),
        ("masks", True, False),
        ("masks", False, True),
    ],
)
def test_resumed_is_uninterrupted_on_several_graphs(kind, inductive, precompute, tmp_path):
    def run(run_dir, *callbacks, **options):
        torch.manual_seed(1)
        return trainer_of(
            gs.nn.GCN(IN, HIDDEN, 2, CLASSES, dropout=0.3).double(),
            several_graphs(kind),
            run_dir,
            num_parts=5,
            clusters_per_batch=2,
            epochs=4,
            inductive=inductive,
            precompute=precompute,
            checkpoint_every=1,
            callbacks=callbacks,
            **options,
        )

    whole = run(None)
    expected = whole.fit()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stop()).fit()
    resumed = run(tmp_path)
    report = resumed.fit()
    assert_same(weights_of(resumed), weights_of(whole))
    same_course(report, expected)
    again = gs.load_run(tmp_path).trainer
    assert again.evaluate("test") == pytest.approx(report.final["test"])


def test_too_many_or_too_few_parts_are_found_before_work_begins():
    model = gs.nn.GCN(IN, HIDDEN, 2, CLASSES).double()
    with pytest.raises(InputError, match="num_parts=2 is less than the 3 graphs that are trained"):
        trainer_of(model, several_graphs("masks"), num_parts=2)
    with pytest.raises(InputError, match="num_parts=31 is more than the 30 nodes that are trained"):
        trainer_of(model, several_graphs("first"), num_parts=31)


def test_a_train_view_is_the_inductive_protocol_in_a_new_process_too(tmp_path):
    graph = several_graphs("masks")
    part = gs.partition(graph, 6, "random", view="train")
    clustered = gs.cluster(graph, part, path=tmp_path / "store")

    def run(data, **options):
        torch.manual_seed(1)
        model = gs.nn.GCN(IN, HIDDEN, 2, CLASSES).double()
        return trainer_of(model, data, tmp_path / "run", clusters_per_batch=2, epochs=4, **options)

    with pytest.raises(KeyboardInterrupt):
        run(clustered.view("train"), inductive=False, callbacks=[Stop()]).fit()
    again = gs.load_run(tmp_path / "run").trainer
    assert again.config.inductive and again.loader.clustered.num_nodes == graph.train_mask.sum()
    with pytest.raises(RunMismatch, match="inductive: True in the run, False now"):
        run(clustered, inductive=False).fit()
