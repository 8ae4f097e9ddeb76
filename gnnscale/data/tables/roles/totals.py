"""A last row that is no row: the total, or the average, of those above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gnnscale.data.tables.roles import Role
from gnnscale.data.tables.roles.evidence import Look, looked_at, nameless, vocabulary, words_of
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.text.cells import is_number
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow, types

_TOTALS = vocabulary("""
    total totals sum sums subtotal subtotals average averages avg mean means overall
    summe gesamt gesamtsumme durchschnitt mittelwert somme moyenne suma totale totaal
""")
#: These call people and things, too: of numbers, whose ids are numbers, they are figures.
_OF_NUMBERS = _TOTALS | vocabulary("count counts minimum maximum min max std median all")
_BESIDE = vocabulary("grand sub general row rows of the n column columns in col")
_IDS = ("id", "source", "target")
_LEAST = 5  # rows above, from which on numbers that are their sums are so for no other reason
_FOOTERS = 3  # such rows at the end: a total, an average, …
_ROUNDED = 5e-3


def is_total(text: str, words: frozenset[str] = _OF_NUMBERS) -> bool:
    """Whether a cell is called as the total of others is: "Total", "Grand total:", "Average"."""
    found = words_of(text)
    named = any(word in words for word in found)
    return named and all(word in words | _BESIDE or word.isdecimal() for word in found)


def refuse_totals(table: Table, roles: Sequence[Role]) -> None:
    """Refuse a table whose last row sums up the others.

    It is called so, and stands below ids that are numbers, or all its numbers are the sums or means
    of those above. Of nodes it may be called anything, where all its numbers are sums of at least
    five different rows, and stand out. Labels, parts of a split and times are no such numbers.

    Args:
        table: the table; of more rows than were looked at, see `refuse_last_ids`.
        roles: what its columns are.

    Raises:
        InputError: it does, saying how to leave the row out, and how to read it.
    """
    pairs = [*zip(looked_at(table), roles, strict=True)]
    ids = [look for look, role in pairs if role.role in _IDS]
    if not ids or not ids[0].complete:
        return
    numbers = [look for look, role in pairs if role.role in ("weight", "feature")]
    above = _rows_above([_texts(look) for look in ids], [k for k in numbers if k.is_number])
    if above is None:
        return
    shown = " | ".join(_texts(look)[above] for look, _ in pairs[:6])
    out = f"give the table without it, as table[:{above}]" if table.typed else "take it out"
    raise InputError(
        f"{table.what}: its last row ({shown}) may be a total of those above, or a row like them. "
        f"To leave it out, {out}; to read it, say {_named(table, roles)}"
    )


def _rows_above(called: list[list[str]], numbers: list[Look]) -> int | None:
    """How many rows stand above those that sum them up; None where none do."""
    rows = len(called[0])
    above = rows - _footers(called, _OF_NUMBERS)
    if among_numbers := all(is_number(cell) for cells in called for cell in cells[:above]):
        if 2 <= above < rows:
            return above
    else:
        above = rows - _footers(called, _TOTALS)
    if above < rows:
        figures = [_figure(look, above) for look in numbers]
        return above if above >= 2 and any(figures) and None not in figures else None
    above = rows - 1
    of_nodes = len(called) == 1 and bool(numbers)
    if above < 2 or not of_nodes or not all(_stands_out(look, above) for look in numbers):
        return None
    odd = among_numbers and not is_number(called[0][above])
    return above if odd or (above >= _LEAST and not among_numbers) else None


def _footers(called: list[list[str]], words: frozenset[str]) -> int:
    """How many rows at the end are called as totals."""
    found = 0
    while found < min(_FOOTERS, len(called[0])) and any(
        is_total(cells[-1 - found], words) for cells in called
    ):
        found += 1
    return found


def refuse_last_ids(table: Table, roles: Sequence[Role], last: Mapping[str, str]) -> None:
    """Refuse ids that are text only for the last of them, a word for a total.

    Args:
        table: the table; of those that were looked at as a whole, `refuse_totals` has seen the end.
        roles: what its columns are; of those that are named, all rows are read.
        last: the last ids, by their columns.

    Raises:
        InputError: they are, saying how to leave the row out, and how to read it.
    """
    if any(role.why == "named" for role in roles if role.role in _IDS):
        return
    for look in looked_at(table):
        word = last.get(look.name, "")
        if look.complete or look.column.kind != "text" or not is_total(word):
            continue
        cells = look.cells.drop_null()
        if types.is_dictionary(cells.type):
            continue
        if compute.all(compute.match_substring_regex(cells, r"^[-+]?\d+$")).as_py():
            raise InputError(
                f"{table.what}: {look.name} ends with {word!r} below numbers, which may be a total "
                "of the rows above, or a row like them. To leave it out, take it out of the table; "
                f"to read it, say {_named(table, roles)}"
            )


def _named(table: Table, roles: Sequence[Role]) -> str:
    """The arguments that name the columns of ids."""
    looks = looked_at(table)
    bare = nameless(looks)
    pairs = [(k, role.role) for k, role in zip(looks, roles, strict=True) if role.role in _IDS]
    return ", ".join(f"{r}={k.column.number if bare else repr(k.name)}" for k, r in pairs)


def _texts(look: Look) -> list[str]:
    return ["" if cell is None else str(cell) for cell in look.cells.to_pylist()]


def _split(look: Look, above: int) -> tuple[np.ndarray, float]:
    """The numbers above a row that are known, and the one in it."""
    cells = look.cells.dictionary_decode() if types.is_dictionary(look.cells.type) else look.cells
    found = cells.cast(pyarrow.float64(), safe=False).fill_null(np.nan)
    values = found.to_numpy(zero_copy_only=False)
    return values[:above][~np.isnan(values[:above])], float(values[above])


def _figure(look: Look, above: int) -> bool | None:
    """Whether a number is the sum or mean of those above; None where it is another.

    False where that says nothing: there is no number, or all are alike.
    """
    known, last = _split(look, above)
    if not known.size or np.isnan(last):
        return False
    figures = known.sum(), known.mean()
    if not any(np.isclose(last, figure, rtol=_ROUNDED, atol=0) for figure in figures):
        return None
    return bool(last != 0 and (known.min() < known.max() or last != known[0]))


def _stands_out(look: Look, above: int) -> bool:
    """Whether a number is the sum of different ones above, and far greater than any."""
    known, last = _split(look, above)
    if np.unique(known).size < 3 or np.isnan(last):
        return False
    exact = np.isclose(last, known.sum(), rtol=1e-9, atol=0)
    return bool(exact and abs(last) > 2 * np.abs(known).max())
