"""Real files, given by path: each read beside by what reads its format."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.io import read_planetoid_data

import gnnscale as gs
from gnnscale.data.formats.registry import find_format
from layouts import networkx, pyg
from layouts.content import Content, Layout
from layouts.lists import of_matrix


def layouts_in(folder: Path) -> list[Layout]:
    """A layout for every file and folder in a folder that gnnscale recognises."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            made = find_format(path)
        except gs.GnnscaleError:
            made = None
        read = READERS.get(made.name) if made is not None else None
        if read is None:
            print(f"{path}: left out, as no other reader is known for it here")
            continue
        reader, content = read
        make = partial(_make, path=path, read=content)
        found.append(Layout(f"{path.name} (real)", reader, make))
    return found


def _make(
    folder: Path, path: Path, read: Callable[[Path], Content]
) -> tuple[Callable[..., gs.Graph], Content]:
    return partial(gs.load, path), read(path)


def arrays(path: Path) -> Content:
    """The arrays of an ``.npz`` by their names, as their notes say."""
    file = dict(np.load(path, allow_pickle=False))
    undirected = "undirected" in str(file.get("about", ""))
    x = file.get("x")
    if "x_indptr" in file:
        shape = tuple(file["x_shape"])
        data = file.get("x_data", np.ones(len(file["x_indices"])))
        x = scipy.sparse.csr_matrix((data, file["x_indices"], file["x_indptr"]), shape).toarray()
    edges = file["edge_index"].astype(np.int64)
    count = len(x) if x is not None else int(file["node_ptr"][-1])
    if x is None:  # the tag of a node, or its degree where there is one tag
        tag = file["node_tag"].astype(np.int64)
        if tag.max() == 0:
            tag = np.bincount(edges.reshape(-1), minlength=count)
        x = np.eye(tag.max() + 1)[tag]
    content = Content(edges, count, undirected, x=x, y=file["y"])
    content.node_ptr = file["node_ptr"].tolist() if "node_ptr" in file else None
    for part in ("train", "val", "test"):
        if f"{part}_idx" in file:
            content.splits = {
                **content.splits,
                part: np.isin(np.arange(count), file[f"{part}_idx"]),
            }
    return content


def saved_by_pyg(path: Path) -> Content:
    """A file of torch.save; unpickled, so of files that are trusted alone."""
    read = torch.load(path, weights_only=False)
    if isinstance(read, tuple):
        read = read[0] if isinstance(read[0], Data) else Data.from_dict(read[0])
    return pyg.content_of(Batch.from_data_list(read) if isinstance(read, list) else read)


def planetoid(path: Path) -> Content:
    """A folder of ``ind.NAME.*``."""
    (graph,) = path.glob("ind.*.graph")
    return pyg.content_of(read_planetoid_data(str(path), graph.name.split(".")[1]))


def pairs(path: Path) -> Content:
    """Two columns of ids under comments, ids ascending: SNAP's lists, directed as they say."""
    ends = pd.read_csv(path, sep=r"\s+", comment="#", header=None).to_numpy().T[:2]
    names = np.unique(ends)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        undirected = "undirected" in "".join(file.readlines(2000)).lower()
    return Content(np.searchsorted(names, ends), len(names), undirected, names.tolist())


READERS: Mapping[str, tuple[str, Callable[[Path], Content]]] = {
    "arrays": ("NumPy", arrays),
    "matrix-market": ("scipy", lambda path: of_matrix(scipy.io.mmread(path))),
    "snap": ("pandas", pairs),
    "pyg": ("PyG", saved_by_pyg),
    "planetoid": ("PyG", planetoid),
    "adjlist": ("networkx", lambda path: networkx.content_of(nx.read_adjlist(path), False)),
    "scipy": ("scipy", lambda path: of_matrix(scipy.sparse.load_npz(path))),
}
