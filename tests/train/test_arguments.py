"""What a trainer is given: all faults at once, before any work; what it takes, and as what."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import GATConv, GCNConv, MessagePassing, SAGEConv

import gnnscale as gs
from gnnscale.errors import InexactConvolution, InputError, UnsupportedModel
from gnnscale.graph import Graph, Partition, cluster
from gnnscale.train import ClusterTrainer
from gnnscale.train.options import ClusterOptions
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.steps.optimizers import make_optimizer
from tests.helpers.small_runs import (
    CLASSES,
    HIDDEN,
    IN,
    assert_same,
    small_graph,
    small_trainer,
    weights_of,
)


def test_all_faults_at_once(tmp_path):
    graph = small_graph()
    graph.train_mask.zero_()
    with pytest.raises(InputError) as caught:
        small_trainer(
            tmp_path / "run",
            graph=graph,
            num_parts=49,
            clusters_per_batch=0,
            epochs=2.5,
            lr=float("nan"),
            seed=-1,
            device="tpu9",
            evaluate_every=0,
            checkpoint_every="always",
            optimizer="adamm",
            scheduler="cosinus",
            method="kaminpa",
            balance="edge",
            weight_decay=-1,
            clip_norm=0,
            early_stopping=0,
            keep="all",
            prefetch=-1,
            chunk_rows=0,
            storage=tmp_path / "nowhere",
            precompute="no",
        )
    named = [
        "num_parts=49", "clusters_per_batch=0", "epochs=2.5", "lr=nan", "seed=-1", "tpu9",
        "evaluate_every=0", "'always'", "'adamm'", "'cosinus'", "'kaminpa'", "'edge'",
        "weight_decay=-1", "clip_norm=0", "early_stopping=0", "keep='all'", "prefetch=-1",
        "chunk_rows=0", "nowhere", "precompute='no'", "training set is empty",
    ]  # fmt: skip
    faults = caught.value.faults
    assert len(faults) == len(named)
    for word in named:
        assert sum(word in fault for fault in faults) == 1, word
    assert not (tmp_path / "run").exists()


def test_faults_of_the_task_are_among_them():
    with pytest.raises(InputError) as caught:
        small_trainer(None, metric="auc", class_weight="even", epochs=0)
    assert len(caught.value.faults) == 3
    with pytest.raises(InputError, match="unknown task 'edges'"):
        small_trainer(None, task="edges")
    with pytest.raises(InputError, match="no split set 'second'"):
        small_trainer(None, split="second")
    with pytest.raises(InputError, match="to the task itself"):
        small_trainer(None, task=gs.NodeTask(), class_weight="balanced")


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    trainer = small_trainer(
        tmp_path,
        lr=np.float32(0.01),
        seed=np.int64(3),
        epochs=torch.tensor(2),
        num_parts=np.int32(4),
    )
    assert len(trainer.fit().rows) == 2
    assert small_trainer(tmp_path, device=torch.device("cpu"), epochs=2).device.type == "cpu"


def test_early_stopping_needs_validation_nodes():
    graph = small_graph()
    graph.val_mask.zero_()
    with pytest.raises(InputError, match="validation nodes"):
        small_trainer(None, graph=graph, early_stopping=3).fit()


# --- models -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (lambda: gs.nn.GCN(IN + 1, HIDDEN, 2, CLASSES), "takes 6 features, the graph has 5"),
        (lambda: gs.nn.GCN(IN, HIDDEN, 2, CLASSES - 1), "2 outputs, the graph 3 classes"),
        (lambda: [GCNConv(IN, HIDDEN), GCNConv(HIDDEN + 2, CLASSES)], "cannot take 6 channels"),
        (lambda: [SAGEConv(IN, HIDDEN), GATConv(HIDDEN + 2, CLASSES)], "cannot take 6 channels"),
    ],
)
def test_a_model_that_does_not_fit(model, named):
    with pytest.raises(InputError, match=named):
        ClusterTrainer(model(), small_graph(), progress=False).fit()


def test_a_model_without_parameters():
    class Smooth(MessagePassing):
        in_channels, out_channels = IN, IN

        def forward(self, x, edge_index):
            return self.propagate(edge_index, x=x)

    with pytest.raises(InputError, match="no parameters"):
        ClusterTrainer([Smooth()], small_graph(), progress=False).fit()


def test_a_reach_that_is_under_declared_is_found_before_training(tmp_path):
    from torch_geometric.utils import degree

    class ByDegree(MessagePassing):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(IN, CLASSES)

        def forward(self, x, edge_index):
            scaled = self.linear(x) / (1 + degree(edge_index[1], x.size(0))).unsqueeze(1)
            return self.propagate(edge_index, x=scaled)

    run = tmp_path / "run"
    with pytest.raises(InexactConvolution, match="ByDegree"):
        ClusterTrainer([ByDegree()], small_graph(), 4, run_dir=run, progress=False).fit()
    assert not (tmp_path / "run").exists()


def test_what_is_no_model_or_no_graph():
    with pytest.raises(UnsupportedModel, match="Linear"):
        ClusterTrainer(nn.Linear(IN, CLASSES), small_graph())
    with pytest.raises(InputError, match="homogeneous"):
        ClusterTrainer(gs.nn.GCN(IN, HIDDEN, 2, CLASSES), HeteroData())
    bare = Graph.from_arrays([[0, 1], [1, 0]], y=[0, 1], train_mask=[True, True])
    with pytest.raises(InputError, match="no features"):
        ClusterTrainer(gs.nn.GCN(IN, HIDDEN, 2, CLASSES), bare, progress=False).fit()


def test_data_and_lists_of_convolutions_are_taken():
    graph = small_graph()
    data = Data(x=graph.x, edge_index=graph.edge_index, y=graph.y)
    data.train_mask, data.val_mask, data.test_mask = (
        graph.split()[part] for part in ("train", "val", "test")
    )
    from_graph = small_trainer(None)
    from_graph.fit()
    from_data = small_trainer(None, graph=data)
    from_data.fit()
    assert_same(weights_of(from_data), weights_of(from_graph))

    convolutions = [SAGEConv(IN, HIDDEN), GATConv(HIDDEN, CLASSES)]
    trainer = ClusterTrainer(convolutions, data, epochs=2, progress=False)
    before = convolutions[0].lin_l.weight.clone()
    trainer.fit()
    assert not torch.equal(convolutions[0].lin_l.weight, before), "parameters are shared"
    assert trainer.predict().shape == (48, CLASSES)


def test_lazy_parameters_are_there_before_the_optimizer():
    trainer = small_trainer(None, model="lazy", keep="last")
    assert trainer.predict().shape == (48, CLASSES), "predicting needs their shapes too"
    before = weights_of(trainer)
    trainer.fit()
    for name, value in weights_of(trainer).items():
        assert not torch.equal(value, before[name]), name


class PartlyUsed(nn.Module):
    """A user's layer with lazy parts that its `forward` leaves alone."""

    def __init__(self):
        super().__init__()
        self.conv = SAGEConv(IN, CLASSES)
        self.never, self.nor_this = nn.LazyLinear(4), SAGEConv(-1, 5)

    def forward(self, x, edge_index):
        return self.conv(x, edge_index)


