"""Lists of edges as public collections have them, and matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse

import gnnscale as gs
from layouts.content import Content, Layouts

LAYOUTS = Layouts()
RNG = np.random.default_rng(1)

Made = tuple[Callable[..., gs.Graph], Content | None]


def by_name(ends: np.ndarray, undirected: bool) -> Content:
    """Edges between ids, numbered ascending."""
    names = np.unique(ends)
    return Content(np.searchsorted(names, ends), len(names), undirected, names.tolist())


@LAYOUTS("SNAP, directed", "pandas")
def snap(folder: Path, kind: str = "Directed") -> Made:
    """The header of snap.stanford.edu, ids with gaps, tabs."""
    ends = RNG.choice(np.arange(0, 200, 7), (2, 60))
    if kind == "Undirected":
        ends = np.unique(np.sort(ends, axis=0)[:, ends[0] != ends[1]], axis=1)
    lines = [
        f"# {kind} graph (each unordered pair of nodes is saved once): web.txt",
        "# A web",
        f"# Nodes: {len(np.unique(ends))} Edges: {ends.shape[1]}",
        "# FromNodeId\tToNodeId",
        *(f"{a}\t{b}" for a, b in ends.T),
    ]
    (folder / "web.txt").write_text("\n".join(lines) + "\n")
    table = pd.read_csv(folder / "web.txt", sep="\t", comment="#", header=None)
    return partial(gs.load, folder / "web.txt"), by_name(table.to_numpy().T, kind == "Undirected")


LAYOUTS.add("SNAP, undirected", "pandas", partial(snap, kind="Undirected"))


@LAYOUTS("KONECT, weighted", "pandas")
def konect(folder: Path) -> Made:
    """``out.NAME``: ids from 1, blanks, a weight."""
    ends = np.unique(np.sort(RNG.integers(1, 20, (40, 2)), axis=1), axis=0)
    ends = ends[ends[:, 0] != ends[:, 1]]
    weights = RNG.integers(1, 6, len(ends))
    text = "% sym posweighted\n% " + f"{len(ends)} 20 20\n"
    text += "".join(f"{a} {b} {w}\n" for (a, b), w in zip(ends, weights, strict=True))
    (folder / "out.toy").write_text(text)
    table = pd.read_csv(folder / "out.toy", sep=" ", comment="%", header=None).to_numpy()
    content = Content(table[:, :2].T - 1, 20, True, range(1, 21))
    content.carried = {"edge_weight": table[:, 2]}
    return partial(gs.load, folder / "out.toy"), content


def matrix(symmetric: bool) -> scipy.sparse.coo_matrix:
    """A random matrix, its entries eighths."""
    dense = np.where(RNG.random((12, 12)) < 0.25, RNG.integers(1, 40, (12, 12)) / 8, 0)
    return scipy.sparse.coo_matrix(np.maximum(dense, dense.T) if symmetric else dense)


def of_matrix(read: Any) -> Content:
    """Entry (i, j) as an edge from i to j."""
    found = scipy.sparse.coo_matrix(read)
    edges = np.stack([found.row, found.col]).astype(np.int64)
    content = Content(edges, found.shape[0])
    if not (found.data == 1).all():
        content.carried = {"edge_weight": found.data}
    return content


@LAYOUTS("Matrix Market, general", "scipy")
def mtx(folder: Path, field: str = "real", symmetric: bool = False, suffix: str = "") -> Made:
    """As scipy.io.mmwrite writes it."""
    made = matrix(symmetric)
    symmetry = "symmetric" if symmetric else "general"
    path = folder / f"m.mtx{suffix}"
    if suffix:
        import gzip

        with gzip.open(path, "wb") as file:
            scipy.io.mmwrite(file, made, field=field, symmetry=symmetry)
    else:
        scipy.io.mmwrite(path, made, field=field, symmetry=symmetry)
    content = of_matrix(scipy.io.mmread(path))
    content.nodes = range(1, content.num_nodes + 1)
    return lambda **said: _from_one(gs.load(path, **said)), content


def _from_one(graph: gs.Graph) -> gs.Graph:
    """Rows are called from 1 on, or by their numbers: both say the same."""
    import torch

    from gnnscale.graph.names import NodeNames

    if graph.names is None:
        graph.names = NodeNames(torch.arange(1, graph.num_nodes + 1))
    return graph


LAYOUTS.add("Matrix Market, symmetric", "scipy", partial(mtx, symmetric=True))
LAYOUTS.add("Matrix Market, pattern, .gz", "scipy", partial(mtx, field="pattern", suffix=".gz"))


@LAYOUTS("scipy.sparse.save_npz", "scipy")
def save_npz(folder: Path, kind: str = "csr") -> Made:
    """An adjacency matrix."""
    scipy.sparse.save_npz(folder / "a.npz", matrix(False).asformat(kind))
    return partial(gs.load, folder / "a.npz"), of_matrix(scipy.sparse.load_npz(folder / "a.npz"))


LAYOUTS.add("scipy.sparse.save_npz, coo", "scipy", partial(save_npz, kind="coo"))


@LAYOUTS("Matrix Market, not square", "scipy", None)
def not_square(folder: Path) -> Made:
    """Rows and columns are of two kinds."""
    scipy.io.mmwrite(folder / "m.mtx", matrix(False).tocsr()[:5])
    return partial(gs.load, folder / "m.mtx"), None
