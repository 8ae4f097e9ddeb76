"""Models with opaque layers, their trainer, and interruptions of it."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from torch import nn
from torch_geometric.nn import EdgeConv, GATConv, GCNConv, SAGEConv

import gnnscale as gs
from gnnscale.graph import cluster
from gnnscale.train import Callback, FixedEpochs, LayerwiseTrainer
from tests.helpers.small_runs import CLASSES, HIDDEN, IN, small_graph


def gat(**arguments):
    return gs.nn.GAT(IN, HIDDEN, 2, CLASSES, dropout=0.4, heads=2, **arguments)


def mixture(jk="max"):
    """GCN, GAT, EdgeConv and SAGE, with residuals, norms and jumping knowledge."""
    edge = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.ReLU())
    blocks = [
        gs.nn.Block(GCNConv(IN, HIDDEN), norm="batch_norm", dropout=0.2),
        gs.nn.Block(GATConv(HIDDEN, HIDDEN, dropout=0.3), norm="graph_norm", residual=True),
        gs.nn.Block(EdgeConv(edge), order="norm-act-dropout-conv", dropout=0.1),
        gs.nn.Block(SAGEConv(HIDDEN, HIDDEN), residual=True),
    ]
    wide = 4 * HIDDEN if jk == "cat" else HIDDEN
    return gs.nn.LayeredGNN(blocks, nn.Linear(wide, CLASSES), jk=jk)


def trainer_of(model, graph=None, run_dir=None, **options):
    torch.manual_seed(7)
    settings = {
        "controller": FixedEpochs(2),
        "batch_rows": 8,
        "num_parts": 6,
        "clusters_per_batch": 2,
        "lr": 0.02,
        "evaluate_every": 1,
        "progress": False,
        **options,
    }
    graph = small_graph() if graph is None else graph
    if isinstance(graph, gs.ClusteredGraph):
        del settings["num_parts"]
    return LayerwiseTrainer(model(), graph, run_dir=run_dir, **settings)


def clustered(graph, parts=6):
    part = gs.partition(graph, parts, method="random", view="train", seed=3)
    return cluster(graph, part)


class StopAt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == self.epoch:
            raise KeyboardInterrupt


class StepsUntil:
    """Interrupts the n-th step of what is trained, by Ctrl-C where there is a checkpoint."""

    def __init__(self, kind, steps, ctrl_c=False):
        self.calls = 0
        real = kind.ready

        def counted(trained, batch):
            self.calls += 1
            if self.calls == steps and ctrl_c:
                os.kill(os.getpid(), signal.SIGINT)
            elif self.calls == steps:
                raise KeyboardInterrupt
            return real(trained, batch)

        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(kind, "ready", counted)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.patch.undo()