def test_lazy_parameters_that_nothing_uses(tmp_path):
    run = tmp_path / "run"
    trainer = ClusterTrainer(
        [PartlyUsed()], small_graph(), num_parts=2, method="random", epochs=1, run_dir=run,
        progress=False,
    )  # fmt: skip
    trainer.fit()
    again = gs.load_run(run, model=gs.nn.as_layered([PartlyUsed()])).trainer
    assert torch.equal(again.predict(), trainer.predict())


# --- graphs and clusters ------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_as_many_parts_as_nodes_and_no_more(nodes):
    graph = small_graph(nodes)
    graph.train_mask[0] = True
    options = {"graph": graph, "model": "sage", "clusters_per_batch": 1}
    report = small_trainer(None, num_parts=nodes, **options).fit()
    assert report.stopped == "epochs"
    with pytest.raises(InputError, match=f"num_parts={nodes + 1} is more"):
        small_trainer(None, num_parts=nodes + 1, **options)


def test_clusters_that_are_given():
    graph = small_graph()
    clustered = cluster(graph, Partition(torch.arange(48) % 5, 5))
    model = gs.nn.GCN(IN, HIDDEN, 2, CLASSES)
    assert ClusterTrainer(model, clustered).config.num_parts == 5
    assert ClusterTrainer(model, clustered, num_parts=5).clustered is clustered
    with pytest.raises(InputError, match="num_parts=6, but the clustered graph has 5"):
        ClusterTrainer(model, clustered, num_parts=6)


