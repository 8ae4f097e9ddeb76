"""What is chosen by sizes when the user does not say: parts, clusters a batch, evaluations.

The rules read the sizes of graph and model alone, none of the machine's, so that a resumed run
makes the same choice.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.model import ModelCosts
from gnnscale.costs.counted.reading import entries_of
from gnnscale.errors import GnnscaleError
from gnnscale.graph import Adjacency, ClusteredGraph, Graph
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import read_rows

# Of the widest activation of a batch, and of a chunk of rows in inference. What is larger leaves
# the caches between the phases of a layer, and its pages are fresh every time.
CACHED_BYTES = 8 << 20
# Edges into a batch's nodes: 8 bytes each with a weight, so again 8 MiB. Dense graphs reach this
# first: Reddit (490 edges a node) at 2,140 nodes, where the paper's 20 of 1,500 parts are 3,100.
_EDGES = 1 << 20
_STEPS = 8  # an epoch at least, as long as
_NODES = 512  # a batch keeps these: below, a step's fixed costs outweigh its work.
# Stochastic multiple partitions: more clusters a batch keep more of the links between clusters and
# even out labels, but smaller ones cut more edges. The paper takes 10 of 163 nodes for Amazon2M.
_CLUSTERS = 10
_PART_NODES = 128
# Time per unit of inference work over that of training (from the seconds of the quickstart's
# report: whole layers are fresh memory, a batch's activations are not).
INFERENCE_COST = 1.5
_ROWS_AT_ONCE = 1 << 18  # of a stored graph that is counted through
TRAINING = 3  # times a forward pass, of a perceptron on rows: backward costs twice as much


def sizes_for(
    data: Graph | ClusteredGraph,
    model: object,
    split: str,
    inductive: bool,
    num_parts: object,
    clusters_per_batch: object,
) -> tuple[Any, Any, list[str]]:
    """Choose what is None of `num_parts` and `clusters_per_batch`, by `choose_sizes`.

    Args:
        data: what is trained on; of a clustered graph, the clusters are given.
        model: the model, or a list of convolutions.
        split: the split set; the default one stands for one that there is not.
        inductive: whether training nodes alone are trained on.
        num_parts: given, or None.
        clusters_per_batch: given, or None.

    Returns:
        `num_parts`, `clusters_per_batch`, and in words what cannot be.
    """
    faults = []
    if isinstance(data, ClusteredGraph):
        there = data.num_parts
        if num_parts not in (None, there):
            faults = [f"num_parts={num_parts}, but the clustered graph has {there} clusters"]
        if clusters_per_batch is not None:
            return there, clusters_per_batch, faults
        graph, view = data.graph, data.view("train") if inductive else data
        num_parts = int(view.sizes.count_nonzero())
    else:
        graph = data
    seen = Seen.of(graph, split if split in graph.splits else "default", inductive)
    found = choose_sizes(seen, row_bytes(model, graph), num_parts, clusters_per_batch)
    if isinstance(data, ClusteredGraph):
        return data.num_parts, found[1], faults
    return *found, seen.faults(found[0])


class Seen(NamedTuple):
    """What is trained on: the whole graph, or its training nodes.

    Attributes:
        nodes: how many nodes.
        edges: how many edges arrive at them from one another, estimated for training nodes.
        graphs: how many graphs of a multi-graph data set they are in; each needs a part.
    """

    nodes: int
    edges: int
    graphs: int

    @classmethod
    def of(cls, graph: Graph, split: str, inductive: bool) -> Seen:
        """Read the sizes of a graph; of a stored one, block by block."""
        starts = [0, graph.num_nodes] if graph.node_ptr is None else graph.node_ptr.tolist()
        size = torch.tensor(starts).diff()
        per_graph, arriving = size, graph.adj.indptr[starts].diff()
        if inductive:
            chosen = graph.split(split)
            train = None if chosen is None else chosen.train
            sums = [_trained(graph, train, *ends) for ends in pairwise(starts)]
            per_graph, arriving = torch.tensor(sums, dtype=torch.int64).view(-1, 2).unbind(1)
        # As many of the sources are seen as of all nodes of their graph.
        edges = (arriving * per_graph / size.clamp(min=1)).sum()
        return cls(int(per_graph.sum()), int(edges), int((per_graph > 0).sum()))

    def faults(self, num_parts: object) -> list[str]:
        """What makes a number of parts impossible, in words."""
        number = _whole(num_parts)
        if number is not None and number > max(self.nodes, 1):  # none at all is the task's fault
            return [
                f"num_parts={number} is more than the {self.nodes} nodes that are trained on; a "
                "part holds at least one"
            ]
        if number is not None and number < self.graphs:
            return [
                f"num_parts={number} is less than the {self.graphs} graphs that are trained on; a "
                "part never spans two"
            ]
        return []


def _trained(graph: Graph, train: Tensor | None, start: int, stop: int) -> tuple[int, int]:
    """Training nodes among some nodes, and the edges that arrive at them."""
    nodes = edges = 0
    if train is None:
        return 0, 0
    for first, degrees in in_degrees(graph.adj, start, stop):
        mask = read_rows(train, first, first + degrees.numel())
        nodes += int(mask.sum())
        edges += int((degrees * mask).sum())
    return nodes, edges


def in_degrees(
    adj: Adjacency, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Edges that arrive at each of some nodes, block by block, with the first node of it."""
    end = adj.num_nodes if end is None else end
    for first in range(start, end, _ROWS_AT_ONCE):
        yield first, read_rows(adj.indptr, first, min(first + _ROWS_AT_ONCE, end) + 1).diff()


