"""What a graph is made of, read from arrays: finding what is not said, checking what is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import checks
from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.checks import tensor
from gnnscale.graph.reading.labels import TASKS, Labels, labelled, read_labels
from gnnscale.graph.reading.nodes import Split, part_of, read_parts
from gnnscale.graph.times import (
    BY_TIME,
    cuts_of,
    parts_by_time,
    read_cuts,
    read_times,
    time_faults,
)
from gnnscale.kernels import CSR


def read_arrays(
    edge_index: Any,
    x: object,
    y: object,
    *,
    num_nodes: int | None,
    edge_weight: object,
    edge_attr: object,
    edge_type: object,
    node_type: object,
    edge_time: object,
    node_time: object,
    splits: Mapping[str, Mapping[str, Any]] | str | None,
    train_mask: object,
    val_mask: object,
    test_mask: object,
    node_ptr: Any,
    y_level: str,
    task: str | None,
    metric: str | None,
    num_classes: int | None,
    name: str,
    source: str | None,
    undirected: bool,
) -> tuple[dict[str, Any], list[str], Labels | None]:
    """What `Graph.from_arrays` makes a graph of, by name; its faults; how its labels were read.

    Raises:
        InputError: something is of a kind of which no graph can be made, however faulty.
    """
    by_time = splits if isinstance(splits, str) else ""
    splits = {} if isinstance(splits, str) or splits is None else splits
    _check_arguments(
        num_nodes, num_classes, splits, undirected,
        {"y_level": y_level, "name": name},
        {"task": task, "metric": metric, "source": source},
    )  # fmt: skip
    edge_index = _edge_index(edge_index)
    x, y, node_ptr = read_features(x), _given(y, "y"), _given(node_ptr, "node_ptr")
    edge_weight, edge_attr = _given(edge_weight, "edge_weight"), _given(edge_attr, "edge_attr")
    edge_type, node_type = _types(edge_type, "edge_type"), _types(node_type, "node_type")
    edge_time = None if edge_time is None else read_times(edge_time, "edge_time")
    node_time = None if node_time is None else read_times(node_time, "node_time")
    masks = {"train_mask": train_mask, "val_mask": val_mask, "test_mask": test_mask}
    wanted = {k: (f"split {k}/", dict(v)) for k, v in splits.items()}
    cuts = {k: parts.pop("cuts", None) for k, (_, parts) in wanted.items()}
    short = any(mask is not None for mask in masks.values())
    both = short and ("default" in wanted or bool(by_time))
    if short:
        wanted = {"default": ("", masks), **wanted}

    if num_nodes is None:
        named = [parts for _, parts in wanted.values()]
        num_nodes = _infer_num_nodes(edge_index, x, y if y_level == "node" else None, named)
    num_nodes = int(num_nodes)
    if edge_attr is not None and edge_attr.dim() == 1:
        edge_attr = edge_attr.unsqueeze(1)
    faults = checks.edge_index_faults(edge_index, num_nodes)
    if node_ptr is not None and node_ptr.is_floating_point():
        faults.append(f"node_ptr is {node_ptr.dtype}; it must hold integers")
    shape_ok = edge_index.dim() == 2 and edge_index.size(0) == 2
    num_given = edge_index.size(1) if shape_ok else 0
    if edge_weight is not None and shape_ok and edge_weight.shape != (num_given,):
        faults.append(
            f"edge_weight has shape {tuple(edge_weight.shape)}; it must be [{num_given}], one per "
            "edge"
        )
    if edge_attr is not None and shape_ok:
        faults += checks.edge_attr_faults(edge_attr, num_given)
    if edge_type is not None and shape_ok:
        faults += checks.type_faults("edge_type", edge_type, num_given)
    if edge_time is not None and shape_ok:
        faults += time_faults("edge_time", edge_time, num_given)
    if y_level == "edge" and undirected:
        faults.append("edge-level labels want every directed edge listed: undirected=False")
    structure_ok = not faults
    if both:
        faults.append("give the default split as masks or in splits, not both")
    complete = {}
    for key, (prefix, parts) in wanted.items():
        try:
            cut = cuts.get(key)
            complete[key] = Split(
                **read_parts(parts, num_nodes, prefix),
                cuts=None if cut is None else read_cuts(cut, f"{prefix}cuts"),
            )
        except InputError as error:
            faults += error.faults
    labels = None
    if y is not None and y.dim() and (task is None or task in TASKS):
        try:
            labels = read_labels(y, task, num_classes, of=y_level)
        except InputError as error:
            faults += error.faults
            y = None
        else:
            y, task, num_classes = labels.y, labels.task, labels.num_classes
    task, num_classes = task or "classification", num_classes or 0
    if by_time:
        try:
            complete["default"] = _by_time(
                by_time, node_time, y if y_level == "node" else None, task
            )
        except InputError as error:
            faults += error.faults

    # Structure needs valid ids, so everything else is judged on a stand-in where they are not.
    if not structure_ok:
        adj, order = _empty_adjacency(num_nodes), torch.empty(0, dtype=torch.int64)
    else:
        if undirected:
            edge_index, edge_weight, edge_attr, edge_type, edge_time = _symmetrise(
                edge_index, edge_weight, edge_attr, edge_type, edge_time
            )
        adj, order = Adjacency.with_permutation(edge_index, num_nodes, edge_weight)
    if y is not None and y_level == "edge":
        if not structure_ok:
            y = None
        elif y.dim() and y.size(0) == num_given:
            y = y[order]
    fields = {
        "adj": adj,
        "x": x,
        "y": y,
        "y_level": y_level,
        "edge_attr": None if edge_attr is None or not structure_ok else edge_attr[order],
        "edge_type": None if edge_type is None or not structure_ok else edge_type[order],
        "node_type": node_type,
        "edge_time": None if edge_time is None or not structure_ok else edge_time[order],
        "node_time": node_time,
        "splits": complete,
        "node_ptr": None if node_ptr is None else node_ptr.long(),
        "task": task,
        "metric": metric,
        "num_classes": num_classes,
        "name": name,
        "source": source,
    }
    return fields, faults, labels


def _by_time(text: str, times: Tensor | None, y: Tensor | None, task: str) -> Split:
    """The split that "time:…" says, of the nodes that have labels."""
    if not text.startswith(BY_TIME):
        raise InputError(f"splits={text!r}: as text it is by time, as {BY_TIME}60/20/20")
    if times is None:
        raise InputError(f"splits={text!r}: give node_time=, when each node became known")
    known = torch.ones(times.shape, dtype=torch.bool) if y is None else labelled(y, task)
    if known.shape != times.shape:
        raise InputError(f"node_time has {len(times):,} entries for {len(known):,} labels")
    cuts = cuts_of(text.removeprefix(BY_TIME), times[known], dates=False)
    return Split(**parts_by_time(times, known, cuts), cuts=cuts)


_MOST_NODES = 2**40  # a limit to what is believed, not to what is stored


def _check_arguments(
    num_nodes: Any,
    num_classes: Any,
    splits: Any,
    undirected: object,
    texts: Any,
    optional_texts: Any,
) -> None:
    faults = [
        f"{name}={value!r} must be text"
        for name, value in [*texts.items(), *optional_texts.items()]
        if not isinstance(value, str) and not (value is None and name in optional_texts)
    ]
    for name, value in (("num_nodes", num_nodes), ("num_classes", num_classes)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (whole and 0 <= value <= _MOST_NODES):
            faults.append(f"{name}={value!r} must be a whole number from 0 to {_MOST_NODES}")
    if not isinstance(undirected, bool | np.bool_):
        faults.append(f"undirected={undirected!r} must be True or False")
    if not isinstance(splits, Mapping | None) or not all(
        isinstance(name, str) and isinstance(parts, Mapping)
        for name, parts in (splits or {}).items()
    ):
        faults.append("splits must be of the form {'name': {'train': …, 'val': …, 'test': …}}")
    if faults:
        raise InputError(faults)


def _given(value: object, what: str) -> Tensor | None:
    return None if value is None else tensor(value, what)


def _types(value: object, what: str) -> Tensor | None:
    types = _given(value, what)
    whole = types is not None and not (types.is_floating_point() or types.dtype == torch.bool)
    return types.long() if types is not None and whole else types  # others are found by the check


def _edge_index(value: object) -> Tensor:
    if value is None:
        raise InputError("edge_index is None; give integers [2, num_edges]")
    edge_index = tensor(value, "edge_index")
    # An empty list says nothing about its type.
    return edge_index.long() if edge_index.numel() == 0 else edge_index


def read_features(x: Any) -> Tensor | CSR | None:
    """Features as a graph holds them: dense, or of SciPy's and torch's sparse matrices in rows."""
    if x is None or isinstance(x, CSR):
        return x if x is None else x.to("cpu")
    if hasattr(x, "tocsr"):
        x = x.tocsr()
        return CSR(
            torch.from_numpy(x.indptr.astype(np.int64)),
            torch.from_numpy(x.indices.astype(np.int32)),
            torch.from_numpy(x.data.astype(np.float32)),
            tuple(x.shape),
        )
    if isinstance(x, Tensor) and x.layout != torch.strided:
        x = x.detach().cpu()
        csr = x if x.layout == torch.sparse_csr else x.to_sparse_csr()
        values = csr.values() if csr.values().is_floating_point() else csr.values().float()
        # Columns of features are few: 32 bits do.
        return CSR(csr.crow_indices().long(), csr.col_indices().int(), values, tuple(csr.shape))
    return tensor(x, "x")


def _infer_num_nodes(
    edge_index: Tensor, x: Any, y: Tensor | None, splits: list[dict[str, Any]]
) -> int:
    if x is not None and x.shape:
        return x.shape[0]
    if y is not None and y.dim():
        return y.size(0)
    for parts in splits:
        for name, chosen in parts.items():
            array = None if isinstance(chosen, range) else _given(chosen, name)
            if array is not None and (part_of(name)[1] == "mask" or array.dtype == torch.bool):
                return array.numel()
    if edge_index.numel() == 0 or edge_index.is_floating_point():
        return 0
    return max(int(edge_index.max()) + 1, 0)


def _symmetrise(edge_index: Tensor, *values: Tensor | None) -> tuple[Tensor | None, ...]:
    back = edge_index[0] != edge_index[1]
    both = torch.cat([edge_index, edge_index[:, back].flip(0)], dim=1)
    return both, *(None if v is None else torch.cat([v, v[back]]) for v in values)


def _empty_adjacency(num_nodes: int) -> Adjacency:
    return Adjacency(
        torch.zeros(num_nodes + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    )
