"""Whether a layer is local, by a test of its own: so that it shows where too much is refused.

A layer is local if its output at a node, computed on the subgraph of all nodes within k hops along
incoming edges, k ≤ 4, is what it is on the whole graph; with the subgraph's nodes and edges in
another order. It knows nothing of gnnscale.
"""

from __future__ import annotations

import copy

import torch

from oracle.graphs import Case
from oracle.subjects import NODE_TYPES, OUT, RELATIONS, WIDTH, Subject, is_layer
from oracle.ways import new_stack

NODES, SAMPLED, FARTHEST = 300, 12, 4


def is_local(subject: Subject, directed: bool) -> bool:
    """Whether the first layer is local on sparse graphs of 300 nodes."""
    stack = new_stack(subject)
    first = next(i for i, module in enumerate(stack) if is_layer(module))
    stack = stack[: first + 1]
    for module in stack:
        module.eval()
    case = _case(subject, directed)

    def run(part: Case) -> torch.Tensor:
        with torch.no_grad():
            return subject.oracle(copy.deepcopy(stack), part.x, part.edge_index, part.values)

    try:
        whole = run(case)
    except Exception:
        return False
    if not isinstance(whole, torch.Tensor) or whole.size(0) != NODES:
        return False
    random = torch.Generator().manual_seed(1)
    tolerance = 1e-4 if subject.float32 else 1e-9
    for hops in range(1, FARTHEST + 1):
        equal = True
        for node in torch.randperm(NODES, generator=random)[:SAMPLED].tolist():
            part, at = _around(case, node, hops, random)
            try:
                out = run(part.by_target() if subject.by_target else part)[at]
            except Exception:
                continue  # a piece that the layer cannot take says nothing
            error = float((out - whole[node]).abs().max() / whole.abs().max().clamp(min=1e-9))
            equal &= error <= tolerance
        if equal:
            return True
    return False


def _case(subject: Subject, directed: bool) -> Case:
    random = torch.Generator().manual_seed(0)
    dtype = torch.get_default_dtype()
    count = (3 if directed else 2) * NODES // 2
    edges = torch.randint(0, NODES, (2, count), generator=random)
    edges = edges[:, edges[0] != edges[1]]
    if not directed:
        edges = torch.cat([edges, edges.flip(0)], dim=1)
    count = edges.size(1)
    drawn = {
        "edge_weight": 0.25 + torch.rand(count, generator=random, dtype=dtype),
        "edge_type": torch.randint(0, RELATIONS, (count,), generator=random),
        "node_type": torch.randint(0, NODE_TYPES, (NODES,), generator=random),
        "edge_attr": torch.rand(count, subject.attr_channels, generator=random, dtype=dtype),
    }
    x = torch.randn(NODES, WIDTH, generator=random, dtype=dtype)
    y = torch.randint(0, OUT, (NODES,), generator=random)
    case = Case(x, y, edges, {name: drawn[name] for name in sorted(subject.needs)})
    return case.by_target() if subject.by_target else case


def _around(case: Case, node: int, hops: int, random: torch.Generator) -> tuple[Case, int]:
    """The subgraph around a node, shuffled, and where the node stands in it."""
    inside = torch.zeros(NODES, dtype=torch.bool)
    inside[node] = True
    for _ in range(hops):
        inside[case.edge_index[0, inside[case.edge_index[1]]]] = True
    nodes = inside.nonzero().squeeze(1)
    nodes = nodes[torch.randperm(len(nodes), generator=random)]
    part = case.induced(nodes)
    order = torch.randperm(part.edge_index.size(1), generator=random)
    values = {n: v if n == "node_type" else v[order] for n, v in part.values.items()}
    shuffled = Case(part.x, part.y, part.edge_index[:, order], values)
    return shuffled, int((nodes == node).nonzero())
