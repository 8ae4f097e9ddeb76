"""Making a recipe: what each column of a table is, and how it becomes features."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from gnnscale.data.tables.values.marks import NO_NUMBER, is_marked
from gnnscale.data.tables.values.recipe import (
    KINDS,
    FeatureRecipe,
    Ingredient,
    list_length,
    numbers_of,
    shown_type,
    text_of,
    type_of,
)
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow, types

FEW = 64
"""Different values of text up to which it is one-hot where nothing is said."""
LARGE = 100
"""Numbers up to here are as they are where nothing is said, and standardised where one is larger.

Beside them an income or a year drowns all other columns: weights begin at one scale for all. An
absolute value and no ratio, as a single column has nothing that it could be compared with.
"""
_MOST = 1 << 16  # different values that are counted: beyond, nobody wants a column for each
_BUCKETS = 64
_LARGEST = 1e140  # whose square is a number, and the sum of many


def make_recipe(
    batches: Iterable[pyarrow.RecordBatch],
    declared: Mapping[str, str] | str | None = None,
    what: str = "features",
) -> FeatureRecipe:
    """Make a recipe from the columns of a table, in one pass.

    Args:
        batches: with the columns that are features, in their order.
        declared: what to do with a column, by its name, `"*"` standing for those it fits that are
            not named; or one word for all that it fits.
        what: what the table is called in errors.

    Raises:
        InputError: no such kind or column, or one that does not fit the column; a column has a type
            that makes no feature.
    """
    wanted = {"*": declared} if isinstance(declared, str) else dict(declared or {})
    faults = [
        f"recipe: {kind!r} for {column}; there are {', '.join(KINDS)}, and hash:128"
        for column, kind in wanted.items()
        if not isinstance(kind, str) or not re.fullmatch(rf"{'|'.join(KINDS)}|hash:[1-9]\d*", kind)
    ]
    if faults:
        raise InputError(faults)
    seen: dict[str, _Seen] = {}
    for number, batch in enumerate(batches):
        if not number:
            unknown = [c for c in wanted if c != "*" and c not in batch.schema.names]
            if unknown:
                raise InputError(
                    f"recipe: {what} has no column {', '.join(unknown)}; there are "
                    f"{', '.join(batch.schema.names)}"
                )
            seen = {
                name: _Seen(name, batch.schema.field(name).type, wanted, what)
                for name in batch.schema.names
            }
            if faults := [fault for one in seen.values() for fault in one.faults]:
                raise InputError(faults)
        for name, one in seen.items():
            one.add(batch.column(name))
    return FeatureRecipe({name: one.ingredient() for name, one in seen.items()})


class _Seen:
    """What has been seen of one column."""

    def __init__(
        self, name: str, kind: pyarrow.DataType, wanted: Mapping[str, str], what: str
    ) -> None:
        self.name, self.what, self.type = name, what, type_of(kind)
        self.faults: list[str] = []
        self._declared, self._width = _chosen(self.type, wanted, name, self.faults, what)
        if self.type == "other" and self._declared != "drop":
            self.faults.append(
                f"{what}: {name} is {shown_type(kind)}, which makes no feature; leave it out with "
                f"drop={name!r}"
            )
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._missing, self._largest = False, 0.0
        self._length: int | None = None
        self._values: set[str] | None = set()
        self._many: set[str] = set()  # those before they were too many
        self._order: list[str] | None = None
        if types.is_dictionary(kind) and kind.ordered:
            self._order = []

    def add(self, column: pyarrow.Array) -> None:
        """Look at more rows."""
        if self.type in ("number", "bool", "date"):
            self._add_numbers(column)
        if self.type == "list":
            self._length = list_length(column, self._length, f"{self.what}: {self.name}")
        if self._wants_values():
            self._add_values(column)

    def _wants_values(self) -> bool:
        if self._declared is not None:
            return self._declared in ("one-hot", "ordinal")
        return self.type == "text"

    def _add_numbers(self, column: pyarrow.Array) -> None:
        values, known = numbers_of(column, self.type)
        self._missing |= not known.all()
        values = values[known]
        if values.size and not np.abs(values).max() < _LARGEST:
            raise InputError(
                f"{self.what}: {self.name} holds {np.abs(values).max():g}; clean its infinite ones"
            )
        self._largest = max(self._largest, float(np.abs(values).max(initial=0)))
        if values.size:  # Chan et al., 1979: means and squares of two parts put together
            count, mean = values.size, float(values.mean())
            apart, total = mean - self._mean, self._count + count
            self._squares += float(np.square(values - mean).sum())
            self._squares += apart * apart * self._count * count / total
            self._mean += apart * count / total
            self._count = total

    def _add_values(self, column: pyarrow.Array) -> None:
        if self._order is not None:
            for value in text_of(column.dictionary).to_pylist():
                if value not in self._order:
                    self._order.append(value)
        if self._values is None:
            return
        self._values.update(compute.unique(text_of(column).drop_null()).to_pylist())
        if len(self._values) > _MOST:
            self._many, self._values = self._values, None
            if self._declared is not None:
                raise InputError(
                    f"{self.what}: {self.name} has more than {_MOST:,} different values, too many "
                    f"to be {self._declared}; say recipe={{{self.name!r}: 'hash'}}, or leave it out"
                )

    def _check_numbers(self, values: list[str]) -> None:
        others = [value for value in values if not is_marked(value)]
        words = all(value.strip().lower() in NO_NUMBER for value in others)
        few = words or len(others) <= len(values) / 20
        codes = any(re.match(r"[-+]?0\d", value) for value in values)  # 007 is text anyway
        if few and not codes and (others or self._many) and len(others) < len(values):
            kind = "hash" if self._many else "one-hot"
            shown = f"{others[0]!r}" if others else "text"
            raise InputError(
                f"{self.what}: {self.name} holds {shown} among numbers; leave the cell empty where "
                f"there is none, or say recipe={{{self.name!r}: {kind!r}}}"
            )

    def ingredient(self) -> Ingredient:
        """How the column becomes features.

        Raises:
            InputError: text is numbers but for words that stand for none.
        """
        kind, values = self._declared, sorted(self._values or ())
        if kind is None and self.type == "text":
            self._check_numbers(values or sorted(self._many))
            kind = "one-hot" if self._values is not None and len(values) <= FEW else "hash"
        if kind == "ordinal":
            if self._order is not None:
                values = list(self._order)
            elif self.type == "number":
                values.sort(key=float)
        large = self.type == "number" and self._largest > LARGE
        made = Ingredient(
            kind or ("standardise" if large or self.type == "date" else "as is"), self.type
        )
        if kind is None and large:
            made.why = f"being up to {self._largest:,.6g}"
        kind = made.kind
        if kind in ("one-hot", "ordinal"):
            made.values = values
        elif kind == "hash":
            made.width = self._width
        elif kind != "drop" and self.type == "list":
            made.width = self._length or 0
        elif kind != "drop":
            made.mean, made.missing = self._mean, self._missing
            spread = (self._squares / self._count) ** 0.5 if self._count else 0.0
            if kind == "standardise" and spread > 1e-12 * max(1.0, abs(self._mean)):
                made.deviation = spread
        return made


_ALLOWED = {
    "number": ("as is", "standardise", "one-hot", "ordinal", "drop"),
    "bool": ("as is", "standardise", "one-hot", "ordinal", "drop"),
    "date": ("standardise", "drop"),
    "text": ("one-hot", "ordinal", "hash", "drop"),
    "list": ("as is", "drop"),
    "other": ("drop",),
}


def _chosen(
    kind: str, wanted: Mapping[str, str], name: str, faults: list[str], what: str
) -> tuple[str | None, int]:
    said = wanted.get(name, wanted.get("*"))
    if said is None:
        return None, _BUCKETS
    word, _, width = said.partition(":")
    if word not in _ALLOWED[kind]:
        if name in wanted:
            faults.append(
                f"{what}: {name} is {kind}, which cannot be {word!r}; it can be "
                f"{', '.join(_ALLOWED[kind])}"
            )
        return None, _BUCKETS
    return word, int(width or _BUCKETS)
