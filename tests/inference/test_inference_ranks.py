"""Inference that ranks share equals one process's, bit for bit."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch

from gnnscale.graph import Graph
from gnnscale.inference import ranks
from tests.helpers.rank_runs import Ranks

SETTING = """
import contextlib, tempfile
from pathlib import Path
import numpy as np
from torch import nn
from torch_geometric import nn as pyg
import gnnscale as gs
from gnnscale import comm
from gnnscale.inference import engine, evaluate, make_metric, predict, stream
from gnnscale.inference.ranks import undivided
from gnnscale.nn import Block, LayeredGNN, as_layered
from tests.helpers.memory import few_columns

NODES, IN, CLASSES = 50, 5, 3
comm.start()
assert comm.world_size() == 2
torch.manual_seed(0)
degrees = torch.arange(NODES).remainder(7) * torch.tensor([4] * 10 + [1] * 40)
targets = torch.arange(NODES).repeat_interleave(degrees)
first, size = (torch.where(targets < 17, *of) for of in ((0, 17), (17, 33)))
edges = torch.stack([first + torch.randint(NODES, targets.shape) % size, targets])
graph = gs.Graph.from_arrays(
    edges, torch.randn(NODES, IN), torch.arange(NODES) % CLASSES, node_ptr=[0, 17, 50],
    edge_attr=torch.randn(len(targets), 2),
)
clusters = torch.tensor([0, 9, 10, 31, 50])
"""

# What every rank computes with the others and then by itself.
CODE = """
def clustered_norm():
    norms = [gs.nn.GraphNorm(4, over=over) for over in ("cluster", "graph")]
    convs = [pyg.SAGEConv(IN, 4), pyg.GCNConv(4, 4), pyg.SAGEConv(4, CLASSES)]
    blocks = [Block(conv, norm) for conv, norm in zip(convs, [*norms, None])]
    return LayeredGNN(blocks)

def opaque():
    blocks = [Block(pyg.GATConv(IN, 4, edge_dim=2), "graph_norm", saves="x0")]
    blocks += [Block(pyg.FAConv(4), nn.GroupNorm(2, 4), reads="x0", residual=True)]
    return LayeredGNN(blocks, nn.Linear(4, CLASSES))

MODELS = {
    "graph norm": lambda: gs.nn.GCN(IN, 4, 3, CLASSES, norm="graph_norm"),
    "powers": lambda: LayeredGNN([Block(pyg.TAGConv(IN, 6, K=2)), Block(pyg.SGConv(6, 3, K=3))]),
    "jumping": lambda: as_layered(pyg.GIN(IN, 4, 3, CLASSES, jk="max", norm="layer_norm")),
    "whole": lambda: as_layered(
        pyg.GraphSAGE(IN, 4, 2, CLASSES, jk="cat", norm=pyg.norm.DiffGroupNorm(4, 2))
    ),
    "clusters": clustered_norm,
    "opaque": opaque,
}

@contextlib.contextmanager
def alone():
    divide, engine.divide = engine.divide, lambda graph, rows: undivided(graph.num_nodes, rows)
    try:
        yield
    finally:
        engine.divide = divide

def rows_of(model, **options):
    found = [(a, b, out.clone()) for a, b, out in stream(model, graph, **options)]
    return [part[:2] for part in found], torch.cat([part[2] for part in found])

folder = tempfile.TemporaryDirectory()
for name, make in MODELS.items():
    torch.manual_seed(1)
    model = make()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    places = [None, folder.name]
    for storage in places if name in ("jumping", "clusters", "opaque") else places[:1]:
        options = dict(chunk_rows=3, storage=storage, segments={"cluster": clusters})
        with few_columns(8 * NODES) if storage else contextlib.nullcontext():  # two at once
            with alone():
                expected = rows_of(model, **options)
            assert engine.share_of(model, graph, 3).split
            found = rows_of(model, **options)
        assert found[0] == expected[0] and torch.equal(found[1], expected[1]), (name, storage)
"""

FIGURES = """
class Least:
    name, higher_is_better = "least", False
    def __init__(self):
        self.least = lambda: float("inf")  # what no other process can be sent
    def update(self, out, y):
        least = min(self.least(), float(out.min()))
        self.least = lambda: least
    def compute(self):
        return self.least()

model = MODELS["graph norm"]()
rows = {"some": torch.arange(NODES) % 4 > 0, "few": torch.arange(NODES) == 49,
        "none": torch.zeros(NODES, dtype=torch.bool)}
