"""Features of new nodes, as those of the graph are that they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import scipy.sparse
import torch

from gnnscale.data.tables.given import Tables
from gnnscale.data.tables.node_table import NodeArray, NodeTable
from gnnscale.data.tables.values.recipe import FeatureRecipe, Ingredient, numbers_of
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.graph.arrays import read_features
from gnnscale.kernels import CSR
from gnnscale.storage.arrow import pyarrow
from gnnscale.storage.files import expanded


def read_sparse(nodes: Any) -> CSR | None:
    """Features in a sparse matrix, of SciPy or torch; None where they are none."""
    if isinstance(nodes, str | Path) and str(nodes).endswith(".npz"):
        try:
            nodes = scipy.sparse.load_npz(expanded(nodes))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise StoreError(f"{nodes} holds no sparse matrix of SciPy: {error}") from error
    matrix = isinstance(nodes, torch.Tensor) and nodes.layout != torch.strided
    found = read_features(nodes) if matrix or hasattr(nodes, "tocsr") else nodes
    return found if isinstance(found, CSR) else None


def read_new_features(
    graph: Graph,
    tables: Tables,
    rows: NodeTable | NodeArray | None,
    matrix: CSR | None,
    scratch: Path,
    new: int,
) -> np.ndarray | CSR | None:
    """Features of rows, sparse where the graph's are; None where it has none.

    Args:
        graph: they come to.
        tables: of what is new.
        rows: of new nodes.
        matrix: their features, where they are sparse.
        scratch: a folder.
        new: how many nodes come.

    Raises:
        InputError: they are not as the graph's are.
    """
    if graph.x is None:
        return None
    if matrix is None:
        x = _dense(graph, tables, rows, scratch)
        matrix = _as_sparse(x) if isinstance(graph.x, CSR) else None
    else:
        x = np.empty(0)
    found = x if matrix is None else matrix
    if tuple(found.shape) != (new, graph.num_features):
        raise InputError(
            f"the new nodes have features {[*found.shape]}; {graph.name} wants "
            f"[{new}, {graph.num_features}]: nodes="
        )
    if isinstance(graph.x, CSR):
        assert matrix is not None
        sparse = _of_one_kind(graph, graph.x, matrix)
        if sparse.values is not None:
            _check_finite(sparse.values.numpy())
        return sparse
    kind = torch.empty(0, dtype=graph.x.dtype).numpy().dtype
    if matrix is not None:
        x = np.zeros(matrix.shape, kind)
        row = np.repeat(np.arange(new), np.diff(matrix.indptr.numpy()))
        np.add.at(x, (row, matrix.indices.numpy()), 1 if matrix.values is None else matrix.values)
    with np.errstate(over="ignore"):
        x = x.astype(kind, copy=False)
    _check_finite(x)
    return x


def _check_finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise InputError(
            "the new nodes have features that are NaN, infinite or too large for "
            f"{values.dtype}: nodes="
        )


def _dense(
    graph: Graph, tables: Tables, rows: NodeTable | NodeArray | None, scratch: Path
) -> np.ndarray:
    """The features of the rows as the recipe makes them; as they are where the graph has none."""
    if isinstance(rows, NodeTable):
        rows.order = None  # rows are placed by whoever asked for them
        if graph.schema is None or graph.schema.recipe is None:
            return _as_they_are(graph, tables, rows)
    recipe = None if graph.schema is None else graph.schema.recipe
    made = None if recipe is None else FeatureRecipe.from_json(recipe)
    parts = list(tables.features(made, scratch) or ())
    return np.concatenate(parts) if parts else np.empty((0, graph.num_features), np.float32)


def _as_they_are(graph: Graph, tables: Tables, rows: NodeTable) -> np.ndarray:
    """Numbers as they stand in the columns, as those of a graph are that were given in an array.

    Raises:
        InputError: a column holds no numbers, or cells are empty.
    """
    recipe = tables.recipe("as is")
    columns = {} if recipe is None else recipe.ingredients
    faults = [
        f"{column} {'has empty cells' if one.kind == 'as is' else f'is {one.type}'}"
        for column, one in columns.items()
        if one.kind != "as is" or one.missing
    ]
    if faults:
        raise InputError(
            f"{rows.what}: {', '.join(faults)}; the features of {graph.name} came as an array of "
            "numbers: give numbers alone, as they are there, and leave other columns out, drop="
        )
    width = sum(one.width for one in columns.values())
    parts = [np.empty((0, width))]
    for batch in rows.table.batches([*columns]) if columns else ():
        own = [_numbers(batch.column(name), one) for name, one in columns.items()]
        parts.append(np.concatenate(own, axis=1))
    return np.concatenate(parts)


def _numbers(column: pyarrow.Array, one: Ingredient) -> np.ndarray:
    """Numbers, or lists of them, float64 `[k, width]`."""
    if one.type == "list":
        column = column.flatten().cast(pyarrow.float64())
    return numbers_of(column, one.type)[0].reshape(-1, one.width)


def placed(x: np.ndarray | CSR | None, order: np.ndarray) -> np.ndarray | CSR | None:
    """Features of rows, in the order of the nodes."""
    if isinstance(x, CSR):
        return x.select_rows(torch.from_numpy(order))
    return None if x is None else x[order]


def _as_sparse(x: np.ndarray) -> CSR:
    found = read_features(scipy.sparse.csr_array(x))
    assert isinstance(found, CSR)
    return found


def _of_one_kind(graph: Graph, old: CSR, new: CSR) -> CSR:
    """Sparse features of the types that the graph's are of."""
    indices = new.indices.to(old.indices.dtype)
    if old.values is None:
        if new.values is not None and not bool((new.values == 1).all()):
            raise InputError(f"the features of {graph.name} are zeros and ones: nodes=")
        return CSR(new.indptr, indices, None, new.shape)
    ones = torch.ones(new.nnz) if new.values is None else new.values
    return CSR(new.indptr, indices, ones.to(old.values.dtype), new.shape)
