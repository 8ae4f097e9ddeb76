"""A batch's halves, its first rows, and two batches as one: what a loss is tried on."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR


def halves(batch: Any) -> tuple[Any, Any]:
    """A batch with one half of its targets, and with the other; with all twice, if there is one."""
    index = batch.train_index
    if index.numel() < 2:
        return batch, batch
    found = []
    for half in index.tensor_split(2):
        mask = torch.zeros_like(batch.train_mask)
        mask[half] = True
        found.append(
            replace(batch, train_mask=mask, train_index=half, step_train_nodes=half.numel())
        )
    return found[0], found[1]


def joined(one: Any, other: Any, rows: int) -> Any:
    """One batch of two, without edges between them.

    Args:
        one: a batch.
        other: a batch like it.
        rows: of the model's output for `one`.
    """
    first = {field.name: getattr(one, field.name) for field in fields(one)}
    second = {field.name: getattr(other, field.name) for field in fields(other)}
    found = {name: _both(value, second[name]) for name, value in first.items()}
    found["train_index"] = torch.cat([first["train_index"], second["train_index"] + rows])
    for name in ("ptr", "graph_ptr"):
        if isinstance(start := first.get(name), Tensor):
            found[name] = torch.cat([start, second[name][1:] + start[-1]])
    if (adj := first["adj"]) is not None:
        indices = torch.cat([adj.indices, second["adj"].indices + adj.num_nodes])
        indptr = torch.cat([adj.indptr, second["adj"].indptr[1:] + adj.num_edges])
        weight = _both(adj.edge_weight, second["adj"].edge_weight)
        found["adj"] = Adjacency(indptr, indices, weight)
    found["step_train_nodes"] = first["step_train_nodes"] + second["step_train_nodes"]
    return replace(one, **found)


def _both(one: Any, other: Any) -> Any:
    if isinstance(one, Tensor):
        return torch.cat([one, other])
    if isinstance(one, dict):
        return {name: _both(value, other[name]) for name, value in one.items()}
    if isinstance(one, CSR) and not isinstance(one, Adjacency):
        return CSR(
            torch.cat([one.indptr, other.indptr[1:] + one.nnz]),
            torch.cat([one.indices, other.indices]),
            _both(one.values, other.values),
            (one.shape[0] + other.shape[0], one.shape[1]),
        )
    return one


def first_rows(batch: Any, rows: int, edge_labels: bool) -> Any:
    """A batch's first rows, and the edges among them."""
    adj = batch.adj
    kept = torch.arange(rows, device=batch.node_id.device)
    found: dict[str, Any] = {}
    edges = None
    if adj is not None:
        inside = adj.indices[: int(adj.indptr[rows])] < rows
        edges = inside.nonzero().squeeze(1)
        before = torch.cat([inside.new_zeros(1, dtype=torch.int64), inside.cumsum(0)])
        weight = None if adj.edge_weight is None else adj.edge_weight[edges]
        found["adj"] = Adjacency(before[adj.indptr[: rows + 1]], adj.indices[edges], weight)
    for field in fields(batch):
        name, value = field.name, getattr(batch, field.name)
        of_edges = name.startswith("edge_") or (name == "y" and edge_labels)
        if isinstance(value, CSR) and name != "adj":
            found[name] = value.select_rows(kept)
        elif isinstance(value, Tensor) and name in ("ptr", "graph_ptr"):
            found[name] = torch.cat([value[value < rows], value.new_tensor([rows])])
        elif isinstance(value, Tensor) and name == "train_index":
            found[name] = value[value < rows]
        elif isinstance(value, Tensor) and name != "clusters":
            found[name] = value[edges] if of_edges else value[:rows]
    found["step_train_nodes"] = found["train_index"].numel()
    if "slots" in vars(batch):
        found["slots"] = {}
    return replace(batch, **found)