for task, y, names in (
    ("classification", graph.y, ("accuracy", "f1_micro")),
    ("regression", torch.randn(NODES, CLASSES), ("mae", "rmse")),
):
    graph.task, graph.y = task, y
    figures = lambda: {name: [*map(make_metric, names), Least()] for name in rows}
    shared = evaluate(model, graph, rows, figures(), chunk_rows=4)
    metrics = figures()
    for a, b, out in stream(model, graph, chunk_rows=4):
        for name, mask in rows.items():
            if (chosen := mask[a:b]).any():
                for metric in metrics[name]:
                    metric.update(out[chosen], y[a:b][chosen])
    for name in rows:
        for metric in metrics[name]:
            np.testing.assert_equal(shared[name][metric.name], metric.compute())
    small = evaluate(model, graph, rows, figures(), chunk_rows=25)  # by rank 0 alone
    assert comm.gather_objects(str(small)) == [str(small)] * 2

nodes, position = torch.tensor([40, 3, 3, 12]), torch.randperm(NODES)
for chunk_rows in (4, 25):
    with alone():
        expected = predict(model, graph, nodes=nodes, position=position, chunk_rows=chunk_rows)
    options = dict(nodes=nodes, position=position, chunk_rows=chunk_rows)
    assert torch.equal(predict(model, graph, **options), expected)
    together = Path(sys.argv[1], f"{chunk_rows}.npy")
    apart = Path(sys.argv[1], str(comm.rank()), "out.npy")  # as on hosts that share no folder
    for path in (together, apart):
        assert torch.equal(predict(model, graph, out=path, **options), expected)
    assert apart.exists() == comm.is_main()
"""


BOUNDS = """
from gnnscale.inference import local

first = comm.is_main()
rows = {"some": torch.arange(NODES) % 4 > 0}
model = LayeredGNN([Block(pyg.SAGEConv(IN, 4)), Block(pyg.SAGEConv(4, CLASSES))])
engine.default_chunk_rows = lambda *_: 4
for memory in ("4GB", "4GB" if first else "auto"):
    for chunk_rows in (None, 2, 25):  # fewer than go by size, and more
        found = {"some": [make_metric("accuracy")]}
        options = dict(chunk_rows=chunk_rows, memory=memory)
        figures = evaluate(model, graph, rows, found, **options)
        assert comm.gather_objects(figures) == [figures] * 2
        out = predict(model, graph, **options)
        assert torch.allclose(out, predict(model, graph, chunk_rows=7), atol=1e-6)

node = torch.arange(NODES)
ring = gs.Graph.from_arrays(torch.stack([node, (node + 1) % NODES]), graph.x)
local.FEWEST, local.SHARE = 0, 1
wanted = predict(model, ring, chunk_rows=4)[[7]]
for memory in ("4GB" if first else 2000, 2000 if first else "4GB", 2000, "4GB"):
    out = predict(model, ring, nodes=torch.tensor([7]), chunk_rows=4, memory=memory)
    assert torch.allclose(out, wanted, atol=1e-6)
"""


def test_shared_inference_is_that_of_one_process(forks, tmp_path):
    Ranks(forks, SETTING + CODE + FIGURES, 2, str(tmp_path)).finish()


def test_ranks_with_bounds_of_their_own_run_the_same_chunks(forks):
    Ranks(forks, SETTING + BOUNDS, 2).finish()


def graph_of(degrees: list[int]) -> Graph:
    targets = torch.arange(len(degrees)).repeat_interleave(torch.tensor(degrees))
    return Graph.from_arrays(torch.stack([targets, targets]), num_nodes=len(degrees))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_are_whole_chunks_of_even_work(size, monkeypatch):
    monkeypatch.setattr(ranks, "comm", SimpleNamespace(world_size=lambda: size))
    for rows, chunk_rows in itertools.product((1, 9, 40, 101), (1, 4, 30)):
        few = -(-rows // chunk_rows) < 2 * size
        for degrees in ([3] * rows, [0] * rows, [50] + [0] * (rows - 1)):
            share = ranks.divide(graph_of(degrees), chunk_rows)
            assert share.split != few
            assert share.bounds[0] == 0 and share.bounds[-1] == rows
            assert all(a < b for a, b in itertools.pairwise(share.bounds))
            assert not any(bound % chunk_rows for bound in share.bounds[:-1])
            assert [b for _, b in share.every_range()] == [
                *range(chunk_rows, rows, chunk_rows), rows
            ]  # fmt: skip
    light, heavy = graph_of([1] * 100), graph_of([99] * 50 + [1] * 50)
    sizes = [torch.tensor(ranks.divide(g, 1).bounds).diff() for g in (light, heavy)]
    assert sizes[0].max() - sizes[0].min() <= 1
    assert sizes[1][0] < sizes[1][-1]
