"""What a model puts out as a table keyed by what nodes are called: Parquet or CSV.

==================  ================================================================================
``classification``  `id`, `prediction` (a class, by its name where it has one), and a column of
                    probabilities for each class, `probability_<class>`
``multilabel``      `id`, and a column of probabilities for each label
``regression``      `id`, and a column for each target: `prediction` where there is one
embeddings, others  `id`, `embedding_0` … or `output_0` …
==================  ================================================================================
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import NodeNames
from gnnscale.storage.arrow import csv, parquet, pyarrow
from gnnscale.storage.files import atomic_write
from gnnscale.storage.mapped import release

TABLES = (".parquet", ".csv")
_ROWS = 1 << 16


def is_table(out: str | Path | None) -> bool:
    """Whether a file of this name is written as a table."""
    return isinstance(out, str | os.PathLike) and Path(out).suffix.lower() in TABLES


def numbers_of(nodes: Any, names_of: Callable[[], NodeNames | None]) -> Any:
    """Nodes that are given by names that are text, by their numbers; others as they are.

    Args:
        nodes: what a user gave.
        names_of: gives the names of the nodes, in the order of their numbers.

    Raises:
        InputError: no node is called so, or nodes have no names.
    """
    if nodes is None or isinstance(nodes, Tensor | range):
        return nodes
    array = np.asarray(nodes)
    if array.dtype.kind not in "UTO" or not array.size or not isinstance(array.flat[0], str):
        return nodes
    names = names_of()  # in another order than they are stored in: a copy
    if names is None:
        raise InputError(
            f"nodes holds text, {array.flat[0]!r} first; these nodes are called by their numbers"
        )
    return names.find(array.astype(object).reshape(-1))


def write_table(
    path: str | Path,
    rows: Tensor,
    ids: Tensor,
    names: NodeNames | None,
    task: str | None,
    called: Sequence[str] | None,
) -> None:
    """Write outputs as a table, block by block.

    Args:
        path: a `.parquet` or `.csv`.
        rows: outputs `[k, channels]`.
        ids: int64 `[k]`, whose they are.
        names: what these are called; None for their numbers.
        task: of the labels; "embedding" or None where a row is no prediction of a built-in task.
        called: names of classes, labels or targets.

    Raises:
        StoreError: the file cannot be written.
    """
    writer = parquet.ParquetWriter if Path(path).suffix.lower() == ".parquet" else csv.CSVWriter
    blocks = _blocks(rows, ids, names, task, called)
    first = next(blocks)
    with atomic_write(path) as file, writer(file, first.schema) as table:
        for block in itertools.chain([first], blocks):
            table.write_batch(block)


def _blocks(
    rows: Tensor,
    ids: Tensor,
    names: NodeNames | None,
    task: str | None,
    called: Sequence[str] | None,
) -> Iterator[pyarrow.RecordBatch]:
    known = None if names is None else names.to_arrow()
    for start in range(0, max(1, len(rows)), _ROWS):
        chosen = ids[start : start + _ROWS].numpy()
        column = pyarrow.array(chosen) if known is None else known.take(chosen)
        yield _columns(rows[start : start + _ROWS], column, task, called)
        release(rows)


def _columns(
    rows: Tensor, ids: pyarrow.Array, task: str | None, called: Sequence[str] | None
) -> pyarrow.RecordBatch:
    channels = rows.size(1)
    names = list(called or ()) if called and len(called) == channels else None
    numbered = names or [str(i) for i in range(channels)]
    made: dict[str, Any] = {"id": ids}
    values = rows.float()
    if task == "classification":
        greatest = values.argmax(1).numpy() if channels else np.empty(0, np.int64)
        made["prediction"] = (
            pyarrow.array(greatest)
            if names is None
            else pyarrow.array(names, pyarrow.string()).take(pyarrow.array(greatest))
        )
        values = torch.softmax(values, 1)
        headers = [f"probability_{name}" for name in numbered]
    elif task == "multilabel":
        values = torch.sigmoid(values)
        headers = [f"probability_{name}" for name in numbered]
    elif task == "regression":
        headers = names or (["prediction"] if channels == 1 else _numbered("prediction", channels))
    else:
        headers = _numbered(task or "output", channels)
    for header, column in zip(_apart(headers, made), values.T, strict=True):
        made[header] = column.contiguous().numpy()
    return pyarrow.RecordBatch.from_pydict(made)


def _numbered(word: str, channels: int) -> list[str]:
    return [f"{word}_{i}" for i in range(channels)]


def _apart(headers: Sequence[str], taken: dict[str, Any]) -> list[str]:
    """Headers of which none is there already: a target may be called `id`."""
    return [f"{header}_" if header in taken else header for header in headers]
