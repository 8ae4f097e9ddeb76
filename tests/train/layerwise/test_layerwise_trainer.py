"""What training layer by layer promises of every model, controller and report."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph import Split
from gnnscale.train.controllers.stopping import Decision
from gnnscale.train.session import Session
from tests.helpers.memory import few_columns
from tests.helpers.small_runs import CLASSES, HIDDEN, IN, assert_same, small_graph, weights_of
from tests.helpers.strategies import graphs
from tests.train.layerwise.layerwise_cases import MODELS, layerwise, sage, split_of

# --- any model --------------------------------------------------------------------------------


class Watch(gs.Callback):
    """Which weights and buffers each layer's epochs change."""

    def __init__(self) -> None:
        self.changed: dict[int, set[str]] = {}

    def on_fit_start(self, trainer):
        self.before = weights_of(trainer)
        self.names = set(trainer.model.state_dict())

    def on_epoch_end(self, trainer, row):
        now = weights_of(trainer)
        assert set(now) == self.names  # the classifier is no part of the model
        changed = {name for name in now if not torch.equal(now[name], self.before[name])}
        self.changed.setdefault(row["layer"], set()).update(changed)
        self.before = now


TRAINED = [
    "GCN, narrow", "SAGE", "GIN, trained eps", "Cluster-GCN, concatenated", "TAG", "GCNII",
    "DeepGCN", "dense residual", "JK cat", "activation and dropout first", "pair norm",
    "Sequential", "APPNP tail", "perceptron first", "user's", "head", "SIGN, wide",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAINED)
def test_a_layer_changes_its_own_weights_alone(name):
    watch = Watch()
    trainer = layerwise(MODELS[name](), small_graph(), callbacks=[watch], lr=0.05, keep="last")
    report = trainer.fit()
    assert len(report.layers) == len(watch.changed)
    for one, other in itertools.combinations(watch.changed.values(), 2):
        assert not one & other
    parameters = {name for name, _ in trainer.model.named_parameters()}
    assert set().union(*watch.changed.values()) >= parameters
    assert_same(weights_of(trainer), watch.before)


@pytest.mark.parametrize("name", ["GCN, narrow", "GIN", "JK cat", "DeepGCN"])
def test_rows_in_files_train_to_the_same_weights(name, tmp_path):
    graph = small_graph(nodes=120)

    def trained(**options):
        torch.manual_seed(0)
        trainer = layerwise(MODELS[name](), graph, **options)
        trainer.fit()
        return weights_of(trainer)

    expected = trained()
    assert_same(trained(storage=tmp_path, memory="100MB"), expected)
    with few_columns(600):
        assert_same(trained(storage=tmp_path), expected)


@settings(max_examples=8)
@given(
    graph=graphs(min_nodes=1, sparse_x=None, unlabelled=True, dtype=torch.float32),
    name=st.sampled_from(["GCN", "SAGE, narrow", "GIN, trained eps", "TAG", "residual", "SGC"]),
    inductive=st.booleans(),
    batch_rows=st.sampled_from([1, 2, 100]),
    rows_dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
)
def test_any_graph_is_trained_on(graph, name, inductive, batch_rows, rows_dtype):
    """One node, one training node, isolated nodes, one class, no validation set."""
    model = MODELS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            pytest.fail("takes the variance of a batch, which may be of one row here")
    trainer = layerwise(
        model, graph, inductive=inductive, batch_rows=batch_rows, rows_dtype=rows_dtype
    )
    report = trainer.fit()
    assert report.stopped == "layers" and len(report.rows) == 2 * len(report.layers)
    assert all(bool(value.isfinite().all()) for value in weights_of(trainer).values())


def test_a_batch_of_one_row_is_refused_where_a_norm_takes_its_variance():
    graph = small_graph()
    one = torch.arange(graph.num_nodes) == 4
    alone = split_of(graph, Split(one, graph.splits["default"].val, graph.splits["default"].test))
    model = gs.nn.GCN(IN, HIDDEN, 2, CLASSES, norm="batch_norm")
    with pytest.raises(InputError, match=r"a training batch has 1 node.*batch_rows"):
        layerwise(model, alone).fit()


