"""Exact full-graph inference: phase by phase, every phase in chunks of rows.

What layers give is kept in memory, or in files where the outputs of two do not fit (plus the slots
a model keeps, and the K + 1 powers of a layer that weighs each by itself, as TAG does). Then a
chunk, the columns that are being propagated, or the piece that an opaque convolution runs on, are
all that is in memory, beside some bytes a node (see `costs.inference`). Either way the result is
the same, bit for bit where chunks are whole cache lines as those chosen by size are, and work is
one forward pass, whatever the depth.

Ranks share the rows of every layer where there are chunks enough (see `ranks`). They call the same
functions in the same order, on the same graph and weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.costs.convolutions import check_convolutions
from gnnscale.costs.inference import Budget, default_chunk_rows, inference_budget
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.inference.activations import Activations, ActivationStore, Chunks
from gnnscale.inference.execution import Execution, PassInput
from gnnscale.inference.ranks import Share, divide, undivided
from gnnscale.kernels import CSR
from gnnscale.nn import GraphModel, LayeredGNN
from gnnscale.nn.blocks.carried import check_carried
from gnnscale.nn.blocks.context import computed_in
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.memory import scratch_root


def stream(
    model: LayeredGNN,
    graph: Graph,
    *,
    device: torch.device | str = "cpu",
    chunk_rows: int | None = None,
    storage: str | Path | None = None,
    memory: int | str = "auto",
    scratch: str | Path | None = None,
    held: int = 0,
    head: bool = True,
    segments: Mapping[str, Tensor] | None = None,
    everywhere: bool = True,
) -> Iterator[tuple[int, int, Tensor]]:
    """Run a model exactly over a whole graph and yield its output in chunks of rows.

    Args:
        model: the model; used in evaluation mode and set back after.
        graph: the graph, in whatever order; rows come in that order.
        device: where to compute. Activations are kept there too unless `storage` is given.
        chunk_rows: rows computed at once; chosen by size when not given. A bound makes them fewer
            in a process that runs alone; several ranks go by the same chunks, whatever each may
            take.
        storage: a folder for activations, as temporary files without a name, instead of memory.
        memory: bytes that the inference may add to what the process holds; activations that do not
            fit are kept in files, and opaque convolutions run on pieces that do. "auto" goes by
            what there is, and by whether the graph itself is in a file.
        scratch: a folder for activations that do not fit, where `storage` is None; the system's own
            for temporary files when None.
        held: bytes of `memory` that the caller has taken already.
        head: run the head. Without it, yield what the head reads (embeddings): the output of the
            last block, or of the last but one where the last block is the output layer.
        segments: what norms run over, as `Context` has it: "cluster" for those that normalise
            clusters. The graphs of a data set of several are known without.
        everywhere: give every rank all rows; else those that it computes itself.

    Returns:
        An iterator of `(start, end, out)`: the output `[end - start, channels]` of rows `start` to
        `end`, on `device`. Use or copy it before the next one is taken.

    Raises:
        InputError: the graph has no features, or of another width than the model's; or `memory` is
            too small, with the smallest that would do.
        InexactConvolution: a layer depends on what a piece of the graph does not hold.
        UnsupportedModel: a layer fails on some pieces.
        StoreError: `storage` cannot be written.
    """
    check_features(model, graph)
    check_carried(model, graph.carried)
    if chunk_rows is not None and chunk_rows < 1:
        raise InputError(f"chunk_rows={chunk_rows}: at least one row is computed at once")
    store = store_for(
        model,
        graph,
        device=device,
        chunk_rows=chunk_rows,
        storage=storage,
        memory=memory,
        scratch=scratch,
        held=held,
        divided=True,
    )
    assert store.budget is not None
    check_convolutions(model, graph, store.budget, store.device)
    phases = model.phases if head else _before_the_output(model)
    own = _stream(model, phases, graph, store, segments)
    if not (everywhere and store.share.split):
        return own
    out = store.keep(own)
    store.complete(out)
    return ((a, b, store.rows(out, a, b)) for a, b in store.share.every_range())


@torch.no_grad()
def _stream(
    model: LayeredGNN,
    phases: list[list[Any]],
    graph: Graph,
    store: ActivationStore,
    segments: Mapping[str, Tensor] | None,
) -> Chunks:
    assert graph.x is not None
    x = store.features(graph.x, activation_type(model, graph))
    with evaluation_mode(model):
        execution = Execution(graph, store, segments=segments)
        yield from execution.run(phases, PassInput(x, ours=False))


def share_of(model: LayeredGNN, graph: Graph, chunk_rows: int | None = None) -> Share:
    """The rows of every layer that this rank computes: all where dividing them would not pay."""
    return divide(graph, _rows_at_once(model, graph, chunk_rows))


def in_one_chunk(model: LayeredGNN, graph: Graph, chunk_rows: int | None = None) -> bool:
    """Whether all rows of a layer are computed at once."""
    return _rows_at_once(model, graph, chunk_rows) >= graph.num_nodes


def _rows_at_once(
    model: LayeredGNN, graph: Graph, wanted: int | None, budget: Budget | None = None
) -> int:
    """Rows of a chunk: as many as wanted, but no more than a bound allows.

    Of several ranks each may have a bound of its own, or none, and all go by the same chunks: then
    it is what is wanted that counts.
    """
    rows = default_chunk_rows(model, graph, budget)
    if wanted is None:
        return rows
    bounded = budget is not None and budget.is_given and comm.world_size() == 1
    return min(rows, wanted) if bounded else wanted


def store_for(
    model: LayeredGNN,
    graph: Graph,
    *,
    device: torch.device | str = "cpu",
    chunk_rows: int | None = None,
    storage: str | Path | None = None,
    memory: int | str = "auto",
    scratch: str | Path | None = None,
    held: int = 0,
    beside: int = 0,
    divided: bool = False,
) -> ActivationStore:
    """Where a model's activations over a graph are kept; the arguments are those of `stream`.

    `beside`: bytes that are kept in memory where activations are. `divided`: whether ranks share
    the rows; else each computes all.
    """
    device, taken = torch.device(device), {"held": held, "beside": beside}
    in_files = storage is not None
    budget = inference_budget(model, graph, device, memory, in_files=in_files, **taken)
    rows = _rows_at_once(model, graph, chunk_rows, budget)
    share = divide(graph, rows) if divided else undivided(graph.num_nodes, rows)
    # Where one rank keeps activations in files all do: they are exchanged from the same device.
    if share.split and comm.any_rank(budget.columns is not None) and budget.columns is None:
        budget = inference_budget(model, graph, device, memory, in_files=True, **taken)
    in_memory = budget.columns is None
    folder = None if in_memory else Path(storage or scratch or scratch_root(graph.adj.indices))
    return ActivationStore(
        graph.num_nodes, rows, device, folder, budget.columns or 0, share, budget
    )


def activation_type(model: LayeredGNN, graph: Graph) -> torch.dtype:
    """The type of a model's activations: of its parameters, of the features where it has none."""
    return computed_in(model) or _dtype(graph)


