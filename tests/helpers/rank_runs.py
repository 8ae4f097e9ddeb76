"""Runs that several ranks make alike, and the group that they meet in."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch
from torch import distributed, nn
from torch_geometric.nn import SAGEConv

import gnnscale as gs
from tests.helpers.small_runs import (
    CLASSES,
    FUNCTIONS,
    HIDDEN,
    IN,
    MODELS,
    small_graph,
    small_trainer,
    with_functions,
)

# Joins the ranks as torchrun's environment has them do.
RANK = """
import json, os, sys, torch
os.environ.update(json.loads(sys.argv[1]))
sys.argv[1:] = sys.argv[2:]
torch.set_num_threads(1)
import gnnscale as gs
from tests.helpers import rank_runs, small_runs
from gnnscale import comm
small_runs.draw_nothing(setattr)
small_runs.read_no_memory(setattr)
"""


class Ranks:
    """Processes in a group of their own, whose store this one holds as torchrun does.

    Args:
        forks: the fixture.
        code: what each runs, with `arguments` as `sys.argv[1:]`.
        size: how many there are.
        timeout: seconds that they wait for a silent one.
        present: how many of them come; 0 for all.
        store: of ranks that were there before, as after a restart.
    """

    def __init__(
        self,
        forks: Any,
        code: str,
        size: int,
        *arguments: str,
        timeout: float = 60,
        present: int = 0,
        store: Any = None,
    ):
        self.store = store or distributed.TCPStore(
            "127.0.0.1", 0, None, True, wait_for_workers=False
        )
        environment = {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True", "GLOO_SOCKET_IFNAME": "lo",
            "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
            "GNNSCALE_TIMEOUT": str(timeout),
        }  # fmt: skip
        self.processes = [
            forks.start(
                RANK + code,
                json.dumps({**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}),
                *arguments,
            )
            for rank in range(present or size)
        ]

    def wait(self) -> list[int]:
        """Their exit statuses."""
        return [process.wait() for process in self.processes]

    def errors(self) -> list[str]:
        """What each wrote to its standard error."""
        return [process.errors.read_text() for process in self.processes]

    def finish(self) -> None:
        """Wait for all, none of which may fail."""
        assert not any(self.wait()), "\n".join(self.errors())


def averaging() -> Any:
    """Norms that keep running statistics in two further ways."""
    first = gs.nn.Block(SAGEConv(IN, HIDDEN), norm=nn.BatchNorm1d(HIDDEN, momentum=None))
    second = gs.nn.Block(
        SAGEConv(HIDDEN, HIDDEN), norm=gs.nn.GraphNorm(HIDDEN, running=True), dropout=0.3
    )
    return gs.nn.LayeredGNN([first, second], nn.Linear(HIDDEN, CLASSES))


def unused() -> Any:
    """A model of which a parameter never has a gradient."""
    model = MODELS["sage"]()
    model.register_parameter("idle", nn.Parameter(torch.ones(3)))
    return model


def together() -> Any:
    """A model whose norm runs over the batches of all ranks."""
    norm = gs.nn.BatchNorm(HIDDEN, synchronised=True)
    return gs.nn.LayeredGNN(
        [gs.nn.Block(SAGEConv(IN, HIDDEN), norm=norm)], nn.Linear(HIDDEN, CLASSES)
    )


MODELS |= {"together": together, "averaging": averaging, "unused": unused}


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.5, weight_decay=0.01)


FUNCTIONS["decayed sgd"] = sgd


def trainer_of(name: str, options: dict[str, Any]) -> Any:
    """The trainer of a case."""
    torch.manual_seed(7)
    options = with_functions(options)
    if name.startswith("layer by layer"):
        model = MODELS[options.pop("model")]()
        return gs.LayerwiseTrainer(model, small_graph(), progress=False, **options)
    if name.startswith("many graphs"):
        sizes = [3 + at % 4 for at in range(26)]
        labels = {"y": torch.arange(26) % CLASSES, "y_level": "graph"}
        node_ptr = torch.tensor([0, *sizes]).cumsum(0)
        graph = dataclasses.replace(small_graph(sum(sizes)), node_ptr=node_ptr, **labels)
        model = MODELS[options.pop("model")]()
        return gs.GraphTrainer(model, graph, progress=False, **options)
    return small_trainer(None, graph=graph_of(name), **options)


def graph_of(name: str) -> Any:
    """The graph of a case: None for the usual one."""
    if name != "few training nodes":
        return None
    graph = small_graph()
    split = graph.split()
    assert split is not None
    few = dataclasses.replace(split, train=split.train & (torch.arange(graph.num_nodes) < 20))
    return dataclasses.replace(graph, splits={"default": few})
