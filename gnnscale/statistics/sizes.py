"""What a graph is made of, in words: edges, features, labels, splits, memory."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.graph import Graph
from gnnscale.graph.reading.labels import known_labels, labelled
from gnnscale.graph.reading.nodes import PARTS
from gnnscale.kernels import CSR
from gnnscale.shown import size
from gnnscale.statistics.called import Called
from gnnscale.storage.mapped import file_of, loaded


def symmetry(graph: Graph) -> str:
    """Whether edges go both ways, and what belongs to them."""
    weights = "" if graph.edge_weight is None else ", weighted"
    attributes = "" if graph.edge_attr is None else f", {graph.edge_attr.size(1)} attributes each"
    if graph.edge_type is not None and graph.num_edges:
        attributes += f", of {int(graph.edge_type.max()) + 1} types"
    kind = "every edge both ways" if graph.adj.symmetric else "not every edge both ways"
    return kind + weights + attributes


def graphs(graph: Graph) -> str | None:
    """How large the graphs of a data set of several are; None of one."""
    if graph.node_ptr is None or graph.num_graphs < 2:
        return None
    sizes = graph.node_ptr.diff()
    return (
        f"{graph.num_graphs:,}, of {int(sizes.min()):,} to {int(sizes.max()):,} nodes "
        f"(median {int(sizes.median()):,})"
    )


def features(graph: Graph) -> str:
    """How many, and how dense."""
    if graph.x is None:
        return "none"
    if isinstance(graph.x, CSR):
        share = graph.x.nnz / max(graph.num_nodes * graph.num_features, 1)
        per_node = graph.x.nnz / max(graph.num_nodes, 1)
        return f"{graph.num_features:,}, sparse: {per_node:.1f} a node ({share:.2%} of the entries)"
    return f"{graph.num_features:,}, dense {str(graph.x.dtype).removeprefix('torch.')}"


def labels(called: Called) -> str:
    """How many, how common, how many are unknown."""
    graph = called.graph
    y = graph.y
    if y is None:
        return "none"
    level = "" if graph.y_level == "node" else f" of {graph.y_level}s"
    if graph.task == "classification":
        known = y[known_labels(y, graph.task)]
        if not known.numel():
            return f"{graph.num_classes:,} classes{level}, no label known"
        share = class_shares(graph)
        first, last = (f" ({called.klass(int(end))})" for end in (share.argmax(), share.argmin()))
        if graph.class_names is None:
            first = last = ""
        text = (
            f"{graph.num_classes:,} classes{level}, the largest{first} {float(share.max()):.1%}, "
            f"the smallest{last} {float(share.min()):.2%} of the labels"
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


def class_shares(graph: Graph) -> Tensor:
    """float64 `[num_classes]`: of the known labels of a classification, those of each class."""
    assert graph.y is not None
    known = loaded(graph.y)
    known = known[known >= 0]
    return torch.bincount(known, minlength=graph.num_classes).double() / max(known.numel(), 1)


def split(graph: Graph, name: str) -> str:
    """How many nodes are in each part of a split set, and how many in none."""
    counts = part_counts(graph, name)
    text = ", ".join(
        f"{part} {count:,} ({count / max(graph.num_nodes, 1):.1%})"
        for part, count in counts.items()
    )
    if graph.y is None or graph.y_level != "node":
        return text
    chosen, known = graph.splits[name], labelled(loaded(graph.y), graph.task)
    blind = {
        part: count - int((loaded(chosen[part]) & known).sum()) for part, count in counts.items()
    }
    said = ", ".join(f"{count:,} of {part}" for part, count in blind.items() if count)
    return f"{text}; unlabelled: {said}" if said else text


def part_counts(graph: Graph, name: str) -> dict[str, int]:
    """Nodes of each part of a split set."""
    return {part: int(graph.splits[name][part].sum()) for part in PARTS}


def memory(graph: Graph) -> str:
    """Bytes by what they hold, and whether they lie on disk."""
    adj = graph.adj
    x = graph.x
    parts: dict[str, list[Tensor | None]] = {
        "edges": [adj.indptr, adj.indices, *graph.carried.values()],
        "features": [x.indptr, x.indices, x.values] if isinstance(x, CSR) else [x],
        "labels and splits": [
            graph.y,
            *(s[part] for s in graph.splits.values() for part in PARTS),
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
