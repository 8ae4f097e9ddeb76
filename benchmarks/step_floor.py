"""The floor under a training step: its dense and its sparse products, and nothing else.

Dense: `torch.mm` into memory that is there, of every linear layer's forward product, of its weight
gradient, and of its input gradient except into the features. Sparse: propagation at the narrower
width, forward, and backward except into the features; each at the best of gnnscale's kernel, torch
sparse CSR, and the bytes it gathers and writes over the rate at which a buffer of the rows' size is
copied. Elementwise work, loss and optimizer are left out. On both clocks: the wall's, and the
processor's over all threads, which other work on the machine changes less.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from peers.contest import Setup
from torch import Tensor

from gnnscale.kernels import CSR, spmm
from gnnscale.loader import Assembler

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
_FLOAT = 4
_INDEX = 4


class Floor:
    """Measures the products of the contest's batches, one after another."""

    def __init__(self, setup: Setup) -> None:
        self._assembler = Assembler(setup.clustered)
        self._device = setup.device
        pairs = list(itertools.pairwise(setup.widths))
        self._linears = linears(setup.case.model, pairs)
        self._propagations = propagations(pairs)
        self._dense: dict[str, list[float]] = defaultdict(list)
        self._sparse: dict[tuple[str, int, str], list[float]] = defaultdict(list)

    def measure(self, clusters: list[int]) -> None:
        """Time the products of one batch."""
        adj = self._assembler(torch.tensor(clusters)).adj.to(self._device)
        for clock, seconds in self._time(self._dense_products(adj.num_nodes)).items():
            self._dense[clock].append(seconds)
        ones = torch.ones(adj.nnz, device=self._device)
        indices = adj.indices.int()
        as_torch = torch.sparse_csr_tensor(
            adj.indptr.to(indices.dtype), indices, ones, tuple(adj.shape), check_invariants=False
        )
        scale = torch.rand(adj.num_nodes, device=self._device)
        for width in self._propagations:
            rows = torch.rand(adj.num_nodes, width, device=self._device)
            other = torch.empty_like(rows)
            copy = self._time(lambda a=rows, b=other: b.copy_(a))
            copies = gathered_bytes(adj, width) / (2 * rows.nbytes)
            found = {
                "gnnscale": self._time(lambda x=rows: spmm(adj, x, scale, scale, scale)),
                "torch CSR": self._time(lambda x=rows: torch.sparse.mm(as_torch, x)),
                "gathered bytes": {clock: copies * copy[clock] for clock in CLOCKS},
            }
            for way, seconds in found.items():
                for clock in CLOCKS:
                    self._sparse[clock, width, way].append(seconds[clock])

    def result(self) -> dict[str, Any]:
        """Medians in milliseconds by the wall clock, and under "processor" by the processor's.

        `total` is the floor.
        """
        return self._result("wall") | {"processor": self._result("processor")}

    def _result(self, clock: str) -> dict[str, Any]:
        dense = _milliseconds(self._dense[clock])
        total = dense
        products = []
        for width, count in self._propagations.items():
            ways = {
                way: _milliseconds(seconds)
                for (by, of, way), seconds in self._sparse.items()
                if (by, of) == (clock, width)
            }
            total += count * min(ways.values())
            products.append({"width": width, "count": count, **ways})
        return {"total": total, "dense": dense, "sparse": total - dense, "products": products}

    def _dense_products(self, rows: int) -> Callable[[], None]:
        def random(*shape: int) -> Tensor:
            return torch.rand(*shape, device=self._device)

        products: list[tuple[Tensor, Tensor, Tensor]] = []
        for before, after, into_rows in self._linears:
            x, weight, gradient = random(rows, before), random(after, before), random(rows, after)
            products.append((x, weight.t(), torch.empty_like(gradient)))
            products.append((gradient.t(), x, torch.empty_like(weight)))
            if into_rows:
                products.append((gradient, weight, torch.empty_like(x)))

        def run() -> None:
            for left, right, out in products:
                torch.mm(left, right, out=out)

        return run

    def _time(self, product: Callable[[], Any]) -> dict[str, float]:
        # Once before: the operands come warm, as in a step, where what made them has just run.
        product()
        synchronise(self._device)
        started = {clock: read() for clock, read in CLOCKS.items()}
        product()
        synchronise(self._device)
        return {clock: read() - started[clock] for clock, read in CLOCKS.items()}


def linears(model: str, pairs: list[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """The linear layers of a model: channels before and after, and whether rows need a gradient."""
    found = []
    for number, (before, after) in enumerate(pairs):
        found.append((before, after, number > 0))
        if model in ("sage", "cluster_gcn"):
            found.append((before, after, number > 0))
        if model == "gin":
            found.append((after, after, True))
    return found


def propagations(pairs: list[tuple[int, int]]) -> Counter[int]:
    """How often a step propagates rows of each width."""
    widths: Counter[int] = Counter()
    for number, (before, after) in enumerate(pairs):
        # Into the features there is no gradient, but into what the first weights make of them.
        backward = number > 0 or after < before
        widths[min(before, after)] += 1 + backward
    return widths


def gathered_bytes(adj: CSR, width: int) -> int:
    """Rows read, once an entry; column numbers; rows written."""
    return adj.nnz * (width * _FLOAT + _INDEX) + adj.shape[0] * width * _FLOAT


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _milliseconds(seconds: list[float]) -> float:
    return 1e3 * statistics.median(seconds)
