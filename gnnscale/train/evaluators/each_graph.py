"""EachGraph: exact metrics and predictions of graphs of a data set, each by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.costs.graphs import Needs, check_steps, cut, needs, sizes_of, sizes_of_some
from gnnscale.costs.passes import PassCost, pass_cost
from gnnscale.costs.sizes import evaluation_interval
from gnnscale.errors import InputError
from gnnscale.graph.reading.labels import labelled
from gnnscale.inference import Metric
from gnnscale.inference.evaluation import wanted_rows
from gnnscale.loader import Batch
from gnnscale.nn import Context, GraphModel
from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.nn.blocks.context import Runner, run_phases
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.files import atomic_write
from gnnscale.storage.memory import memory_bytes
from gnnscale.train.evaluators.full_graph import SETS, without_labels, without_metrics
from gnnscale.train.graphs import ManyGraphs
from gnnscale.train.session import Setup

_EDGES_AT_ONCE = 1 << 18  # opaque layers take some hundred bytes for each
_NODES_AT_ONCE = 8192  # a layer of them, 64 wide, takes 2 MiB and stays in the cache
# Bytes by graph and by node of the data set, of what batches are put together with.
_HELD_OF_GRAPH, _HELD_OF_NODE = 192, 8
_RESULTS = 4  # copies of an output, as they are joined, put into order and measured
_ORDERED = 64  # bytes by graph that is wanted: ids, places, sizes


class EachGraph:
    """Evaluates the present weights on graphs, some at a time; none reads another's rows.

    Args:
        setup: of the trainer.
        model: its model.
        data: the graphs.
    """

    unit = "graphs"

    def __init__(self, setup: Setup, model: GraphModel, data: ManyGraphs) -> None:
        self._setup, self._model, self._data = setup, model, data
        self._known_cost: PassCost | None = None

    def sets(self) -> list[str]:
        """See `Evaluator`."""
        split = self._data.rows.split(self._setup.config.split)
        if split is None or self.without_metrics() is not None:
            return []
        return [name for name in SETS if bool(split[name].any())]

    def without_labels(self) -> str | None:
        """See `Evaluator`."""
        return without_labels(self._data.graph, "graph")

    def without_metrics(self) -> str | None:
        """See `Evaluator`."""
        return without_metrics(self._setup.task) or self.without_labels()

    def interval(self) -> int:
        """See `Validator`."""
        graph, split = self._data.graph, self._data.rows.split(self._setup.config.split)
        if split is None:
            return 1
        trained, evaluated = (
            sizes_of_some(graph, mask.nonzero().squeeze(1))
            for mask in (split.train, split.train | split.val | split.test)
        )
        return evaluation_interval(self._setup.job(self._data).costs, trained, evaluated)

    def validate(self) -> dict[str, dict[str, float]]:
        """See `Validator`."""
        return self.evaluate(self.sets())

    def evaluate(
        self, sets: Sequence[str], metrics: Callable[[], Sequence[Metric]] | None = None
    ) -> dict[str, dict[str, float]]:
        """See `Evaluator`."""
        if not sets:
            return {}
        started = time.monotonic()
        learnt = self._setup.learnt.to(self._setup.device)
        with torch.no_grad(), evaluation_mode(learnt):  # metrics may run what the task learnt
            found = comm.from_main(lambda: self._metrics(sets, metrics or self._setup.task.metrics))
        self._setup.count("evaluate", time.monotonic() - started)
        return found

    def predict(self, ids: Any, out: str | Path | None, *, head: bool) -> Tensor:
        """See `Evaluator`."""
        number = self._data.graph.num_graphs
        wanted = wanted_rows(ids, number, "graph")
        if wanted is None:
            wanted = torch.arange(number)
        self._setup.learnt.to(self._setup.device)
        unique, place = wanted.unique(return_inverse=True)
        self._check(unique, head)
        result = self._outputs(unique, head)[place]
        if out is not None:
            with atomic_write(out) as file:
                np.save(file, result.numpy())
        return result

    def _metrics(
        self, sets: Sequence[str], made: Callable[[], Sequence[Metric]]
    ) -> dict[str, dict[str, float]]:
        rows = self._data.rows
        split, y = rows.split(self._setup.config.split), rows.y
        if split is None or y is None:
            raise InputError("evaluation needs a split and graph-level labels y")
        known = labelled(y, rows.task)
        chosen = {name: split[name] & known for name in sets}
        ids = torch.stack(list(chosen.values())).any(0).nonzero().squeeze(1)
        self._check(ids)
        outputs, found = self._outputs(ids, head=True), {}
        for name, mask in chosen.items():
            metrics = made()
            for metric in metrics if bool(mask.any()) else ():
                metric.update(outputs[mask[ids]], y[mask])
            found[name] = {metric.name: metric.compute() for metric in metrics}
        return found

    @torch.no_grad()
    def _outputs(self, ids: Tensor, head: bool) -> Tensor:
        """Rows of some graphs, ascending, `[k, channels]` on the CPU."""
        if not ids.numel():  # of as many channels as there would be
            return self._outputs(torch.arange(1), head)[:0]
        rows = []
        with evaluation_mode(self._model):
            for graphs in self._chunks(ids, head):
                batch = self._data.assembled(graphs).to(self._setup.device)
                context = Context.of(batch, training=False)
                assert batch.x is not None
                out = self._model.embed(batch.x, context)
                rows.append(self._model.predict(out, context) if head else out)
        return torch.cat(rows).cpu()

    def _chunks(self, ids: Tensor, head: bool) -> list[Tensor]:
        """Graphs that are evaluated at once: their nodes (`chunk_rows`) and edges are few."""
        graph, config = self._data.graph, self._setup.config
        nodes, edges = (sizes.cumsum(0) for sizes in sizes_of(graph, ids))
        numbers = nodes.div(config.chunk_rows or _NODES_AT_ONCE, rounding_mode="floor")
        numbers += edges.div(_EDGES_AT_ONCE, rounding_mode="floor")
        chunks = list(ids.split(numbers.unique_consecutive(return_counts=True)[1].tolist()))
        if config.memory == "auto":
            return chunks
        room = memory_bytes(config.memory) - self._beside(ids.numel(), head)
        return [
            part
            for chunk in chunks
            for part in chunk.split(cut(self._cost.of_graphs(*sizes_of(graph, chunk)), room))
        ]

    # --- what may be added to the process ---------------------------------------------------

    def check_room(self) -> None:
        """Nothing: what has no room is found by `check_steps`, which knows the batches."""

    def check_steps(self, graphs_per_batch: int, prefetch: int) -> None:
        """Find before training what has no room within `memory`, in a step or in evaluation."""
        data, config, costs, evaluated = self._data, self._setup.config, None, Needs()
        held = self._beside_graphs()
        if config.memory != "auto":
            if sets := self.sets():
                split, y = data.rows.split(config.split), data.rows.y
                assert split is not None and y is not None
                chosen = torch.stack([split[name] for name in sets]).any(0)
                ids = (chosen & labelled(y, data.rows.task)).nonzero().squeeze(1)
                evaluated = self._needs(ids)
            runner = checkpointed(run_phases) if config.checkpoint_activations else run_phases
            cost = self._measured(runner, training=True, copies=2 + prefetch)
            evaluated = max(evaluated, needs(data.graph, torch.arange(0), cost, held))
            drawn = data.loader.clustered.sizes.nonzero().squeeze(1)
            costs, held = cost.of_graphs(*sizes_of(data.graph, drawn)), held + cost.fixed
        check_steps(costs, graphs_per_batch, config.memory, held, evaluated)

    def _check(self, ids: Tensor, head: bool = True) -> None:
        """Refuse, before any is run, graphs of which one has no room by itself."""
        memory = self._setup.config.memory
        if memory != "auto" and (refused := self._needs(ids, head).refused(memory)):
            raise InputError(refused)

    def _needs(self, ids: Tensor, head: bool = True) -> Needs:
        return needs(self._data.graph, ids, self._cost, self._beside(ids.numel(), head))

    @property
    def _cost(self) -> PassCost:
        if self._known_cost is None:
            self._known_cost = self._measured(run_phases, training=False, copies=2)
        return self._known_cost

    def _measured(self, runner: Runner, *, training: bool, copies: int) -> PassCost:
        model, memory = self._model, self._setup.config.memory

        def forward(some: Batch) -> Tensor:
            context = Context.of(some, training=False, runner=runner)
            assert some.x is not None
            return model(some.x, some.adj, context=context)

        sample = self._data.sample().to(self._setup.device)
        return pass_cost(forward, model, sample, memory, training=training, copies=copies)

    def _beside(self, count: int, head: bool) -> int:
        """Bytes that are held while so many graphs are evaluated, their results among them."""
        batch = self._data.sample().to(self._setup.device)
        with torch.no_grad(), evaluation_mode(self._model):
            context = Context.of(batch, training=False)
            assert batch.x is not None
            out = self._model.embed(batch.x, context)
            row = (self._model.predict(out, context) if head else out)[:1].nbytes
        return self._beside_graphs() + self._cost.fixed + count * (_RESULTS * row + _ORDERED)

    def _beside_graphs(self) -> int:
        """Bytes that are held beside some graphs: the run's state, arrays of the data set."""
        graph, held = self._data.graph, self._setup.held_bytes(self._data)
        return held + _HELD_OF_GRAPH * graph.num_graphs + _HELD_OF_NODE * graph.num_nodes
