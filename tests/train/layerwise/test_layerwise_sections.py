"""A model in sections is the same model, and what a section trains on is propagated directly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

import gnnscale.nn as gsnn
from gnnscale.errors import UnsupportedModel
from gnnscale.nn import Block, Context, LayeredGNN
from gnnscale.nn.blocks.phases import Propagate
from gnnscale.train.layerwise.sections import sections_of
from gnnscale.train.layerwise.streams import AGGREGATED
from tests.helpers.layers import assert_equal, dense, evaluated, shaken
from tests.helpers.strategies import graphs
from tests.train.layerwise.layerwise_cases import (
    CLASSES,
    HIDDEN,
    IN,
    MODELS,
    kept,
    place_of,
    run_rows,
    stream_of,
    walked,
)

PLACES = st.sampled_from(["memory", "files", "columns"])
CHUNKS = st.sampled_from([1, 3, 1000, None])


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=2)
@given(
    graph=graphs(min_nodes=2, sparse_x=None),
    place=PLACES,
    chunk_rows=CHUNKS,
    data=st.data(),
)
def test_section_by_section_is_the_model(name, graph, place, chunk_rows, data):
    """Whatever the weights, and wherever layers are kept: P X is exact, and so is what follows."""
    model = shaken(MODELS[name]()).eval()
    features = None if not isinstance(graph.x, torch.Tensor) else graph.x.clone()
    everything = torch.arange(graph.num_nodes)
    some = torch.tensor(sorted(data.draw(st.sets(st.integers(0, graph.num_nodes - 1), min_size=1))))
    context, x = Context(graph.adj, False), graph.x
    with torch.no_grad(), place_of(place, graph) as options:
        stream = stream_of(model, graph, chunk_rows=chunk_rows, **options)
        for section, (whole, part) in walked(model, stream, [everything, some]):
            assert_equal(dense(stream.layer.rows(0, graph.num_nodes)), dense(x))
            for phase in section.before:
                x = phase(x, context)
            if isinstance(section.source, Propagate):
                # Dense, column by column: what P does to the identity.
                p = section.source.propagation
                direct = dense(x)
                if p.hops > 1 or hasattr(p, "weights"):
                    direct = p.aggregate(direct, graph.adj)
                else:
                    direct = p.aggregate(torch.eye(graph.num_nodes).double(), graph.adj) @ direct
                assert_equal(kept(whole, AGGREGATED), direct)
                assert_equal(kept(part, AGGREGATED), direct[some])
            for phase in section.phases[len(section.before) :]:
                x = phase(x, context)
            expected = dense(x)
            assert_equal(dense(run_rows(section, whole, graph)), expected)
            if not section.norms_over_rows:
                assert_equal(dense(run_rows(section, part, graph)), expected[some])
        assert_equal(stream.layer.rows(0, graph.num_nodes), dense(x))
    assert_equal(dense(x), evaluated(model, graph))
    if features is not None:
        assert torch.equal(graph.x, features)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_in_one_section(name):
    model = MODELS[name]()
    sections = sections_of(model)
    owned = [parameter for section in sections for parameter in section.parameters]
    assert sorted(owned) == sorted(name for name, _ in model.named_parameters())
    assert [phase for section in sections for phase in section.phases] == [
        phase for block in model.phases for phase in block
    ]
    holders = [section.index for section in sections if section.parameters]
    assert [section.last for section in sections] == [
        section.index >= holders[-1] for section in sections
    ]


@pytest.mark.parametrize("name", MODELS)
def test_putting_a_section_into_training_mode_reaches_its_dropout_and_norms_alone(name):
    model = MODELS[name]()
    for section in sections_of(model):
        model.eval()
        section.train()
        training = {id(module) for module in model.modules() if module.training}
        assert training <= {id(module) for module in section.modules}
        matters = [p for p in section.phases if type(p).__name__ in ("Dropout", "Statistics")]
        assert training or not matters


def test_a_shared_parameter_is_refused_by_name():
    first, second = pyg.GCNConv(IN, IN), pyg.GCNConv(IN, IN)
    second.lin = first.lin
    model = LayeredGNN([Block(first), Block(second, act=None)])
    with pytest.raises(
        UnsupportedModel, match=r"blocks.0.conv.lin.weight is used in layers 1 and 2"
    ):
        sections_of(model)


def test_one_convolution_run_twice_is_refused():
    conv = pyg.GCNConv(IN, IN)
    with pytest.raises(UnsupportedModel, match="layers 1 and 2"):
        sections_of(LayeredGNN([Block(conv), Block(conv, act=None)]))


def test_shared_modules_without_parameters_are_fine():
    dropout, act = nn.Dropout(0.5), nn.ReLU()
    blocks = [Block(pyg.GCNConv(IN, IN), "batch_norm", act, dropout) for _ in range(3)]
    assert len(sections_of(LayeredGNN(blocks))) == 3


def test_nothing_to_train_is_refused():
    frozen = gsnn.GCN(IN, HIDDEN, 2, CLASSES).requires_grad_(False)
    with pytest.raises(UnsupportedModel, match="no parameters that require gradients"):
        sections_of(frozen)
    with pytest.raises(UnsupportedModel, match="no parameters that require gradients"):
        sections_of(LayeredGNN([Block(pyg.APPNP(2, 0.1))]))


def test_a_frozen_output_layer_is_still_the_last():
    """The layer before it gives no outputs: it needs a classifier of its own."""
    model = gsnn.GCN(IN, HIDDEN, 2, CLASSES)
    model.blocks[1].requires_grad_(False)
    assert [section.last for section in sections_of(model)] == [False, True]


def test_norms_before_a_convolution_belong_to_the_section_before():
    model = MODELS["pre-activation"]()
    first, second, third, last = sections_of(model)
    assert "blocks.1.norm.weight" in second.parameters and third.index == 2
    assert first.source is None and "blocks.0.norm.weight" in first.parameters
    assert last.source is not None
