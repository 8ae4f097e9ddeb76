"""Measure a machine: the library's own kernels and torch's, over classes of sizes.

A step goes through more memory than caches hold, or less. Each kernel is therefore run on arrays
that take turns, few of them or as many as a large step has, and what it gives is held as long.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.nn import functional

from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.machine.ranks import two_processes
from gnnscale.costs.machine.table import Table
from gnnscale.costs.machine.timing import Clock, Pool, Ready
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, Graph, Partition, cluster
from gnnscale.kernels import CSR, activation_dropout, propagate, sparse_linear, spmm
from gnnscale.kernels.threads import THREADING_LAYER
from gnnscale.loader import Assembler
from gnnscale.partitioning.native.libraries import available_threads
from gnnscale.storage.allocator import kept_buffers
from gnnscale.storage.files import cache_root

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
_LEFT = 0.6  # of the seconds, for what is measured once all is compiled, at least
_SENDING, _MOVING = 0.2, 0.25  # of these, until when messages and memory are measured
_BEFORE = (0.08, 0.25, 0.4)  # of what is left then: phases, processes, batches
Make = Callable[[Clock, Pool, float], Table]
_COPIED = 64 << 20
_READ = 8 << 20  # of a file at a time
_NUMBERS = ("CPU implementer", "CPU part", "CPU variant", "CPU revision")
_AWAKE = 0.25  # seconds until the system has put new threads onto processors of their own
_LOOP = 2.0  # phases: what a step of the loop takes beside its batch, loss and update


def measure(seconds: float = 10.0) -> Machine:
    """Measure this machine's processor.

    Args:
        seconds: it takes at most; the more, the less chance there is in what is found. Where
            kernels are not compiled yet, that comes first, and 0.6 of the seconds follow at most.

    Raises:
        InputError: `seconds` is less than 6.
    """
    if not seconds >= _LEAST:
        raise InputError(f"seconds={seconds}: a machine takes {_LEAST:g} seconds at least")
    began = time.perf_counter()
    with kept_buffers(), torch.enable_grad(), two_processes() as pair:
        # Both import torch while all that is measured is compiled: each of it is run once.
        pool = Pool()
        _kernels(Clock(), pool, began, began)
        pair.wait()
        start, clock = time.perf_counter(), Clock()
        until = max(began + seconds, start + _LEFT * seconds)
        latency, sent = pair.message_seconds(_SENDING * (until - start))
    with kept_buffers(), torch.enable_grad():
        copied, fresh, read = _memory_rates(clock, start + _MOVING * (until - start))
        kernels = _kernels(clock, pool, time.perf_counter(), until)
    return Machine(
        processor=processor_name(),
        device="cpu",
        threads=torch.get_num_threads(),
        layer=THREADING_LAYER,
        processors=available_threads(),
        torch=torch.__version__,
        gnnscale=version("gnnscale"),
        **kernels,
        copied=copied,
        fresh=fresh,
        read=read,
        latency=latency,
        sent=sent,
        measured_in=time.perf_counter() - began,
        disturbed=clock.disturbed,
    )


def _kernels(clock: Clock, pool: Pool, start: float, until: float) -> dict[str, Any]:
    """Measure all that computes: one run of each, and more of it only until then."""
    by_phases, by_cores, by_batches = (start + share * (until - start) for share in _BEFORE)
    fixed = _overheads(clock, by_phases)
    cores, alone = _cores(clock, by_cores)
    batch = _assembly(clock, by_batches)
    fixed["batch"] = batch.pop("fixed")
    tables, share = {}, 0.0
    began = time.perf_counter()
    for name, make in _TABLES.items():
        share += _SHARES[name]
        tables[name] = make(clock, pool, began + share * (until - began))
    return {
        "tables": tables,
        "fixed": fixed,
        "batch": batch,
        "cores": cores,
        "alone": alone,
    }


def processor_name() -> str:
    """What the processor calls itself."""
    told: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            told.setdefault(name.strip(), value.strip())
    if "model name" in told:
        return told["model name"]
    kind = platform.processor() or platform.machine()
    # Of ARM, what tells one from another are numbers.
    return " ".join([kind, *(told[name] for name in _NUMBERS if name in told)])


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


def _overheads(clock: Clock, until: float) -> dict[str, float]:
    """Seconds of phases and of the optimizer that do not depend on the sizes of a batch."""
    x = torch.rand(8, 8, requires_grad=True)
    a = Adjacency(torch.arange(9), torch.arange(8, dtype=torch.int32), None)
    scale, given = torch.rand(8), torch.rand(8, 8)
    bare = clock.seconds(lambda: (spmm, (a, x.detach(), scale, scale, scale)), until)

    def back() -> tuple[Callable[..., object], tuple[object, ...]]:
        out = propagate(x, a, scale, scale, scale, True)
        return torch.autograd.grad, (out, x, given)

    forward = clock.seconds(lambda: (propagate, (x, a, scale, scale, scale, True)), until)
    backward = clock.seconds(back, until)
    y = torch.randint(8, (8,))

    def loss(x: Tensor) -> None:
        functional.cross_entropy(x, y, reduction="sum").backward()

    found = {
        "phase": max(forward - bare, 1e-7),
        "gradient": max(backward - bare, 1e-7),
        "step": clock.seconds(lambda: (loss, (x,)), until),
    }
    times = []
    for count, size in ((2, 64), (32, 64), (2, 1 << 20)):
        parameters = [torch.rand(size, requires_grad=True) for _ in range(count)]
        for parameter in parameters:
            parameter.grad = torch.rand(size)
        optimizer = torch.optim.Adam(parameters)
        times.append(clock.seconds(lambda own=optimizer: (own.step, ()), until))  # type: ignore[misc]
    few, many, large = times
    found["parameter"] = max((many - few) / 30, 1e-7)
    found["number"] = max((large - few) / (2 << 20), 1e-12)
    found["optimizer"] = max(few - 2 * found["parameter"], 0.0)
    found["loop"] = _LOOP * (found["phase"] + found["gradient"])
    return found


def _assembly(clock: Clock, until: float) -> dict[str, float]:
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
            seconds.append(clock.seconds(lambda own=chosen, run=assemble: (run, (own,)), until))  # type: ignore[misc]
    size, taken = np.array(rows, float), np.array(seconds)
    scale = size.max(0)
    fitted = nnls(size / scale / taken[:, None], np.ones(len(taken)))[0] / scale
    names = ("fixed", "node", "edge", "entry", "byte")
    found = dict(zip(names, map(float, fitted), strict=True))
    adj = clustered.graph.adj
    found["transposed"] = clock.seconds(
        lambda: (Adjacency.t, (Adjacency(adj.indptr, adj.indices),)), until
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


def _memory_rates(clock: Clock, until: float) -> tuple[float, float, float]:
    """Seconds a byte: copied, new from the system, and read from a file that is not cached."""
    source, target = torch.ones(2, 4 * _COPIED, dtype=torch.uint8).unbind()
    copied = clock.seconds(lambda: (target.copy_, (source,)), until) / source.nbytes
    source, target = source[:_COPIED], target[:_COPIED]
    size = 5 * _COPIED  # above what is kept
    started = time.perf_counter()
    torch.zeros(size // 4096, 4096, dtype=torch.uint8).select(1, 0).fill_(1)
    fresh = (time.perf_counter() - started) / size
    return copied, fresh, _read_rate(source.numpy(), until)


def _read_rate(source: np.ndarray, until: float) -> float:
    """Seconds a byte of a file on a disk, that has left the system's cache: of some blocks."""
    runs: list[float] = []
    source = source[:_READ]
    with tempfile.TemporaryDirectory(dir=_disk()) as folder:
        path = Path(folder) / "bytes"
        with path.open("wb", buffering=0) as file:
            written = 0
            while written < _COPIED and (not written or time.perf_counter() < until):
                written += file.write(source.data)
                os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with path.open("rb", buffering=0) as file:
            while not runs or time.perf_counter() < until:
                started = time.perf_counter()
                if not (size := file.readinto(source.data)):
                    break
                runs.append((time.perf_counter() - started) / size)
    return statistics.median(runs)


