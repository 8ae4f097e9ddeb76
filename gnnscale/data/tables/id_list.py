"""Ids of some nodes in a file of any kind of table, as the nodes they are."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from gnnscale.data.tables.files import opened
from gnnscale.data.tables.roles.evidence import called_as_ids
from gnnscale.data.tables.table import open_table
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import NodeNames
from gnnscale.storage.arrow import compute, pyarrow, types

logger = logging.getLogger(__name__)


def read_id_list(path: Path, names: NodeNames | None, what: str = "--nodes") -> np.ndarray:
    """The nodes whose ids stand in a table: in its only column, or in that which is called id.

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
    text = not {".parquet", ".feather", ".arrow", ".npy"} & {s.lower() for s in path.suffixes}
    if text and names is not None and (found := _whole_lines(path, names)) is not None:
        return found
    # Without a header the first row of a text is an id like the others, or names the columns.
    table = open_table(path, what, header=False if text else None)
    if not table.columns:
        return np.empty(0, np.int64)
    first = table.sample(1)
    headings = [str(c[0].as_py()) for c in first.columns] if text and len(first) else []
    called = headings or [column.name for column in table.columns]
    place = next((i for i, name in enumerate(called) if called_as_ids(name)), 0)
    if len(called) > 1 and not called_as_ids(called[place]):
        raise InputError(
            f"{what} {path} has {len(called)} columns, none of which is called id: give a file "
            "with the ids alone, or call their column id"
        )
    column = table.columns[place]
    kinds = {column.name: pyarrow.large_string()} if text else None
    parts = [batch.column(0) for batch in table.batches([column.name], kinds)]
    ids = pyarrow.chunked_array(parts) if parts else pyarrow.chunked_array([], pyarrow.int64())
    if ids.null_count:
        raise InputError(f"{path}: {ids.null_count:,} ids are empty")
    headed = called_as_ids(called[place])
    if text and len(ids) and not _known(ids[:1], names):
        if not headed and len(ids) > 1 and _known(ids[1:2], names):
            logger.warning("%s: its first row, %r, is read as the column's name", path, called[0])
            headed = True
        ids = ids[1:] if headed else ids
    return _numbers(ids, names, f"{what} {path}")


def _whole_lines(path: Path, names: NodeNames) -> np.ndarray | None:
    """The nodes of a text with an id a line, also one with blanks or commas; None of another."""
    try:
        with opened(path) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except (OSError, EOFError, UnicodeDecodeError, GnnscaleError):
        return None  # whoever reads the table says why
    ids = pyarrow.array([line.strip() for line in lines if line.strip()], pyarrow.large_string())
    if not any(set(line) & set(" \t,;|") for line in lines[:1000]):
        return None  # read as other tables are
    for start in (0, 1):  # behind a name of the column
        if len(ids) > start and _known(pyarrow.chunked_array([ids[start:]]), names):
            return _numbers(pyarrow.chunked_array([ids[start:]]), names, str(path))
    return None


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