def most_edges(adj: Adjacency) -> int:
    """The most edges that arrive at a node."""
    return max((int(degrees.max()) for _, degrees in in_degrees(adj)), default=0)


def row_bytes(model: object, graph: Graph) -> int:
    """Bytes of a node's widest row in float32: its features, or the output of a layer."""
    modules = list(model) if isinstance(model, list | tuple) else [model]
    whole = nn.ModuleList(module for module in modules if isinstance(module, nn.Module))
    features = graph.num_features
    # What a layer reads tells of a lazy one before it; the first reads the features.
    read = [columns for _, columns in _matrices(whole) if columns != features]
    widest = max(widest_output(whole), *read, 0)
    if isinstance(graph.x, CSR):  # an entry is a column and a value
        features = 2 * math.ceil(graph.x.nnz / max(graph.num_nodes, 1))
    return 4 * max(widest, features, 1)


def widest_output(model: nn.Module) -> int:
    """Columns of the widest output of a layer; 0 of a model without parameters."""
    return max((rows for rows, _ in _matrices(model)), default=0)


def _matrices(model: nn.Module) -> list[tuple[int, int]]:
    """The shapes of a model's matrices, but of lazy ones."""
    lazy = nn.parameter.UninitializedParameter
    known = (p for p in model.parameters() if not isinstance(p, lazy))
    return [(p.size(0), p.size(1)) for p in known if p.dim() > 1]


def choose_sizes(
    seen: Seen, row: int, num_parts: object, clusters_per_batch: object
) -> tuple[Any, Any]:
    """Choose what is not given of `num_parts` and `clusters_per_batch`.

    A batch is as large as caches allow: its widest activation takes 8 MiB at most and 2²⁰ edges
    arrive at it, but an epoch has eight steps as long as a batch keeps 512 nodes. It is drawn from
    up to ten clusters, of 128 nodes at least. A graph of a multi-graph data set is a part at least;
    then a batch takes more of the smaller ones.

    Args:
        seen: sizes of what is trained on.
        row: bytes of a node's widest row, see `row_bytes`.
        num_parts: given, or None.
        clusters_per_batch: given, or None.

    Returns:
        `num_parts` and `clusters_per_batch`; what is given, as it is.
    """
    nodes = max(seen.nodes, 1)
    batch = min(
        max(_NODES, nodes // _STEPS),
        CACHED_BYTES // row,
        _EDGES * nodes // max(seen.edges, 1),
    )
    batch = min(max(batch, 1), nodes)
    if num_parts is None:
        drawn = _whole(clusters_per_batch) or max(1, min(_CLUSTERS, batch // _PART_NODES))
        num_parts = min(max(math.ceil(nodes * drawn / batch), seen.graphs), nodes)
    if clusters_per_batch is None:
        parts = _whole(num_parts) or 1
        clusters_per_batch = max(1, min(round(batch * parts / nodes), parts))
    return num_parts, clusters_per_batch


def evaluation_interval(
    costs: Callable[..., ModelCosts], trained: Sizes, evaluated: Sizes, *, first_hop: bool = False
) -> int:
    """Epochs between evaluations such that their work stays under a tenth of training's.

    Args:
        costs: of the model: `Job.costs`.
        trained: what an epoch trains on.
        evaluated: what an evaluation runs over, all together.
        first_hop: whether training has the first propagation computed before.
    """
    evaluation = training = 0.0
    with contextlib.suppress(GnnscaleError):  # of a layer that does not run on any small piece
        learnt = costs(computed="first" if first_hop else "none")
        evaluation = costs(training=False).forward.of(evaluated)
        training = learnt.step.of(trained)
    if evaluation <= 0 or training <= 0:
        evaluation, training = evaluated.nodes, TRAINING * trained.nodes
    return epochs_between(INFERENCE_COST * evaluation, training)


def sizes_in_training(graph: Graph, nodes: int, batches: int) -> Sizes:
    """What an epoch trains on: some nodes of a graph, in batches of clusters."""
    share = nodes / max(graph.num_nodes, 1)
    edges = graph.num_edges * (0.7 if batches > 1 else 1.0)  # those between batches are not there
    return Sizes(graph.num_nodes, edges, entries=entries_of(graph)).share(share)


def sizes_of_all(graphs: Sequence[Graph]) -> Sizes:
    """Of several graphs, each of which is run over whole."""
    return Sizes(
        sum(graph.num_nodes for graph in graphs),
        sum(graph.num_edges for graph in graphs),
        entries=sum(map(entries_of, graphs)),
    )


def epochs_between(evaluation: float, training: float) -> int:
    """Epochs between evaluations that keep their work under a tenth of an epoch's."""
    return max(1, math.ceil(10 * evaluation / max(training, 1)))


def _whole(value: Any) -> int | None:
    """A number that can be counted with; what else is given is a fault, found elsewhere."""
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return number if number > 0 else None
