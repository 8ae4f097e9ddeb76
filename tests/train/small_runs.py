"""Small runs that any process can build alike, and the server that forks processes to kill.

Run as a script, it is that server: it imports everything once, computes nothing (a fork after
OpenMP threads have run hangs), and forks a child for every line it reads.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gnnscale as gs
from gnnscale.graph import Graph
from gnnscale.train import ClusterTrainer, Report

IN, HIDDEN, CLASSES = 5, 6, 3


def small_graph(nodes: int = 48, seed: int = 0, weighted: bool = False, **arguments: Any) -> Graph:
    """Classes as communities, features that tell a little of them, every node in one set."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(nodes) % CLASSES
    edges = torch.randint(0, nodes, (2, 6 * nodes), generator=random)
    like = (y[edges[0]] == y[edges[1]]) | (torch.rand(edges.size(1), generator=random) < 0.2)
    edges = edges[:, like]
    x = torch.randn(nodes, IN, generator=random)
    x[:, :CLASSES] += nn.functional.one_hot(y, CLASSES)
    of = torch.randperm(nodes, generator=random) % 4  # two quarters train
    weight = 0.5 + torch.rand(edges.size(1), generator=random) if weighted else None
    masks = {"train_mask": of < 2, "val_mask": of == 2, "test_mask": of == 3}
    return Graph.from_arrays(
        edges, x, y, num_classes=CLASSES, edge_weight=weight, undirected=True, **masks, **arguments
    )


def halved_every_second(epoch: int) -> float:
    return 0.5 ** (epoch // 2)


def lambda_schedule(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, halved_every_second)


def step_schedule(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)


def milestones(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], 0.5)


def plateau(optimizer: Any, mode: str = "min") -> Any:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, patience=0, factor=0.5)


def warmup(optimizer: Any) -> Any:
    rates = torch.optim.lr_scheduler
    parts = [rates.LinearLR(optimizer, 0.1, 1.0, 2), rates.CosineAnnealingLR(optimizer, 4)]
    return rates.SequentialLR(optimizer, parts, [2])


def momentum(parameters: Any, lr: float = 0.05) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.8, nesterov=True)


def two_groups(model: nn.Module) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    flat = [p for _, p in named if p.dim() < 2]
    return [{"params": [p for _, p in named if p.dim() > 1]}, {"params": flat, "lr": 0.001}]


class NoisyLinear(nn.Module):
    """Draws from torch's own generator: its state is part of the run's."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x + 0.1 * torch.randn_like(x) if self.training else x)


def noisy_model() -> Any:
    from torch_geometric.nn import SAGEConv

    return gs.nn.LayeredGNN([gs.nn.Block(SAGEConv(IN, HIDDEN), norm="batch_norm")], NoisyLinear())


MODELS = {
    "gcn": lambda: gs.nn.GCN(IN, HIDDEN, 2, CLASSES, dropout=0.3, norm="batch_norm"),
    "sage": lambda: gs.nn.GraphSAGE(IN, HIDDEN, 2, CLASSES, dropout=0.5, norm="graph_norm"),
    "gin": lambda: gs.nn.GIN(IN, HIDDEN, 2, CLASSES, norm="batch_norm"),
    "gat": lambda: gs.nn.GAT(IN, HIDDEN, 2, CLASSES, dropout=0.4, heads=2),
    "lazy": lambda: gs.nn.GraphSAGE(-1, HIDDEN, 2, CLASSES, dropout=0.2),
    "noisy": noisy_model,
}
FUNCTIONS = {
    "lambda": lambda_schedule,
    "step": step_schedule,
    "milestones": milestones,
    "plateau": plateau,
    "plateau-max": functools.partial(plateau, mode="max"),
    "warmup": warmup,
    "momentum": momentum,
    "momentum-partial": functools.partial(momentum, lr=0.02),
    "two_groups": two_groups,
}


def small_trainer(
    run_dir: str | Path | None, model: str = "gcn", graph: Any = None, **options: Any
) -> ClusterTrainer:
    """A trainer of a small run; functions by name, so that options travel as JSON."""
    torch.manual_seed(7)
    settings = {
        "num_parts": 6,
        "clusters_per_batch": 2,
        "epochs": 3,
        "method": "random",
        "evaluate_every": 1,
        "checkpoint_every": 1,
        "progress": False,
        **options,
    }
    for name in ("optimizer", "scheduler", "parameter_groups"):
        if settings.get(name) in FUNCTIONS:
            settings[name] = FUNCTIONS[settings[name]]
    if isinstance(graph, gs.ClusteredGraph):
        del settings["num_parts"]
    return ClusterTrainer(MODELS[model](), graph or small_graph(), run_dir=run_dir, **settings)


def weights_of(trainer: Any) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in trainer.model.state_dict().items()}


def assert_same(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Equal bit for bit."""
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        assert torch.equal(value, expected[name]), name


def same_course(report: Any, expected: Any) -> None:
    """Two reports tell of the same computation; times may differ."""
    assert report.stopped == expected.stopped
    assert report.best_epoch == expected.best_epoch
    assert report.final == expected.final
    timed = ("seconds", "nodes_per_second")
    for rows in zip(report.rows, expected.rows, strict=True):
        mine, theirs = ({k: v for k, v in row.items() if k not in timed} for row in rows)
        assert mine == theirs


# --- the server -------------------------------------------------------------------------------


def _child(request: dict[str, Any]) -> None:
    torch.set_num_threads(request["threads"])
    Report.plot = lambda self, path: path  # type: ignore[method-assign]
    if request["kill_at"]:
        name, count = request["kill_at"]
        _kill_at(name, count)
    small_trainer(request["run_dir"], **request["options"]).fit()


def _kill_at(name: str, count: int) -> None:
    """Kill this process at its `count`-th call of `os.<name>`."""
    real, calls = getattr(os, name), [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(os, name, counted)


_IMPORTED_BY_RUNS = (
    "gnnscale.graph.store",
    "gnnscale.train.dry_run",
    "rich.progress",
    "safetensors.torch",
    "torch_geometric.nn",
)


def _serve() -> None:
    for name in _IMPORTED_BY_RUNS:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _child(request)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        if request["kill_after"] is not None:
            time.sleep(request["kill_after"])
            os.kill(pid, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
