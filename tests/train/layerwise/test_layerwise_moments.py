"""Norms in layer-wise training take the statistics of the whole graph, as the test does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric import nn as pyg

import gnnscale as gs
import gnnscale.nn as gsnn
from gnnscale.nn import Block, Context, LayeredGNN
from gnnscale.nn.modules import evaluation_mode
from gnnscale.nn.norms.statistics import Moments
from gnnscale.train.layerwise.moments import Deviations
from gnnscale.train.layerwise.sections import sections_of
from gnnscale.train.layerwise.streams import AGGREGATED, SectionInput
from tests.helpers.layers import shaken
from tests.helpers.small_runs import small_graph, weights_of
from tests.helpers.strategies import graphs
from tests.train.layerwise.layerwise_cases import CLASSES, HIDDEN, IN, kept, place_of, stream_of

WIDE = 100
GRAPH_WISE = {"norm": "layer_norm", "norm_kwargs": {"mode": "graph"}}


def _mlp(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(IN, HIDDEN), norm, nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


MODELS = {
    "GCN": lambda: gsnn.GCN(IN, HIDDEN, 2, CLASSES, norm="graph_norm"),
    "GCN, widening": lambda: gsnn.GCN(IN, 3 * IN, 2, CLASSES, norm="graph_norm", dropout=0.3),
    "SAGE": lambda: gsnn.GraphSAGE(IN, HIDDEN, 2, CLASSES, norm="graph_norm", dropout=0.3),
    "SAGE, layer norm": lambda: gsnn.GraphSAGE(IN, 2 * HIDDEN, 2, CLASSES, **GRAPH_WISE),
    "GIN": lambda: LayeredGNN([Block(pyg.GINConv(_mlp(gsnn.GraphNorm(HIDDEN))), act=None)]),
    "GIN, trained eps": lambda: LayeredGNN(
        [Block(pyg.GINConv(_mlp(gsnn.GraphNorm(HIDDEN)), 0.3, train_eps=True), act=None)]
    ),
    "TAG": lambda: LayeredGNN([Block(pyg.TAGConv(IN, CLASSES), norm="graph_norm")]),
    "perceptron": lambda: LayeredGNN(
        [Block(nn.Linear(IN, HIDDEN), norm="graph_norm"), Block(pyg.GCNConv(HIDDEN, CLASSES))]
    ),
    "norm first": lambda: LayeredGNN(
        [
            Block(pyg.GCNConv(IN, HIDDEN), act=None),
            Block(pyg.GCNConv(HIDDEN, CLASSES), norm="graph_norm", order="norm-act-conv"),
        ]
    ),
}

OTHERS = {
    "batch norm": lambda: gsnn.GCN(IN, HIDDEN, 2, CLASSES, norm="batch_norm"),
    "rows by themselves": lambda: gsnn.GCN(
        IN, HIDDEN, 2, CLASSES, norm="layer_norm", norm_kwargs={"mode": "node"}
    ),
    "no norm": lambda: gsnn.GCN(IN, HIDDEN, 2, CLASSES),
    "dropout between": lambda: LayeredGNN(
        [
            Block(pyg.GCNConv(IN, HIDDEN), "graph_norm", dropout=0.3, order="conv-dropout-norm"),
            Block(pyg.GCNConv(HIDDEN, CLASSES)),
        ]
    ),
    "dropout first": lambda: LayeredGNN(
        [
            Block(pyg.GCNConv(IN, HIDDEN), "graph_norm", dropout=0.3, order="dropout-conv-norm"),
            Block(pyg.GCNConv(HIDDEN, CLASSES)),
        ]
    ),
    "activation between": lambda: LayeredGNN(
        [
            Block(pyg.GCNConv(IN, HIDDEN), "graph_norm", order="conv-act-norm"),
            Block(pyg.GCNConv(HIDDEN, CLASSES)),
        ]
    ),
    "residual between": lambda: LayeredGNN(
        [Block(pyg.GCNConv(IN, IN), "graph_norm", residual=True, order="conv-residual-norm")]
    ),
}


def normalised(section, rows: SectionInput, graph, exact: bool) -> Tensor:
    """What the section's first norm makes of rows, by their own statistics or the whole graph's."""
    context = Context(graph.adj, False)
    context.slots = {slot: kept(rows, slot) for slot in rows.parts if slot != AGGREGATED}
    x = kept(rows, AGGREGATED)
    assert rows.norm is not None
    for phase in section.trained_phases:
        if phase is rows.norm.phase:
            return rows.norm(x) if exact else phase(x, context)
        x = phase(x, context)
    raise AssertionError("the norm is not in the section")


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=6)
@given(
    graph=graphs(min_nodes=2, sparse_x=False),
    place=st.sampled_from(["memory", "files", "columns"]),
    chunk_rows=st.sampled_from([1, 3, 1000]),
    data=st.data(),
)
def test_equals_the_norm_of_the_whole_layer(name, graph, place, chunk_rows, data):
    """Values and gradients on some rows, against autograd through all rows, in float64."""
    model = shaken(MODELS[name]()).double()
    some = torch.tensor(sorted(data.draw(st.sets(st.integers(0, graph.num_nodes - 1), min_size=1))))
    section = sections_of(model)[0]
    with place_of(place, graph) as options:
        stream = stream_of(model, graph, chunk_rows=chunk_rows, **options)
        whole, part = stream.collect(section, [torch.arange(graph.num_nodes), some], WIDE)
        expected = normalised(section, whole, graph, exact=False)[some]
        found = normalised(section, part, graph, exact=True)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
        weights = [*section.parameters.values()]
        weight = torch.randn(found.shape, dtype=found.dtype)
        gradients = (
            torch.autograd.grad((out * weight).sum(), weights, allow_unused=True)
            for out in (found, expected)
        )
        for ours, theirs in zip(*gradients, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_where_statistics_are_not_those_of_a_linear_map_batches_give_them(name):
    graph, section_model = small_graph(), OTHERS[name]()
    stream = stream_of(section_model, graph)
    (rows,) = stream.collect(sections_of(section_model)[0], [torch.arange(9)], WIDE)
    assert rows.norm is None


def test_rows_wider_than_a_batch_are_not_worth_it():
    graph, model = small_graph(), MODELS["SAGE"]()
    for widest, exact in ((2 * IN - 1, False), (2 * IN, True)):
        section, stream = sections_of(model)[0], stream_of(model, graph)
        (rows,) = stream.collect(section, [torch.arange(9)], widest)
        assert (rows.norm is not None) == exact


@given(
    rows=st.integers(2, 200),
    width=st.integers(1, 6),
    chunk=st.integers(1, 300),
    offset=st.sampled_from([0.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_the_spread_of_rows_does_not_cancel(rows, width, chunk, offset, seed):
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=random)
    z = (torch.randn(rows, width, generator=random) @ mixing + offset).float()
    spread = Deviations()
    for part in z.split(chunk):
        spread.add(part)
    exact = z.double()
    apart = exact - exact.mean(0)
    size = float(apart.square().sum(0).max())
    torch.testing.assert_close(spread.mean, exact.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(spread.squares, apart.T @ apart, rtol=0, atol=1e-6 * size)
    scale = torch.logspace(0, 9, width, dtype=torch.float64)
    spread.squares = spread.squares * torch.outer(scale, scale)
    axes = spread.axes() / scale
    torch.testing.assert_close(axes.T @ axes, apart.T @ apart, rtol=0, atol=2e-6 * size)
    spread.squares = spread.squares / torch.outer(scale, scale)
    axes = spread.axes()
    assert axes.shape[0] <= width
    torch.testing.assert_close(axes.T @ axes, spread.squares, rtol=0, atol=1e-6 * size)


def test_moments_of_a_narrow_map_of_rows_far_from_the_origin():
    """In float32, with means a thousand times the deviations."""
    graph = small_graph(nodes=300)
    graph.x = graph.x + 1e3
    model = LayeredGNN([Block(nn.Linear(IN, HIDDEN), norm="graph_norm"), nn.Linear(HIDDEN, 3)])
    section, stream = sections_of(model)[0], stream_of(model, graph)
    (rows,) = stream.collect(section, [torch.arange(4)], WIDE)
    lin = model.blocks[0].conv
    exact = graph.x.double() @ lin.weight.double().T + lin.bias.double()
    found, expected = rows.norm.moments(), Moments.of(exact.detach())
    torch.testing.assert_close(found.deviation, expected.deviation, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("inductive", [False, True])
def test_training_rows_and_validation_rows_have_their_stream_s_own_statistics(inductive):
    """A layer in evaluation gives, on validation rows, what exact inference gives there."""
    graph, model = small_graph(), MODELS["SAGE"]()
    trainer = gs.LayerwiseTrainer(
        model, graph, gs.FixedEpochs(2), 16, inductive=inductive, progress=False, keep="last"
    )
    trainer.prepare()
    section, streams = next(iter(trainer._sessions.walk()))
    session = trainer._sessions.opened(section, streams)
    validation, rows = session.validator._validation, session.source._rows
    held = graph.split("default").val.nonzero().squeeze(1)
    with torch.no_grad(), evaluation_mode(trainer.model):
        found = torch.cat([out for out, _ in validation.outputs(session.trained)])
        for stream in streams:
            stream.advance(section, set())
    expected = streams[-1].layer.rows(0, graph.num_nodes)[held]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    sizes = [rows.sample().norm.rows, next(validation._rows.in_order(4)).norm.rows]
    train = int(graph.split("default").train.sum())
    assert sizes == [train if inductive else graph.num_nodes, graph.num_nodes]


def test_a_resumed_run_is_the_same_run(tmp_path):
    def run(**options):
        torch.manual_seed(3)
        trainer = gs.LayerwiseTrainer(
            MODELS["SAGE"](), small_graph(), gs.FixedEpochs(3), 10, progress=False, **options
        )
        trainer.fit()
        return weights_of(trainer)

    class Stop(gs.Callback):
        def on_epoch_end(self, trainer, row):
            if row["epoch"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(run_dir=tmp_path, checkpoint_every=1, callbacks=[Stop()])
    whole, resumed = run(), run(run_dir=tmp_path, checkpoint_every=1)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
