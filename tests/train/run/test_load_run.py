"""load_run: the same model, graph, metrics and course in a new process."""

from __future__ import annotations

import functools
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import gnnscale as gs
from gnnscale.errors import RunMismatch, StoreError
from gnnscale.graph import Partition, cluster
from gnnscale.train import Callback, NodeTask, load_run
from tests.helpers import small_runs
from tests.helpers.graph_runs import trainer as graph_trainer
from tests.helpers.small_runs import (
    MODELS,
    assert_same,
    opened_elsewhere,
    same_course,
    small_graph,
    small_trainer,
    weights_of,
)
from tests.helpers.strategies import graphs, partitions


class StopAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == self.epoch:
            raise KeyboardInterrupt


def stopped_run(folder, epoch=2, **options):
    """A run stopped after some epochs."""
    with pytest.raises(KeyboardInterrupt):
        small_trainer(folder, callbacks=[StopAt(epoch)], **options).fit()


def test_in_a_new_process(tmp_path, forks):
    """Finished and stopped runs of all kinds, opened, evaluated and trained to their end."""
    graph = small_graph(weighted=True)
    part = Partition(torch.arange(graph.num_nodes) % 5, 5)
    source = "synthetic:planted?nodes=60&classes=3&features=5&degree=4"
    loaded = gs.load(source)
    cases = {
        "finished": {},
        "lazy": {
            "model": "lazy",
            "class_weight": [0.1, 0.2, 0.7],
            "label_smoothing": 0.1,
        },
        "opaque": {"model": "gat", "scheduler": "onecycle", "inductive": True},
        "own functions": {
            "optimizer": "momentum-partial",
            "scheduler": "step",
            "parameter_groups": "two_groups",
        },
        "own model": {"model": "noisy"},
        "clustered": {"graph": cluster(graph, part)},
        "clustered on disk": {"graph": cluster(graph, part, tmp_path / "store")},
        "from a source": {"graph": loaded},
    }
    wholes, expected, requests = {}, {}, {}
    for name, options in cases.items():
        wholes[name] = small_trainer(None, **options)
        wholes[name].fit()
        if name == "finished":
            small_trainer(tmp_path / name, **options).fit()
        else:
            stopped_run(tmp_path / name, **options)
        given = {"model": small_runs.noisy_model()} if name == "own model" else {}
        opened = load_run(tmp_path / name, **given)
        expected[name] = (opened.trainer.evaluate("test"), opened.trainer.predict())
        model = {"model": "noisy"} if given else {}
        requests[name] = options if name == "own functions" else model
    assert not (tmp_path / "from a source" / "graph").exists()
    assert not (tmp_path / "clustered on disk" / "graph").exists()
    for name, (found, predicted) in opened_elsewhere(forks, tmp_path, requests).items():
        assert found["metrics"] == expected[name][0], name
        assert found["rows"] == (3 if name == "finished" else 1), name
        assert found["stopped"] == "epochs", name
        assert torch.equal(predicted, expected[name][1]), name
        weights = load_file(tmp_path / name / "model.safetensors")
        assert_same(weights, weights_of(wholes[name]))


def test_it_is_the_same_graph_in_its_own_order(tmp_path):
    graph = small_graph(weighted=True)
    small_trainer(tmp_path, graph=graph).fit()
    run = load_run(tmp_path)
    assert run.graph.fingerprint() == graph.fingerprint()
    assert torch.equal(run.trainer.predict([3, 1]), run.trainer.predict()[[3, 1]])


@settings(max_examples=40)
@given(data=st.data())
def test_a_clustered_graph_gives_back_the_original(data):
    graph = data.draw(graphs(min_nodes=1, edge_attr=None, sparse_x=None, unlabelled=True))
    part = data.draw(partitions(graph))
    assert cluster(graph, part).original().fingerprint() == graph.fingerprint()


def test_best_weights_of_a_stopped_run(tmp_path):
    """Those to predict with; training goes on from the last ones."""
    whole = small_trainer(None, epochs=6, lr=0.05)
    report = whole.fit()
    assert report.best_epoch < 6  # else nothing is shown
    stopped_run(tmp_path, 5, epochs=6, lr=0.05)
    run = load_run(tmp_path)
    assert run.trainer.evaluate("val")["accuracy"] == run.report.best
    same_course(run.trainer.fit(), report)
    assert_same(weights_of(run.trainer), weights_of(whole))


