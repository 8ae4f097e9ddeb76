"""Streams: what the layers trained so far make of a graph, layer after layer.

The rows that a section trains on are aggregated once, over the whole graph, as exact inference
aggregates them. Where propagation comes before the transform, all aggregated rows are kept until
the section is trained, and the next layer is made of them row by row; where the transform narrows,
or the features are sparse, only the wanted rows are kept, and the next layer is P(XW). Either way a
layer replaces the one before it.

Floor of a section, in bytes: its layer read and written once, 4 for every edge, and the wanted rows
written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, Graph
from gnnscale.graph.adjacency import release_all
from gnnscale.inference.activation_file import ActivationsInFile
from gnnscale.inference.activations import (
    Activations,
    ActivationsInMemory,
    ActivationStore,
    Chunks,
    GraphFeatures,
)
from gnnscale.inference.engine import advance
from gnnscale.inference.hops import Hops
from gnnscale.kernels import CSR
from gnnscale.kernels.threads import num_threads
from gnnscale.nn import Propagation
from gnnscale.nn.blocks.phases import Propagate
from gnnscale.nn.convs.stacked import Stacked
from gnnscale.train.layerwise.moments import WholeNorm, WholeNormGathering
from gnnscale.train.layerwise.sections import Section

AGGREGATED = "aggregated rows"

# From here on a dense product with the weights, and its gradient, are as fast as the sparse ones.
_FILLED = 0.4


@dataclass
class SectionInput:
    """What a section reads of some nodes.

    Attributes:
        nodes: int64 `[num_rows]`, ascending, their places in the graph.
        parts: arrays of so many rows, by slot; `AGGREGATED` is what its phases begin with.
        norm: the section's first norm where its statistics over the whole graph are known.
    """

    nodes: Tensor
    parts: dict[str, Activations | CSR]
    norm: WholeNorm | None = None

    def __len__(self) -> int:
        return self.nodes.numel()


class Stream:
    """The values of a graph's nodes between two sections.

    Args:
        graph: the graph; only its edges are read.
        layers: where layers are kept.
        layer: the features, as the first section reads them.
        rows_dtype: of the rows that a section trains on, as they are kept.
    """

    def __init__(
        self, graph: Graph, layers: ActivationStore, layer: Activations, rows_dtype: torch.dtype
    ) -> None:
        self.graph = graph
        self.layers = layers
        self.layer = layer
        self.slots: dict[str, list[Activations]] = {}
        self._ours = False  # the features are the graph's
        self._rows_dtype = rows_dtype
        self._aggregated: Activations | None = None

    def collect(
        self, section: Section, wanted: Sequence[Tensor], widest_norm: int = 0
    ) -> list[SectionInput]:
        """Aggregate for a section, once.

        Args:
            section: a separable section, the next of this stream.
            wanted: sets of nodes, each int64 and ascending.
            widest_norm: the most columns of rows whose covariance is gathered for a norm; those of
                sparse features are not.

        Returns:
            What the section reads of each set.
        """
        found = [SectionInput(nodes, {}) for nodes in wanted]
        if self._is_sparse:
            for rows in found:
                rows.parts[AGGREGATED] = self._sparse_rows(section, rows.nodes)
        else:
            gathering = WholeNormGathering(section, AGGREGATED, widest_norm)
            aggregated = self._gathered(self._aggregate(section), gathering)
            chunks = self._picked(aggregated, AGGREGATED, found)
            if self._keeps(section):
                self._aggregated = self.layers.keep(chunks)
            else:
                for _ in chunks:
                    pass
            norm = gathering.norm()
            for rows in found:
                rows.norm = norm
        for slot in section.input_slots & section.slots_read:
            self._pick(slot, [self.layer], found)
        for slot in section.earlier_slots:
            self._pick(slot, self.slots[slot], found)
        self.layers.drop_columns()  # steps and their rows take its place
        return found

    def advance(self, section: Section, live: set[str], gathered: bool = False) -> None:
        """Replace the layer by what the section, now trained, makes of it.

        Args:
            section: the next of this stream; its modules are in evaluation mode.
            live: slots that later sections read.
            gathered: whether the next section is opaque, and reads rows at random.
        """
        if self._aggregated is None:
            phases, layer, ours = section.phases, self.layer, self._ours
        else:
            phases, layer, ours = section.row_phases, self._aggregated, True
            for slot in section.input_slots:
                self.slots[slot] = [self.layer]
            self.layer = layer  # the one before it goes, unless a slot holds it
        # In a file the layer before is gone only when nothing refers to it.
        self._aggregated = None
        kept = any(layer in parts for parts in self.slots.values())
        self.layer = advance(
            phases,
            self.graph,
            self.layers,
            layer,
            self.slots,
            ours=ours and not kept,
            gathered=gathered,
        )
        self._ours = True
        self.slots = {slot: parts for slot, parts in self.slots.items() if slot in live}
        self.layers.drop_columns()
        release_all(self.graph.adj)

    def bytes_in_memory(self) -> int:
        """What layers and slots take where they are not in files."""
        kept = [self.layer, self._aggregated, *chain.from_iterable(self.slots.values())]
        return sum(part.values.nbytes for part in kept if isinstance(part, ActivationsInMemory))

    @property
    def _is_sparse(self) -> bool:
        return isinstance(self.layer, GraphFeatures) and isinstance(self.layer.x, CSR)

    def _keeps(self, section: Section) -> bool:
        """Whether all aggregated rows are kept: what the next layer is made of."""
        if section.last or not isinstance(section.source, Propagate):
            return False
        return not section.source.propagation.transform_first(self.layers.rows(self.layer, 0, 0))

    def _aggregate(self, section: Section) -> Chunks:
        if not isinstance(section.source, Propagate):
            for start, end in self.layers.ranges():
                yield start, end, self.layers.rows(self.layer, start, end)
            return
        hops = Hops(self.layers.at_home(self.graph.adj), self.layers)
        propagation = section.source.propagation
        yield from hops.propagate(propagation, self.layer, transformed=False, overwrite=False)

    def _sparse_rows(self, section: Section, nodes: Tensor) -> Activations | CSR:
        """Aggregated rows of sparse features; dense where aggregation has filled them."""
        assert isinstance(self.layer, GraphFeatures)
        x = self.layer.x
        assert isinstance(x, CSR)
        if not isinstance(section.source, Propagate):
            return x.select_rows(nodes.to(x.device))
        propagation = section.source.propagation
        rows = sparse_product(propagation, self.graph.adj, x, nodes)
        if rows.nnz < _FILLED * rows.shape[0] * rows.shape[1]:
            return rows.to(self.layers.device)
        room = None
        for start in range(0, rows.shape[0], self.layers.chunk_rows):
            stop = min(start + self.layers.chunk_rows, rows.shape[0])
            dense = rows.slice_rows(start, stop).to_dense().to(self.layers.device)
            room = self._room(rows.shape[0], dense) if room is None else room
            _check_range(dense, room)
            room.put(start, dense)
        assert room is not None
        return room

    def _pick(self, slot: str, layers: list[Activations], found: list[SectionInput]) -> None:
        if (
            len(layers) == 1
            and isinstance(layers[0], GraphFeatures)
            and isinstance(layers[0].x, CSR)
        ):
            for rows in found:
                rows.parts[slot] = layers[0].x.select_rows(rows.nodes.to(layers[0].x.device))
            return

        def chunks() -> Chunks:
            for start, end in self.layers.ranges():
                parts = [self.layers.rows(layer, start, end) for layer in layers]
                yield start, end, torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

        for _ in self._picked(chunks(), slot, found):
            pass

    def _gathered(self, chunks: Chunks, gathering: WholeNormGathering) -> Chunks:
        """Pass chunks on, taking them into the statistics of a norm."""
        for start, end, rows in chunks:
            if gathering.wanted:
                own = {slot: self.layers.rows(self.layer, start, end) for slot in gathering.slots}
                gathering.add({AGGREGATED: rows.to(self.layers.device), **own})
            yield start, end, rows

    def _picked(self, chunks: Chunks, slot: str, found: list[SectionInput]) -> Chunks:
        """Pass chunks on, keeping the rows of the wanted nodes."""
        ends = [0] * len(found)
        for start, end, rows in chunks:
            for i, wanted in enumerate(found):
                low = ends[i]
                ends[i] = high = int(torch.searchsorted(wanted.nodes, end))
                if slot not in wanted.parts:
                    wanted.parts[slot] = self._room(len(wanted), rows)
                if high > low:
                    chosen = (wanted.nodes[low:high] - start).to(rows.device)
                    picked, room = rows.index_select(0, chosen), wanted.parts[slot]
                    assert isinstance(room, ActivationsInMemory | ActivationsInFile)
                    _check_range(picked, room)
                    room.put(low, picked)
            yield start, end, rows

    def _room(self, count: int, rows: Tensor) -> ActivationsInMemory | ActivationsInFile:
        layers, dtype = self.layers, rows.dtype
        if dtype == torch.float32:
            dtype = self._rows_dtype
        room = ActivationStore(
            count, layers.chunk_rows, layers.device, layers.folder, layers.memory
        )
        return room.new(rows.size(1), dtype, whole_rows=True)


def _check_range(rows: Tensor, room: Activations) -> None:
    """Refuse rows that overflow in the type they are kept in.

    Raises:
        InputError: with the figures and the remedy.
    """
    if room.dtype == rows.dtype or not rows.numel():
        return
    largest, most = float(rows.abs().max()), torch.finfo(room.dtype).max
    if most < largest < float("inf"):
        name = str(room.dtype).removeprefix("torch.")
        raise InputError(
            f"aggregated rows reach {largest:.3g}, and rows_dtype={name!r} holds {most:.3g} at "
            "most: take 'bfloat16' or 'float32', or scale the features"
        )


def sparse_product(propagation: Propagation, adj: Adjacency, x: CSR, nodes: Tensor) -> CSR:
    """Rows of Q X for sparse X; its floor is a multiply and add for every edge and feature there.

    Args:
        propagation: Q; of a `Stacked` one, all powers side by side.
        adj: the whole graph.
        x: `[num_nodes, num_features]`.
        nodes: int64 `[num_rows]`, whose rows are wanted.

    Returns:
        `[num_rows, num_features]`, or (K + 1) times as wide.
    """
    # Only the rows of the last hop are cut: the hops before it reach further.
    dtype = torch.float32 if x.values is None else x.values.dtype
    features = _scipy(x, dtype)
    matrix = _matrix(propagation, adj, dtype)
    chosen = nodes.cpu().numpy()
    last = matrix[chosen]
    if isinstance(propagation, Stacked):
        powers = [features]
        for _ in range(propagation.hops - 1):
            powers.append(_product(matrix, powers[-1]))
        found = [*(power[chosen] for power in powers), _product(last, powers[-1])]
        return _csr(scipy.sparse.hstack(found, format="csr"), dtype)
    value = features
    for k in reversed(range(propagation.hops)):
        scale = propagation.powers
        if scale is not None and k == propagation.hops - 1:
            value = value * scale[-1]
        value = _product(last if k == 0 else matrix, value)
        if scale is not None:
            value = value + scale[k] * (features[chosen] if k == 0 else features)
    return _csr(value.tocsr(), dtype)


def _product(a: scipy.sparse.csr_array, b: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """A B, rows of A side by side on the threads there are: SciPy takes one, without the GIL."""
    threads = num_threads()
    ends = np.searchsorted(a.indptr, np.linspace(0, a.nnz, threads + 1)[1:-1])
    pieces = [a[start:stop] for start, stop in pairwise([0, *ends.tolist(), a.shape[0]])]
    with ThreadPoolExecutor(threads) as executor:
        return scipy.sparse.vstack(list(executor.map(lambda rows: rows @ b, pieces)), format="csr")


def _matrix(propagation: Propagation, adj: Adjacency, dtype: torch.dtype) -> scipy.sparse.csr_array:
    a, left, right, diag = propagation.operator(adj, dtype)
    matrix = _scipy(a, dtype)
    if left is not None:
        matrix.data *= np.repeat(_numpy(left, dtype), np.diff(matrix.indptr))
    if right is not None:
        matrix.data *= _numpy(right, dtype)[matrix.indices]
    return matrix if diag is None else matrix + scipy.sparse.diags_array(_numpy(diag, dtype))


def _scipy(a: CSR, dtype: torch.dtype) -> scipy.sparse.csr_array:
    ones = torch.ones(a.nnz, dtype=dtype)
    values = ones if a.values is None else a.values.detach().cpu().to(dtype, copy=True)
    parts = (values.numpy(), a.indices.cpu().numpy(), a.indptr.cpu().numpy())
    return scipy.sparse.csr_array(parts, shape=tuple(a.shape))


def _numpy(values: Tensor, dtype: torch.dtype) -> np.ndarray:
    return values.detach().cpu().to(dtype).numpy()


def _csr(a: scipy.sparse.csr_array, dtype: torch.dtype) -> CSR:
    values = torch.from_numpy(a.data).to(dtype)
    indptr = torch.from_numpy(a.indptr.astype(np.int64))
    return CSR(indptr, torch.from_numpy(a.indices.astype(np.int32)), values, tuple(a.shape))
