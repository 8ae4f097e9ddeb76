"""Small runs that any process can build alike."""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gnnscale as gs
from gnnscale.benchmarking import BenchReport
from gnnscale.graph import Graph
from gnnscale.train import Callback, ClusterTrainer, Report
from gnnscale.train.evaluators.full_graph import FullGraph
from gnnscale.train.run import training_run
from gnnscale.train.steps.batch_step import BatchStep

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
    settings = with_functions(settings)
    if isinstance(graph, gs.ClusteredGraph):
        del settings["num_parts"]
    return ClusterTrainer(MODELS[model](), graph or small_graph(), run_dir=run_dir, **settings)


def with_functions(options: dict[str, Any]) -> dict[str, Any]:
    """Options with the functions that stand in them by name."""
    by_name = ("optimizer", "scheduler", "parameter_groups")
    found = {name: FUNCTIONS[options[name]] for name in by_name if options.get(name) in FUNCTIONS}
    return {**options, **found}


class _NoMeter:
    added = 0

    def __enter__(self) -> _NoMeter:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def look(self) -> None:
        pass


def draw_nothing(setattr: Callable[[Any, str, Any], None]) -> None:
    """Drawing takes longer than training a small graph."""
    for kind in (Report, BenchReport):
        setattr(kind, "plot", lambda self, path: path)


def read_no_memory(setattr: Callable[[Any, str, Any], None]) -> None:
    """Reading the process's memory takes longer than training a small graph."""
    setattr(training_run, "MemoryMeter", _NoMeter)
    setattr(training_run, "memory_use", lambda meter: {})


def weights_of(trainer: Any) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in trainer.model.state_dict().items()}


def assert_same(weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Equal bit for bit."""
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        assert torch.equal(value, expected[name]), name


@pytest.fixture(autouse=True)
def bare_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no curves and read no memory, but for tests that ask for `drawn` or `metered`."""
    if "drawn" not in request.fixturenames:
        draw_nothing(monkeypatch.setattr)
    if "metered" not in request.fixturenames:
        read_no_memory(monkeypatch.setattr)


@pytest.fixture
def drawn() -> None:
    """Draw the curves of runs."""


@pytest.fixture
def metered() -> None:
    """Measure the memory of runs."""


def same_course(report: Any, expected: Any) -> None:
    """Two reports tell of the same computation; times may differ."""
    assert report.stopped == expected.stopped
    assert report.best_epoch == expected.best_epoch
    assert report.final == expected.final
    timed = ("seconds", "nodes_per_second")
    for rows in zip(report.rows, expected.rows, strict=True):
        mine, theirs = ({k: v for k, v in row.items() if k not in timed} for row in rows)
        assert mine == theirs


class Once(Callback):
    """Interrupts an epoch's end once."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == self.epoch:
            self.epoch = None
            raise KeyboardInterrupt


class Interrupt:
    """Interrupts a trainer's n-th step (or evaluation), by Ctrl-C or by an exception."""

    def __init__(self, kind: str, at: int) -> None:
        self.kind, self.at, self.calls = kind, at, 0

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        kind, name = BatchStep, "__call__"
        if self.kind == "evaluation":
            kind, name = FullGraph, "evaluate"
        real = getattr(kind, name)

        def counted(part, *arguments):
            self.calls += 1
            if self.calls != self.at:
                return real(part, *arguments)
            if self.kind != "signal":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)
            return real(part, *arguments)

        self.patch.setattr(kind, name, counted)
        return self

    def __exit__(self, *_):
        self.patch.undo()


# Opens runs of another process, predicts, evaluates and trains them to their end.
OPENED = """
import json, sys, torch
from tests.helpers import small_runs
from gnnscale.train import load_run

torch.set_num_threads(int(sys.argv[1]))
small_runs.draw_nothing(setattr)
small_runs.read_no_memory(setattr)
for folder, arguments in json.loads(sys.argv[2]):
    if "model" in arguments:
        arguments["model"] = small_runs.MODELS[arguments["model"]]()
    run = load_run(folder, **small_runs.with_functions(arguments))
    run.trainer.predict(out=folder + "/found.npy")
    found = {"metrics": run.trainer.evaluate("test"), "rows": len(run.report.rows)}
    found["stopped"] = run.trainer.fit().stopped
    open(folder + "/found.json", "w").write(json.dumps(found))
"""


def opened_elsewhere(
    forks: Any, folder: Path, requests: dict[str, dict[str, str]]
) -> dict[str, tuple[dict[str, Any], Tensor]]:
    """What another process finds in runs.

    Args:
        forks: the fixture.
        folder: that of the runs.
        requests: of each run, by its name, what to open it with; functions and the model by name.

    Returns:
        Of each run its metrics, how many rows its report had, why training stopped; and its
        predictions.
    """
    runs = [(str(folder / name), arguments) for name, arguments in requests.items()]
    process = forks.start(OPENED, str(torch.get_num_threads()), json.dumps(runs))
    assert process.wait() == 0, process.errors.read_text()
    assert process.output.read_text() == ""
    return {
        name: (
            json.loads((folder / name / "found.json").read_text()),
            torch.from_numpy(np.load(folder / name / "found.npy")),
        )
        for name in requests
    }
