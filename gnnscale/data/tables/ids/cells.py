"""Ids in the columns of a table: numbers or text, for all of the tables of a graph alike."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gnnscale.data.tables.column import CellMisfit
from gnnscale.data.tables.roles.evidence import Look, as_ids
from gnnscale.data.tables.roles.totals import is_total
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.text.cells import is_number
from gnnscale.data.tables.text.plain import NO_WIDTH
from gnnscale.data.tables.text.questions import asked_of
from gnnscale.data.tables.values.moments import Clock
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow, types

logger = logging.getLogger(__name__)

_EXACT = 2**53  # whole floats below are the integers that were written


def is_text(table: Table, look: Look) -> bool:
    """Whether ids are text: also numbers that are written as none is printed, as 007, +7 and -0."""
    return (
        look.column.kind == "text"
        or table.signed(look.name)
        or not (look.whole or not len(look.cells))
    )


def may_be_text(table: Table, looks: Sequence[Look]) -> bool:
    """Whether ids that begin as integers may be text further on, or too large for int64."""
    return not table.typed or any(look.column.type == pyarrow.uint64() for look in looks)


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
            _check_points(table, look)
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
        if not text and (signed := [look.name for look in looks if table.signed(look.name)]):
            raise CellMisfit(
                f"{table.what}: {signed[0]} holds a number that is written with a plus, or -0, as "
                "no number is printed: it is text. Write ids alike in all tables",
                "+0",
            )
        ids = [read(batch[look.name], f"{table.what}: {look.name}") for look in looks]
        numbers = [batch[look.name].to_numpy(zero_copy_only=False) for look in more]
        yield (*ids, *numbers, *(clock.read(batch[clock.name]) for clock in clocks))


def check_is_text(error: CellMisfit, table: Table) -> None:
    """Of a cell among integers: whether it makes text of all ids.

    Args:
        error: what reading it as an integer has said.
        table: which it is in.

    Raises:
        InputError: it is a number with a point, which names no node, or may be a comment or a
            total.
    """
    cell = error.cell
    if table.comment != "":  # else all lines are rows
        with asked_of(table.whose):
            _check_row(error)
    if is_number(cell) and not re.fullmatch(r"[-+]?\d+", cell):
        raise InputError(f"{error}; ids are integers or text") from error


def _check_row(error: CellMisfit) -> None:
    """Refuse a cell among integers that may be no row: a total, or a comment."""
    cell = error.cell
    if is_total(cell):
        raise InputError(
            f"{error}. It may be a total of the rows above, or a row like them: take it out of the "
            "table, or say comment='' to read ids as text"
        ) from error
    if re.fullmatch(r"(#|%|//)\s*[-+]?\d+", cell):
        mark = cell[:2] if cell[:1] == "/" else cell[0]
        raise InputError(
            f"{error}. It may be a comment or an id; say comment={mark!r} to leave such lines out, "
            "comment='' to read ids as text"
        ) from error


def tell_unseen(names: pyarrow.Array, what: str) -> None:
    """Say that ids hold characters without width, which are part of them.

    Raises:
        InputError: two ids differ by such alone.
    """
    text = names.buffers()[2]
    if text is None or not text.size or np.frombuffer(text, np.uint8).max() < 0x80:
        return
    odd = names.filter(compute.match_substring_regex(names, NO_WIDTH))
    if not len(odd):
        return
    bare = compute.replace_substring_regex(odd, NO_WIDTH, "")
    same = names.filter(compute.is_in(names, value_set=bare))
    if not len(same) and len(bare.unique()) < len(bare):
        counted = bare.value_counts()
        more = compute.greater(counted.field("counts"), 1)
        same = counted.field("values").filter(more)
    if len(same):
        alike = compute.is_in(compute.replace_substring_regex(names, NO_WIDTH, ""), same[:1])
        one, other = names.filter(alike).to_pylist()[:2]
        raise InputError(
            f"{what}: the ids {one!r} and {other!r} differ by characters without width "
            "alone, which nobody sees: write a node in one way"
        )
    logger.warning(
        "%s: %s ids hold characters without width, as %r: nobody sees them, and they count",
        *(what, f"{len(odd):,}", odd[0].as_py()),
    )


def _check_points(table: Table, look: Look) -> None:
    """Refuse what is not written as whole numbers of one kind, all as 12 or all as 12.0.

    12e5 is the text of an id, or a number whose last digits a program rounded; 12.0 beside 12 is
    the same number, or another text.

    Raises:
        InputError: there is one.
    """
    forms: dict[str, str] = {}  # what stands behind the digits, and where first
    for batch in table.batches([look.name], {look.name: pyarrow.large_string()}):
        cells = compute.utf8_trim_whitespace(batch[0]).drop_null()
        whole = cells.filter(compute.match_substring_regex(cells, r"^[-+]?\d+(\.0*)?$"))
        behind = compute.replace_substring_regex(whole, r"^[-+]?\d+", "")
        for form in behind.unique().to_pylist():
            forms.setdefault(form, whole[compute.index(behind, form).as_py()].as_py())
        if len(forms) > 1:
            one, other = [*forms.values()][:2]
            raise InputError(
                f"{table.what}: {look.name} holds {one!r} and {other!r}: write ids in one way, or "
                "give them as text: pandas.read_csv(path, dtype=str)"
            )
        found = batch[0].filter(compute.match_substring_regex(batch[0], r"\d[eE][-+]?\d"))
        if len(found):
            raise InputError(
                f"{table.what}: {look.name} holds {found[0].as_py()!r}, which may be a rounded "
                "number or text; write whole numbers with all of their digits, or give the table "
                "as text: pandas.read_csv(path, dtype=str)"
            )


def _text(cells: pyarrow.Array, what: str) -> pyarrow.Array:
    cells = cells if not types.is_floating(cells.type) else pyarrow.array(_whole(cells, what))
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
    if types.is_floating(cells.type):
        empty = compute.sum(compute.is_null(cells, nan_is_null=True)).as_py() or 0
    elif not empty and types.is_large_string(cells.type):
        length, blank = compute.binary_length(cells), compute.utf8_is_space(cells)
        empty = compute.sum(compute.or_(compute.equal(length, 0), blank)).as_py() or 0
    if empty:
        first = f" ({at})" if (at := table.empty_at(name)) else ""
        words = table.marks[name].missing[:3] if name in table.marks else ()
        none = " or ".join(["empty", *map(repr, words)])
        raise InputError(f"{empty:,} cells of {table.what}: {name} are {none}{first}; fill them in")
