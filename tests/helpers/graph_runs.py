"""Small runs on many small graphs that any process can build alike."""

from __future__ import annotations

import torch
from torch_geometric.data import Data

import gnnscale as gs
from gnnscale.nn import GIN, GraphModel

SPLIT = {"train": range(20), "val": range(20, 25), "test": range(25, 30)}


def data_set(count=30, seed=0, empty=(), y=None):
    """Rings (class 0) and paths (class 1) of 1 to 7 nodes, `Data` each; some without nodes."""
    generator = torch.Generator().manual_seed(seed)
    graphs = []
    for i in range(count):
        n = 0 if i in empty else int(torch.randint(1, 8, (), generator=generator))
        nodes = torch.arange(n)
        edges = torch.stack([nodes, nodes.roll(-1)])[:, : n - (i % 2) if n else 0]
        label = torch.tensor([i % 2]) if y is None else y[i : i + 1]
        x = torch.randn(n, 3, generator=generator)
        graphs.append(Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=label))
    return graphs


def model(out_channels=2, norm="graph_norm", dropout=0.25, readout="sum"):
    torch.manual_seed(1)
    gin = GIN(3, 8, 2, out_channels=out_channels, jk="cat", norm=norm, dropout=dropout)
    return GraphModel(gin, readout, dropout)


def trainer(graphs=None, network=None, **options):
    options = {"split": SPLIT, "epochs": 3, "progress": False, "graphs_per_batch": 8, **options}
    return gs.GraphTrainer(network or model(), graphs or data_set(), **options)
