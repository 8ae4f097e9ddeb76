"""Each CPU kernel beside what PyTorch, and torch-scatter where it is installed, offer for it.

    python benchmarks/kernels.py                 # a batch of 1,630 nodes and 40,000 edges
    python benchmarks/kernels.py --rows 20000 --entries 500000
    python benchmarks/kernels.py --only files    # what it costs to hold files to their bounds

Medians in milliseconds. The ways of one operation take turns in an order drawn anew each round, so
that another load on the machine, and what one leaves in the caches for the next, hurt all alike.
"+ gradient" is forward and backward together.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional
from torch_geometric.nn import GraphNorm
from torch_geometric.nn.resolver import activation_resolver

import gnnscale as gs
from gnnscale.kernels import (
    CSR,
    activation_dropout,
    dropout,
    extremum,
    graph_norm,
    segment_moments,
    spmm,
)
from gnnscale.kernels.extrema import reference as extrema_reference
from gnnscale.kernels.moments import reference as moments_reference
from gnnscale.kernels.normalization.reference import graph_norm_formula
from gnnscale.loader.batch import Assembler
from gnnscale.storage import array_folder, mapped
from gnnscale.storage.files import write_json
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "kernels.json"
Ways = dict[str, Callable[[], Any]]

WIDTHS = (7, 16, 47, 64, 100, 128, 256, 400)
ACTIVATIONS = ("relu", "leaky_relu", "elu", "silu", "gelu", "tanh")
SEGMENTS = (1, 100)
P, KEY = 0.2, (0, 1, 2)


def products(a: CSR, width: int) -> Ways:
    """A propagation with its factors; torch has them multiplied into the values beforehand."""
    x, scale = torch.rand(a.shape[1], width), torch.rand(a.shape[0])
    values = a.scaled_values(x.dtype, scale, scale)
    matrix = torch.sparse_csr_tensor(a.indptr.int(), a.indices, values, size=a.shape)
    return {
        "gnnscale": lambda: spmm(a, x, scale, scale, scale),
        "torch CSR": lambda: matrix @ x,
    }


def extrema(a: CSR, width: int) -> Ways:
    """The greatest among the neighbours + gradient."""
    x, index = torch.rand(a.shape[1], width, requires_grad=True), a.indices.long()
    a.t()  # made once a batch
    ways: Ways = {
        "gnnscale": lambda: extremum(x, a),
        "torch": lambda: extrema_reference.extremum(x, a, 1),
    }
    if importlib.util.find_spec("torch_scatter"):
        from torch_scatter import segment_csr

        ways["torch-scatter"] = lambda: segment_csr(x[index], a.indptr, reduce="max")
    return {name: with_gradient(way, x) for name, way in ways.items()}


def moments(rows: int, width: int, segments: int) -> Ways:
    """Mean and squared deviations of segments, in float64."""
    x, ptr = torch.rand(rows, width), torch.linspace(0, rows, segments + 1).long()
    ways: Ways = {
        "gnnscale": lambda: segment_moments(x, ptr),
        "torch": lambda: moments_reference.segment_moments(x, ptr),
    }
    if importlib.util.find_spec("torch_scatter"):
        from torch_scatter import gather_csr, segment_csr

        def scattered() -> Tensor:
            wide = x.double()
            mean = segment_csr(wide, ptr, reduce="mean")
            return segment_csr((wide - gather_csr(mean, ptr)).square_(), ptr, reduce="sum")

        ways["torch-scatter"] = scattered
    return ways


def activations(rows: int, width: int, name: str) -> Ways:
    """An activation and dropout + gradient; "apart" is our dropout after torch's activation."""
    act, node = activation_resolver(name), torch.arange(rows)
    x = torch.randn(rows, width, requires_grad=True)
    ways: Ways = {
        "gnnscale": lambda: activation_dropout(x, act, P, KEY, node),
        "apart": lambda: dropout(act(x), P, KEY, node),
        "torch": lambda: functional.dropout(act(x), P),
    }
    return {way: with_gradient(run, x) for way, run in ways.items()}


