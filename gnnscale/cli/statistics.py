"""Figures of a graph, measured in blocks: degrees, homophily, labels, splits, memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnscale.cli.console import size
from gnnscale.graph import Graph
from gnnscale.graph.adjacency import row_blocks
from gnnscale.graph.reading.labels import known_labels
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import file_of


def measure(graph: Graph) -> dict[str, Any]:
    """What there is to say of a graph, by name, in words."""
    return {
        "nodes": f"{graph.num_nodes:,}"
        + (f" in {graph.num_graphs:,} graphs" * (graph.num_graphs > 1)),
        "directed edges": f"{graph.num_edges:,}, {_symmetry(graph)}",
        "degrees (in)": _degrees(graph),
        "features": _features(graph),
        "task": None if graph.y is None else f"{graph.task} of {graph.y_level}s",
        "labels": _labels(graph),
        "homophily": _homophily_in_words(graph),
        **{f"split {name}": _split(graph, name) for name in graph.splits},
        "memory": _memory(graph),
    }


def homophily(graph: Graph) -> float | None:
    """Share of edges between labelled nodes of one class; None where that has no meaning."""
    if graph.y is None or graph.y_level != "node" or graph.task != "classification":
        return None
    same = known = 0
    for start, _, rows in row_blocks(graph.adj):
        target, source = graph.y[start + rows.row_index], graph.y[rows.indices.long()]
        labelled = (target >= 0) & (source >= 0)
        known += int(labelled.sum())
        same += int((labelled & (target == source)).sum())
    return same / known if known else None


def isolated(graph: Graph) -> int:
    """Nodes that no edge arrives at or leaves, self-loops aside."""
    touched = torch.zeros(graph.num_nodes, dtype=torch.bool)
    for start, _, rows in row_blocks(graph.adj):
        target, source = start + rows.row_index, rows.indices.long()
        joined = target != source
        touched[target[joined]] = True
        touched[source[joined]] = True
    return int((~touched).sum())


def _symmetry(graph: Graph) -> str:
    weights = "" if graph.edge_weight is None else ", weighted"
    attributes = "" if graph.edge_attr is None else f", {graph.edge_attr.size(1)} attributes each"
    if graph.edge_type is not None and graph.num_edges:
        attributes += f", of {int(graph.edge_type.max()) + 1} types"
    kind = "every edge both ways" if graph.adj.symmetric else "not every edge both ways"
    return kind + weights + attributes


def _degrees(graph: Graph) -> str | None:
    if not graph.num_nodes:
        return None
    degrees = graph.adj.indptr.diff()
    return (
        f"mean {graph.num_edges / graph.num_nodes:.2f}, greatest {int(degrees.max()):,}, "
        f"{isolated(graph):,} isolated nodes"
    )


def _features(graph: Graph) -> str:
    if graph.x is None:
        return "none"
    if isinstance(graph.x, CSR):
        share = graph.x.nnz / max(graph.num_nodes * graph.num_features, 1)
        per_node = graph.x.nnz / max(graph.num_nodes, 1)
        return f"{graph.num_features:,}, sparse: {per_node:.1f} a node ({share:.2%} of the entries)"
    return f"{graph.num_features:,}, dense {_kind(graph.x)}"


def _labels(graph: Graph) -> str:
    y = graph.y
    if y is None:
        return "none"
    level = "" if graph.y_level == "node" else f" of {graph.y_level}s"
    if graph.task == "classification":
        known = y[known_labels(y, graph.task)]
        if not known.numel():
            return f"{graph.num_classes:,} classes{level}, no label known"
        share = torch.bincount(known, minlength=graph.num_classes).double() / known.numel()
        text = (
            f"{graph.num_classes:,} classes{level}, the largest {float(share.max()):.1%}, the "
            f"smallest {float(share.min()):.2%} of the labels"
        )
        missing, unused = y.numel() - known.numel(), int((share == 0).sum())
        text += f"; {unused:,} of them of no {graph.y_level}" if unused else ""
        return text + (f"; {missing:,} unlabelled" if missing else "")
    if graph.task == "multilabel":
        known = known_labels(y, graph.task)
        positive, missing = (y == 1).double().mean(0), int((~known).sum())
        unknown = f"; {missing / max(y.numel(), 1):.1%} of the entries unknown" if missing else ""
        return (
            f"{graph.num_classes:,} labels{level}, {float(positive.sum()):.2f} of them true on "
            f"average; the commonest {float(positive.max()):.1%}, the rarest "
            f"{float(positive.min()):.2%}{unknown}"
        )
    known = y[known_labels(y, graph.task)].double()
    if not known.numel():
        return f"{graph.num_classes:,} targets{level}, none known"
    return (
        f"{graph.num_classes:,} targets{level}, mean {float(known.mean()):.4g}, standard deviation "
        f"{float(known.std(correction=0)):.4g}"
    )


def _homophily_in_words(graph: Graph) -> str | None:
    share = homophily(graph)
    return None if share is None else f"{share:.3f} of the edges join nodes of one class"


def _split(graph: Graph, name: str) -> str:
    split = graph.splits[name]
    counts = {part: int(split[part].sum()) for part in ("train", "val", "test")}
    return ", ".join(
        f"{part} {count:,} ({count / max(graph.num_nodes, 1):.1%})"
        for part, count in counts.items()
    )


def _memory(graph: Graph) -> str:
    adj = graph.adj
    x = graph.x
    parts: dict[str, list[Tensor | None]] = {
        "edges": [adj.indptr, adj.indices, *graph.carried.values()],
        "features": [x.indptr, x.indices, x.values] if isinstance(x, CSR) else [x],
        "labels and splits": [
            graph.y,
            *(s[part] for s in graph.splits.values() for part in ("train", "val", "test")),
        ],
    }
    counts = {
        name: sum(a.numel() * a.element_size() for a in arrays if a is not None)
        for name, arrays in parts.items()
    }
    listed = ", ".join(f"{name} {size(count)}" for name, count in counts.items())
    mapped = file_of(adj.indices) is not None
    where = ", on disk, of which a piece at a time is read" if mapped else ""
    return f"{size(sum(counts.values()))}{where}: {listed}"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
