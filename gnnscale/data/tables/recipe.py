"""How columns of a table become features: a small recipe, which is kept and applied again.

=================  =================================================================================
``as is``          numbers, booleans (0 and 1) and lists of numbers of one length, as they are
``standardise``    numbers, and dates as days: mean 0 and deviation 1 over the rows it was made from
``one-hot``        a column for each value that was there; of another value, and where there is
                   none, all are 0
``ordinal``        the place of a value in its order (that of an ordered dictionary, else ascending)
``hash``           words of text, hashed into 64 signed counts (``hash:128`` for as many), as in
                   Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009
``drop``           left out
=================  =================================================================================

Where nothing is said, numbers are as is, dates standardised, and text is one-hot up to 64 different
values and hashed beyond. A number that is missing becomes the mean of the others, and a column
``<name> missing`` says where; a date likewise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gnnscale.data.tables.ids.text_set import hash_texts
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow, types

KINDS = ("as is", "standardise", "one-hot", "ordinal", "hash", "drop")
FEW = 64
"""Different values of text up to which it is one-hot where nothing is said."""
_MOST = 1 << 16  # different values that are counted: beyond, nobody wants a column for each
_BUCKETS = 64
_LARGEST = 1e140  # whose square is a number, and the sum of many
_SEED = np.uint64(0x67736E67)  # of the hashes: whoever changes it changes what models have learned


@dataclass
class Ingredient:
    """How one column becomes features.

    Attributes:
        kind: of `KINDS`.
        type: of the column: "number", "bool", "date", "text" or "list".
        width: numbers in a list; buckets of a hash; else 1.
        values: what is one-hot or ordinal, as text, in its order.
        mean: of what is known.
        deviation: likewise; 1 where it is constant.
        missing: whether a number was missing, so that a column says where.
    """

    kind: str
    type: str
    width: int = 1
    values: list[str] = field(default_factory=list)
    mean: float = 0.0
    deviation: float = 1.0
    missing: bool = False

    def names(self, column: str) -> list[str]:
        """What its features are called."""
        if self.kind == "drop":
            return []
        if self.kind == "one-hot":
            return [f"{column}={value}" for value in self.values]
        many = self.kind == "hash" or self.type == "list"
        own = [f"{column}[{i}]" for i in range(self.width)] if many else [column]
        return own + [f"{column} missing"] * self.missing

    def words(self) -> str:
        """What is done, in some words."""
        said = {
            "one-hot": f"one-hot, {len(self.values):,} values",
            "ordinal": f"ordinal, {len(self.values):,} values",
            "hash": f"words hashed into {self.width}",
            "drop": "left out",
        }.get(self.kind, self.kind)
        return said + (", missing ones are the mean" if self.missing else "")


@dataclass(frozen=True)
class FeatureRecipe:
    """How the columns of a table become features.

    Attributes:
        ingredients: by the name of the column, in the order of the features.
    """

    ingredients: Mapping[str, Ingredient]

    @property
    def names(self) -> tuple[str, ...]:
        """What each feature is called."""
        return tuple(name for column, one in self.ingredients.items() for name in one.names(column))

    @property
    def words(self) -> dict[str, str]:
        """What is done to each column, where it is not as it is."""
        said = {column: one.words() for column, one in self.ingredients.items()}
        return {column: words for column, words in said.items() if words != "as is"}

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads again."""
        return {column: dict(vars(one)) for column, one in self.ingredients.items()}

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> FeatureRecipe:
        """A recipe out of the JSON values of a schema."""
        return cls({column: Ingredient(**about) for column, about in known.items()})

    def check(self, schema: pyarrow.Schema, what: str) -> None:
        """Compare another table with that which the recipe was made from.

        Raises:
            InputError: naming the columns that are missing, or of another type.
        """
        faults = []
        needed = {c: one for c, one in self.ingredients.items() if one.kind != "drop"}
        there = {name: _type(schema.field(name).type) for name in schema.names if name in needed}
        if absent := [column for column in needed if column not in there]:
            faults.append(f"{what} has no column {', '.join(absent)}, which the model was given")
        for column, now in there.items():
            if not _fits(now, needed[column]):
                faults.append(
                    f"{what}: {column} is {_shown(schema.field(column).type)}, and was "
                    f"{needed[column].type} when the recipe was made"
                )
        if faults:
            raise InputError(faults)

    def apply(self, batches: Iterable[pyarrow.RecordBatch], what: str) -> Iterator[np.ndarray]:
        """Features of rows, float32 `[k, num_features]`.

        Args:
            batches: with the columns of the recipe.
            what: what the table is called in errors.

        Raises:
            InputError: a column is missing, of another type, or holds a number that is not finite
                in float32; a list has another length.
        """
        checked = False
        for batch in batches:
            if not checked:
                self.check(batch.schema, what)
                checked = True
            parts = [
                _features(batch.column(column), one, f"{what}: {column}")
                for column, one in self.ingredients.items()
                if one.kind != "drop"
            ]
            rows = np.concatenate([np.empty((batch.num_rows, 0), np.float32), *parts], axis=1)
            yield rows.astype(np.float32, copy=False)


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
        self.name, self.what, self.type = name, what, _type(kind)
        self.faults: list[str] = []
        self._declared, self._width = _chosen(self.type, wanted, name, self.faults, what)
        if self.type == "other" and self._declared != "drop":
            self.faults.append(
                f"{what}: {name} is {_shown(kind)}, which makes no feature; leave it out with "
                f"drop={name!r}"
            )
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._missing = False
        self._length: int | None = None
        self._values: set[str] | None = set()
        self._order: list[str] | None = None
        if types.is_dictionary(kind) and kind.ordered:
            self._order = []

    def add(self, column: pyarrow.Array) -> None:
        """Look at more rows."""
        if self.type in ("number", "bool", "date"):
            self._add_numbers(column)
        if self.type == "list":
            self._length = _list_length(column, self._length, f"{self.what}: {self.name}")
        if self._wants_values():
            self._add_values(column)

    def _wants_values(self) -> bool:
        if self._declared is not None:
            return self._declared in ("one-hot", "ordinal")
        return self.type == "text"

    def _add_numbers(self, column: pyarrow.Array) -> None:
        values, known = _numbers(column, self.type)
        self._missing |= not known.all()
        values = values[known]
        if values.size and not np.abs(values).max() < _LARGEST:
            raise InputError(
                f"{self.what}: {self.name} holds {np.abs(values).max():g}; clean its infinite ones"
            )
        if values.size:  # Chan et al., 1979: means and squares of two parts put together
            count, mean = values.size, float(values.mean())
            apart, total = mean - self._mean, self._count + count
            self._squares += float(np.square(values - mean).sum())
            self._squares += apart * apart * self._count * count / total
            self._mean += apart * count / total
            self._count = total

    def _add_values(self, column: pyarrow.Array) -> None:
        if self._order is not None:
            for value in _as_text(column.dictionary).to_pylist():
                if value not in self._order:
                    self._order.append(value)
        if self._values is None:
            return
        self._values.update(compute.unique(_as_text(column).drop_null()).to_pylist())
        if len(self._values) > _MOST:
            self._values = None
            if self._declared is not None:
                raise InputError(
                    f"{self.what}: {self.name} has more than {_MOST:,} different values, too many "
                    f"to be {self._declared}; say recipe={{{self.name!r}: 'hash'}}, or leave it out"
                )

    def ingredient(self) -> Ingredient:
        """How the column becomes features."""
        kind, values = self._declared, sorted(self._values or ())
        if kind is None and self.type == "text":
            kind = "one-hot" if self._values is not None and len(values) <= FEW else "hash"
        if kind == "ordinal":
            if self._order is not None:
                values = list(self._order)
            elif self.type == "number":
                values.sort(key=float)
        kind = kind or ("standardise" if self.type == "date" else "as is")
        made = Ingredient(kind, self.type)
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


