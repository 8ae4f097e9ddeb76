"""Tasks that learn something themselves, in every way that a task may hold it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

import gnnscale as gs
from gnnscale.inference import make_metric
from tests.helpers.rank_runs import trainer_of
from tests.helpers.small_runs import CLASSES, MODELS, small_graph, small_trainer, with_functions


class OfNodes:
    """What is left to say of a task on node labels."""

    name, headline = "own", "accuracy"

    def prepare(self, graph: Any, split: str) -> None:
        pass

    def normaliser(self, batch: Any) -> float:
        return batch.step_train_nodes

    def metrics(self) -> list[Any]:
        return [make_metric("accuracy")]


def rows_of(out: torch.Tensor, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return out[batch.train_index], batch.y[batch.train_index]


class Head(nn.Module, OfNodes):
    """A module: weights, running statistics and a counter that the loss moves; dropout inside."""

    def __init__(self, dropout: float = 0.0, width: int = 4, norm: Any = nn.BatchNorm1d) -> None:
        super().__init__()
        self.inner = nn.Linear(CLASSES, width)
        self.norm = norm(width)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(width, CLASSES)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def loss(self, out: torch.Tensor, batch: Any) -> torch.Tensor:
        rows, y = rows_of(out, batch)
        if self.training:
            self.calls += 1
        deeper = self.outer(self.dropout(self.norm(self.inner(rows))))
        return functional.cross_entropy(rows + deeper, y, reduction="sum")


class Plain(OfNodes):
    """No module: parameters and modules in attributes, lists, mappings and a function."""

    def __init__(self) -> None:
        self.scale = nn.Parameter(torch.ones(CLASSES))
        self.shifts = [nn.Parameter(torch.zeros(CLASSES)), "no parameter"]
        self.heads = {"a": nn.Linear(CLASSES, CLASSES)}
        hidden = nn.Linear(CLASSES, CLASSES, bias=False)
        self.also = lambda rows: hidden(rows)

    def loss(self, out: torch.Tensor, batch: Any) -> torch.Tensor:
        rows, y = rows_of(out, batch)
        rows = rows * self.scale + self.shifts[0] + self.heads["a"](rows) + self.also(rows)
        return functional.cross_entropy(rows, y, reduction="sum")


class InBatch(nn.Module, OfNodes):
    """A contrastive loss: every row's class is told from those of the batch."""

    additive = False

    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Linear(CLASSES, CLASSES)

    def loss(self, out: torch.Tensor, batch: Any) -> torch.Tensor:
        rows, y = rows_of(out, batch)
        alike = (y[:, None] == y[None]).float()
        return -(functional.log_softmax(rows @ self.keys(rows).T, 1) * alike).sum(1).mean()


TASKS = {
    "head": Head,
    "noisy head": lambda: Head(0.3),
    "head over rows": lambda: Head(0.3, norm=nn.LayerNorm),
    "plain": Plain,
    "in batch": InBatch,
}
RUNS = {
    "cluster": {"accumulate": 2},
    "graph": {"graphs_per_batch": 5},
    "layer by layer": {"batch_rows": 7},
    "layer by layer, on clusters": {"model": "gat", "num_parts": 4, "clusters_per_batch": 1},
    "pipeline": {"stages": [1], "micro_batches": 2},
}


def run_of(kind: str, task: Any, run_dir: Any = None, **options: Any) -> Any:
    """A trainer of a small run."""
    options = {"epochs": 3, "evaluate_every": 1, "checkpoint_every": 1} | options | {"task": task}
    options = RUNS[kind] | {"run_dir": run_dir, "model": "gcn"} | options
    if kind == "cluster":
        return small_trainer(**options)
    if kind == "pipeline":
        torch.manual_seed(7)
        model, options = MODELS[options.pop("model")](), with_functions(options)
        options |= {"num_parts": 6, "clusters_per_batch": 2, "method": "random"}
        return gs.PipelineTrainer(model, small_graph(), progress=False, **options)
    return trainer_of({"graph": "many graphs"}.get(kind, kind), options)


def task_of(name: str, seed: int = 3) -> Any:
    torch.manual_seed(seed)
    return TASKS[name]()


def learnt(trainer: Any) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in trainer.learnt.weights().items()}
