"""Measure a machine: the library's own kernels and torch's, over classes of sizes.

A step goes through more memory than caches hold, or less. Each kernel is therefore run on arrays
that take turns, few of them or as many as a large step has, and what it gives is held as long.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.nn import functional

from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.machine.ranks import message_seconds
from gnnscale.costs.machine.table import Table
from gnnscale.costs.machine.timing import Clock, Pool, Ready
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, Graph, Partition, cluster
from gnnscale.kernels import CSR, activation_dropout, propagate, sparse_linear, spmm
from gnnscale.loader import Assembler
from gnnscale.storage.allocator import kept_buffers

_ROWS, _COLUMNS = (256, 4096, 32768), (8, 64, 512)
_NODES, _DEGREES, _WIDTHS = (512, 8192, 65536, 131072, 524288), (1, 8, 64), (8, 64, 512)
_BYTES = (1 << 13, 1 << 17, 1 << 21, 1 << 25)
_ENTRIES, _OUT, _FEATURES = (4, 32), (16, 256), (1024, 16384)
_TAKEN = 8192  # rows of sparse features
_GATHERING = 16384  # rows of a large matrix that are multiplied
_SHARES = {  # of the time that there is, one after the other
    "dense": 0.2, "matrix gradient": 0.15, "sparse": 0.25, "features": 0.06,
    "features gradient": 0.06, "rows": 0.06, "dropout": 0.06, "dropout gradient": 0.06,
}  # fmt: skip
_LEAST = 6.0
Make = Callable[[Clock, Pool, float], Table]
_COPIED = 64 << 20
_AWAKE = 0.25  # seconds until the system has put new threads onto processors of their own
_LOOP = 2.0  # phases: what a step of the loop takes beside its batch, loss and update


def measure(seconds: float = 10.0) -> Machine:
    """Measure this machine's processor.

    Args:
        seconds: it takes at most, on a machine that is left to itself; the more, the less chance
            there is in what is found.

    Raises:
        InputError: `seconds` is less than 6.
    """
    if not seconds >= _LEAST:
        raise InputError(f"seconds={seconds}: a machine takes {_LEAST:g} seconds at least")
    began, clock = time.perf_counter(), Clock()
    with kept_buffers(), torch.enable_grad():
        latency, sent = message_seconds(0.35 * seconds)
        cores, alone = _cores(clock)
        pool, tables = Pool(), {}
        batch = _assembly(clock)
        fixed = {**_overheads(clock), "batch": batch.pop("fixed")}
        copied, fresh, read = _memory_rates(clock)
        start, left = time.perf_counter(), began + seconds - time.perf_counter()
        share = 0.0
        for name, make in _TABLES.items():
            share += _SHARES[name]
            tables[name] = make(clock, pool, start + share * left)
    return Machine(
        processor=processor_name(),
        device="cpu",
        threads=torch.get_num_threads(),
        processors=os.cpu_count() or 1,
        torch=torch.__version__,
        gnnscale=version("gnnscale"),
        tables=tables,
        fixed=fixed,
        batch=batch,
        copied=copied,
        fresh=fresh,
        read=read,
        cores=cores,
        alone=alone,
        latency=latency,
        sent=sent,
        measured_in=time.perf_counter() - began,
        disturbed=clock.disturbed,
    )


def processor_name() -> str:
    """What the processor calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# --- kernels ------------------------------------------------------------------------------------


def _dense(clock: Clock, pool: Pool, until: float) -> Table:
    def ready(rows: int, wide: int, out: int) -> Ready:
        weight = torch.rand(out, wide)
        return lambda: (functional.linear, (pool.rows(rows, wide), weight))

    return _of_dense(clock, ready, pool, until)


def _matrix_gradient(clock: Clock, pool: Pool, until: float) -> Table:
    def ready(rows: int, wide: int, out: int) -> Ready:
        return lambda: (
            lambda grad, x: grad.t() @ x,
            (pool.rows(rows, out), pool.rows(rows, wide)),
        )

    return _of_dense(clock, ready, pool, until)


def _of_dense(clock: Clock, ready: Callable[..., Ready], pool: Pool, until: float) -> Table:
    return clock.grid(
        ("rows", "columns in", "columns out"),
        (_ROWS, _COLUMNS, _COLUMNS),
        ready,
        lambda rows, wide, out: rows * wide * out,
        lambda rows, wide, out: 4 * rows * (wide + out),
        pool,
        until,
    )


def _sparse(clock: Clock, pool: Pool, until: float) -> Table:
    """Some rows of a matrix of many: what they gather lies anywhere among as many rows of X."""
    drawn = torch.randint(2**30, (_GATHERING * max(_DEGREES),), dtype=torch.int32)

    def ready(nodes: int, degree: int, width: int) -> Ready:
        rows = min(nodes, _GATHERING)
        indices = drawn[: rows * degree] % nodes
        shape = (rows, nodes)
        a = CSR(torch.arange(rows + 1) * degree, indices, None, shape)
        left, right = torch.rand(rows), torch.rand(nodes)

        def again() -> tuple[Callable[..., object], tuple[object, ...]]:
            x = pool.rows(nodes, width)
            return spmm, (a, x, left, right, left, x[:rows])

        return again

    return clock.grid(
        ("rows", "entries a row", "columns"),
        (_NODES, _DEGREES, _WIDTHS),
        ready,
        lambda nodes, degree, width: min(nodes, _GATHERING) * (degree + 1) * width,
        lambda nodes, degree, width: 4 * nodes * (width + 1),
        pool,
        until,
    )


