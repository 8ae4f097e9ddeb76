"""Every trainer refuses a layer that it would run wrong, before training and before prediction."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.data import Data

import gnnscale as gs
from gnnscale.errors import InexactConvolution
from gnnscale.nn import Block, LayeredGNN
from tests.helpers.small_runs import CLASSES, IN

NODES = 48
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(NODES, 4, generator=GENERATOR)
HALF = torch.randint(0, NODES // 2, (2, 60), generator=GENERATOR)
# The second half has no edges, but for one that lets median aggregation run on the whole graph.
EDGES = torch.cat([HALF, HALF.flip(0), torch.tensor([[0, NODES - 1], [NODES - 1, 0]])], dim=1)


class Centred(pyg.MessagePassing):
    """Reads the mean of all rows."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__("add")
        self.in_channels, self.out_channels = width, out
        self.lin = nn.Linear(width, out)

    def forward(self, x, edge_index):
        h = self.lin(x)
        return self.propagate(edge_index, x=h) + h - h.mean(0)


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    mask = torch.arange(NODES) % 2 == 0
    return gs.Graph.from_arrays(EDGES, X, torch.arange(NODES) % 3, train_mask=mask, val_mask=~mask)


def cluster_trainer(model, graph, parts=4, chunk=7, **more) -> gs.ClusterTrainer:
    part = gs.Partition(torch.arange(NODES, dtype=torch.int32) * parts // NODES, parts)
    given = {"epochs": 1, "progress": False, "chunk_rows": chunk, "clusters_per_batch": 1}
    return gs.ClusterTrainer(model, gs.cluster(graph, part), **{**given, **more})


def layerwise_trainer(model, graph) -> gs.LayerwiseTrainer:
    return gs.LayerwiseTrainer(model, graph, epochs=1, progress=False, num_parts=4, chunk_rows=7)


@pytest.mark.parametrize("trainer", [cluster_trainer, layerwise_trainer])
@pytest.mark.parametrize("verb", ["fit", "predict"])
@pytest.mark.parametrize("hops", [None, 9])
def test_what_reads_all_rows_is_refused(graph, trainer, verb, hops):
    model = LayeredGNN([Block(Centred(4, 8), hops=hops), Block(Centred(8, 3), act=None)])
    with pytest.raises(InexactConvolution, match=r"Centred depends on rows.*num_parts=1"):
        getattr(trainer(model, graph), verb)()


def test_the_remedy_works_the_graph_is_run_whole(graph):
    model = gs.nn.as_layered([Centred(4, 8), Centred(8, 3)])
    trainer = cluster_trainer(model, graph, parts=1, chunk=NODES)
    trainer.fit()
    with torch.no_grad():
        wanted = model.eval()(X, EDGES)
    assert torch.allclose(trainer.predict(), wanted, atol=1e-5)


@pytest.mark.parametrize("trainer", [cluster_trainer, layerwise_trainer])
def test_pieces_without_edges_are_trained_and_evaluated_as_the_whole(graph, trainer):
    convs = [pyg.SAGEConv(4, 8, aggr="median"), pyg.SAGEConv(8, 3)]
    made = trainer(gs.nn.as_layered(convs), graph)
    assert made.fit().rows
    with torch.no_grad():
        edges = gs.Adjacency.from_edge_index(EDGES, NODES).edge_index
        wanted = convs[1](convs[0](X, edges).relu(), edges)
    assert torch.allclose(made.predict(), wanted, atol=1e-5)


class Told(nn.Module):
    """Attends to all rows of a graph; without `batch`, to all that there are."""

    def __init__(self, told: bool) -> None:
        super().__init__()
        self.gps = pyg.GPSConv(4, pyg.SAGEConv(4, 4), heads=1, norm=None)
        self.told = told

    def forward(self, x, edge_index, batch=None):
        return self.gps(x, edge_index, batch if self.told else None)


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("hops", [None, 9])
def test_graphs_side_by_side_do_not_influence_each_other(complete, hops):
    graphs = []
    for i in range(6):
        nodes = torch.arange(3 + i % 3)
        edges = torch.combinations(nodes).t() if complete else torch.stack([nodes[:-1], nodes[1:]])
        edges = torch.cat([edges, edges.flip(0)], dim=1)
        graphs.append(Data(x=X[nodes] + i, edge_index=edges, y=torch.tensor([i % 2])))

    def trainer(layer, **more):
        model = LayeredGNN([Block(layer, hops=hops, act=None)], nn.Linear(4, 2))
        given = {"split": {"train": range(4), "test": range(4, 6)}, "graphs_per_batch": 4}
        given |= {"readout": "sum", "epochs": 1, "progress": False}
        return gs.GraphTrainer(model, graphs, **{**given, **more})

    for verb in ("fit", "predict"):
        with pytest.raises(InexactConvolution, match=r"Told depends on other graphs"):
            getattr(trainer(Told(False)), verb)()
    for made in (
        trainer(Told(True)),
        trainer(Told(False), graphs_per_batch=1, chunk_rows=1),  # the remedy that is named
    ):
        made.fit()
        model = made.model.eval()
        with torch.no_grad():
            alone = [
                model(data.x, data.edge_index, batch=torch.zeros(len(data.x), dtype=torch.int64))
                for data in graphs
            ]
        assert torch.allclose(made.predict(), torch.cat(alone), atol=1e-4)


class Centre(nn.Module):
    """A head that reads the outputs of other graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 2)

    def forward(self, x):
        return self.lin(x) - x.mean(0, keepdim=True).sum()


def test_a_head_keeps_to_its_graph():
    nodes = torch.arange(4)
    edges = torch.stack([nodes, nodes.roll(1)])
    graphs = [Data(x=X[nodes + i], edge_index=edges, y=torch.tensor([i % 2])) for i in range(6)]
    split = {"train": range(4), "test": range(4, 6)}
    for more, fine in (({}, False), ({"graphs_per_batch": 1, "chunk_rows": 1}, True)):
        model = LayeredGNN([Block(pyg.SAGEConv(4, 4))], Centre())
        made = gs.GraphTrainer(model, graphs, epochs=1, split=split, progress=False, **more)
        if fine:
            made.fit()
            continue
        with pytest.raises(InexactConvolution, match=r"where another graph lies beside"):
            made.predict()


def test_what_is_read_only_of_many_rows_is_found_where_no_path_leads_far():
    class OfMany(nn.Module):
        def __init__(self):
            super().__init__()
            self.near, self.all = pyg.SAGEConv(IN, CLASSES), nn.Linear(IN, CLASSES)

        def forward(self, x, edge_index):
            away = self.all(x).mean(0) if len(x) > 100 else 0.0
            return self.near(x, edge_index) - away

    corners = torch.arange(300).view(-1, 3)
    sides = [corners[:, [a, b]].t() for a in range(3) for b in range(3) if a != b]
    graph = gs.Graph.from_arrays(
        torch.cat(sides, 1), torch.randn(300, IN), torch.arange(300) % CLASSES,
        train_mask=torch.arange(300) < 100,
    )  # fmt: skip
    trainer = gs.ClusterTrainer([OfMany()], graph, 6, method="random", progress=False)
    with pytest.raises(InexactConvolution, match="OfMany depends on rows that no path leads from"):
        trainer.fit()
