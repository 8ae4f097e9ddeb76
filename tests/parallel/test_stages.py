"""Stages one after another are the whole model, to the last bit."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import (
    GATConv,
    GCNConv,
    GraphSAGE,
    JumpingKnowledge,
    MessageNorm,
    SAGEConv,
    Sequential,
    SGConv,
)

import gnnscale as gs
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR
from gnnscale.nn import Block, Context, LayeredGNN
from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.nn.blocks.context import run_phases
from gnnscale.parallel.stages import cut, stage_faults

IN, HIDDEN, OUT, NODES = 6, 8, 3, 30


def of_blocks(conv, norm=None, *, depth=4, jk=None):
    layers = [conv(IN, HIDDEN), *(conv(HIDDEN, HIDDEN) for _ in range(depth - 1))]
    blocks = [
        Block(layer, norm, dropout=0.4, residual=number > 0) for number, layer in enumerate(layers)
    ]
    joined = depth * HIDDEN if jk == "cat" else HIDDEN
    return LayeredGNN(blocks, nn.Sequential(nn.Dropout(0.2), nn.Linear(joined, OUT)), jk=jk)


def attention(in_channels, out_channels):
    return GATConv(in_channels, out_channels // 2, heads=2, dropout=0.3)


def sequential():
    """A value that is read three blocks later, a joined list, and names that stages use too."""
    steps = [
        (GCNConv(IN, HIDDEN), "x, edge_index -> a"),
        (nn.ReLU(), "a -> a"),
        (nn.Dropout(0.3), "a -> b"),
        (SAGEConv(HIDDEN, HIDDEN), "b, edge_index -> b"),
        (nn.BatchNorm1d(HIDDEN), "b -> b"),
        (nn.Linear(HIDDEN, HIDDEN), "b -> c"),
        (lambda a, b, c: [a, b, c], "a, b, c -> all"),
        (JumpingKnowledge("cat"), "all -> d"),
        (nn.Linear(3 * HIDDEN, HIDDEN), "d -> d"),
        (lambda d, a: d + a, "d, a -> d"),
        (GATConv(HIDDEN, OUT), "d, edge_index -> d"),
    ]
    return gs.nn.as_layered(Sequential("x, edge_index", steps))


MODELS = {
    "gcn": lambda: of_blocks(GCNConv, "graph_norm"),
    "sage_max": lambda: of_blocks(SAGEConv, "batch_norm", jk="max"),
    "gat_cat": lambda: of_blocks(attention, "layer_norm", jk="cat"),
    "gin": lambda: gs.nn.GIN(IN, HIDDEN, 4, OUT, dropout=0.5, norm="batch_norm"),
    "clusters": lambda: of_blocks(GCNConv, lambda width: gs.nn.GraphNorm(width, over="cluster")),
    "messages": lambda: of_blocks(GCNConv, lambda width: MessageNorm(learn_scale=True), jk="max"),
    "gcnii": lambda: gs.nn.GCNII(IN, HIDDEN, 4, OUT, dropout=0.4),
    "normed_head": lambda: LayeredGNN(
        [GCNConv(IN, HIDDEN), GCNConv(HIDDEN, HIDDEN)],
        nn.Sequential(nn.BatchNorm1d(HIDDEN), nn.Linear(HIDDEN, OUT)),
    ),
    "deep": lambda: gs.nn.DeepGCN(IN, HIDDEN, 4, OUT, dropout=0.4),
    "pyg": lambda: gs.nn.as_layered(GraphSAGE(IN, HIDDEN, 4, OUT, dropout=0.4, jk="cat")),
    "sequential": sequential,
}


def drawn(seed, sparse):
    random = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, NODES, (2, 4 * NODES), generator=random)
    x = torch.randn(NODES, IN, generator=random)
    ids = torch.randperm(10 * NODES, generator=random)[:NODES]
    x = CSR.from_dense(x * (x > 0)) if sparse else x
    return x, Adjacency.from_edge_index(edges, NODES), ids


def context(adj, ids, step, runner=run_phases):
    """A new one for every stage: each has its own copy of the batch."""
    segments = {"cluster": torch.tensor([0, NODES // 3, NODES])}
    return Context(adj, True, 3, epoch=1, step=step, node_id=ids, segments=segments, runner=runner)


def run_in_stages(stages, x, adj, ids, step, runner):
    """Output after a forward and a backward pass of every stage, values detached at every cut."""
    values, kept = {"x": x}, []
    for stage in stages:
        leaves = {
            name: value.detach().requires_grad_(name in stage.returns_gradients_for)
            if stage.index
            else value
            for name, value in values.items()
        }
        values = stage(leaves, context(adj, ids, step, runner))
        kept.append((leaves, values))
    out = values["x"]
    gradients = {"x": 2 * out.detach()}
    for stage, (leaves, values) in reversed(list(zip(stages, kept, strict=True))):
        names = [name for name in values if stage.last or name in stage.receives_gradients_for]
        assert all(values[name].requires_grad for name in names)
        assert not any(v.requires_grad for name, v in values.items() if name not in names)
        torch.autograd.backward([values[n] for n in names], [gradients[n] for n in names])
        gradients = {name: leaves[name].grad for name in stage.returns_gradients_for}
    return out.detach()


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=6)
@given(data=st.data())
def test_stages_are_the_whole_model_bit_for_bit(name, data):
    seed = data.draw(st.integers(0, 99))
    torch.manual_seed(seed)
    whole = MODELS[name]().train()
    model = copy.deepcopy(whole)
    inner = st.integers(1, len(model.blocks) - 1)
    cuts = sorted(data.draw(st.sets(inner, min_size=1), label="cuts"))
    x, adj, ids = drawn(seed, data.draw(st.booleans(), label="sparse"))
    runner = checkpointed() if data.draw(st.booleans(), label="checkpointed") else run_phases
    half = data.draw(st.booleans(), label="bf16")
    stages = cut(model, cuts)
    for step in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            expected = whole(x, adj, context=context(adj, ids, step))
            out = run_in_stages(stages, x, adj, ids, step, runner)
        torch.autograd.backward(expected, 2 * expected.detach())
        assert torch.equal(out, expected)
    found = dict(model.named_parameters())
    for key, parameter in whole.named_parameters():
        assert (parameter.grad is None) == (found[key].grad is None), key
        assert parameter.grad is None or torch.equal(found[key].grad, parameter.grad), key
    for (key, one), (_, other) in zip(whole.named_buffers(), model.named_buffers(), strict=True):
        assert torch.equal(one, other), key


@pytest.mark.parametrize("name", MODELS)
def test_the_dictionaries_of_the_stages_are_the_models(name):
    model = MODELS[name]()
    stages = cut(model, range(1, len(model.blocks)))
    states = [stage.state_dict(keep_vars=True) for stage in stages]
    merged = {key: value for state in states for key, value in state.items()}
    assert sum(map(len, states)) == len(merged)
    expected = model.state_dict(keep_vars=True)
    assert merged.keys() == expected.keys()
    assert all(merged[key] is value for key, value in expected.items())
    for stage in stages:
        stage.eval()
    assert not any(module.training for module in model.modules() if module._parameters)


def test_what_crosses_a_cut_has_its_width_and_its_gradient():
    model = gs.nn.GCNII(IN, HIDDEN, 4, OUT)
    one, two, three = cut(model, [2, 5])
    assert one.receives == [] and three.sends == []
    assert cut(model, [1])[0].sends == [("x", HIDDEN)]  # which is x0
    assert one.sends == two.receives == [("x", HIDDEN), ("x0", HIDDEN)]
    assert two.sends == three.receives == [("x", HIDDEN)]
    assert one.receives_gradients_for == two.returns_gradients_for == {"x", "x0"}
    joined = cut(of_blocks(GCNConv, jk="cat"), [1, 3])
    assert [stage.sends for stage in joined[:2]] == [
        [("x", HIDDEN)],  # which is all that has been collected
        [("x", HIDDEN), ("jumping_knowledge", 3 * HIDDEN)],
    ]


def test_features_that_are_read_again_have_no_gradient():
    steps = [
        (SGConv(IN, HIDDEN), "x, edge_index -> h"),
        (nn.Linear(HIDDEN, HIDDEN), "h -> h"),
        (lambda x, h: torch.cat([x, h], dim=1), "x, h -> h"),
        (nn.Linear(IN + HIDDEN, OUT), "h -> h"),
    ]
    model = gs.nn.as_layered(Sequential("x, edge_index", steps))
    one, _ = cut(model, [1])
    assert one.sends == [("x", HIDDEN), ("value0", IN)]
    assert one.receives_gradients_for == {"x"}


def test_the_first_stage_takes_the_first_hop():
    model = gs.nn.GCN(IN, HIDDEN, 3, OUT, dropout=0.3).train()
    x, adj, ids = drawn(0, False)
    hop = gs.nn.first_propagation(model).aggregate(x, adj)
    first, second = cut(model, [1])
    given = context(adj, ids, 0)
    given.first_hop = hop
    values = first({"x": torch.zeros_like(x)}, given)
    found = second(values, context(adj, ids, 0))["x"]
    assert torch.equal(found, model(x, adj, context=context(adj, ids, 0)))


def test_slots_pass_through_stages_that_do_not_read_them():
    keeps = Block(GCNConv(IN, HIDDEN), saves="kept")
    between = [Block(GCNConv(HIDDEN, HIDDEN)) for _ in range(2)]
    reads = Block(gs.nn.GCNII(HIDDEN, HIDDEN, 1, OUT).blocks[1].conv, reads="kept")
    stages = cut(LayeredGNN([keeps, *between, reads]), [1, 2, 3])
    both = [("x", HIDDEN), ("kept", HIDDEN)]
    assert [stage.sends for stage in stages] == [both[:1], both, both, []]


def test_phases_follow_replaced_parameters():
    model = of_blocks(GCNConv)
    first, last = cut(model, [2])
    x, adj, ids = drawn(0, False)
    before = first({"x": x}, context(adj, ids, 0))
    doubled = {key: 2 * value for key, value in first.state_dict().items()}
    first.load_state_dict(doubled, assign=True)
    after = first({"x": x}, context(adj, ids, 0))
    assert not torch.equal(before["x"], after["x"])
    again = copy.deepcopy(last)
    assert not {id(p) for p in again.parameters()} & {id(p) for p in last.parameters()}
    outs = [stage(after, context(adj, ids, 0))["x"] for stage in (last, again)]
    assert torch.equal(*outs)


def test_a_model_of_one_stage():
    model = of_blocks(GCNConv)
    (stage,) = cut(model, [])
    x, adj, ids = drawn(0, False)
    out = stage({"x": x}, context(adj, ids, 0))["x"]
    assert stage.first and stage.last
    assert torch.equal(out, model(x, adj, context=context(adj, ids, 0)))


def test_shared_weights_are_refused_by_name():
    conv = GCNConv(HIDDEN, HIDDEN)
    model = LayeredGNN([GCNConv(IN, HIDDEN), conv, conv, GCNConv(HIDDEN, OUT)])
    with pytest.raises(UnsupportedModel, match=r"blocks\.1\.conv\.bias of stage 0 is blocks\.2\."):
        cut(model, [2])
    assert len(cut(model, [1, 3])) == 3  # both in one stage
    norm = nn.BatchNorm1d(HIDDEN, affine=False)
    blocks = [Block(GCNConv(IN, HIDDEN), norm), Block(GCNConv(HIDDEN, HIDDEN), norm)]
    with pytest.raises(UnsupportedModel, match="running_mean"):
        cut(LayeredGNN(blocks), [1])


def test_hooks_on_the_model_are_refused():
    model = of_blocks(GCNConv)
    model.register_forward_hook(lambda *_: None)
    with pytest.raises(UnsupportedModel, match="hooks"):
        cut(model, [1])


def test_a_lazy_model_is_refused_by_name():
    with pytest.raises(InputError, match=r"blocks\.0.*in_channels"):
        cut(LayeredGNN([SAGEConv(-1, HIDDEN), SAGEConv(HIDDEN, OUT)]), [1])


class Unsaid(nn.Module):
    """A user's layer that says nothing of its widths."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(IN, HIDDEN)

    def forward(self, x, edge_index):
        return self.lin(x).index_add(0, edge_index[1], self.lin(x)[edge_index[0]])