def _features(back: bool) -> Make:
    def table(clock: Clock, pool: Pool, until: float) -> Table:
        def ready(entries: int, out: int, wide: int) -> Ready:
            indices = torch.randint(wide, (_TAKEN * entries,), dtype=torch.int32)
            pointers = torch.arange(_TAKEN + 1) * entries
            weight = torch.rand(out, wide, requires_grad=True)
            values = torch.rand(_TAKEN * entries)
            shape = (_TAKEN, wide)
            turned = CSR(pointers, indices, values, shape).t()

            def again() -> tuple[Callable[..., object], tuple[object, ...]]:
                x = CSR(pointers, indices, values, shape)  # as a batch, seen once
                x._t = turned
                if not back:
                    return sparse_linear, (x, weight)
                given = pool.rows(_TAKEN, out)
                return torch.autograd.grad, (sparse_linear(x, weight), weight, given)

            return again

        return clock.grid(
            ("entries a row", "columns", "features"),
            (_ENTRIES, _OUT, _FEATURES),
            ready,
            lambda entries, out, wide: (_TAKEN * (entries + 1) + wide) * out,
            lambda entries, out, wide: 4 * (_TAKEN + wide) * out + 8 * _TAKEN * entries,
            pool,
            until,
        )

    return table


def _rows(clock: Clock, pool: Pool, until: float) -> Table:
    return _of_bytes(
        clock,
        lambda rows: lambda: (torch.mul, (pool.rows(rows, 64), pool.rows(rows, 64))),
        3,
        pool,
        until,
    )


def _dropout(back: bool) -> Make:
    def table(clock: Clock, pool: Pool, until: float) -> Table:
        act = nn.ReLU()

        def ready(rows: int) -> Ready:
            ids = torch.arange(rows)

            def again() -> tuple[Callable[..., object], tuple[object, ...]]:
                x = pool.rows(rows, 64).requires_grad_(back)
                arguments = (x, act, 0.5, (1, 2, 3), ids)
                if not back:
                    return activation_dropout, arguments
                given = pool.rows(rows, 64)
                return torch.autograd.grad, (activation_dropout(*arguments), x, given)

            return again

        return _of_bytes(clock, ready, 3 if back else 2, pool, until)

    return table


