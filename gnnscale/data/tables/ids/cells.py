"""Ids in the columns of a table: numbers or text, for all of the tables of a graph alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gnnscale.data.tables.column import CellMisfit
from gnnscale.data.tables.roles.evidence import Look, as_ids
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.text.cells import is_number
from gnnscale.data.tables.values.moments import Clock
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow, types

_EXACT = 2**53  # whole floats below are the integers that were written


def is_text(look: Look) -> bool:
    """Whether ids are text, as also numbers that are written with zeros before them, as 007."""
    return look.column.kind == "text" or not (look.whole or not len(look.cells))


def id_batches(
    table: Table,
    looks: Sequence[Look],
    text: bool,
    more: Sequence[Look] = (),
    clocks: Sequence[Clock] = (),
) -> Iterator[tuple[Any, ...]]:
    """The cells of columns of ids, some rows at a time.

    Args:
        table: the table.
        looks: its columns of ids.
        text: ids are columns of text; else int64 `[k]`.
        more: columns of numbers beside them: float64 `[k]`.
        clocks: columns of times behind these, likewise.

    Raises:
        InputError: a cell is empty; or ids are not text, and one is no whole number.
    """
    kinds = {}
    for look in looks:
        if look.column.kind == "float" and not table.typed:
            _check_exponents(table, look)
        if look.column.kind == "float" and (table.typed or not text):
            kinds[look.name] = pyarrow.float64()
        elif text:
            kinds[look.name] = pyarrow.large_string()  # as it is written
        else:
            kinds[look.name] = pyarrow.int64()
    kinds |= {look.name: pyarrow.float64() for look in more}
    kinds |= {clock.name: clock.type for clock in clocks}
    read = _text if text else _whole
    for batch in table.batches(list(kinds), kinds):
        for look in (*looks, *more):
            _check_filled(batch[look.name], table, look.name)
        ids = [read(batch[look.name], f"{table.what}: {look.name}") for look in looks]
        numbers = [batch[look.name].to_numpy(zero_copy_only=False) for look in more]
        yield (*ids, *numbers, *(clock.read(batch[clock.name]) for clock in clocks))


def check_is_text(error: CellMisfit) -> None:
    """Of a cell among integers: whether it makes text of all ids.

    Raises:
        InputError: it is a number with a point, which names no node, or may be a comment.
    """
    cell = error.cell
    if re.fullmatch(r"(#|%|//)\s*[-+]?\d+", cell):
        mark = cell[:2] if cell[:1] == "/" else cell[0]
        raise InputError(
            f"{error}. It may be a comment or an id; say comment={mark!r} to leave such lines out, "
            "comment='' to read ids as text"
        ) from error
    if is_number(cell) and not re.fullmatch(r"[-+]?\d+", cell):
        raise InputError(f"{error}; ids are integers or text") from error


def _check_exponents(table: Table, look: Look) -> None:
    """Refuse numbers as 12e5: the text of an id, or a number whose last digits a program rounded.

    Raises:
        InputError: there is one.
    """
    for batch in table.batches([look.name], {look.name: pyarrow.large_string()}):
        found = batch[0].filter(compute.match_substring_regex(batch[0], r"\d[eE][-+]?\d"))
        if len(found):
            raise InputError(
                f"{table.what}: {look.name} holds {found[0].as_py()!r}, which may be a rounded "
                "number or text; write whole numbers with all of their digits, and text with a "
                "letter that makes no number of it"
            )


def _text(cells: pyarrow.Array, what: str) -> pyarrow.Array:
    return as_ids(cells)


def _whole(cells: pyarrow.Array, what: str) -> np.ndarray:
    found = cells.to_numpy(zero_copy_only=False)
    if not types.is_floating(cells.type):
        return found
    whole = (np.abs(found) < _EXACT) & (found == np.floor(found))
    if not whole.all():
        raise InputError(f"{what} holds {found[~whole][0]!r}; ids are integers or text")
    return found.astype(np.int64)


def _check_filled(cells: pyarrow.Array, table: Table, name: str) -> None:
    empty = cells.null_count
    if not empty and types.is_large_string(cells.type):
        length, blank = compute.binary_length(cells), compute.utf8_is_space(cells)
        empty = compute.sum(compute.or_(compute.equal(length, 0), blank)).as_py() or 0
    if empty:
        first = f" ({at})" if (at := table.empty_at(name)) else ""
        raise InputError(f"{empty:,} cells of {table.what}: {name} are empty{first}; fill them in")