def test_what_must_be_given_is_named(tmp_path):
    stopped_run(tmp_path / "model", model="noisy")
    with pytest.raises(RunMismatch, match="model="):
        load_run(tmp_path / "model")
    with pytest.raises(RunMismatch, match="another model"):
        load_run(tmp_path / "model", model=gs.nn.GCN(5, 6, 2, 3))

    stopped_run(tmp_path / "functions", optimizer="momentum", scheduler="step")
    run = load_run(tmp_path / "functions")
    run.trainer.evaluate("test")
    with pytest.raises(RunMismatch, match=r"momentum\(\): pass optimizer="):
        run.trainer.fit()

    class Own(NodeTask):
        pass

    stopped_run(tmp_path / "task", task=Own())
    with pytest.raises(RunMismatch, match="task="):
        load_run(tmp_path / "task")
    assert load_run(tmp_path / "task", task=Own()).trainer.fit().stopped == "epochs"


def test_a_graph_that_is_gone_or_another_one(tmp_path):
    graph = small_graph()
    small_trainer(tmp_path / "run", graph=graph).fit()
    shutil.rmtree(tmp_path / "run" / "graph")
    with pytest.raises(RunMismatch, match="graph="):
        load_run(tmp_path / "run")
    run = load_run(tmp_path / "run", graph=graph)
    assert run.trainer.fit() == run.report

    path = tmp_path / "store"
    part = Partition(torch.arange(graph.num_nodes) % 5, 5)
    small_trainer(tmp_path / "on disk", graph=cluster(graph, part, path)).fit()
    cluster(small_graph(seed=3), part, path)
    with pytest.raises(RunMismatch, match="no longer the one"):
        load_run(tmp_path / "on disk")
    shutil.rmtree(path)
    with pytest.raises(StoreError, match="store"):
        load_run(tmp_path / "on disk")


def test_no_run(tmp_path):
    with pytest.raises(StoreError, match=r"run\.json"):
        load_run(tmp_path)


@pytest.mark.parametrize("clustered", [False, True])
def test_a_loaded_run_can_be_started_anew(clustered, tmp_path):
    """Its graph lies in the folder that is then cleared."""
    graph = small_graph()
    given = cluster(graph, Partition(torch.arange(48) % 6, 6)) if clustered else graph
    small_trainer(tmp_path, graph=given).fit()
    run = load_run(tmp_path)
    report = run.trainer.fit(resume=False)
    again = load_run(tmp_path)
    assert again.trainer.evaluate("test") == report.final["test"]


def layerwise(folder, **options):
    torch.manual_seed(7)
    settings = {"epochs": 2, "num_parts": 4, "batch_rows": 8, "progress": False, **options}
    return gs.LayerwiseTrainer(MODELS["gat"](), small_graph(), run_dir=folder, **settings)


def pipeline(folder, **options):
    torch.manual_seed(7)
    settings = {"num_parts": 6, "stages": [1], "micro_batches": 2, "epochs": 1, "method": "random"}
    return gs.PipelineTrainer(
        MODELS["gcn"](), small_graph(), run_dir=folder, progress=False, **settings, **options
    )


def many_graphs(folder):
    return graph_trainer(run_dir=folder, epochs=1)


RUNS = {
    "clusters": small_trainer,
    "clusters, inductive": functools.partial(small_trainer, inductive=True),
    "clusters, first hop": functools.partial(small_trainer, model="gcn", precompute=True),
    "clusters, drawn anew": functools.partial(small_trainer, method="kaminpar"),
    "clusters, attention": functools.partial(small_trainer, model="gat"),
    "clusters, last": functools.partial(small_trainer, keep="last", chunk_rows=7),
    "layers": layerwise,
    "layers, together": functools.partial(layerwise, fine_tune={"epochs": 1, "num_parts": 3}),
    "stages": pipeline,
    "graphs": many_graphs,
}


@pytest.mark.parametrize("make", RUNS.values(), ids=RUNS)
def test_whoever_opens_a_finished_run_predicts_the_same_bits(make, tmp_path):
    """Sums depend on the order of nodes: the run's is taken, not that of the graph as given."""
    first = make(tmp_path)
    first.fit()
    expected, metrics = first.predict(), first.evaluate("test")
    again = make(tmp_path)
    again.fit()
    loaded = gs.load_run(tmp_path).trainer
    for trainer in (first, again, loaded):
        assert torch.equal(trainer.predict(), expected)
        assert trainer.evaluate("test") == metrics
    assert torch.equal(loaded.embed(), first.embed())
    first.fit()
    assert torch.equal(first.predict(), expected)