def _features(column: pyarrow.Array, one: Ingredient, what: str) -> np.ndarray:
    if one.type == "list":
        _list_length(column, one.width, what)
        flat = column.flatten().cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
        return _finite(flat.reshape(len(column), one.width), what)
    if one.kind == "hash":
        return _hashed(_as_text(column), one.width)
    if one.kind in ("one-hot", "ordinal"):
        place = compute.index_in(
            _as_text(column), value_set=pyarrow.array(one.values, pyarrow.large_string())
        )
        place = place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if one.kind == "ordinal":
            return place[:, None].astype(np.float32)
        rows = np.zeros((len(column), len(one.values)), np.float32)
        known = np.flatnonzero(place >= 0)
        rows[known, place[known]] = 1
        return rows
    values, known = _numbers(column, one.type)
    values = np.where(known, values, one.mean)
    if one.kind == "standardise":
        values = (values - one.mean) / one.deviation
    own = _finite(values[:, None], what)
    if one.missing:
        return np.concatenate([own, (~known)[:, None].astype(np.float32)], axis=1)
    return own


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise InputError(
            f"{what} holds numbers that are missing, infinite or too large for float32; clean "
            "them, or standardise the column"
        )
    return narrow


def _hashed(texts: pyarrow.Array, width: int) -> np.ndarray:
    rows = np.zeros((len(texts), width), np.float32)
    words = compute.utf8_split_whitespace(compute.utf8_lower(texts.fill_null("")))
    flat, row = words.flatten(), compute.list_parent_indices(words)
    some = compute.not_equal(flat, "")  # blanks at an end leave an empty word there
    flat, row = pyarrow.concat_arrays([flat.filter(some)]), row.filter(some).to_numpy()
    if len(flat):
        hashes = np.empty(len(flat), np.uint64)
        _, ends, text = flat.buffers()
        ends = np.frombuffer(ends, np.int64, len(flat) + 1)
        text = np.frombuffer(text, np.uint8)
        ends.flags.writeable = text.flags.writeable = False  # for one compiled kernel
        hash_texts(ends, text, _SEED, hashes)
        signs = np.where(hashes >> np.uint64(63), np.float32(-1), np.float32(1))
        np.add.at(rows, (row, (hashes % np.uint64(width)).astype(np.int64)), signs)
    return rows


