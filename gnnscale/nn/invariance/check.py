"""Whether a layer may be run in pieces: found out by changing what must not matter.

A piece is a batch of clusters, a chunk of rows with its halo, or some of a data set's graphs. What
a layer gives for a node must then depend on nothing but the nodes and edges within its reach: not
on the order of nodes or of edges, on other rows or how many there are, on the greatest degree, or
on a graph beside its own. Each is changed by itself, on small graphs made up for this (a graph may
hide what a layer reads: where all is within reach, nothing is missing), and on a piece of the
user's.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import aggr
from torch_geometric.nn.dense.linear import Linear
from typing_extensions import override

from gnnscale.choices import choices_checked
from gnnscale.errors import GnnscaleError, InexactConvolution, UnsupportedModel
from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR
from gnnscale.nn.blocks.phases import Neighbourhood, Rows, Statistics, is_activation
from gnnscale.nn.convs.networks import Call, is_norm
from gnnscale.nn.convs.taken import pad_pieces_of
from gnnscale.nn.invariance import changes
from gnnscale.nn.invariance.stand_in import settings_of, undisturbed
from gnnscale.nn.invariance.trial import ROWS, LayerFailed, Level, Trial, Verdict
from gnnscale.nn.modules import is_intercepted
from gnnscale.nn.norms import statistics
from gnnscale.nn.norms.segments import pointers_of

_KNOWN: dict[Hashable, Verdict] = {}
_MOST_KNOWN = 1000
_FEW = 4096


@choices_checked
@torch.no_grad()
def check_invariance(
    phase: Neighbourhood,
    rows: Sequence[Tensor],
    adj: Adjacency,
    carried: Mapping[str, Tensor] | None = None,
    *,
    level: Level = "pieces",
    training: bool = True,
) -> None:
    """Find out whether a layer may run in pieces; it is not changed, and no random number is drawn.

    A copy is tried in evaluation and in training mode, with parameters and buffers drawn anew, in
    float64 (in float32 where it does not run otherwise), all rows drawing the same for dropout.
    Norms with running statistics use those. What is found is kept by the layer's class, settings
    and shapes, and by sizes and first edges of the graph. Pieces of a layer that
    fails on some are padded from then on (`padding`).

    Args:
        phase: the layer as a phase.
        rows: some rows `[k, channels]` of x and of the slots that it takes, as they are.
        adj: the whole graph.
        carried: values of its edges and nodes, by name: `Graph.carried`; None: weights of `adj`.
        level: "pieces": a piece holds some nodes of a graph, with their surroundings; "graphs": it
            holds whole graphs; "whole": there is one piece, the graph, in gnnscale's own order.
        training: whether it will be trained; else evaluation mode alone is tried.

    Raises:
        InexactConvolution: it may not; named are the layer, what it depends on and a remedy.
        UnsupportedModel: it fails on some pieces, or cannot be copied.
        InputError: it takes no such rows.
    """
    module = phase.module
    name = getattr(module, "called", type(module).__name__)
    if carried is None:
        carried = {} if adj.values is None else {"edge_weight": adj.values}
    carried = {name: value for name, value in carried.items() if name in phase.given}
    if level == "graphs" and "batch" in phase.given:
        carried["batch"] = adj.indptr.new_zeros(1)
    if level == "pieces" and (known := _known_reader(module)) is not None:
        raise InexactConvolution(f"{name} holds {known.format(whole=_whole(adj.num_nodes))}")
    trial = Trial(phase, rows, carried, level, training=training)
    both, key = (*_key(trial), True), (*_key(trial), training)
    if both in _KNOWN and _KNOWN[both].reason is None:
        key = both
    try:
        verdict = _known(key, trial.on_made_up_graphs)
        if verdict.symmetric and not _has_reverse_edges(adj):
            raise InexactConvolution(
                f"{name} depends on {changes.SYMMETRY.what}, which no halo of incoming edges holds "
                "on a directed graph; inference in chunks would be silently wrong. "
                f"{changes.SYMMETRY.remedy}{_whole(adj.num_nodes)}"
            )
        if verdict.reason is None and level == "pieces":
            of_graph = (key, _sample(adj))
            verdict = _known(of_graph, functools.partial(trial.on_graph, adj, verdict))
    except LayerFailed as error:
        if error.always and isinstance(error.__cause__, GnnscaleError):
            raise error.__cause__ from error.__cause__.__cause__
        raise UnsupportedModel(
            f"{name} runs on the graph, but fails on {error}: batches and chunks of rows are such "
            "pieces, some without edges or of one node. Let its forward take any graph"
            f"{_whole(adj.num_nodes)}"
        ) from error
    pad_pieces_of(module, verdict.padded)
    if verdict.reason is not None:
        raise InexactConvolution(_message(name, verdict, phase.hops, adj.num_nodes))


def _has_reverse_edges(adj: Adjacency) -> bool:
    """Whether every edge has a reverse; weights may differ, since it only has to lead there."""
    if adj.values is None:
        return adj.symmetric
    if "has_reverse_edges" not in adj.cache:
        adj.cache["has_reverse_edges"] = Adjacency(adj.indptr, adj.indices).symmetric
    return adj.cache["has_reverse_edges"]


def first_rows(x: Tensor | CSR) -> Tensor:
    """The first of some rows, dense: what `check_invariance` asks for."""
    few = min(ROWS, x.shape[0])
    return (
        x[:few]
        if isinstance(x, Tensor)
        else x.select_rows(torch.arange(few, device=x.device)).to_dense()
    )


def _key(trial: Trial) -> tuple[Hashable, ...]:
    shapes = tuple((k, v.shape[1:], v.dtype) for k, v in sorted(trial.examples.items()))
    hops = trial.phase.hops if trial.level == "pieces" else 0
    return settings_of(trial.phase.module), trial.level, hops, tuple(trial.widths), shapes


def _sample(adj: Adjacency) -> Hashable:
    """What tells a graph from most others: its sizes and its first edges."""
    few = [zlib.crc32(a[:_FEW].cpu().numpy().tobytes()) for a in (adj.indptr, adj.indices)]
    return (adj.num_nodes, adj.num_edges, *few)


def _known(key: Hashable, find_out: Callable[[], Verdict]) -> Verdict:
    if key not in _KNOWN:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        with undisturbed():
            _KNOWN[key] = find_out()
    return _KNOWN[key]


def _known_reader(layer: nn.Module) -> str | None:
    """What in a layer is known to read all rows, with the remedy; None where nothing is."""
    for part in layer.modules():
        name = type(part).__name__
        if isinstance(part, aggr.LSTMAggregation | aggr.GRUAggregation):
            return (
                f"{name}, which depends on {changes.EDGES.what} and on {changes.DEGREE.what}, to "
                f"which it pads: no number of hops helps. {changes.EDGES.remedy}"
            )
        if is_norm(part) and reads_all_rows(part):
            return (
                f"{name}, which reads all rows: no number of hops helps. Take the norm out of it "
                "and make it the norm of a Block{whole}"
            )
    return None


def reads_all_rows(norm: nn.Module) -> bool:
    """Whether a norm takes statistics of the rows that it is given, in evaluation too."""
    kept = statistics.uses_running_statistics(norm)
    return statistics.is_registered(norm) and not (statistics.is_row_local(norm) or kept)


def _message(name: str, found: Verdict, hops: int, nodes: int) -> str:
    reason = found.reason
    assert reason is not None
    mode = " in training mode" if found.in_training else ""
    change = f" by {found.change:.1%}" if 0 < found.change < float("inf") else ""
    told = (
        f"{name} depends on {reason.what.format(hops=hops)}{mode}: its output changes{change} when "
        f"{reason.done}; run in pieces it would be silently wrong. "
    )
    if reason is not changes.HALO:
        return told + reason.remedy + (_whole(nodes) if reason.whole else "")
    if found.enough is None:
        return told + "No reach up to 16 hops was enough; it may have none" + _whole(nodes)
    where = " (that is enough on an undirected graph)" if found.symmetric else ""
    return (
        f"{told}Declare its reach{where}: gs.nn.register({name}, hops={found.enough}), or "
        f"Block(conv, hops={found.enough}), with act=None where it is the last layer"
    )


def _whole(nodes: int) -> str:
    return (
        f"; or run it on the whole graph: ClusterTrainer(…, num_parts=1, chunk_rows={nodes}), if "
        "memory is enough for that"
    )


_ROW_LOCAL = (nn.Linear, Linear, nn.Identity, nn.Dropout)


class OnRows(nn.Module):
    """A function of rows as a layer that takes edges and reads none."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    @property
    def called(self) -> str:
        """The name of the function or its class."""
        inner = self.function.function if isinstance(self.function, Call) else self.function
        return getattr(inner, "__name__", type(inner).__name__)

    @override
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.function(x)


class OnGraphs(OnRows):
    """A norm, given the graphs that its rows are of."""

    @override
    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        ptr = None if batch is None else pointers_of(batch, x.size(0))
        return statistics.normalise(self.function, x, ptr)


def as_layer(phase: object, *, of_graphs: bool) -> Neighbourhood | None:
    """A phase as a layer to be checked; None where it is known, or reads what it should.

    Args:
        phase: any.
        of_graphs: whether a batch holds whole graphs: only then must norms keep to them.
    """
    if isinstance(phase, Neighbourhood):
        return phase
    if isinstance(phase, Rows) and not _is_known(phase.module):
        return Neighbourhood(OnRows(phase.module), 0, 1)
    if of_graphs and isinstance(phase, Statistics) and getattr(phase.norm, "over", "") != "batch":
        norm = phase.norm
        if not (statistics.is_registered(norm) or statistics.uses_running_statistics(norm)):
            return Neighbourhood(OnGraphs(norm), 0, 1)
    return None


def _is_known(function: Any) -> bool:
    plain = type(function) in _ROW_LOCAL or statistics.is_row_local(function)
    if plain and not is_intercepted(function):
        return True
    # A softmax may run over rows.
    return is_activation(function) and not hasattr(function, "dim")
