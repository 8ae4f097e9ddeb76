"""GraphTrainer: training on data sets of many small graphs, one label a graph."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gnnscale import comm
from gnnscale.costs.graphs import Needs, check_steps, cut, needs, sizes_of
from gnnscale.costs.passes import PassCost, pass_cost
from gnnscale.costs.sizes import TRAINING, epochs_between
from gnnscale.declared import takes
from gnnscale.errors import InexactConvolution, InputError
from gnnscale.graph import Graph, store_graph
from gnnscale.graph.reading.labels import labelled
from gnnscale.inference.evaluation import wanted_rows
from gnnscale.loader import Batch
from gnnscale.loader.batch import Assembler
from gnnscale.loader.graph_loader import GraphLoader, graphs_as_clusters, labelled_by_graph
from gnnscale.nn import Context, GraphModel
from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.nn.blocks.context import Runner, run_phases
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.files import atomic_write
from gnnscale.storage.memory import memory_bytes
from gnnscale.train.arguments import as_task, option_faults
from gnnscale.train.graphs import as_graphs, graphs_as_rows, with_split
from gnnscale.train.options import GraphOptions
from gnnscale.train.run.identity import describe_data
from gnnscale.train.steps.additive import try_loss
from gnnscale.train.task import NodeTask
from gnnscale.train.trainer import Trainer

_EDGES_AT_ONCE = 1 << 18  # of evaluation: opaque layers take some hundred bytes for each
_NODES_AT_ONCE = 8192  # of evaluation: a layer of them, 64 wide, takes 2 MiB and stays in the cache
_SMALL = 1 << 9  # nodes and edges of a graph that the model is tried on within a bound
# Bytes by graph and by node of the data set, of what batches are put together with.
_HELD_OF_GRAPH, _HELD_OF_NODE = 192, 8
_RESULTS = 4  # copies of an output, as they are joined, put into order and measured
_ORDERED = 64  # bytes by graph that is wanted: ids, places, sizes


class GraphTrainer(Trainer):
    """Trains on mini-batches of whole graphs and evaluates exactly, each graph by itself.

    A step draws `graphs_per_batch` training graphs without replacement and takes one optimizer
    step. Norms that run over a batch, its clusters or its graphs (`GraphNorm`, `InstanceNorm`, …)
    run over every graph apart, in training as in evaluation; batch norm over the nodes of all.

    Under `torchrun` every rank takes every R-th batch, as with `ClusterTrainer`.

    Raises:
        InputError: listing every argument and every part of the data that is at fault.
        StoreError: the run folder cannot be written.

    Example:
        >>> import torch, gnnscale as gs
        >>> from torch_geometric.data import Data
        >>> def cycle(n):  # is it a triangle?
        ...     ring = torch.arange(n)
        ...     edges = torch.stack([ring, ring.roll(1)])
        ...     x = torch.ones(n, 1)
        ...     return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=int(n == 3))
        >>> graphs = [cycle(n) for n in (3, 4, 5, 6) * 8]
        >>> model = gs.nn.GIN(1, 16, 2, out_channels=2, jk="cat")
        >>> split = {"train": range(24), "test": range(24, 32)}
        >>> trainer = gs.GraphTrainer(model, graphs, readout="sum", split=split, epochs=5)
        >>> report = trainer.fit()
        >>> trainer.predict().shape
        torch.Size([32, 2])
    """

    model: GraphModel  # type: ignore[assignment]
    config: GraphOptions
    _unit = "graphs"

    @takes(GraphOptions)
    def __init__(self, options: GraphOptions) -> None:
        faults = option_faults(options)
        options = options.sound()
        model: Any = options.model
        readout, split = options.readout, options.split
        graph = as_graphs(options.graphs, options.task)
        if isinstance(split, Mapping):
            graph, split = with_split(graph, split), "given"
        if not isinstance(split, str):
            raise InputError(f"split={split!r}: the name of a split set, or graphs by part")
        if readout is not None and isinstance(model, GraphModel):
            faults.append(f"readout={readout!r}: the model is a GraphModel, which has its own")
        rows = graphs_as_rows(graph)
        try:
            task = as_task(options, rows, split)
        except InputError as error:
            faults += map(_of_graphs, error.faults)
        if faults:
            raise InputError(faults)
        if not isinstance(model, GraphModel):
            model = GraphModel(model, "mean" if readout is None else readout)
        config = options.settled(split=split)
        self._graph, self._rows = graph, rows
        self._fingerprint: str | None = None
        self._evaluation_cost: PassCost | None = None
        self._whole = graphs_as_clusters(graph, split)
        super().__init__(model, config, task=task)
        self._loader = GraphLoader(
            self._whole,
            config.graphs_per_batch,
            seed=config.seed,
            rank=comm.rank(self.group),
            world_size=comm.world_size(self.group),
            prefetch=config.prefetch,
            device=self.device,
        )

    @property
    @override
    def loader(self) -> GraphLoader:
        """The batches of an epoch."""
        return self._loader

    @property
    @override
    def graph(self) -> Graph:
        """All graphs of the data set, side by side."""
        return self._graph

    @property
    @override
    def position(self) -> Tensor | None:
        """None: nodes and graphs are in their original order."""
        return None

    # --- predictions and metrics ------------------------------------------------------------

    @override
    def predict(self, nodes: Any = None, out: str | Path | None = None) -> Tensor:
        """The model's exact output for every graph, in the order of the data set.

        Args:
            nodes: ids, or a mask, of the **graphs** wanted; all when None.
            out: a `.npy` file to write to.

        Returns:
            `[num_graphs or k, out_channels]` on the CPU.
        """
        return super().predict(nodes, out)

    @override
    def embed(self, nodes: Any = None, out: str | Path | None = None) -> Tensor:
        """As `predict`, for what readout gives the head: `[num_graphs or k, channels]`."""
        return super().embed(nodes, out)

    @override
    def _predict(self, nodes: Any, out: str | Path | None, head: bool) -> Tensor:
        wanted = wanted_rows(nodes, self._graph.num_graphs, "graph")
        if wanted is None:
            wanted = torch.arange(self._graph.num_graphs)
        self.prepare()  # layers are checked, lazy parameters get their shapes
        self._inference_options()  # moves the model
        ids, place = wanted.unique(return_inverse=True)
        self._check_evaluation(ids, head)
        result = self._outputs(ids, head)[place]
        if out is not None:
            with atomic_write(out) as file:
                np.save(file, result.numpy())
        return result

    @override
    def _evaluate(self, sets: Sequence[str]) -> dict[str, dict[str, float]]:
        if not sets:
            return {}
        self.prepare()
        started = time.monotonic()
        self._inference_options()
        with torch.no_grad(), evaluation_mode(self.learnt):  # metrics may run what the task learnt
            found = comm.from_main(lambda: self._metrics(sets))
        self._count("evaluate", time.monotonic() - started)
        return found

    @override
    def _evaluate_between_epochs(self) -> dict[str, dict[str, float]]:
        return self._evaluate(self._sets())  # in batches as small as steps': nothing to return

    def _metrics(self, sets: Sequence[str]) -> dict[str, dict[str, float]]:
        split, y = self._rows.split(self.config.split), self._rows.y
        if split is None or y is None:
            raise InputError("evaluation needs a split and graph-level labels y")
        known = labelled(y, self._rows.task)
        chosen = {name: split[name] & known for name in sets}
        ids = torch.stack(list(chosen.values())).any(0).nonzero().squeeze(1)
        self._check_evaluation(ids)
        outputs, found = self._outputs(ids, head=True), {}
        for name, mask in chosen.items():
            metrics = self.task.metrics()
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
        with evaluation_mode(self.model):
            for graphs in self._chunks(ids, head):
                batch = self._assembled(graphs).to(self.device)
                context = Context.of(batch, training=False)
                out = self.model.embed(batch.x, context)  # type: ignore[arg-type]
                rows.append(self.model.predict(out, context) if head else out)
        return torch.cat(rows).cpu()

    def _chunks(self, ids: Tensor, head: bool) -> list[Tensor]:
        """Graphs that are evaluated at once: their nodes (`chunk_rows`) and edges are few."""
        nodes, edges = (sizes.cumsum(0) for sizes in sizes_of(self._graph, ids))
        numbers = nodes.div(self.config.chunk_rows or _NODES_AT_ONCE, rounding_mode="floor")
        numbers += edges.div(_EDGES_AT_ONCE, rounding_mode="floor")
        chunks = list(ids.split(numbers.unique_consecutive(return_counts=True)[1].tolist()))
        if self.config.memory == "auto":
            return chunks
        cost = self._cost_of_evaluation()
        room = memory_bytes(self.config.memory) - self._beside_evaluation(ids.numel(), head)
        return [
            part
            for chunk in chunks
            for part in chunk.split(cut(cost.of_graphs(*sizes_of(self._graph, chunk)), room))
        ]

    def _assembled(self, graphs: Tensor) -> Batch:
        return labelled_by_graph(Assembler(self._whole), self._graph.y)(graphs)

    # --- what may be added to the process ---------------------------------------------------

    def _check_evaluation(self, ids: Tensor, head: bool = True) -> None:
        """Refuse, before any is run, graphs of which one has no room by itself."""
        memory = self.config.memory
        if memory != "auto" and (refused := self._needs_of_evaluation(ids, head).refused(memory)):
            raise InputError(refused)

    def _needs_of_evaluation(self, ids: Tensor, head: bool = True) -> Needs:
        cost = self._cost_of_evaluation()
        return needs(self._graph, ids, cost, self._beside_evaluation(ids.numel(), head))

    def _cost_of_evaluation(self) -> PassCost:
        if self._evaluation_cost is None:
            self._evaluation_cost = self._cost(run_phases, training=False, copies=2)
        return self._evaluation_cost

    def _cost(self, runner: Runner, *, training: bool, copies: int) -> PassCost:
        def forward(some: Batch) -> Tensor:
            context = Context.of(some, training=False, runner=runner)
            return self.model(some.x, some.adj, context=context)  # type: ignore[arg-type]

        sample, memory = self._sample_batch().to(self.device), self.config.memory
        return pass_cost(forward, self.model, sample, memory, training=training, copies=copies)

    def _beside_evaluation(self, count: int, head: bool) -> int:
        """Bytes that are held while so many graphs are evaluated, their results among them."""
        batch = self._sample_batch().to(self.device)
        with torch.no_grad(), evaluation_mode(self.model):
            context = Context.of(batch, training=False)
            out = self.model.embed(batch.x, context)  # type: ignore[arg-type]
            row = (self.model.predict(out, context) if head else out)[:1].nbytes
        fixed = self._cost_of_evaluation().fixed
        return self._beside_graphs() + fixed + count * (_RESULTS * row + _ORDERED)

    def _beside_graphs(self) -> int:
        """Bytes that are held beside some graphs: the run's state, arrays of the data set."""
        graphs, nodes = self._graph.num_graphs, self._graph.num_nodes
        return self._held_bytes() + _HELD_OF_GRAPH * graphs + _HELD_OF_NODE * nodes

    @override
    def start(self) -> None:
        self.prepare()
        self._check_memory()
        super().start()

    def _check_memory(self) -> None:
        """Find before training what has no room within `memory`, in a step or in evaluation."""
        config, costs, evaluated = self.config, None, Needs()
        held = self._beside_graphs()
        if config.memory != "auto":
            if self._sets():
                split, y = self._rows.split(config.split), self._rows.y
                assert split is not None and y is not None
                chosen = torch.stack([split[name] for name in self._sets()]).any(0)
                ids = (chosen & labelled(y, self._rows.task)).nonzero().squeeze(1)
                evaluated = self._needs_of_evaluation(ids)
            checkpoints = config.checkpoint_activations
            runner = checkpointed(run_phases) if checkpoints else run_phases
            cost = self._cost(runner, training=True, copies=2 + config.prefetch)
            evaluated = max(evaluated, needs(self._graph, torch.arange(0), cost, held))
            seen = self.loader.clustered
            drawn = seen.sizes.nonzero().squeeze(1)
            costs, held = cost.of_graphs(*sizes_of(self._graph, drawn)), held + cost.fixed
        check_steps(costs, config.graphs_per_batch, config.memory, held, evaluated)

    # --- what the shared loop asks for ------------------------------------------------------

    @override
    def _lay_out(self) -> None:
        """Nothing: a graph is where it is."""

    @override
    def _prepare_data(self) -> None:
        """Nothing: a graph is where it is."""

    @override
    def _sample_batch(self) -> Batch:
        ids = self._loader.steps(0)[0][0]
        nodes, edges = sizes_of(self._graph, ids)
        if self.config.memory != "auto":  # what the largest take is not known yet
            small = nodes + edges <= _SMALL
            ids = ids[small] if bool(small.any()) else ids[(nodes + edges).argmin()].reshape(1)
            nodes = sizes_of(self._graph, ids)[0]
        return self._assembled(ids[nodes.argsort(descending=True)[:2]])

    @override
    def _dry_run(self) -> None:
        from gnnscale.train.steps.dry_run import dry_run

        batch = self._sample_batch().to(self.device)
        each_alone = self.config.graphs_per_batch == 1 and self.config.chunk_rows == 1
        dry_run(self.model, batch, self._graph, None, "whole" if each_alone else "graphs")
        with torch.no_grad(), evaluation_mode(self.model):
            context = Context.of(batch, training=False)
            try:
                out = self.model(batch.x, batch.adj, context=context)  # type: ignore[arg-type]
            except RuntimeError as error:
                raise InputError(f"readout and head do not fit the blocks: {error}") from error
        if out.dim() != 2 or out.size(0) != batch.clusters.numel():
            raise InputError(
                f"the model returned {list(out.shape)} for {batch.clusters.numel()} graphs; a "
                "readout returns one row a graph"
            )
        if not each_alone:
            self._check_alone(batch, out)
        if isinstance(self.task, NodeTask):
            self.task.check_output(out.size(1), self._rows)
        try_loss(self.learnt, self.task, out, batch)

    @torch.no_grad()
    def _check_alone(self, batch: Batch, out: Tensor) -> None:
        """Compare some graphs' outputs with those of each by itself: layers have been checked."""
        if not bool(out.isfinite().all()):
            return  # of which the loss will tell
        near = 1e-3 * float(out.abs().max())  # float32 leaves 1e-5 or so
        with evaluation_mode(self.model):
            for graph, together in zip(batch.clusters, out, strict=True):
                one = self._assembled(graph.reshape(1).cpu()).to(self.device)
                context = Context.of(one, training=False)
                alone = self.model(one.x, one.adj, context=context)  # type: ignore[arg-type]
                if not torch.allclose(alone[0], together, rtol=0, atol=near, equal_nan=True):
                    raise InexactConvolution(
                        f"the output of graph {int(graph)} changes by "
                        f"{float((alone[0] - together).abs().max()):.2g} where another graph lies "
                        "beside it, and no layer does that: readout and head must keep to the rows "
                        "of a graph; graphs_per_batch=1 with chunk_rows=1 runs each by itself"
                    )

    @override
    def _evaluation_interval(self) -> int:
        assert self._graph.node_ptr is not None
        sizes = self._graph.node_ptr.diff()
        split = self._rows.split(self.config.split)
        if split is None:
            return 1
        evaluated = int(sizes[split.train | split.val | split.test].sum())
        trained = max(1, int(sizes[split.train].sum()))
        return epochs_between(evaluated, TRAINING * trained)

    @override
    def _keep_data(self) -> None:
        """Store the graphs where nothing else could give them back."""
        assert self.folder is not None
        path = self.folder.graph

        def write() -> None:
            store_graph(self._graph, path)

        if self._graph.source is None:
            comm.from_main(write)

    @override
    def _resume_data(self) -> None:
        """Nothing: what is drawn depends on seed and epoch alone."""

    @override
    def _identity(self) -> dict[str, Any]:
        if self._fingerprint is None:
            self._fingerprint = self._graph.fingerprint()
        return describe_data(self._graph, self._fingerprint)

    @override
    def _held(self) -> dict[str, Any]:
        return {"": self._graph}


def _of_graphs(fault: str) -> str:
    """A fault of nodes' labels as one of graphs'."""
    for words, of_graphs in (
        ("training node", "training graph"),
        ("train_mask selects no node", "the split selects no graph"),
        ("give train_mask, or splits={'default': {'train': …}}", "give split={'train': ids, …}"),
    ):
        fault = fault.replace(words, of_graphs)
    return fault
