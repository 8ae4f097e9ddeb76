"""Tables in memory, as Arrow's: DataFrames of pandas and polars, NumPy's structured arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from gnnscale.errors import InputError
from gnnscale.storage.arrow import pyarrow, types


def as_arrow(given: Any, what: str) -> pyarrow.Table | None:
    """A table in memory; None for what is none.

    Raises:
        InputError: a column holds what no table can.
    """
    if isinstance(given, np.ndarray):
        return _of_records(given, what) if given.dtype.names else None
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(given, pandas.DataFrame):
        return _of_pandas(given, what)
    if isinstance(given, pyarrow.Table):
        return given
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(given, polars.LazyFrame):
        given = given.collect()
    if hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__"):
        try:
            return _plain(
                pyarrow.table(given)
            )  # polars, duckdb, cudf, … and batches, by Arrow's protocol
        except pyarrow.ArrowInvalid:  # of a single column, as pandas' Series
            return None
    return None


def _plain(table: pyarrow.Table) -> pyarrow.Table:
    """With the categories of polars in a type that Arrow casts from."""
    for i, field in enumerate(table.schema):
        kind = field.type
        if types.is_dictionary(kind) and types.is_string_view(kind.value_type):
            chunks = [
                pyarrow.DictionaryArray.from_arrays(
                    chunk.indices,
                    chunk.dictionary.cast(pyarrow.large_string()),
                    ordered=kind.ordered,
                )
                for chunk in table.column(i).chunks
            ]
            plain = pyarrow.dictionary(kind.index_type, pyarrow.large_string(), kind.ordered)
            table = table.set_column(i, field.name, pyarrow.chunked_array(chunks, plain))
    return table


def _of_records(array: np.ndarray, what: str) -> pyarrow.Table:
    names = array.dtype.names or ()
    return pyarrow.table({name: _cells(array[name], f"{what}: {name}") for name in names})


def _cells(array: np.ndarray, what: str) -> pyarrow.Array:
    if array.ndim != 1:
        raise InputError(f"{what} has shape {array.shape}; a column is one cell a row")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "S":
        native = np.char.decode(native, "utf-8", "surrogateescape")
    try:
        return pyarrow.array(native, from_pandas=True)
    except (pyarrow.ArrowException, UnicodeError) as error:
        return _as_written(native.tolist(), what, error)


def _of_pandas(frame: Any, what: str) -> pyarrow.Table:
    # An index of row numbers is left out; an index with a name, or any other, is a column.
    keep = True if any(name is not None for name in frame.index.names) else None
    frame = frame.rename(columns=str) if frame.columns.nlevels == 1 else frame.copy(deep=False)
    if frame.columns.nlevels > 1:
        frame.columns = ["_".join(map(str, names)) for names in frame.columns]
    try:
        return pyarrow.Table.from_pandas(frame, preserve_index=keep)
    except (pyarrow.ArrowException, TypeError, ValueError, NotImplementedError):
        pass
    # Some column mixes kinds of cells, or has a name twice: each on its own.
    names = [str(name) for name in frame.columns]
    arrays = [_column(frame.iloc[:, i], f"{what}: {name}") for i, name in enumerate(names)]
    for level, name in enumerate(frame.index.names):
        if name is not None:
            names.append(str(name))
            arrays.append(_column(frame.index.get_level_values(level).to_series(), str(name)))
    return pyarrow.Table.from_arrays(arrays, names=names)


def _column(series: Any, what: str) -> pyarrow.Array:
    try:
        return pyarrow.Array.from_pandas(series)
    except (pyarrow.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        missing = series.isna()
        cells = [None if gone else cell for cell, gone in zip(series, missing, strict=True)]
        return _as_written(cells, what, error)


def _as_written(cells: list[Any], what: str, error: Exception) -> pyarrow.Array:
    """Cells of several kinds as text, where that is what they all can be."""
    simple = (str, int, float, np.generic, type(None))
    if not all(isinstance(cell, simple) for cell in cells):
        raise InputError(f"{what} holds what no column of a table can: {error}") from error
    texts = [None if cell is None else str(cell) for cell in cells]
    return pyarrow.array(texts, pyarrow.large_string())