def test_widths_that_nothing_says_are_found_on_a_sample():
    model = LayeredGNN([Unsaid(), GCNConv(HIDDEN, OUT)])
    with pytest.raises(InputError, match="sample="):
        cut(model, [1])
    graph = gs.Graph.from_arrays(torch.tensor([[0, 1], [1, 2]]), torch.randn(3, IN))
    part = gs.Partition(torch.zeros(3, dtype=torch.int32), 1)
    (batch,) = gs.ClusterLoader(gs.cluster(graph, part), 1, prefetch=0)
    assert cut(model, [1], sample=batch)[0].sends == [("x", HIDDEN)]


@pytest.mark.parametrize(
    "stages", [0, 6, 2.5, "two", [0], [5], [2, 2], [3, 1], [1, 2, 3, 4, 5], ["1"]]
)
def test_stages_that_there_are_not(stages):
    (fault,) = stage_faults(stages, num_blocks=5)
    assert repr(stages) in fault or str(stages) in fault


@pytest.mark.parametrize("stages", ["auto", 1, 5, [], [2, 4], (1,)])
def test_stages_that_there_are(stages):
    assert stage_faults(stages, num_blocks=5) == []


def test_numbers_of_blocks_cover_the_model():
    stages = cut(of_blocks(GCNConv, depth=5), [2, 3])
    assert [stage.numbers for stage in stages] == [range(2), range(2, 3), range(3, 5)]
    assert all(a.numbers.stop == b.numbers.start for a, b in pairwise(stages))
