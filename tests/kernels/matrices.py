"""Random sparse matrices with everything that graphs bring: gaps, loops, duplicates, weights."""

import torch
from hypothesis import strategies as st

from gnnscale.kernels import CSR


@st.composite
def coo(draw, square=False, max_nodes=12, max_edges=60):
    """Draw ``(row, col, values or None, shape)``, in float64."""
    rows = draw(st.integers(1 if square else 0, max_nodes))
    cols = rows if square else draw(st.integers(0, max_nodes))
    nnz = draw(st.integers(0, max_edges)) if rows and cols else 0
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    # The upper half of the nodes is often isolated, and duplicates and loops are common.
    reach = draw(st.sampled_from([1, 2]))
    row = torch.randint(0, max(1, rows // reach), (nnz,), generator=generator)
    col = torch.randint(0, max(1, cols // reach), (nnz,), generator=generator)
    if square and nnz and draw(st.booleans()):
        col[: nnz // 4] = row[: nnz // 4]
    values = None
    if draw(st.booleans()):
        values = torch.randn(nnz, dtype=torch.float64, generator=generator)
    return row, col, values, (rows, cols)


@st.composite
def clustered(draw):
    """Draw a graph, its clusters (some empty), the ones in the batch and how much of each."""
    entries = draw(coo(square=True, max_nodes=20, max_edges=120))
    n = entries[3][0]
    parts = draw(st.integers(1, 6))
    cuts = sorted(draw(st.lists(st.integers(0, n), min_size=parts - 1, max_size=parts - 1)))
    starts = torch.tensor([0, *cuts])
    full = torch.tensor([*cuts, n])
    ends = torch.tensor(
        [draw(st.integers(int(a), int(b))) for a, b in zip(starts, full, strict=True)]
        if draw(st.booleans())
        else full.tolist()
    )
    order = draw(st.permutations(range(parts)))
    clusters = torch.tensor(order[: draw(st.integers(0, parts))], dtype=torch.int64)
    cluster_of = torch.repeat_interleave(torch.arange(parts), full - starts).to(torch.int32)
    return entries, starts, ends, cluster_of, clusters


def csr_from(entries, dtype=torch.float64, index=torch.int32, device="cpu") -> CSR:
    """Return the matrix with these entries, value and index types, on ``device``."""
    row, col, values, shape = entries
    matrix, _ = CSR.from_coo(row, col, None if values is None else values.to(dtype), shape)
    return CSR(matrix.indptr, matrix.indices.to(index), matrix.values, shape).to(device)


def dense_from(entries, dtype=torch.float64) -> torch.Tensor:
    """Return the dense matrix with these entries, duplicates summed."""
    row, col, values, shape = entries
    values = torch.ones(len(row)) if values is None else values
    return torch.zeros(shape, dtype=dtype).index_put_((row, col), values.to(dtype), accumulate=True)