def _of_bytes(
    clock: Clock, ready: Callable[..., Ready], passes: int, pool: Pool, until: float
) -> Table:
    """A pass over rows of 64 numbers, by the bytes that it reads and writes."""
    row = passes * 4 * 64

    def of_bytes(moved: int) -> Ready:
        return ready(max(1, moved // row))

    return clock.grid(
        ("bytes",), (_BYTES,), of_bytes, lambda moved: moved, lambda m: m, pool, until
    )


_TABLES: dict[str, Make] = {
    "dense": _dense,
    "matrix gradient": _matrix_gradient,
    "sparse": _sparse,
    "features": _features(back=False),
    "features gradient": _features(back=True),
    "rows": _rows,
    "dropout": _dropout(back=False),
    "dropout gradient": _dropout(back=True),
}


# --- what is fixed ------------------------------------------------------------------------------


def _overheads(clock: Clock) -> dict[str, float]:
    """Seconds of phases and of the optimizer that do not depend on the sizes of a batch."""
    x = torch.rand(8, 8, requires_grad=True)
    a = Adjacency(torch.arange(9), torch.arange(8, dtype=torch.int32), None)
    scale, given = torch.rand(8), torch.rand(8, 8)
    bare = clock.seconds(lambda: (spmm, (a, x.detach(), scale, scale, scale)))

    def back() -> tuple[Callable[..., object], tuple[object, ...]]:
        out = propagate(x, a, scale, scale, scale, True)
        return torch.autograd.grad, (out, x, given)

    forward = clock.seconds(lambda: (propagate, (x, a, scale, scale, scale, True)))
    backward = clock.seconds(back)
    y = torch.randint(8, (8,))

    def loss(x: Tensor) -> None:
        functional.cross_entropy(x, y, reduction="sum").backward()

    found = {
        "phase": max(forward - bare, 1e-7),
        "gradient": max(backward - bare, 1e-7),
        "step": clock.seconds(lambda: (loss, (x,))),
    }
    times = []
    for count, size in ((2, 64), (32, 64), (2, 1 << 20)):
        parameters = [torch.rand(size, requires_grad=True) for _ in range(count)]
        for parameter in parameters:
            parameter.grad = torch.rand(size)
        optimizer = torch.optim.Adam(parameters)
        times.append(clock.seconds(lambda own=optimizer: (own.step, ())))  # type: ignore[misc]
    few, many, large = times
    found["parameter"] = max((many - few) / 30, 1e-7)
    found["number"] = max((large - few) / (2 << 20), 1e-12)
    found["optimizer"] = max(few - 2 * found["parameter"], 0.0)
    found["loop"] = _LOOP * (found["phase"] + found["gradient"])
    return found


def _assembly(clock: Clock) -> dict[str, float]:
    """Seconds of a batch's assembly: fixed, by node, edge, entry of sparse features, and byte."""
    rows, seconds = [], []
    for degree, columns, entries in ((2, 8, 0), (16, 8, 0), (2, 128, 0), (2, 0, 16)):
        clustered = _clusters(degree, columns, entries)
        assemble = Assembler(clustered)
        for drawn in (1, 4, 16):
            chosen = torch.arange(0, 64, 64 // drawn)[:drawn]
            batch = assemble(chosen)
            nodes = batch.num_nodes
            rows.append([1, nodes, drawn * 512 * degree, nodes * entries, 4 * nodes * columns])
            seconds.append(clock.seconds(lambda own=chosen, run=assemble: (run, (own,))))  # type: ignore[misc]
    size, taken = np.array(rows, float), np.array(seconds)
    scale = size.max(0)
    fitted = nnls(size / scale / taken[:, None], np.ones(len(taken)))[0] / scale
    names = ("fixed", "node", "edge", "entry", "byte")
    found = dict(zip(names, map(float, fitted), strict=True))
    adj = clustered.graph.adj
    found["transposed"] = clock.seconds(
        lambda: (Adjacency.t, (Adjacency(adj.indptr, adj.indices),))
    ) / max(1, adj.nnz)
    return found


def _clusters(degree: int, columns: int, entries: int, nodes: int = 1 << 15):
    size = nodes // 64
    near = torch.randint(size, (nodes, degree)) + torch.arange(nodes)[:, None] // size * size
    edges = torch.stack([near.view(-1), torch.arange(nodes).repeat_interleave(degree)])
    x: Tensor | CSR = torch.rand(nodes, max(columns, 1))
    if entries:
        pointers = torch.arange(nodes + 1) * entries
        indices = torch.randint(4096, (nodes * entries,), dtype=torch.int32)
        x = CSR(pointers, indices, torch.rand(nodes * entries), (nodes, 4096))
    graph = Graph.from_arrays(edge_index=edges, x=x, y=torch.randint(8, (nodes,)))
    return cluster(graph, Partition(torch.arange(nodes) // size, 64))


def _memory_rates(clock: Clock) -> tuple[float, float, float]:
    """Seconds a byte: copied, new from the system, and read from a file that is not cached."""
    source, target = torch.ones(2, 4 * _COPIED, dtype=torch.uint8).unbind()
    copied = clock.seconds(lambda: (target.copy_, (source,))) / source.nbytes
    source, target = source[:_COPIED], target[:_COPIED]
    size = 5 * _COPIED  # above what is kept
    started = time.perf_counter()
    torch.zeros(size // 4096, 4096, dtype=torch.uint8).select(1, 0).fill_(1)
    fresh = (time.perf_counter() - started) / size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bytes"
        with path.open("wb") as file:
            file.write(source.numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            file.readinto(target.numpy().data)
        read = (time.perf_counter() - started) / _COPIED
    return copied, fresh, read


def _cores(clock: Clock) -> tuple[dict[int, float], dict[int, float]]:
    """How much more threads do than one: of one process, and of as many with one each."""
    x, weight = torch.rand(16384, 128), torch.rand(128, 128)
    indices = torch.randint(16384, (16384 * 8,), dtype=torch.int32)
    a = Adjacency(torch.arange(16385) * 8, indices, None)
    threads = torch.get_num_threads()

    def work() -> None:
        spmm(a, functional.linear(x, weight))

    def seconds(count: int) -> float:
        torch.set_num_threads(count)
        _run_for(_AWAKE, work)
        return clock.seconds(lambda: (work, ()))

    def beside(count: int) -> float:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            every = partial(_each, pool, work, count)
            _run_for(_AWAKE, every)
            return clock.seconds(lambda: (every, ()))

    try:
        one = seconds(1)
        alone = {1: 1.0} | {count: one / seconds(count) for count in _counts(threads)}
        cores = {1: 1.0} | {count: count * one / beside(count) for count in _counts(threads)}
    finally:
        torch.set_num_threads(threads)
    return cores, alone


def _each(pool: Executor, work: Callable[[], object], count: int) -> None:
    for done in [pool.submit(work) for _ in range(count)]:
        done.result()


def _run_for(seconds: float, work: Callable[[], object]) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        work()


def _counts(threads: int) -> Sequence[int]:
    """Numbers of threads that are measured: powers of two, and all."""
    return sorted(
        {*(2**k for k in range(1, threads.bit_length()) if 2**k < threads), threads} - {1}
    )