@pytest.mark.parametrize("batch_rows", [3, 23])
def test_one_row_more_than_full_batches_is_no_batch_of_its_own(batch_rows):
    graph = small_graph()
    train = torch.arange(graph.num_nodes) < batch_rows + 1
    split = graph.splits["default"]
    some = split_of(graph, Split(train, split.val & ~train, split.test & ~train))
    model = gs.nn.GCN(IN, HIDDEN, 2, CLASSES, norm="batch_norm")
    assert layerwise(model, some, batch_rows=batch_rows).fit().final


# --- controllers ------------------------------------------------------------------------------


class Never:
    """Would never stop; notes what it is told."""

    needs_validation = False

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.told: list = []

    def begin(self, layer, layers):
        self.begun.append((layer, layers))

    def decide(self, progress):
        self.told.append(progress)
        return Decision(False, p_stop=0.25)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

    def describe(self):
        return {"controller": "Never"}


def test_a_controller_that_never_stops_is_bounded():
    controller = Never()
    report = layerwise(sage(), small_graph(), controller, epochs=3, evaluate_every=2).fit()
    assert [layer["epochs"] for layer in report.layers] == [3, 3]
    assert [layer["stopped"] for layer in report.layers] == ["epochs", "epochs"]
    assert controller.begun == [(0, 2), (1, 2)]
    told = [(p.layer, p.layers, p.epoch, p.loss) for p in controller.told]
    assert told == [
        (row["layer"] - 1, 2, i % 3 + 1, row["loss"]) for i, row in enumerate(report.rows)
    ]
    assert [p.metric is None for p in controller.told] == [True, False, True] * 2
    assert all(row["p_stop"] == 0.25 for row in report.rows)


def test_the_report_has_a_row_an_epoch_and_one_a_layer():
    report = layerwise(sage(), small_graph(), evaluate_every=1).fit()
    assert [(row["epoch"], row["layer"]) for row in report.rows] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    for row in report.rows:
        assert row["lr"] == 0.005 and row["seconds"] > 0 and row["nodes_per_second"] > 0
        assert 0 <= row["val_accuracy"] <= 1
    for number, layer in enumerate(report.layers, 1):
        assert layer["layer"] == number and layer["epochs"] == 2
        assert layer["stopped"] == "fixed epochs"
        rows = [row for row in report.rows if row["layer"] == number]
        assert layer["loss"] == rows[-1]["loss"]
        assert layer["seconds"] == pytest.approx(sum(row["seconds"] for row in rows))
        assert layer["aggregate_seconds"] > 0
        assert layer["val_accuracy"] == max(row["val_accuracy"] for row in rows)
    assert report.final.keys() == {"train", "val", "test"}


def test_the_last_layer_s_metric_is_the_model_s():
    """The rows of validation nodes are exact: so are the figures of the last layer."""
    trainer = layerwise(sage(norm="graph_norm"), small_graph(), evaluate_every=1, keep="last")
    report = trainer.fit()
    assert report.rows[-1]["val_accuracy"] == trainer.evaluate("val")["accuracy"]
    inductive = layerwise(sage(), small_graph(), evaluate_every=1, inductive=True, keep="last")
    assert inductive.fit().rows[-1]["val_accuracy"] == inductive.evaluate("val")["accuracy"]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_layer_ends_with_the_weights_that_are_asked_for(keep):
    kept = []
    real = Session.keep_best

    class Last(gs.Callback):
        def on_epoch_end(self, trainer, row):
            self.weights = weights_of(trainer)

    def noted(session, *arguments, **options):
        kept.append(session.source.epoch)
        real(session, *arguments, **options)

    last = Last()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "keep_best", noted)
        trainer = layerwise(
            sage(), small_graph(), gs.FixedEpochs(6), lr=0.3, keep=keep, evaluate_every=1,
            callbacks=[last],
        )  # fmt: skip
        report = trainer.fit()
    if keep == "last":
        assert_same(weights_of(trainer), last.weights)
    best = max(row["val_accuracy"] for row in report.rows if row["layer"] == 2)
    assert report.layers[1]["val_accuracy"] == best
    if keep == "best":
        assert trainer.evaluate("val")["accuracy"] == best
        assert report.layers[1]["best_epoch"] == kept[-1]


def test_a_callback_that_stops_ends_the_run():
    class Stop(gs.Callback):
        def on_epoch_end(self, trainer, row):
            trainer.stop = row["epoch"] == 1

    report = layerwise(sage(), small_graph(), callbacks=[Stop()]).fit()
    assert report.stopped == "callback" and len(report.rows) == 1
    assert report.layers[0]["stopped"] == "callback" and report.final