def norms(rows: int, width: int) -> Ways:
    """GraphNorm over a batch + gradient; torch's is the same formula left to autograd."""
    norm, x = GraphNorm(width), torch.randn(rows, width, requires_grad=True)
    of = x, norm.weight, norm.bias, norm.mean_scale, norm.eps
    functions = {"gnnscale": graph_norm, "torch": graph_norm_formula}
    return {way: with_gradient(partial(run, *of), x) for way, run in functions.items()}


def files(folder: Path, rows: int, entries: int) -> dict[str, Ways]:
    """A batch put together out of files, and opening them; "unchecked" holds them to no bound.

    Of 20 clusters, a store of 20 times as many nodes and edges as the other cases have.
    """
    edges = torch.randint(0, 20 * rows, (2, 20 * entries))
    edges[1] = (edges[0] + edges[1] % (2 * rows)) % (20 * rows)  # half of them leave their cluster
    graph = gs.Graph.from_arrays(edges, torch.rand(20 * rows, 100), torch.arange(20 * rows) % 47)
    part = gs.Partition(torch.arange(20 * rows) // rows, 20)
    assemble = Assembler(gs.cluster(graph, part, folder / "store"))

    def unchecked(run: Callable[[], Any]) -> Callable[[], Any]:
        def without() -> None:
            check, verified = mapped._check, array_folder.VERIFIED
            mapped._check, array_folder.VERIFIED = (lambda *_: None), 0
            try:
                run()
            finally:
                mapped._check, array_folder.VERIFIED = check, verified

        return without

    runs = {
        "a batch out of files": lambda: assemble(torch.tensor([7])),
        "a store opened out of files": lambda: gs.open_graph(folder / "store"),
    }
    return {name: {"gnnscale": run, "unchecked": unchecked(run)} for name, run in runs.items()}


def with_gradient(forward: Callable[[], Tensor], x: Tensor) -> Callable[[], None]:
    """Forward and backward; the gradient that comes in is made once."""
    grad = torch.randn_like(forward())

    def run() -> None:
        forward().backward(grad)
        x.grad = None

    return run


def take_turns(ways: Ways, rounds: int) -> dict[str, float]:
    """Median milliseconds of each way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()  # compiles, fills caches
    for _ in range(rounds):
        for name in random.sample(list(ways), len(ways)):
            started = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - started)
    return {name: 1e3 * statistics.median(found) for name, found in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1630)
    parser.add_argument("--entries", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", default="", help="part of the names of what is measured")
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    rows = options.rows
    row, col = torch.randint(0, rows, (2, options.entries))
    a, _ = CSR.from_coo(row, col, None, (rows, rows))
    cases: dict[str, Ways] = {f"sparse product, {w}": products(a, w) for w in WIDTHS}
    cases |= {f"max + gradient, {w}": extrema(a, w) for w in (47, 128, 400)}
    cases |= {f"moments of {s} segments, 400": moments(rows, 400, s) for s in SEGMENTS}
    cases |= {f"graph norm + gradient, {w}": norms(rows, w) for w in (128, 400)}
    cases |= {f"{n}, dropout + gradient, 400": activations(rows, 400, n) for n in ACTIVATIONS}
    with tempfile.TemporaryDirectory(prefix="gnnscale-kernels-") as folder:
        cases |= files(Path(folder), rows, options.entries)
        found = {
            name: take_turns(ways, options.rounds)
            for name, ways in cases.items()
            if options.only in name
        }
    if not options.only:
        about = {"options": vars(options), "environment": environment("cpu")}
        write_json(RESULT, {**about, "milliseconds": found})
    columns = list(dict.fromkeys(way for times in found.values() for way in times))
    table = Table("operation, width", *columns)
    for name, times in found.items():
        table.add_row(name, *(f"{times[way]:.3f}" if way in times else "" for way in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
