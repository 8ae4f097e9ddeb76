"""Episodes: fresh nets, trained layer by layer on small samples of a graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.graph.induced import subgraph
from gnnscale.nn import as_layered
from gnnscale.train.controllers.learning import Outcome
from gnnscale.train.controllers.stopping import StopController
from gnnscale.train.layerwise.sections import sections_of
from gnnscale.train.layerwise.trainer import LayerwiseTrainer

_NOT_IN_EPISODES = frozenset(
    {"controller", "run_dir", "fine_tune", "inductive", "keep", "callbacks"}
)


class SampledTraining:
    """Trains a fresh net on the subgraph of some training nodes, which training nodes differing.

    Args:
        model: a model, whose parameters are drawn anew for each episode, or a function that makes
            one.
        data: the graph.
        sample: training nodes of an episode; all of them where there are fewer.
        seed: of samples, parameters and training.
        options: arguments of the `LayerwiseTrainer`.

    Attributes:
        num_layers: layers that are trained.

    Raises:
        InputError: the graph has no training nodes, an option is not for the user to give, or the
            model has parameters that no module draws anew.
    """

    def __init__(
        self,
        model: Any,
        data: Graph | ClusteredGraph,
        sample: int,
        seed: int,
        options: dict[str, Any],
    ) -> None:
        self._graph = data.graph if isinstance(data, ClusteredGraph) else data
        split = self._graph.split(options.get("split", "default"))
        self._train = torch.empty(0) if split is None else split.train.nonzero().squeeze(1)
        faults = []
        if not self._train.numel():
            faults.append("the graph has no training nodes to learn on; give it a split with some")
        if wrong := sorted(_NOT_IN_EPISODES & options.keys()):
            faults.append(f"{', '.join(wrong)}: the episodes of learning have no such thing")
        if faults:
            raise InputError(faults)
        self._make = _maker(model)
        self._sample = min(sample, self._train.numel())
        self._seed = seed
        self._options = {"progress": False, **options}
        sections = sections_of(as_layered(self._make(seed)))
        trained = [[p for p in s.parameters.values() if p.requires_grad] for s in sections]
        self.num_layers = sum(bool(parameters) for parameters in trained)

    def __call__(self, controller: StopController, number: int) -> Outcome:
        """See `Episode`."""
        seed = int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])
        random = torch.Generator().manual_seed(seed)
        chosen = torch.zeros(self._graph.num_nodes, dtype=torch.bool)
        order = torch.randperm(self._train.numel(), generator=random)
        chosen[self._train[order[: self._sample]]] = True
        trainer = LayerwiseTrainer(
            self._make(seed),
            subgraph(self._graph, chosen),
            controller=controller,
            seed=seed,
            keep="last",
            # A task is prepared for the graph it is used on.
            **copy.deepcopy(self._options),
        )
        layers = trainer.fit().layers
        return Outcome(layers[-1]["loss"], [layer["epochs"] for layer in layers])


def _maker(model: Any) -> Callable[[int], object]:
    """From a seed to a fresh model."""
    if not isinstance(model, nn.Module) and callable(model):
        return lambda seed: _seeded(seed, model)
    if isinstance(model, list | tuple):
        model = nn.ModuleList(model)
    modules = [module for module in model.modules() if hasattr(module, "reset_parameters")]
    drawn = {id(p) for module in modules for p in module.parameters()}
    if left := [name for name, p in model.named_parameters() if id(p) not in drawn]:
        raise InputError(
            f"no module draws the parameters {', '.join(left)} anew, by reset_parameters(); give a "
            "function that makes the model instead of the model"
        )

    def make(seed: int) -> object:
        fresh = copy.deepcopy(model)

        def draw() -> object:
            for module in fresh.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
            return fresh

        return _seeded(seed, draw)

    return make


def _seeded(seed: int, make: Callable[[], object]) -> object:
    with torch.random.fork_rng(devices=[]):  # the caller's own draws stay as they were
        torch.manual_seed(seed)
        return make()
