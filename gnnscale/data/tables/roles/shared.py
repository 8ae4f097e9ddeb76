"""Whether two columns of ids hold the same ones, in whatever rows."""

from __future__ import annotations

import numpy as np

from gnnscale.data.tables.ids.integer_set import IntegerSet
from gnnscale.data.tables.ids.text_set import TextSet
from gnnscale.data.tables.roles.evidence import Look, as_ids
from gnnscale.data.tables.table import Table
from gnnscale.storage.arrow import compute, pyarrow, types

_MOST_BYTES = 1 << 30  # of ids of two columns that are compared


def share_an_id(table: Table, source: Look, target: Look) -> bool:
    """Whether two columns of whole numbers share one; also where there are too many to tell."""
    found = compute.is_in(as_ids(source.cells), value_set=as_ids(target.cells))
    if compute.any(found).as_py() or source.complete:
        return compute.any(found).as_py() is True
    names = [source.name, target.name]
    text = any(column.kind == "text" for column in table.settled(names))
    low, high = (0, 0) if text else _shared_range(table, names)
    if low > high:
        return False
    known: TextSet | IntegerSet = TextSet() if text else IntegerSet(_MOST_BYTES)
    sides = np.zeros(0, np.uint8)  # of each id, the columns that it was in: 1, 2, or both
    for batch in table.batches(names):
        for side, cells in enumerate(batch.columns, 1):
            ids = as_ids(cells.drop_null()) if text else _integers(cells)
            numbers = known.add(ids if text else ids[(ids >= low) & (ids <= high)])
            if numbers is None:
                return True  # too many to tell: asked
            more = int(numbers.max(initial=0)) + 1 - sides.size
            if more > 0:
                sides = np.concatenate([sides, np.zeros(max(more, sides.size), np.uint8)])
            sides[numbers] |= side
            if (sides[numbers] == 3).any():
                return True
    return False


def _shared_range(table: Table, names: list[str]) -> tuple[int, int]:
    """The least and the greatest number that may be in both columns."""
    least, most = [2**63 - 1] * 2, [-(2**63)] * 2
    for batch in table.batches(names):
        for i, cells in enumerate(batch.columns):
            if (ids := _integers(cells)).size:
                least[i], most[i] = min(least[i], int(ids.min())), max(most[i], int(ids.max()))
    return max(least), min(most)


def _integers(cells: pyarrow.Array) -> np.ndarray:
    """Whole numbers of any type, int64, without the cells that are empty."""
    cells = cells.dictionary_decode() if types.is_dictionary(cells.type) else cells
    filled = cells.drop_null()
    if types.is_floating(filled.type):
        filled = filled.filter(compute.is_finite(filled))
    found: np.ndarray = filled.cast(pyarrow.int64(), safe=False).to_numpy(zero_copy_only=False)
    return found