@torch.no_grad()
def advance(
    phases: list[Any],
    graph: Graph,
    store: ActivationStore,
    activations: Activations,
    slots: dict[str, list[Activations]],
    *,
    ours: bool = False,
    gathered: bool = False,
) -> Activations:
    """Run some of a model's phases over all rows, exactly, as `stream` runs all of them.

    Args:
        phases: the phases; their modules are in evaluation mode.
        graph: the graph: its edges are read, not its features.
        store: where activations are kept.
        activations: what the phases read.
        slots: the slots they read, by name; those that they write are added, and all are kept.
        ours: whether `activations` may be written over.
        gathered: whether an opaque convolution reads the result, at random.

    Returns:
        What comes of it.
    """
    execution = Execution(graph, store, slots)
    return store.keep(execution.run([phases], PassInput(activations, ours=ours)), gathered)


def check_features(model: LayeredGNN | GraphModel, graph: Graph) -> None:
    """Compare the graph's features with what the model's first layer expects.

    Raises:
        InputError: there are none, or their number differs.
    """
    if graph.x is None:
        raise InputError("the graph has no features x; give some (degrees, positions, embeddings)")
    expected = model.in_channels
    if expected is not None and expected != graph.num_features:
        raise InputError(
            f"the model's first layer takes {expected} features, the graph has {graph.num_features}"
            f": build it with in_channels={graph.num_features}"
        )


def _before_the_output(model: LayeredGNN) -> list[list[Any]]:
    if model.jk_mode is not None:
        return [*model.phases[:-1], model.phases[-1][:1]]  # the head begins by reading its slot
    if model.head is not None or len(model.blocks) == 1:
        return model.phases[:-1]
    return model.phases[: len(model.blocks) - 1]


def _dtype(graph: Graph) -> torch.dtype:
    """What a model without parameters computes in: the features' type."""
    values = graph.x.values if isinstance(graph.x, CSR) else graph.x
    return values.dtype if values is not None and values.is_floating_point() else torch.float32
