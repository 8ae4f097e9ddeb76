"""Ids of some nodes in a file of any kind of table, as the nodes they are."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gnnscale.data.tables.files import read_bytes
from gnnscale.data.tables.roles.evidence import called_as_ids
from gnnscale.data.tables.table import open_table
from gnnscale.data.tables.text.questions import written_as
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import NodeNames
from gnnscale.storage.arrow import compute, pyarrow, types

logger = logging.getLogger(__name__)

_BYTES_AT_ONCE = 1 << 22
_LOOKED_AT = 1_000  # lines that say whether cells are whole lines


@written_as("write ids in UTF-8, one a line")
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
    if text and len(ids) and not _is_id(ids[0].as_py(), names):
        second = len(ids) > 1 and _is_id(ids[1].as_py(), names)
        if called_as_ids(called[place]) or second:
            _tell_heading(path, called[place])
            ids = ids[1:]
    return _numbers(ids, names, f"{what} {path}")


def _whole_lines(path: Path, names: NodeNames) -> np.ndarray | None:
    """The nodes of a text with an id a line, also one with blanks or commas; None of another."""
    parts: list[pyarrow.Array] = []
    try:
        for lines in _lines(path):
            if not parts and not any(set(line) & set(" \t,;|") for line in lines[:_LOOKED_AT]):
                return None  # read as other tables are
            own = (bare for line in lines if (bare := line.strip()))
            parts.append(pyarrow.array(own, pyarrow.large_string()))
        ids = pyarrow.concat_arrays(parts) if parts else pyarrow.array([], pyarrow.large_string())
        nodes = names.look_up(ids)
    except (UnicodeDecodeError, GnnscaleError):
        return None  # whoever reads the table says why
    if not nodes.size or (nodes[1:] < 0).any() or (nodes[0] < 0 and nodes.size == 1):
        return None
    if nodes[0] < 0:
        _tell_heading(path, ids[0].as_py())
        return nodes[1:]
    return nodes


def _lines(path: Path) -> Iterator[list[str]]:
    """The lines of a text in UTF-8, some MB at a time."""
    rest = b""
    for number, block in enumerate(read_bytes(path, _BYTES_AT_ONCE)):
        if not number:
            block = block.removeprefix(codecs.BOM_UTF8)
        *whole, rest = (rest + block).rsplit(b"\n", 1)
        if whole:
            yield whole[0].decode().splitlines()
    yield rest.decode().splitlines()


def _tell_heading(path: Path, first: str) -> None:
    """Say that the first row is no id, where its name does not say that it is a heading."""
    if not called_as_ids(first):
        logger.warning("%s: its first row, %r, is read as the column's name", path, first)


def _is_id(cell: str, names: NodeNames | None) -> bool:
    if names is not None and names.ids is None:
        return _holds(names, pyarrow.scalar(cell, pyarrow.large_string()))
    if not re.fullmatch(r"[-+]?\d{1,18}", cell.strip()):
        return False
    return names is None or _holds(names, pyarrow.scalar(int(cell), pyarrow.int64()))


def _holds(names: NodeNames, cell: pyarrow.Scalar) -> bool:
    """Whether a node is called so, without a table of all names."""
    return bool(compute.index(names.to_arrow(), cell).as_py() >= 0)


def _numbers(ids: pyarrow.ChunkedArray, names: NodeNames | None, what: str) -> np.ndarray:
    try:
        if names is not None:
            return names.find(ids.combine_chunks())
        if types.is_floating(ids.type) or types.is_boolean(ids.type):
            raise InputError(f"it holds {ids.type}; these nodes are called by their numbers")
        return compute.cast(ids, pyarrow.int64()).to_numpy().astype(np.int64)
    except (InputError, pyarrow.ArrowException) as error:
        raise InputError(f"{what}: {error}") from error
