"""Graph data sets of TU Dortmund: many graphs in a folder of texts, numbered through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import Format
from gnnscale.data.pyg.files import arrays_of
from gnnscale.data.pyg.reading import folds_of
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph


def _name(path: Path) -> str | None:
    """The name of the data set in a folder, or of that of which a file is."""
    folder = path if path.is_dir() else path.parent
    names = seen.files(folder)
    found = [match[1] for name in names if (match := re.fullmatch(r"(.+)_A\.txt", name))]
    whole = [name for name in found if f"{name}_graph_indicator.txt" in names]
    if path.is_file():
        whole = [name for name in whole if path.name == f"{name}_A.txt"]
    return whole[0] if len(whole) == 1 else None


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    from torch_geometric.data import Batch, Data
    from torch_geometric.data.separate import separate
    from torch_geometric.io.tu import read_tu_data

    name = _name(path)
    if name is None:
        raise InputError(f"{path} has no NAME_A.txt and NAME_graph_indicator.txt, of one NAME")
    folder = path if path.is_dir() else path.parent
    try:
        data, slices, _ = read_tu_data(str(folder), name)
        count = len(slices["edge_index"]) - 1
        parts = [separate(Data, data, i, slices, decrement=False) for i in range(count)]
    except Exception as error:  # of any kind, where files are not of one data set
        raise StoreError(f"the files {name}_*.txt in {folder} do not fit: {error}") from error
    batch: Any = Batch.from_data_list(parts)
    arrays = arrays_of(batch, sparse=True) | {"node_ptr": batch.ptr.numpy()}
    if "y" in arrays:
        arrays["y_level"] = np.array("graph")
        arrays |= folds_of(arrays["y"])
    if not {"x", "x_indptr"} & arrays.keys():
        arrays["node_tag"] = np.zeros(int(arrays["num_nodes"]), np.int64)  # made degrees, as in GIN
    return graph_of(arrays, folder, given, {"name": name})


FORMATS = (
    Format(
        "tu",
        "many graphs with labels, attributes of nodes and edges (Morris et al. 2020)",
        "NAME_A.txt, NAME_graph_indicator.txt",
        lambda path: _name(path) is not None,
        _read,
        documented="https://chrsmrrs.github.io/datasets/docs/format/",
    ),
)
