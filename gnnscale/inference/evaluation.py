"""Metrics and predictions over the whole graph, from the exact inference in chunks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.costs.convolutions import output_bytes
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.reading.labels import labelled
from gnnscale.graph.reading.nodes import read_ids
from gnnscale.inference.activation_file import reserve
from gnnscale.inference.activations import Chunks
from gnnscale.inference.engine import share_of, stream
from gnnscale.inference.local import around
from gnnscale.inference.metrics import KeptRows, Metric
from gnnscale.nn import LayeredGNN
from gnnscale.storage.files import atomic_write
from gnnscale.storage.mapped import map_array, read_rows, release
from gnnscale.storage.memory import memory_bytes

_OF_NEAR = 4  # the part of a bound that what a few nodes depend on may take
_ORDERED = 48  # bytes a row of a result of some nodes: ids, and their places, sorted


def evaluate(
    model: LayeredGNN,
    graph: Graph,
    rows: Mapping[str, Tensor],
    metrics: Mapping[str, Sequence[Metric]],
    **options: Any,
) -> dict[str, dict[str, float]]:
    """Gather metrics over several sets of nodes in one exact pass, the same on every rank.

    A graph too small to be divided is evaluated by rank 0: others would only take its memory
    bandwidth.

    Args:
        model: the model.
        graph: the graph, with node-level labels.
        rows: bool masks `[num_nodes]` by name ("val", "test", …). Unlabelled nodes are left out.
        metrics: fresh metrics for each of those names.
        options: of `stream`.

    Returns:
        `{"test": {"accuracy": …}, …}`.

    Raises:
        InputError: there are no node-level labels.
    """
    if graph.y is None or graph.y_level != "node":
        raise InputError("evaluation needs node-level labels y")
    if not share_of(model, graph, options.get("chunk_rows")).split:

        def whole() -> dict[str, dict[str, float]]:
            _update(metrics, model, graph, rows, options)
            return _computed(metrics, rows)

        return comm.from_main(whole)
    own = {name: [m if hasattr(m, "merge") else KeptRows() for m in metrics[name]] for name in rows}
    _update(own, model, graph, rows, options)
    return _computed(_merged(comm.gather_objects(own), metrics), rows)


_Metrics = Mapping[str, Sequence[Any]]


def _update(
    metrics: _Metrics,
    model: LayeredGNN,
    graph: Graph,
    rows: Mapping[str, Tensor],
    options: dict[str, Any],
) -> None:
    """Add the rows of this rank."""
    assert graph.y is not None
    for start, end, out in stream(model, graph, everywhere=False, **options):
        y = read_rows(graph.y, start, end)
        known = labelled(y, graph.task)
        for name, mask in rows.items():
            chosen = read_rows(mask, start, end) & known
            if bool(chosen.any()):
                picked, target = out[chosen.to(out.device)], y[chosen].to(out.device)
                for metric in metrics[name]:
                    metric.update(picked, target)


def _merged(of_ranks: list[_Metrics], metrics: _Metrics) -> _Metrics:
    """The metrics with the rows of all ranks, in their order."""
    first, *others = of_ranks
    for other in others:
        for name, of_set in first.items():
            for metric, theirs in zip(of_set, other[name], strict=True):
                metric.merge(theirs)
    return {
        name: [
            gathered.into(metric) if isinstance(gathered, KeptRows) else gathered
            for gathered, metric in zip(of_set, metrics[name], strict=True)
        ]
        for name, of_set in first.items()
    }


def _computed(metrics: _Metrics, rows: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    return {name: {m.name: m.compute() for m in metrics[name]} for name in rows}


def predict(
    model: LayeredGNN,
    graph: Graph,
    *,
    position: Tensor | None = None,
    node_id: Tensor | None = None,
    nodes: Tensor | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Tensor:
    """The model's exact output, in the graph's original order.

    Args:
        model: the model.
        graph: the graph, perhaps in another order.
        position: int64 `[num_nodes]`, where each original node stands in `graph`; None where the
            order is the original, or where `node_id` tells it.
        node_id: int64 `[num_nodes]`, the original id of each node of `graph`: takes less memory
            where all nodes are wanted.
        nodes: original ids `[k]` to return, in that order, or a mask; None for all.
        out: a `.npy` file to write to instead of memory; the result is then memory-mapped.
        options: of `stream`.

    Returns:
        `[k, out_channels]` on the CPU.

    Raises:
        InputError: an id is out of range, or ids and a mask cannot be told apart.
        StoreError: the file cannot be written.

    Under several ranks all call it and all have the result; rank 0 writes the file. A rank that
    does not see it there, on a host that shares no folder, has the result in memory.
    """
    wanted = wanted_rows(nodes, graph.num_nodes)
    order = node_id if nodes is None else None
    if position is not None and order is None:
        wanted = position if wanted is None else position[wanted]
    bounded = options.get("memory", "auto") != "auto"
    if nodes is not None and wanted is not None:
        room = memory_bytes(options["memory"]) // _OF_NEAR if bounded else None
        near = around(model, graph, wanted, room)
        # Each rank may have a room of its own; all run over the same graph.
        if not comm.any_rank(near is None) and near is not None:
            graph, wanted = near
            options.pop("segments", None)  # of norms, of which there are none over other rows
            options["held"] = options.get("held", 0) + (room or 0)
    if bounded:
        options["held"] = options.get("held", 0) + _taken(model, graph, wanted, out, options)
    chunks = stream(model, graph, **options)
    if out is None:
        return _collect(chunks, graph.num_nodes, wanted, order, _in_memory)

    def write() -> tuple[int, int] | None:
        with atomic_write(out) as file:

            def mapped(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
                kind = torch.empty(0, dtype=dtype).numpy().dtype
                array = np.lib.format.open_memmap(file.name, "w+", dtype=kind, shape=shape)
                reserve(file.fileno(), os.fstat(file.fileno()).st_size)
                if 0 in shape:
                    return torch.from_numpy(array)
                return map_array(Path(file.name), kind, shape, array.offset, "r+")

            _collect(chunks, graph.num_nodes, wanted, order, mapped)
        return _version(out)

    written = comm.from_main(write)
    if not comm.is_main() and _version(out) != written:
        return _collect(chunks, graph.num_nodes, wanted, order, _in_memory)
    return torch.from_numpy(np.load(out, mmap_mode="c", allow_pickle=False))


def _taken(
    model: LayeredGNN,
    graph: Graph,
    wanted: Tensor | None,
    out: str | Path | None,
    options: dict[str, Any],
) -> int:
    """Bytes that the result takes, where it is not in a file, and the order of its rows."""
    count = graph.num_nodes if wanted is None else wanted.numel()
    device = torch.device(options.get("device", "cpu"))
    row = output_bytes(model, graph, device) if out is None and graph.num_nodes else 0
    return count * (row + (0 if wanted is None else _ORDERED))


def _version(path: str | Path) -> tuple[int, int] | None:
    """What tells a file from one that was there before; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _in_memory(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype)


def _collect(
    chunks: Chunks, num_nodes: int, wanted: Tensor | None, node_id: Tensor | None, make: Any
) -> Tensor:
    count = num_nodes if wanted is None else wanted.numel()
    result: Tensor | None = None
    if wanted is not None:
        order = wanted.argsort(stable=True)
        ordered = wanted[order]
    for start, end, chunk in chunks:
        chunk = chunk.cpu()
        if result is None:
            result = make((count, chunk.size(1)), chunk.dtype)
        if wanted is None:
            if node_id is None:
                result[start:end] = chunk
            else:
                result[read_rows(node_id, start, end)] = chunk
            release(result)
            continue
        low, high = torch.searchsorted(ordered, torch.tensor([start, end])).tolist()
        result[order[low:high]] = chunk[ordered[low:high] - start]
        release(result)
    assert result is not None
    return result


def wanted_rows(nodes: object, num_nodes: int, of: str = "node") -> Tensor | None:
    """Ids of rows from ids or a mask, int64 `[k]`; None for all. See `reading.nodes`.

    Raises:
        InputError: an id is out of range, or it is neither.
    """
    return None if nodes is None else read_ids(nodes, num_nodes, f"{of}s", of=of)
