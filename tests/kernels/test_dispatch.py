"""The table of operations: every kernel in it is its reference; nothing else looks at a device."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale import kernels
from gnnscale.kernels import CSR, dispatch
from gnnscale.kernels.hash_dropout import stream_of
from tests.kernels.matrices import clustered, coo, csr_from

FOLDER = Path(kernels.__file__).parent
HALF = (torch.bfloat16, torch.float16)
KERNELS = [
    (operation, file, dtype)
    for operation, files in dispatch.OPERATIONS.items()
    for file, types in files.items()
    for dtype in (types or (torch.float32, torch.float64))
]


def load(operation: str, file: str):
    room, name = operation.split(".")
    return getattr(importlib.import_module(f"gnnscale.kernels.{room}.{file}"), name)


# ---------------------------------------------------------------- what each operation is tried on


class Draw:
    """Arguments of one type: float64 goes with indices of 64 bits, others with 32.

    Every pair of types compiles a kernel anew.
    """

    def __init__(self, draw, dtype):
        self.draw, self.dtype = draw, dtype
        self.index = torch.int64 if dtype == torch.float64 else torch.int32
        self.random = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))

    def rows(self, *shape):
        """Few different values, so that some are equal."""
        return torch.randint(-4, 5, shape, generator=self.random).to(self.dtype) / 2

    def maybe(self, *shape):
        return self.rows(*shape) if self.draw(st.booleans()) else None

    def number(self, low, high):
        return self.draw(st.integers(low, high))

    def matrix(self, square=False):
        wide = self.dtype if self.dtype in (torch.float32, torch.float64) else torch.float32
        return csr_from(self.draw(coo(square=square)), wide, self.index)

    def mask(self, rows):
        """Probability, key and node ids."""
        p = self.draw(st.sampled_from([0.01, 0.3, 1.0]))
        key = (self.number(-(2**70), 2**70), self.number(0, 9), self.number(0, 9))
        return p, stream_of(key), torch.randint(0, 2**62, (rows,), generator=self.random)

    def segments(self):
        sizes = self.draw(st.lists(st.sampled_from([0, 1, 2, 63, 65, 200]), min_size=1, max_size=4))
        return torch.tensor([0, *sizes]).cumsum(0)

    def ints(self, high, *shape, of=np.int64):
        return torch.randint(0, max(high, 1), shape, generator=self.random).numpy().astype(of)


CASES = {}


def case(function):
    """The function of this name gives the arguments of an operation of some folder."""
    (found,) = (name for name in dispatch.OPERATIONS if name.endswith(f".{function.__name__}"))
    CASES[found] = function
    return function


@case
def sort_by(d):
    n, keys = d.number(0, 60), d.number(1, 20)
    order = torch.randperm(n, generator=d.random) if d.draw(st.booleans()) else None
    return torch.from_numpy(d.ints(keys, n)).to(d.index), keys, order


@case
def transpose(d):
    a = d.matrix()
    return a.indptr, a.indices, a.shape[1]


@case
def select_rows(d):
    a = d.matrix()
    index = d.ints(a.shape[0], d.number(0, 9) if a.shape[0] else 0)
    values = None if a.values is None else a.values
    return a.indptr, a.indices, values, torch.from_numpy(index)


@case
def asymmetry(d):
    a = d.matrix(square=True)
    return a.indptr, a.indices, a.values, d.number(0, 2**40)


@case
def row_sums(d):
    return d.matrix(square=True), d.number(0, 3)


@case
def induced_subgraph(d):
    """Storage that is whole, or holds what was read for the batch."""
    entries, starts, ends, cluster_of, clusters = d.draw(clustered())
    a = csr_from(entries, index=d.index)
    batch = (starts[clusters], ends[clusters], clusters)
    rest = (torch.zeros(starts.numel(), 2, dtype=torch.int64), d.draw(st.booleans()))
    if d.draw(st.booleans()):
        return a.indptr, a.indices, cluster_of, *batch, *rest
    rows = list(zip(*(part.tolist() for part in batch[:2]), strict=True))
    pointers = [a.indptr[low : high + 1] for low, high in rows]
    columns = [a.indices[p[0] : p[-1]] for p in pointers]
    row_base, entry_base, row, entry = [], [], 0, 0
    for p, c, (low, _) in zip(pointers, columns, rows, strict=True):
        row_base.append(low - row)
        entry_base.append(int(p[0]) - entry)
        row, entry = row + p.numel(), entry + c.numel()
    whole = [torch.cat([a.indptr[:0], *pointers]), torch.cat([a.indices[:0], *columns])]
    bases = (torch.tensor(base, dtype=torch.int64) for base in (row_base, entry_base))
    return *whole, cluster_of, *batch, *rest, *bases


@case
def spmm(d):
    a, width = d.matrix(), d.draw(st.sampled_from([0, 1, 3, 8, 33]))
    rows, cols = a.shape
    own = d.rows(rows, width)
    return a, d.rows(cols, width), d.maybe(rows), d.maybe(cols), d.maybe(rows), own


@case
def transposed_product(d):
    a = d.matrix()
    return a, d.rows(a.shape[0], d.draw(st.sampled_from([1, 3, 8, 33, 41])))


@case
def extremum(d):
    a = d.matrix()
    return d.rows(a.shape[1], d.number(0, 9)), a, d.draw(st.sampled_from([1.0, -1.0]))


@case
def extremum_gradient(d):
    x, a, sign = extremum(d)
    out = load("extrema.extremum", "reference")(x, a, sign)
    return d.rows(*out.shape), x, out, a, False


@case
def dropout(d):
    rows = d.number(0, 9)
    return d.rows(rows, d.number(1, 9)), *d.mask(rows), d.draw(st.sampled_from([0, 1]))


@case
def dropout_entries(d):
    a = d.matrix()
    return d.rows(a.nnz), a.indptr, a.indices, *d.mask(a.shape[0])


@case
def mask_in_place(d):
    return dropout(d)[:-1]


@case
def relu_gradient(d):
    shape = d.number(0, 9), d.number(1, 9)
    return d.rows(*shape), d.rows(*shape), 0.3


@case
def leaky_gradient(d):
    rows, width = d.number(0, 9), d.number(1, 9)
    return d.rows(rows, width), d.rows(rows, width), 0.2, *d.mask(rows)


@case
def segment_moments(d):
    ptr = d.segments()
    return d.rows(int(ptr[-1]), d.number(0, 5)), ptr


@case
def segment_sum(d):
    return segment_moments(d)


@case
def graph_norm(d):
    x, ptr = segment_moments(d)
    return x, ptr, *(d.rows(x.shape[1]) for _ in range(3)), 1e-2


@case
def graph_norm_gradient(d):
    x, ptr, weight, _, alpha, eps = graph_norm(d)
    forward = load("normalization.graph_norm", "reference")
    _, mean, inverse = forward(x.double(), ptr, weight, weight, alpha, eps)
    return d.rows(*x.shape), x, ptr, weight, alpha, mean, inverse


@case
def sort_rows(d):
    a = d.matrix()
    return a.indptr.numpy(), a.indices.numpy()[::-1].copy()


@case
def sorting_order(d):
    indptr, cols = sort_rows(d)
    return indptr, cols, np.empty(cols.size, np.int64)


@case
def order_by_part(d):
    n, parts = d.number(0, 30), d.number(1, 5)
    first, empty = d.ints(2, n, of=bool), np.empty((2, n), np.int64)
    return d.ints(parts, n, of=np.int32), first, np.zeros(2 * parts + 1, np.int64), *empty


@case
def copy_rows(d):
    """Rows put down in the order in which the others stand."""
    a, width = d.matrix(), d.number(1, 3)
    sizes, order = a.indptr.diff(), torch.randperm(a.shape[0], generator=d.random)
    put = torch.empty_like(sizes)
    put[order] = sizes[order].cumsum(0) - sizes[order]
    source = d.rows(a.nnz * width).numpy()
    bounds = a.indptr[:-1].numpy(), a.indptr[1:].numpy()
    return *bounds, source, width, put.numpy(), np.zeros_like(source)


@case
def renumber(d):
    n = d.number(1, 20)
    return d.ints(n, d.number(0, 30)), d.ints(2**40, n)


@case
def spread_edges(d):
    """Room for all edges in both directions; of what is not filled nothing is promised."""
    n, m, both, shift = d.number(1, 99), d.number(0, 60), d.draw(st.booleans()), d.number(0, 6)
    source, target = d.ints(n, 2, m, of=np.int32)
    weight = d.rows(d.draw(st.sampled_from([0, m])), 1).float().flatten().numpy()
    most = m * (1 + both)
    row, col = np.zeros(most, np.uint16), np.zeros(most, np.int32)
    counts, value = np.zeros((n >> shift) + 1, np.int64), np.zeros(weight.size * (1 + both), "f4")
    return source, target, weight, both, shift, counts, row, col, value


@case
def sort_edges(d):
    n, m, first = d.number(1, 20), d.number(0, 60), d.number(0, 2**20)
    row, col = d.ints(n, m) + first, d.ints(40, m, of=np.int32)
    value = d.rows(d.draw(st.sampled_from([0, m]))).float().numpy()
    given_ = row.astype(np.uint16), col, value, first, 6
    return *given_, np.zeros(n + 1, np.int64), np.empty_like(col), np.empty_like(value)


@case
def merge_equal(d):
    """Only the merged entries, which come first, are promised: what is after them is cut off."""
    a = d.matrix()
    weights = np.empty(0) if a.values is None else a.values.double().numpy()
    return a.indptr.numpy(), a.indices.numpy(), weights


@case
def every_second(d):
    return *merge_equal(d), d.number(0, 3)


@case
def edge_asymmetry(d):
    n, m = d.number(1, 9), d.number(0, 30)
    source, target = d.ints(n, 2, m, of=np.int32)
    return source, target, d.rows(d.draw(st.sampled_from([0, m])), 1).float().flatten().numpy()


# ------------------------------------------------------------------------------------ the proof


def leaves(value):
    """Tensors, arrays and numbers of a result or of arguments."""
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    if isinstance(value, CSR):
        return leaves([value.indptr, value.indices, value.values])
    return [torch.as_tensor(value)] if isinstance(value, np.ndarray | np.number) else [value]


def run(function, arguments):
    """What comes out, and the arguments after it: some are written to."""
    arguments = copy.deepcopy(arguments)
    out = function(*arguments)
    if function.__name__ in ("merge_equal", "every_second"):
        arguments = (arguments[0], *(array[:out] for array in arguments[1:3] if array.size))
    if function.__name__ == "graph_norm":
        rows, *moments = out
        out = [rows, *(part[arguments[1].diff() > 0] for part in moments)]  # of empty ones, unread
    return leaves([out, *arguments])


def moved(value, to):
    return value.to(to) if isinstance(value, torch.Tensor | CSR) else value


@pytest.mark.parametrize(("operation", "file", "dtype"), KERNELS)
@settings(max_examples=10)
@given(st.data())
def test_a_kernel_is_its_reference(operation, file, dtype, data):
    no_mkl = file == "cusparse" and dtype in HALF
    if not torch.cuda.is_available() and (file == "cuda" or no_mkl):
        pytest.skip("no GPU; test_triton has the interpreter, and MKL stands in for cuSPARSE")
    there = "cuda" if file != "cpu" and torch.cuda.is_available() else "cpu"
    arguments = CASES[operation](Draw(data.draw, dtype))
    # Half precision is summed in float32 and rounded once; the reference would sum in it.
    exact = [
        value.float() if isinstance(value, torch.Tensor) and value.dtype in HALF else value
        for value in arguments
    ]
    wanted = run(load(operation, "reference"), exact)
    found = run(load(operation, file), [moved(value, there) for value in arguments])
    for mine, theirs in zip(found, wanted, strict=True):
        if not isinstance(mine, torch.Tensor):
            assert mine == theirs or mine is None  # which a kernel may leave out
        elif mine.dtype in HALF:
            torch.testing.assert_close(mine.cpu(), theirs.to(mine.dtype))
        else:
            torch.testing.assert_close(mine.cpu(), theirs.to(mine.dtype), rtol=1e-5, atol=1e-5)


def test_every_operation_is_tried_and_every_kernel_takes_its_references_arguments():
    assert CASES.keys() == dispatch.OPERATIONS.keys()
    for operation, files in dispatch.OPERATIONS.items():
        names = [*inspect.signature(load(operation, "reference")).parameters]
        for file in set(files) - {"cuda"}:
            kernel = inspect.unwrap(load(operation, file))
            kernel = getattr(kernel, "py_func", kernel)
            assert [*inspect.signature(kernel).parameters] == names, (operation, file)


def test_a_device_and_a_type_choose(monkeypatch):
    reference = load("product.spmm", "reference")
    cpu, cuda, other = (torch.device(kind) for kind in ("cpu", "cuda", "meta"))
    monkeypatch.setattr(dispatch, "_found", dispatch._found.__wrapped__)  # finds each time anew
    monkeypatch.setattr(dispatch, "has_triton", lambda: False)
    assert dispatch.dispatch(reference, cpu, torch.float32) is load("product.spmm", "cpu")
    assert dispatch.dispatch(reference, cuda, torch.float32) is load("product.spmm", "cusparse")
    assert dispatch.dispatch(reference, other, torch.float32) is reference
    assert dispatch.dispatch(reference, cpu, torch.int64) is reference


def test_nothing_but_dispatch_looks_at_a_device():
    for path in FOLDER.rglob("*.py"):
        if path.name == "dispatch.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                of = getattr(node.value, "attr", getattr(node.value, "id", ""))
                assert not node.attr.startswith("is_cuda"), f"{path}:{node.lineno}"
                assert node.attr != "type" or "device" not in of, f"{path}:{node.lineno}"


@pytest.mark.slow  # a new interpreter
def test_all_but_its_own_kernels_import_without_triton():
    files = [path.relative_to(FOLDER.parent.parent) for path in FOLDER.rglob("*.py")]
    names = [".".join(path.with_suffix("").parts) for path in files if path.stem != "cuda"]
    code = "import importlib, sys\nsys.modules['triton'] = None\n"
    code += f"for name in {names}: importlib.import_module(name.removesuffix('.__init__'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
