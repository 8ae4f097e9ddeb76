"""Splits as they come with tables: shares, a column, files of ids, masks and ids."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.splits import random_split
from gnnscale.data.tables.id_list import read_id_list
from gnnscale.data.tables.node_ids import NodeIds
from gnnscale.data.tables.node_table import NodeArray, NodeTable, known_shares
from gnnscale.data.tables.roles.evidence import as_ids
from gnnscale.data.tables.roles.nodes import node_roles
from gnnscale.data.tables.table import open_table
from gnnscale.data.tables.text.questions import written_as
from gnnscale.errors import InputError
from gnnscale.graph.reading.nodes import PARTS, part_of, read_parts
from gnnscale.storage.arrow import compute, pyarrow
from gnnscale.storage.files import expanded

_SHARES = re.compile(r"\s*[\d.]+(\s*/\s*[\d.]+)+\s*")
_OTHER_WORDS = {"training": "train", "tr": "train", "va": "val", "te": "test", "testing": "test"}
_MOST = 20  # values that are shown


def split_column(splits: object) -> str | int | None:
    """The column of nodes that `splits` may be: where it is one name, or one with its values."""
    if isinstance(splits, tuple) and len(splits) == 2 and isinstance(splits[1], Mapping):
        splits = splits[0]
    if isinstance(splits, str) and not _SHARES.fullmatch(splits):
        return splits
    return splits if isinstance(splits, int) and not isinstance(splits, bool) else None


def read_splits_given(
    splits: Any, ids: NodeIds, tables: Sequence[NodeTable], labelled: np.ndarray, seed: int
) -> dict[str, dict[str, Any]] | None:
    """Masks of the nodes of each part, by the names of sets and parts; None without splits.

    Args:
        splits: `None` for the columns of `tables` that are splits; shares, as "60/20/20", of the
            nodes that have a label; a column, or one with the values of each part; a file with ids
            and parts; a folder with a file of ids a part; or parts, or sets of parts, each a mask,
            ids, or a file of ids.
        ids: of the nodes.
        tables: of nodes, which may have a column for it.
        labelled: bool `[num_nodes]`.
        seed: of what is drawn.

    Raises:
        InputError: it is none of these, or holds something else than the parts' names.
    """
    if isinstance(splits, str) and _SHARES.fullmatch(splits):
        return {"default": random_split(labelled, splits.replace(" ", ""), seed)}
    values = splits[1] if isinstance(splits, tuple) and len(splits) == 2 else None
    for table in tables:
        if columns := table.those("split"):
            return {"default": _of_columns(table, columns, ids, values)}
    if splits is None:
        return None
    if isinstance(splits, str | os.PathLike):
        return {"default": _of_path(expanded(splits), ids, tables)}
    if not isinstance(splits, Mapping):
        raise InputError(
            f"splits is {type(splits).__name__}; give shares as '60/20/20', the name of a column, "
            "or {'train': …, 'val': …, 'test': …} with ids, masks or files of ids"
        )
    named = [part_of(name)[0] for name in splits]
    sets = {"default": splits} if splits and all(named) else splits
    if wrong := [name for name, parts in sets.items() if not isinstance(parts, Mapping)]:
        raise InputError(
            f"splits has no parts called {', '.join(map(str, wrong))}; give {{'train': …, "
            "'val': …, 'test': …}, or such parts by the name of a set"
        )
    return {
        name: dict(
            read_parts(
                {part: _ids_of(given, ids, part) for part, given in parts.items()},
                ids.num_nodes,
                f"split {name}/",
                find=ids.find,
            )
        )
        for name, parts in sets.items()
    }


def _of_path(path: Path, ids: NodeIds, tables: Sequence[NodeTable]) -> dict[str, Any]:
    if path.is_dir():
        files = {file.name.split(".")[0].lower(): file for file in sorted(path.iterdir())}
        parts = {name: file for name, file in files.items() if part_of(name)[0]}
        if not parts:
            raise InputError(f"splits: {path} holds no files called train, val and test")
        given = {part: _ids_of(file, ids, part) for part, file in parts.items()}
        return dict(read_parts(given, ids.num_nodes, "split ", find=ids.find))
    if not path.is_file():
        columns = [c.name for table in tables for c in table.table.columns]
        raise InputError(
            f"splits={str(path)!r} is no column ({', '.join(columns) or 'there is no table'}), no "
            "file, and no shares such as '60/20/20'"
        )
    with written_as("write it in UTF-8, with commas, and call its columns id and split"):
        table = open_table(path, "splits")
    roles = node_roles(
        table,
        lambda looks: known_shares(ids, looks),
        rest="split",
        no_order=lambda: "" if ids.names is None else "nodes are called by names",
    )
    known = NodeTable(table, roles)
    return _of_columns(known, known.those("split"), ids, None)


def _ids_of(given: object, ids: NodeIds, part: str) -> object:
    """Ids or a mask: what is given, or the nodes whose ids a file holds."""
    if not isinstance(given, str | os.PathLike):
        return given
    path = expanded(given)
    if path.suffix == ".npy":
        return NodeArray(path, f"split {part}", text=True).array
    mask = np.zeros(ids.num_nodes, dtype=bool)
    mask[read_id_list(path, ids.names, f"split {part}")] = True
    return mask


def _of_columns(
    table: NodeTable, columns: list[str], ids: NodeIds, values: Mapping[str, Any] | None
) -> dict[str, np.ndarray]:
    nodes = slice(None) if table.id is None else table.nodes(ids)
    cells = table.cells(columns)
    masks = {part: np.zeros(ids.num_nodes, dtype=bool) for part in PARTS}
    if all(part_of(name.lower())[1] == "mask" for name in columns):
        given = {}
        for name, own in cells.items():
            placed = np.zeros(ids.num_nodes, np.int64)
            placed[nodes] = own.cast(pyarrow.int64()).fill_null(0).to_numpy()
            given[name.lower()] = placed
        return {part: mask.numpy() for part, mask in read_parts(given, ids.num_nodes).items()}
    if len(columns) != 1:
        raise InputError(
            f"{table.what}: splits are in one column, or in masks as train_mask; it has "
            f"{', '.join(columns) or 'none'}"
        )
    (name,) = columns
    texts = compute.utf8_lower(compute.utf8_trim_whitespace(as_ids(cells[name].combine_chunks())))
    parts = _parts_by_value(name, texts.unique().drop_null().to_pylist(), values)
    for part in PARTS:
        named = pyarrow.array([v for v, own in parts.items() if own == part], texts.type)
        masks[part][nodes] = compute.is_in(texts, value_set=named).to_numpy(zero_copy_only=False)
    return masks


def _parts_by_value(
    column: str, found: list[str], said: Mapping[str, Any] | None
) -> dict[str, str | None]:
    parts: dict[str, str | None] = {}
    if said is not None:
        for name, values in said.items():
            if part_of(name)[0] is None:
                raise InputError(f"splits: {name} is no part; they are train, val and test")
            each = [values] if isinstance(values, str | int) else values
            parts |= {str(value).strip().lower(): part_of(name)[0] for value in each}
        if absent := [value for value in parts if value not in found]:
            raise InputError(
                f"splits: column {column} holds no {', '.join(absent)}; it holds {_shown(found)}"
            )
        return parts
    parts = {value: _OTHER_WORDS.get(value) or part_of(value)[0] for value in found if value}
    if None in parts.values():
        others = [value for value, part in parts.items() if part is None]
        raise InputError(
            f"splits: column {column} holds {_shown(others)}, which are no names of parts. Say "
            f"which value is which, as splits=({column!r}, {{'train': [{others[0]!r}], 'val': […], "
            "'test': […]})"
        )
    return parts


def _shown(values: Sequence[str]) -> str:
    return ", ".join(values[:_MOST]) + ", …" * (len(values) > _MOST)
