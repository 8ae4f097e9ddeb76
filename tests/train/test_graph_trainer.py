"""GraphTrainer: a step is PyG's, graphs do not see each other, runs resume, tasks are learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GINConv, SumAggregation, global_add_pool
from torch_geometric.nn.models import GIN as PyGGIN

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.loader.graph_loader import GraphLoader, graphs_as_clusters
from gnnscale.nn import GCN, GIN, Block, CategoricalEncoder, GraphModel, LayeredGNN
from gnnscale.train import Callback
from gnnscale.train.graphs import as_graphs, split_of_graphs
from gnnscale.train.steps.batch_step import WholeModel
from tests.helpers.graph_runs import SPLIT, data_set, model, trainer
from tests.helpers.rank_runs import Ranks
from tests.helpers.small_runs import assert_same, same_course, weights_of


def test_a_step_is_that_of_pyg():
    graphs = data_set()
    for data in graphs:
        data.x = data.x.double()
    network = PyGGIN(3, 8, 2, jk="cat", norm="graph_norm")
    network.lin = nn.Linear(16, 2)
    network.double()
    ours = gs.GraphTrainer(
        GraphModel(network, "sum"),
        graphs,
        split={"train": range(30)},
        graphs_per_batch=30,
        optimizer="sgd",
        progress=False,
    )
    ours.start()
    batch = Batch.from_data_list(graphs)
    layers, x = [], batch.x
    for conv, norm in zip(network.convs, network.norms, strict=True):
        source, target = batch.edge_index
        arriving = SumAggregation()(x[source], target, dim_size=len(x))
        x = conv.nn(x + arriving, batch=batch.batch)
        x = norm(x, batch.batch).relu()
        layers.append(global_add_pool(x, batch.batch))
    loss = functional.cross_entropy(network.lin(torch.cat(layers, 1)), batch.y)
    parameters = list(network.parameters())
    expected = torch.autograd.grad(loss, parameters)
    network.train()
    for each in ours.loader:
        ours.step(each)
    assert isinstance(network.convs[0], GINConv)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("norm", [None, "batch_norm", "graph_norm", "instance_norm", "pair_norm"])
@pytest.mark.parametrize("readout", ["sum", "attention"])
def test_evaluation_does_not_depend_on_what_is_evaluated_together(norm, readout):
    graphs, network = data_set(empty=(3, 29)), model(norm=norm, readout=readout)
    together = trainer(graphs, network)
    alone = trainer(graphs, network, chunk_rows=1)
    assert together.predict().shape == (30, 2)
    torch.testing.assert_close(together.predict(), alone.predict())
    network.eval()
    for i in (0, 1, 3, 17, 29):
        expected = network(graphs[i].x, graphs[i].edge_index)
        torch.testing.assert_close(together.predict([i]), expected.detach())
    assert together.evaluate(["val", "test"]) == alone.evaluate(["val", "test"])
    right = together.predict(range(25, 29)).argmax(1) == torch.tensor([1, 0, 1, 0])
    assert together.evaluate("test")["accuracy"] == pytest.approx(float(right.float().mean()))


def test_embeddings_are_what_the_head_reads(tmp_path):
    run = trainer()
    torch.testing.assert_close(run.model.encoder.head(run.embed()), run.predict())
    mask = torch.arange(30) % 7 == 0
    run.predict(mask, out=tmp_path / "some.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "some.npy"), run.predict()[mask])
    assert run.predict([]).shape == (0, 2)
    assert torch.equal(run.predict([7, 2, 7]), run.predict()[[7, 2, 7]])


@given(
    sizes=st.lists(st.integers(0, 4), min_size=2, max_size=20),
    per_batch=st.integers(1, 25),
    ranks=st.integers(1, 3),
    data=st.data(),
)
@settings(max_examples=10)
def test_an_epoch_draws_every_training_graph_with_nodes_once(sizes, per_batch, ranks, data):
    graphs = [Data(x=torch.ones(n, 1), edge_index=torch.empty(2, 0).long(), y=i)
              for i, n in enumerate(sizes)]  # fmt: skip
    train = data.draw(st.lists(st.sampled_from(range(len(sizes))), unique=True))
    assume(any(sizes[i] for i in train))
    graph = as_graphs(graphs)
    graph.splits = {"default": split_of_graphs(graph, {"train_idx": train})}
    seen = []
    for rank in range(ranks):
        clusters = graphs_as_clusters(graph)
        loader = GraphLoader(clusters, per_batch, rank=rank, world_size=ranks, prefetch=0)
        for batch in loader:
            if batch is None:
                continue
            assert torch.equal(batch.y, batch.clusters)  # labels were their numbers
            assert torch.equal(batch.ptr.diff(), torch.tensor(sizes)[batch.clusters])
            assert batch.step_train_nodes >= batch.clusters.numel() == batch.train_index.numel()
            seen += batch.clusters.tolist()
    assert sorted(seen) == sorted(i for i in train if sizes[i])


@pytest.mark.parametrize(("at", "prefetch"), [(1, 2), (2, 0), (4, 0), (7, 2)])
def test_resumed_is_uninterrupted(tmp_path, at, prefetch):
    options = {"scheduler": "cosine", "evaluate_every": 2, "accumulate": 2, "prefetch": prefetch}
    whole = trainer(run_dir=tmp_path / "whole", **options)
    expected = whole.fit()
    broken = trainer(run_dir=tmp_path / "broken", checkpoint_every=1, **options)
    ready, calls = WholeModel.ready, []

    def interrupted(trained, batch):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return ready(trained, batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WholeModel, "ready", interrupted)
        broken.fit()
    resumed = trainer(run_dir=tmp_path / "broken", **options)
    same_course(resumed.fit(), expected)
    assert_same(weights_of(resumed), weights_of(whole))


def test_two_ranks_learn_what_one_does_from_both_batches(forks, tmp_path):
    # Adam would make steps of the rounding in the gradients that GraphNorm cancels.
    code = """
