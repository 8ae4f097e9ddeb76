"""Ids of some nodes in a file of any kind of table, as the nodes they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gnnscale.data.tables.table import open_table
from gnnscale.errors import InputError
from gnnscale.graph import NodeNames
from gnnscale.storage.arrow import compute, pyarrow, types

_IDS = ("id", "node_id", "node", "name", "node_name")


def read_id_list(path: Path, names: NodeNames | None, what: str = "--nodes") -> np.ndarray:
    """The nodes whose ids stand in a table: in its column `id`, or in its first.

    Args:
        path: a table; text may have a header or none.
        names: what nodes are called; None for their numbers.
        what: what errors call it.

    Returns:
        int64 `[rows]`.

    Raises:
        InputError: an id is of no node; or the cells are no ids.
        StoreError: the file is missing or damaged.
    """
    try:
        table = open_table(path, what)
        headed = [c for c in table.columns if c.name.lower() in _IDS]
    except InputError:  # it may have a header or none, which its first id tells
        headed = []
    if not headed:  # without a header that is known, a first row may be an id like the others
        table = open_table(path, what, header=False if _is_text(path) else None)
    chosen = (headed or table.columns)[:1]
    if not chosen:
        return np.empty(0, np.int64)
    column = table.column(chosen[0].name)
    cells = [batch.column(0) for batch in table.batches([column.name])]
    ids = pyarrow.chunked_array(cells) if cells else pyarrow.chunked_array([], pyarrow.int64())
    if ids.null_count:
        raise InputError(f"{path}: {ids.null_count:,} ids are empty")
    if not headed and _is_text(path) and len(ids) > 1 and not _known(ids[:1], names):
        rest = ids[1:]
        ids = rest if _known(rest[:1], names) else ids
    return _numbers(ids, names, f"{what} {path}")


def _is_text(path: Path) -> bool:
    return not {".parquet", ".feather", ".arrow"} & {suffix.lower() for suffix in path.suffixes}


def _known(ids: pyarrow.ChunkedArray, names: NodeNames | None) -> bool:
    try:
        _numbers(ids, names, "")
    except InputError:
        return False
    return True


def _numbers(ids: pyarrow.ChunkedArray, names: NodeNames | None, what: str) -> np.ndarray:
    try:
        if names is not None:
            return names.find(ids.combine_chunks())
        if types.is_floating(ids.type) or types.is_boolean(ids.type):
            raise InputError(f"it holds {ids.type}; these nodes are called by their numbers")
        return compute.cast(ids, pyarrow.int64()).to_numpy().astype(np.int64)
    except (InputError, pyarrow.ArrowException) as error:
        raise InputError(f"{what}: {error}") from error
