"""A last row that is no row: the total, or the average, of those above it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from gnnscale.data.tables.roles.evidence import Look, vocabulary, words_of
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.text.cells import is_number
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow, types

_TOTALS = vocabulary("""
    total totals sum sums count counts minimum maximum min max std
    subtotal subtotals average averages avg mean means overall all median
    summe gesamt gesamtsumme durchschnitt mittelwert somme moyenne suma totale totaal
""")
_BESIDE = vocabulary("grand sub general row rows of the n column columns in col")
_LEAST = 5  # rows above, from which on numbers that are their sums are so for no other reason
_FOOTERS = 3  # such rows at the end: a total, an average, …
_ROUNDED = 5e-3


def is_total(text: str) -> bool:
    """Whether a cell is called as the total of others is: "Total", "Grand total:", "Average"."""
    words = words_of(text)
    named = [word for word in words if word in _TOTALS]
    return bool(named) and all(w in _TOTALS | _BESIDE or w.isdecimal() for w in words)


def refuse_totals(table: Table, looks: Sequence[Look], ids: Sequence[Look], comment: str) -> None:
    """Refuse a table whose last row sums up the others.

    It is called so, and stands among ids that are numbers, or has the sums or means of the numbers
    above; or is called anything, and every number of it is the sum of those above.

    Args:
        table: the table; of more rows than were looked at, only a word among numbers is found.
        looks: its columns.
        ids: those of ids.
        comment: what `comment=` is given as, with the sign in place of "{}".

    Raises:
        InputError: it does, saying how to leave the row out, and how to read it.
    """
    if not ids:
        return
    if not ids[0].complete:
        _refuse_word(table, ids, comment)
        return
    rows = len(ids[0].cells)
    called = [_texts(look) for look in ids]
    footers = 0
    while footers < min(_FOOTERS, rows) and any(is_total(c[rows - 1 - footers]) for c in called):
        footers += 1
    above = rows - max(1, footers)
    if above < 2:
        return
    among_numbers = all(is_number(cell) for cells in called for cell in cells[:above])
    numbers = [look for look in looks if look not in ids and look.is_number and not look.row_number]
    sums = [_sums(look, above) for look in numbers]
    if not (footers and (among_numbers or any(sums))):
        last = [cells[above] for cells in called]
        odd = among_numbers and not all(map(is_number, last))
        if not (sums and all(kind == "exact" for kind in sums) and (odd or above >= _LEAST)):
            return
    raise _summed(table, looks, above, comment)


def _refuse_word(table: Table, ids: Sequence[Look], comment: str) -> None:
    """Refuse ids that are text only for the last of them, a word for a total."""
    for look in ids:
        cells = look.cells.drop_null()
        if look.column.kind != "text" or types.is_dictionary(cells.type):
            continue
        if not compute.all(compute.match_substring_regex(cells, r"^[-+]?\d+$")).as_py():
            continue
        last = ""
        for batch in table.batches([look.name]):
            last = str(batch[0][-1].as_py()) if len(batch) else last
        if is_total(last):
            raise InputError(
                f"{table.what}: {look.name} ends with {last!r} below numbers, which may be a total "
                "of the rows above, or a row like them. To leave it out, take it out of the table; "
                f"to read it, say {comment.format(repr(''))}"
            )


def _texts(look: Look) -> list[str]:
    return ["" if cell is None else str(cell) for cell in look.cells.to_pylist()]


def _sums(look: Look, above: int) -> str:
    """How the number in a row comes from those above: "exact", "about", or not: ""."""
    cells = look.cells.dictionary_decode() if types.is_dictionary(look.cells.type) else look.cells
    found = cells.cast(pyarrow.float64(), safe=False).fill_null(np.nan)
    values = found.to_numpy(zero_copy_only=False)
    known = values[:above][~np.isnan(values[:above])]
    if not known.size or np.isnan(values[above]):
        return ""
    total, last = known.sum(), values[above]
    if abs(total) > np.abs(known).max() and np.isclose(last, total, rtol=1e-9, atol=0):
        return "exact"
    varied = known.min() < known.max()
    near = [np.isclose(last, value, rtol=_ROUNDED, atol=0) for value in (total, known.mean())]
    return "about" if varied and any(near) else ""


def _summed(table: Table, looks: Sequence[Look], row: int, comment: str) -> InputError:
    cells = [_texts(look)[row] for look in looks]
    shown = " | ".join(cells[:6])
    first, others = cells[0], _texts(looks[0])[:row]
    if table.typed:
        out = f"give the table without it, as table[:{row}]"
    elif first and not re.match(r"[-+.\d]", first) and not any(c.startswith(first) for c in others):
        out = f"say {comment.format(repr(first))}"
    else:
        out = "take it out of the file"
    return InputError(
        f"{table.what}: its last row ({shown}) may be a total of those above, or a row like them. "
        f"To leave it out, {out}; to read it, say {comment.format(repr(''))}"
    )