def test_a_split_that_the_clusters_were_not_made_for():
    """The nodes trained on would be those of one split, the nodes tested on those of another."""
    graph = small_graph()
    first = graph.split()
    graph.splits["second"] = type(first)(first.test, first.val, first.train)
    part, model = Partition(torch.arange(48) % 5, 5), gs.nn.GCN(IN, HIDDEN, 2, CLASSES)
    with pytest.raises(InputError, match="split='second'"):
        ClusterTrainer(model, cluster(graph, part), split="second")
    clustered = cluster(graph, part, split="second")
    for split in ("default", "second"):
        trainer = ClusterTrainer(model, clustered, split="second", progress=False)
        assert trainer.config.split == "second", split
    seen = torch.cat([batch.node_id[batch.train_mask] for batch in trainer.loader])
    assert sorted(seen.tolist()) == first.test.nonzero().squeeze(1).tolist()


def test_inductive_training_sees_training_nodes_and_their_edges_alone():
    """What is outside may be changed at will: the weights are the same."""
    graph = small_graph()
    other = small_graph()
    outside = ~graph.train_mask
    other.x[outside] = torch.randn(int(outside.sum()), IN)
    other.y[outside] = 0
    inside = graph.train_mask[graph.edge_index].all(0)
    pruned = Graph.from_arrays(
        graph.edge_index[:, inside],
        other.x,
        other.y,
        num_classes=CLASSES,
        train_mask=graph.train_mask,
        val_mask=graph.val_mask,
        test_mask=graph.test_mask,
    )
    found = []
    for seen in (graph, other, pruned):
        trainer = small_trainer(None, graph=seen, inductive=True, keep="last", evaluate_every=99)
        trainer.fit()
        found.append(weights_of(trainer))
        for batch in trainer.loader:
            assert bool(batch.train_mask.all())
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])
    transductive = small_trainer(None, keep="last", evaluate_every=99)
    transductive.fit()
    assert not torch.equal(weights_of(transductive)["convs.0.bias"], found[0]["convs.0.bias"])


@pytest.mark.parametrize(
    ("optimizer", "fault"),
    [
        (torch.optim.LBFGS, "evaluates the loss several times"),
        (lambda parameters: None, "no optimizer"),
        (torch.optim.SparseAdam, "SparseAdam takes sparse gradients"),
        (lambda parameters: torch.optim.Adam(parameters, lr=-1), "cannot be made: Invalid"),
    ],
)
def test_what_trainers_cannot_step_is_no_optimizer(optimizer, fault):
    with pytest.raises(InputError, match=fault):
        small_trainer(None, optimizer=optimizer).start()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", torch.optim.RMSprop])
@pytest.mark.parametrize("found", [None, 3, [3], [None], [{"lr": 1.0}], [{"params": 3}], ["abc"]])
def test_groups_of_parameters_hold_parameters(found, optimizer):
    with pytest.raises(InputError, match=r"parameter_groups returned .*model\.parameters\(\)"):
        options = ClusterOptions(None, None, optimizer=optimizer, parameter_groups=lambda m: found)
        make_optimizer(options, Learnt(nn.Linear(1, 1), gs.NodeTask()))


def test_a_parameter_in_two_groups_is_named():
    def twice(model):
        return [{"params": list(model.parameters())} for _ in range(2)]

    with pytest.raises(InputError, match="'adam' with parameter_groups cannot be made: some"):
        small_trainer(None, parameter_groups=twice).start()


def test_callbacks_are_a_list():
    with pytest.raises(InputError, match="a list of Callbacks"):
        small_trainer(None, callbacks=gs.Callback())


@pytest.mark.parametrize("trainer", [ClusterTrainer, gs.LayerwiseTrainer, gs.PipelineTrainer])
@pytest.mark.parametrize("value", [np.arange(2), torch.arange(2)], ids=["array", "tensor"])
def test_an_array_for_one_value_is_refused_by_name(trainer, value):
    graph, model = small_graph(), gs.nn.GCN(IN, HIDDEN, 2, CLASSES)
    for name in inspect.signature(trainer).parameters.keys() - {"model", "graph"}:
        try:
            trainer(model, graph, **{name: value})
        except gs.GnnscaleError as error:
            assert name in str(error) or name == "run_dir", error  # "a path is text, not …"
        else:
            assert name in ("class_weight", "task"), name


def test_tables_and_features_of_other_types_are_refused_by_name():
    for name in ("norm_kwargs", "act_kwargs"):
        for value in (-4.2e16, "a", [1], torch.ones(3)):
            with pytest.raises(InputError, match=name):
                gs.nn.GAT(IN, HIDDEN, 2, CLASSES, norm="batch_norm", **{name: value})
    x = torch.ones(6, IN, dtype=torch.int8)
    with pytest.raises(InputError, match="features are floating point"):
        gs.nn.GCN(IN, HIDDEN, 2, CLASSES)(x, torch.zeros(2, 3, dtype=torch.int64))