def _disk() -> Path | None:
    """The cache's folder, where graphs are kept: a temporary one is in memory on many machines."""
    with contextlib.suppress(OSError):
        (root := cache_root()).mkdir(parents=True, exist_ok=True)
        if os.access(root, os.W_OK | os.X_OK):
            return root
    return None


def _cores(clock: Clock, until: float) -> tuple[dict[int, float], dict[int, float]]:
    """How much more threads do than one: of one process, and of as many with one each."""
    x, weight = torch.rand(16384, 128), torch.rand(128, 128)
    indices = torch.randint(16384, (16384 * 8,), dtype=torch.int32)
    a = Adjacency(torch.arange(16385) * 8, indices, None)
    threads = torch.get_num_threads()

    def work() -> None:
        spmm(a, functional.linear(x, weight))

    awake = min(_AWAKE, max(0.0, until - time.perf_counter()))

    def seconds(count: int) -> float:
        torch.set_num_threads(count)
        _run_for(awake, work)
        return clock.seconds(lambda: (work, ()), until)

    def beside(count: int) -> float:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            every = partial(_each, pool, work, count)
            _run_for(awake, every)
            return clock.seconds(lambda: (every, ()), until)

    alone, cores = {1: 1.0}, {1: 1.0}
    try:
        one = seconds(1)
        for number, count in enumerate(_counts(max(threads, available_threads()))):
            if number and time.perf_counter() > until:
                break  # what is between is read off the others
            if count <= threads:
                alone[count] = one / seconds(count)
            torch.set_num_threads(1)
            cores[count] = count * one / beside(count)
        if threads not in alone:
            alone[threads] = one / seconds(threads)
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
    """Numbers of threads that are measured: all first, then powers of two."""
    powers = (2**k for k in range(1, threads.bit_length()) if 2**k < threads)
    return [count for count in (threads, *powers) if count > 1]
