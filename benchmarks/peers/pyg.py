"""PyTorch Geometric: its `ClusterLoader` and its models.

`ClusterData` is given the contest's partition, as its own METIS needs pyg-lib or torch-sparse.
Normalised edge weights are computed once a batch, not once a layer; that and the making of an
`EdgeIndex` or a sparse matrix count as loading.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch_geometric.typing
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.data import Data
from torch_geometric.index import index2ptr
from torch_geometric.loader import ClusterData, ClusterLoader
from torch_geometric.utils import add_self_loops, degree

from peers.contest import (
    WITH_SELF_LOOPS,
    Field,
    Setup,
    TorchContestant,
)

# The default, chosen: where nothing is chosen, PyG's own sparse matrices make torch warn.
torch.sparse.check_sparse_tensor_invariants.disable()

# Edges in the form that a variant takes, and their weights where they are not inside.
Edges = tuple[Any, Tensor | None]


class GivenClusterData(ClusterData):
    """`ClusterData` of a partition that is given."""

    def __init__(self, data: Data, assignment: Tensor) -> None:
        self._assignment = assignment
        super().__init__(data, int(assignment.max()) + 1, log=False)

    def _metis(self, edge_index: Tensor, num_nodes: int) -> Tensor:
        return self._assignment


def cluster_data(setup: Setup) -> GivenClusterData:
    """The graph of a case as PyG holds it, with the self-loops that the model asks for."""
    graph = setup.clustered.graph
    edge_index = graph.adj.edge_index
    if setup.case.model in WITH_SELF_LOOPS:
        edge_index, _ = add_self_loops(edge_index, num_nodes=graph.num_nodes)
    split = graph.split(setup.clustered.split)
    assert split is not None
    data = Data(x=graph.x, y=graph.y, edge_index=edge_index, train_mask=split.train)
    return GivenClusterData(data, setup.clustered.cluster_of.long())


class Loaded(NamedTuple):
    """A batch, its edges in the form that a variant takes."""

    x: Tensor
    y: Tensor
    train_mask: Tensor
    adj: Any
    weight: Tensor | None


class PyG(TorchContestant):
    """`ClusterLoader` with `edge_index`."""

    name = "PyG, edge_index"

    def __init__(self, setup: Setup, data: GivenClusterData, scatter: bool = False) -> None:
        super().__init__(setup)
        self._data = data
        self._scatter = scatter
        if scatter:
            self.name = f"{type(self).name}, torch-scatter"

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """PyG with torch-scatter, or as if it were not there: it looks at every call."""
        typing = torch_geometric.typing
        before, typing.WITH_TORCH_SCATTER = typing.WITH_TORCH_SCATTER, self._scatter
        try:
            yield
        finally:
            typing.WITH_TORCH_SCATTER = before

    def make_model(self, dropout: float) -> nn.Module:
        return self.setup.network(dropout, prepared=True)

    def batches(self) -> Iterator[Loaded]:
        weighted = self.setup.case.model == "gcn"
        for batch in ClusterLoader(self._data, batch_sampler=self.setup.draws()):
            batch = batch.to(self.setup.device)
            weight = symmetric_weights(batch.edge_index, batch.num_nodes) if weighted else None
            adj, beside = self.form(batch.edge_index, weight, batch.num_nodes)
            yield Loaded(batch.x, batch.y, batch.train_mask, adj, beside)

    def form(self, edges: Tensor, weight: Tensor | None, num_nodes: int) -> Edges:
        """What the model takes as edges and as their weights.

        Args:
            edges: int64 `[2, num_edges]`, sorted by the first row, symmetric.
            weight: `[num_edges]` or None.
            num_nodes: nodes of the batch.
        """
        return edges, weight

    def forward(self, batch: Loaded) -> tuple[Tensor, Tensor, Tensor]:
        beside = {} if batch.weight is None else {"edge_weight": batch.weight}
        return self.model(batch.x, batch.adj, **beside), batch.y, batch.train_mask


class PyGEdgeIndex(PyG):
    """`ClusterLoader` with `EdgeIndex`, sorted by target."""

    name = "PyG, EdgeIndex"

    def form(self, edges: Tensor, weight: Tensor | None, num_nodes: int) -> Edges:
        # The graph is symmetric: what is sorted by source is, turned around, sorted by target.
        adj = EdgeIndex(
            edges.flip(0),
            sparse_size=(num_nodes, num_nodes),
            sort_order="col",
            is_undirected=True,
        )
        adj.fill_cache_()
        return adj, weight


class PyGSparse(PyG):
    """`ClusterLoader` with a torch sparse matrix in CSR."""

    name = "PyG, torch sparse CSR"

    def form(self, edges: Tensor, weight: Tensor | None, num_nodes: int) -> Edges:
        values = torch.ones(edges.size(1), device=edges.device) if weight is None else weight
        size = (num_nodes, num_nodes)
        rows = index2ptr(edges[0], num_nodes)
        return torch.sparse_csr_tensor(rows, edges[1], values, size), None


def symmetric_weights(edges: Tensor, num_nodes: int) -> Tensor:
    """D^-1/2 A D^-1/2 of edges that include the self-loops, `[num_edges]`."""
    scale = degree(edges[1], num_nodes).rsqrt()
    return scale[edges[0]] * scale[edges[1]]


def contestants(setup: Setup) -> Field:
    """All variants, with torch-scatter where it is there.

    A torch sparse matrix does not pass through torch-scatter, and attention does not take one.
    """
    data = cluster_data(setup)
    field: Field = {}
    for kind in (PyG, PyGEdgeIndex):
        field[kind.name] = kind(setup, data)
        with_scatter = f"{kind.name}, torch-scatter"
        field[with_scatter] = (
            kind(setup, data, scatter=True)
            if torch_geometric.typing.WITH_TORCH_SCATTER
            else "torch-scatter is not installed"
        )
    if setup.case.model == "gat":
        field[PyGSparse.name] = "attention runs along edges, one by one"
    else:
        field[PyGSparse.name] = PyGSparse(setup, data)
    return field