def _numbers(column: pyarrow.Array, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Values, float64, and which are known; NaN is not."""
    known = column.is_valid().to_numpy(zero_copy_only=False)
    if kind == "date":
        column = column.cast(pyarrow.timestamp("us")).cast(pyarrow.int64())
    filled = column.fill_null(False if kind == "bool" else 0)
    values = filled.to_numpy(zero_copy_only=False).astype(np.float64)
    if kind == "date":
        values = values / 86_400e6
    return values, known & ~np.isnan(values)


def _as_text(column: pyarrow.Array) -> pyarrow.Array:
    """Values as text: 3 and 3.0 are both "3"."""
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pyarrow.large_string())


def _list_length(column: pyarrow.Array, known: int | None, what: str) -> int | None:
    if types.is_fixed_size_list(column.type):
        lengths: Sequence[Any] = [column.type.list_size]
    else:
        lengths = column.value_lengths().unique().to_pylist()
    found = {*lengths} - {None}
    if column.null_count or len(found | ({known} - {None})) > 1:
        raise InputError(f"{what}: its lists are of different lengths, or missing")
    return next(iter(found), known)


def _type(kind: pyarrow.DataType) -> str:
    if types.is_dictionary(kind):
        return _type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list" if _type(kind.value_type) in ("number", "bool") else "other"
    tests = {
        "bool": types.is_boolean,
        "text": lambda k: types.is_string(k) or types.is_large_string(k) or types.is_string_view(k),
        "date": lambda k: types.is_date(k) or types.is_timestamp(k),
        "number": lambda k: types.is_integer(k) or types.is_floating(k) or types.is_decimal(k),
    }
    return next((name for name, test in tests.items() if test(kind)), "other")


def _fits(now: str, one: Ingredient) -> bool:
    """Whether values of one type can be read as the recipe's: a column without text is empty."""
    same = {now, one.type} <= {"number", "bool"}
    return now == one.type or (same and one.kind in ("as is", "standardise"))


def _shown(kind: pyarrow.DataType) -> str:
    return _type(kind) if _type(kind) != "other" else str(kind)
