"""What probes see of nodes: their features, those of their neighbours, and where they stand.

Whatever the width of the features, at most 256 columns come of them: a sparse sign projection
(Achlioptas, "Database-friendly random projections", 2003; eight entries a feature, as in Kane and
Nelson, "Sparser Johnson-Lindenstrauss Transforms", 2014), and where there is room one power
iteration (Halko, Martinsson and Tropp, "Finding structure with randomness", 2011) that turns the
columns towards what varies. Sparse features are weighted before as words are (tf-idf: the logarithm
of how few nodes have them, and rows of length 1), which counts need. Features are read in blocks
and never made dense whole.

Neighbours are averaged over in-neighbours, one hop and two; a walk of two hops back to its node is
taken out where edges go both ways, and self-loops everywhere: what is left is of others only. Where
a node stands is told by its degree and by the leading directions of the degree-normalised
adjacency, found by subspace iteration, a row of length 1 a node.

Of large graphs a group of columns is propagated at a time, and the rows that probes need are kept,
so that `BUDGET` bounds what is held beside 16 bytes a node.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from gnnscale.graph import Graph
from gnnscale.graph.adjacency import row_blocks, slice_rows
from gnnscale.kernels import CSR, njit_serial, spmm
from gnnscale.storage.mapped import read_rows

COLUMNS = 256
DIRECTIONS = 128
BUDGET = 1 << 30  # bytes
_ENTRIES = 8  # of a feature in the projection
_TURNED = 1 << 16  # features at most, for the power iteration: 64 MiB
_BLOCK = 1 << 24  # entries of dense features at a time
_SAMPLED = 1 << 17  # rows that tell what varies
_SWEEPS = 4  # of the subspace iteration


class Rows:
    """The rows that are probed: some nodes, or some of the graphs, as means over their nodes.

    Args:
        graph: the graph.
        rows: int64 `[rows]`, nodes or graphs.
        graphs: whether they are graphs.
    """

    def __init__(self, graph: Graph, rows: Tensor, graphs: bool) -> None:
        self._rows, self.graphs = rows, graphs
        ptr = torch.tensor([0, graph.num_nodes]) if graph.node_ptr is None else graph.node_ptr
        self._sizes = ptr.diff()

    def of(self, values: Tensor) -> Tensor:
        """The rows of what there is a row a node of, `[num_nodes, channels]`."""
        if not self.graphs:
            return values[self._rows]
        owner = torch.repeat_interleave(torch.arange(self._sizes.numel()), self._sizes)
        sums = values.new_zeros(self._sizes.numel(), values.size(1)).index_add_(0, owner, values)
        return (sums / self._sizes.clamp(min=1).unsqueeze(1))[self._rows]

    @property
    def sizes(self) -> Tensor:
        """int64 `[rows]`: the nodes of graphs."""
        return self._sizes[self._rows]


def features(graph: Graph, rows: Rows, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The features of rows, and means over their neighbours at one hop and at two.

    Args:
        graph: one with features.
        rows: which.
        seed: of the projection.

    Returns:
        three times float32 `[rows, columns]`.
    """
    weight = _weight(graph)
    projection = _projection(graph, weight, seed)
    width = graph.num_features if projection is None else projection.shape[1]
    mean = Mean(graph)
    group = max(8, BUDGET // (16 * max(graph.num_nodes, 1)))
    found: list[tuple[Tensor, ...]] = []
    for first in range(0, width, group):
        last = min(first + group, width)
        own = torch.empty(graph.num_nodes, last - first)
        for start, stop, block in _blocks(graph, weight):
            part = block[:, first:last] if projection is None else block @ projection[:, first:last]
            own[start:stop] = torch.from_numpy(_dense(part))
        once = mean(own)
        twice = mean(once)
        twice -= mean.back.unsqueeze(1) * own
        found.append((rows.of(own), rows.of(once), rows.of(twice)))
    own, once, twice = (torch.cat(columns, dim=1) for columns in zip(*found, strict=True))
    return own, once, twice


def structure(graph: Graph, rows: Rows, seed: int = 0) -> Tensor:
    """Degrees and leading directions of the adjacency, float32 `[rows, columns]`."""
    count = graph.num_nodes
    wide = min(DIRECTIONS, max(8, BUDGET // (12 * max(count, 1))), count)
    mean = Mean(graph)
    degree = mean.degree.log1p().unsqueeze(1)
    if rows.graphs:  # directions of one graph say nothing in another: how degrees are spread
        levels = degree / np.log(2)
        spread = [(levels.floor() == level).float() for level in range(12)]
        means = rows.of(torch.cat([degree, degree.square(), *spread], dim=1))
        return torch.cat([means, rows.sizes.float().log1p().unsqueeze(1)], dim=1)
    root = mean.degree.clamp(min=1).sqrt()
    random = torch.Generator().manual_seed(seed)
    basis = torch.randn(count, wide, generator=random)
    for _ in range(_SWEEPS):
        basis /= root.unsqueeze(1)
        basis = mean(basis)  # D⁻¹ A D^-½, and D^½ in front
        basis *= root.unsqueeze(1)
        basis = _orthonormal(basis)
    found = rows.of(basis)
    length = found.norm(dim=1, keepdim=True)
    found = torch.where(length > 1e-7, found / length, 0.0)
    return torch.cat([rows.of(degree), found], dim=1)


class Mean:
    """Means over in-neighbours, self-loops left out, of whatever there is a row a node of.

    Attributes:
        degree: float32 `[num_nodes]`, in-neighbours.
        back: float32 `[num_nodes]`, the share of the walks of two hops that end where they began;
            0 where edges do not go both ways.
    """

    def __init__(self, graph: Graph) -> None:
        self._adj = graph.adj
        count = graph.num_nodes
        self._loops = torch.zeros(count)
        for start, stop, rows in row_blocks(self._adj):
            row = rows.row_index
            self._loops[start:stop] = torch.bincount(
                row[row + start == rows.indices], minlength=stop - start
            ).float()
        self.degree = self._adj.in_degree().float() - self._loops
        self._inverse = torch.where(self.degree > 0, 1 / self.degree, 0.0)
        self.back = torch.zeros(count)
        if self._adj.symmetric:
            times = np.zeros(count, np.int32)
            for start, _, rows in row_blocks(self._adj):
                _walks_back(
                    start,
                    rows.indptr.numpy(),
                    rows.indices.numpy(),
                    self._inverse.numpy(),
                    times,
                    self.back.numpy(),
                )

    def __call__(self, values: Tensor) -> Tensor:
        """float32 `[num_nodes, channels]` of the same; 0 where there are no neighbours."""
        out = torch.empty_like(values)
        for start, stop, rows in row_blocks(self._adj):
            bare = CSR(rows.indptr, rows.indices, None, rows.shape)
            own = values[start:stop]
            out[start:stop] = spmm(bare, values, diag=-self._loops[start:stop], x_self=own)
        out *= self._inverse.unsqueeze(1)
        return out


def _orthonormal(basis: Tensor) -> Tensor:
    """The same directions at right angles, twice by the Gram matrix's factor: no copy is made."""
    for _ in range(2):
        gram = basis.T.double() @ basis.double() if basis.size(0) < _SAMPLED else _gram(basis)
        values, vectors = torch.linalg.eigh(gram)
        keep = values > values.max() * 1e-10
        scale = torch.where(keep, values.clamp(min=1e-300).rsqrt(), 0.0)
        turn = (vectors * scale).flip(1).float()
        for start in range(0, basis.size(0), _SAMPLED):
            basis[start : start + _SAMPLED] = basis[start : start + _SAMPLED] @ turn
    return basis


def _gram(basis: Tensor) -> Tensor:
    total = torch.zeros(basis.size(1), basis.size(1), dtype=torch.float64)
    for start in range(0, basis.size(0), _SAMPLED):
        block = basis[start : start + _SAMPLED].double()
        total += block.T @ block
    return total


def _blocks(
    graph: Graph, weight: np.ndarray | None = None
) -> Iterator[tuple[int, int, np.ndarray | scipy.sparse.csr_array]]:
    """Rows of the features, some at a time; with weights of columns, of length 1."""
    rows = rows_at_once(graph)
    for start in range(0, graph.num_nodes, rows):
        stop = min(start + rows, graph.num_nodes)
        block = feature_rows(graph, start, stop)
        if weight is not None and not isinstance(block, np.ndarray):
            values = block.data * weight[block.indices]
            row = np.repeat(np.arange(stop - start), np.diff(block.indptr))
            length = np.sqrt(np.bincount(row, values * values, minlength=stop - start))
            values = values / np.maximum(length, 1e-12)[row]
            arrays = (values.astype(np.float32), block.indices, block.indptr)
            block = scipy.sparse.csr_array(arrays, shape=block.shape)
        yield start, stop, block


def _weight(graph: Graph) -> np.ndarray | None:
    """Of every column of wide sparse features, the logarithm of how seldom it is there."""
    if not isinstance(graph.x, CSR) or graph.num_features <= COLUMNS:
        return None
    often = np.zeros(graph.num_features, np.int64)
    for _, _, block in _blocks(graph):
        assert not isinstance(block, np.ndarray)
        often += np.bincount(block.indices[block.data != 0], minlength=often.size)
    return np.log((1 + graph.num_nodes) / (1 + often))


def rows_at_once(graph: Graph) -> int:
    """How many rows of the features are in memory at once."""
    width = graph.num_features
    if isinstance(graph.x, CSR):  # which become so many columns
        width = max(graph.x.nnz // max(graph.num_nodes, 1), COLUMNS)
    return max(1, min(_BLOCK // max(width, 1), 1 << 15))


def feature_rows(graph: Graph, start: int, stop: int) -> np.ndarray | scipy.sparse.csr_array:
    """Rows `start` to `stop` of the features, sparse where they are."""
    x = graph.x
    assert x is not None
    if not isinstance(x, CSR):
        return read_rows(x, start, stop).float().numpy()
    rows = slice_rows(x, start, stop)
    values = np.ones(rows.nnz, np.float32) if rows.values is None else rows.values.float().numpy()
    arrays = (values, rows.indices.numpy(), rows.indptr.numpy())
    return scipy.sparse.csr_array(arrays, shape=rows.shape)


def _dense(block: np.ndarray | scipy.sparse.csr_array) -> np.ndarray:
    array = block if isinstance(block, np.ndarray) else block.toarray()
    return np.ascontiguousarray(array, np.float32)


def _projection(
    graph: Graph, weight: np.ndarray | None, seed: int
) -> np.ndarray | scipy.sparse.csr_array | None:
    """`[num_features, 256]`; None where there are no more features than that."""
    count = graph.num_features
    if count <= COLUMNS:
        return None
    random = np.random.default_rng(seed)
    rows = np.repeat(np.arange(count), _ENTRIES)
    columns = random.integers(0, COLUMNS, rows.size)
    signs = random.choice(np.array([-1, 1], np.float32), rows.size) / np.float32(_ENTRIES**0.5)
    signed = scipy.sparse.csr_array((signs, (rows, columns)), shape=(count, COLUMNS))
    if count > _TURNED:
        return signed
    turned = np.zeros((count, COLUMNS), np.float32)
    step = max(1, graph.num_nodes // _SAMPLED)  # blocks of a large graph, evenly
    for number, (_, _, block) in enumerate(_blocks(graph, weight)):
        if number % step == 0:
            made = block @ signed
            turned += block.T @ _dense(made)
    found, _ = np.linalg.qr(turned)
    return found


@njit_serial
def _walks_back(start, indptr, indices, inverse, times, back):
    """The share of walks i → j → i: parallel edges count as often as there are of them."""
    for row in range(len(indptr) - 1):
        node = start + row
        for entry in range(indptr[row], indptr[row + 1]):
            times[indices[entry]] += 1
        total = 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            j = indices[entry]
            if j != node:
                total += times[j] * inverse[j]
        for entry in range(indptr[row], indptr[row + 1]):
            times[indices[entry]] = 0
        back[node] = total * inverse[node]