from tests.helpers.graph_runs import trainer
trainer(run_dir=sys.argv[1], optimizer="sgd", keep="last").fit()
"""
    ranks = Ranks(forks, code, 2, str(tmp_path / "ranks"))
    alone = trainer(accumulate=2, optimizer="sgd", keep="last")
    expected = alone.fit()
    ranks.finish()
    together = gs.load_run(tmp_path / "ranks")
    for name, weight in together.model.state_dict().items():
        torch.testing.assert_close(weight, alone.model.state_dict()[name], rtol=1e-4, atol=1e-5)
    losses = [[row["loss"] for row in report.rows] for report in (together.report, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("readout", ["mean", "attention"])
def test_a_run_is_opened_again(tmp_path, readout):
    run = trainer(network=model(readout=readout), run_dir=tmp_path / "run")
    run.fit()
    again = gs.load_run(tmp_path / "run")
    assert type(again.trainer) is gs.GraphTrainer
    assert torch.equal(again.trainer.predict(), run.predict())
    assert again.trainer.evaluate("test") == run.evaluate("test")
    assert again.report.rows == run.report.rows


def test_data_sets_are_read_in_every_form(tmp_path):
    graphs = data_set(empty=(4,))
    listed = as_graphs(graphs)
    listed.check()
    forms = [
        Batch.from_data_list(graphs),
        DataLoader(graphs, batch_size=4),
        tuple(graphs),
        listed,
        gs.cluster(listed, gs.partition(listed, listed.num_graphs, method="contiguous")),
    ]
    for form in forms[:4]:
        assert as_graphs(form).fingerprint() == listed.fingerprint()
    torch.testing.assert_close(as_graphs(forms[4]).x, listed.x)
    assert as_graphs(data_set(1)).num_graphs == as_graphs(data_set(1)[0]).num_graphs == 1


def test_classes_are_learned_from_structure():
    """Ring or path: the mean degree tells, which a sum over neighbours shows."""
    graphs = data_set(60, seed=3)
    for data in graphs:
        data.x = torch.ones(data.num_nodes, 3)
    split = {"train": range(40), "test": range(40, 60)}
    network = model(norm="batch_norm", dropout=0.0, readout="mean")
    run = trainer(graphs, network, split=split, epochs=40, graphs_per_batch=20, evaluate_every=40)
    report = run.fit()
    assert report.rows[-1]["loss"] < 0.2 * report.rows[0]["loss"]
    assert run.evaluate("train")["accuracy"] >= 0.95


def test_several_labels_some_unknown():
    y = torch.randint(0, 2, (30, 3), generator=torch.Generator().manual_seed(0)).float()
    y[torch.rand(30, 3, generator=torch.Generator().manual_seed(1)) < 0.3] = float("nan")
    y[:, 0] = torch.arange(30) % 2  # no graph is without any
    run = trainer(data_set(y=y), model(3), metric="roc_auc")
    report = run.fit()
    assert (
        set(report.final["val"]) == {"roc_auc", "f1_micro", "f1_macro"}
        and report.best_epoch is not None
    )
    out, known = run.predict(), ~torch.isnan(y)
    losses = functional.binary_cross_entropy_with_logits(out, y.nan_to_num(), reduction="none")
    batch = next(iter(run.loader))
    expected = (losses * known)[batch.clusters].sum() / 3
    torch.testing.assert_close(run.task.loss(out[batch.clusters], batch), expected)


def test_targets_are_regressed():
    graphs = data_set()
    y = torch.tensor([[data.num_nodes + 0.5] for data in graphs])
    run = trainer(data_set(y=y), model(1, norm=None, dropout=0.0), epochs=40, lr=0.02)
    report = run.fit()
    assert report.headline == "mae" and run.evaluate("train")["mae"] < 0.5
    difference = (run.predict(range(20)) - y[:20]).abs().mean()
    assert run.evaluate("train")["mae"] == pytest.approx(float(difference), rel=1e-5)


def test_categories_are_encoded_by_the_first_block():
    graphs = data_set()
    for data in graphs:
        data.x = torch.randint(0, 5, (data.num_nodes, 2))
    encoder = CategoricalEncoder([5, 5], 8)
    blocks = [Block(encoder, act=None), *GIN(8, 8, 2, out_channels=2).blocks]
    before = encoder.embeddings[0].weight.detach().clone()
    run = trainer(graphs, LayeredGNN(blocks), readout="mean", epochs=1)
    run.fit()
    assert not torch.equal(before, encoder.embeddings[0].weight)


@pytest.mark.parametrize("options", [{"checkpoint_activations": True}, {"precision": "bf16"}])
def test_other_ways_to_run_a_step_agree(options):
    plain, other = trainer(network=model()), trainer(network=model(), **options)
    losses = [[row["loss"] for row in run.fit().rows] for run in (plain, other)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1 if "precision" in options else 1e-6)


def test_early_stopping_and_callbacks():
    class Stop(Callback):
        def on_epoch_end(self, run, row):
            run.stop = row["epoch"] == 2

    assert trainer(epochs=9, callbacks=[Stop()]).fit().stopped == "callback"
    stopped = trainer(epochs=50, early_stopping=1, evaluate_every=1, lr=1e-9).fit()
    assert stopped.stopped == "early stopping" and len(stopped.rows) < 50


def test_lazy_models_get_their_shapes():
    network = GraphModel(GCN(-1, 8, 2, out_channels=2), "sum")
    assert trainer(network=network).predict().shape == (30, 2)


def test_faults_are_named():
    node_level = gs.load("synthetic:planted?nodes=50")
    unlabelled = data_set()
    for data in unlabelled:
        del data.y
    wrong = [
        ({"graphs": node_level}, "node-level"),
        ({"graphs": unlabelled}, "no labels"),
        ({"graphs": 3}, "list of PyG Data"),
        ({"graphs": []}, "one graph or more"),
        ({"split": {"train": [40]}}, r"split train holds ids in \[40, 40\]; allowed is \[0, 29\]"),
        ({"split": {"training": [0]}}, "training"),
        ({"split": {"train": [1], "test": [1]}}, "also a validation or test"),
        ({"split": {}}, "training set is empty: the split selects no graph"),
        ({"graphs_per_batch": 0}, "graphs_per_batch=0"),
        ({"readout": "sum"}, "GraphModel"),
    ]
    for options, message in wrong:
        with pytest.raises(InputError, match=message):
            graphs = options.pop("graphs", data_set())
            gs.GraphTrainer(model(), graphs, **{"split": SPLIT, "progress": False, **options})
    with pytest.raises(InputError, match="takes 4 features"):
        trainer(network=GraphModel(GCN(4, 8, 2))).fit()
    with pytest.raises(InputError, match="build it with out_channels=2"):
        trainer(network=model(1)).fit()
    with pytest.raises(InputError, match="validation graphs"):
        trainer(split={"train": range(9)}, early_stopping=3).fit()


@pytest.mark.parametrize("name", ["x", "edge_index", "y", "edge_attr"])
@pytest.mark.parametrize("at", [0, 1])
def test_what_some_graphs_lack_is_named(name, at):
    edges = torch.tensor([[0, 1], [1, 0]])
    graphs = [
        Data(x=torch.ones(2, 3), edge_index=edges, y=torch.tensor([i]), edge_attr=torch.ones(2, 4))
        for i in range(2)
    ]
    graphs[at][name] = None
    with pytest.raises(InputError, match=f"1 of 2 have no {name}, the first of them is graph {at}"):
        as_graphs(graphs)
