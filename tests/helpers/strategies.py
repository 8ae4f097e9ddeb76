"""Random small graphs with everything that graphs bring, for the tests of all rooms.

Isolated nodes, self-loops, duplicate edges, weights, directed and undirected, down to a single
node. Hypothesis draws the sizes and the seed, torch the numbers: shrinking stays useful and fast.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from gnnscale.graph import Graph, Partition
from gnnscale.kernels import CSR


@st.composite
def graphs(
    draw,
    min_nodes: int = 1,
    max_nodes: int = 24,
    max_edges: int = 80,
    features: int | None = 5,
    classes: int = 3,
    directed: bool | None = None,
    weighted: bool | None = None,
    edge_attr: bool | None = False,
    self_loops: bool | None = None,
    duplicates: bool = True,
    sparse_x: bool | None = False,
    unlabelled: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Graph:
    """Draw a ``Graph`` with ``x``, ``y`` and the three masks (one split set, "default").

    Arguments that are None are drawn. At least one training node is sure to be there. In half of
    the graphs the upper half of the nodes is isolated, but for self-loops. Weights are positive,
    so that degrees can be normalised.

    Args:
        draw: hypothesis's.
        min_nodes: least number of nodes.
        max_nodes: greatest number of nodes.
        max_edges: edges drawn at most; an undirected graph stores up to twice as many.
        features: width of ``x``; None for no features.
        classes: number of classes of ``y``.
        directed: None draws; False makes the graph symmetric, weights included.
        weighted: whether edges have weights.
        edge_attr: whether edges have attributes ``[num_edges, 2]``, and they and nodes types and
            times.
        self_loops: whether there may be self-loops; None draws, True makes some sure to be there.
        duplicates: whether an edge may be there more than once.
        sparse_x: whether ``x`` is a ``CSR``.
        unlabelled: whether some nodes outside the training set have label -1.
        dtype: of features, weights and attributes.
    """
    n = draw(st.integers(min_nodes, max_nodes))
    m = draw(st.integers(0, max_edges)) if n else 0
    directed = draw(st.booleans()) if directed is None else directed
    weighted = draw(st.booleans()) if weighted is None else weighted
    edge_attr = draw(st.booleans()) if edge_attr is None else edge_attr
    sparse_x = draw(st.booleans()) if sparse_x is None else sparse_x
    loops = draw(st.booleans()) if self_loops is None else self_loops
    reach = max(1, n // draw(st.sampled_from([1, 2])))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))

    edges = torch.randint(0, reach, (2, m), generator=random)
    if not loops:
        edges = edges[:, edges[0] != edges[1]]
    elif n:
        some = torch.randint(0, n, (1 + m // 8,), generator=random)
        edges = torch.cat([edges, some.expand(2, -1)], dim=1)
    if duplicates and edges.size(1):
        again = torch.randint(0, edges.size(1), (edges.size(1) // 4,), generator=random)
        edges = torch.cat([edges, edges[:, again]], dim=1)
    else:
        ordered = edges if directed else edges.sort(dim=0).values
        edges = torch.unique(ordered, dim=1)
    m = edges.size(1)
    weight = 0.25 + torch.rand(m, generator=random, dtype=dtype) if weighted else None
    if weight is not None and not directed and duplicates:
        # Weights of parallel edges are equal: only then is a symmetric multigraph recognised,
        # since its transpose lists parallel edges in another order.
        low, high = edges.sort(dim=0).values
        weight = 0.25 + ((low * 7 + high * 13) % 16).to(dtype) / 8
    attr = torch.randn(m, 2, generator=random, dtype=dtype) if edge_attr else None

    types = torch.randint(0, 3, (m + n,), generator=random) if edge_attr else None
    times = torch.randint(0, 9, (m + n,), generator=random) if edge_attr else None
    x = None
    if features is not None:
        x = torch.randn(n, features, generator=random, dtype=dtype)
        if sparse_x:
            x = x * (torch.rand(n, features, generator=random) < 0.4)
            x = CSR.from_dense(x)
    y = torch.randint(0, classes, (n,), generator=random)
    of = torch.randint(0, 4, (n,), generator=random)  # 0 train, 1 val, 2 test, 3 none of them
    if n:
        of[torch.randint(0, n, (), generator=random)] = 0
    if unlabelled:
        y[(of != 0) & (torch.rand(n, generator=random) < 0.3)] = -1
    return Graph.from_arrays(
        edges,
        x,
        y,
        num_nodes=n,
        edge_weight=weight,
        edge_attr=attr,
        edge_type=None if types is None else types[:m],
        node_type=None if types is None else types[m:],
        edge_time=None if times is None else times[:m],
        node_time=None if times is None else times[m:].double(),
        train_mask=of == 0,
        val_mask=of == 1,
        test_mask=of == 2,
        num_classes=classes,
        undirected=not directed,
    )


@st.composite
def partitions(draw, graph: Graph, min_parts: int = 1, max_parts: int = 7) -> Partition:
    """Draw a partition of ``graph``; parts may be empty."""
    parts = draw(st.integers(min_parts, max(min_parts, max_parts)))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    assignment = torch.randint(0, parts, (graph.num_nodes,), generator=random)
    return Partition(assignment, parts, "drawn")


def dense_adjacency(graph: Graph) -> torch.Tensor:
    """The dense ``[num_nodes, num_nodes]`` matrix, entry (i, j) summing the edges j → i."""
    out = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    source, target = graph.edge_index
    weight = torch.ones(len(source)) if graph.edge_weight is None else graph.edge_weight
    return out.index_put_((target, source), weight.double(), accumulate=True)
