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

Where nothing is said, numbers are as is up to 100, and standardised where one is larger; dates are
standardised, and text is one-hot up to 64 different values and hashed beyond. A number that is
missing becomes the mean of the others, and a column ``<name> missing`` says where; a date likewise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gnnscale.data.tables.ids.text_set import hash_texts
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow, types

KINDS = ("as is", "standardise", "one-hot", "ordinal", "hash", "drop")
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
        why: why it is done, where nobody said it.
        decimal: what stood before decimals of numbers that were written as text.
    """

    kind: str
    type: str
    width: int = 1
    values: list[str] = field(default_factory=list)
    mean: float = 0.0
    deviation: float = 1.0
    missing: bool = False
    why: str = ""
    decimal: str = ""

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
        there = {name: type_of(schema.field(name).type) for name in schema.names if name in needed}
        if absent := [column for column in needed if column not in there]:
            faults.append(f"{what} has no column {', '.join(absent)}, which the model was given")
        for column, now in there.items():
            if not _fits(now, needed[column]):
                faults.append(
                    f"{what}: {column} is {shown_type(schema.field(column).type)}, and was "
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


def _features(column: pyarrow.Array, one: Ingredient, what: str) -> np.ndarray:
    if one.type == "list":
        list_length(column, one.width, what)
        flat = column.flatten().cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
        return _finite(flat.reshape(len(column), one.width), what)
    if one.kind == "hash":
        return _hashed(text_of(column), one.width)
    if one.kind in ("one-hot", "ordinal"):
        place = compute.index_in(
            text_of(column), value_set=pyarrow.array(one.values, pyarrow.large_string())
        )
        place = place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if one.kind == "ordinal":
            return place[:, None].astype(np.float32)
        rows = np.zeros((len(column), len(one.values)), np.float32)
        known = np.flatnonzero(place >= 0)
        rows[known, place[known]] = 1
        return rows
    values, known = numbers_of(column, one.type)
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
    # Trimmed: behind a blank at the end, Arrow (26.0) reads on past the end of the text.
    lower = compute.utf8_trim_whitespace(compute.utf8_lower(texts.fill_null("")))
    words = compute.utf8_split_whitespace(lower)
    flat, row = words.flatten(), compute.list_parent_indices(words)
    some = compute.not_equal(flat, "")  # what has no words has an empty one
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


def numbers_of(column: pyarrow.Array, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Values, float64, and which are known; NaN is not."""
    known = column.is_valid().to_numpy(zero_copy_only=False)
    if kind == "date":
        column = column.cast(pyarrow.timestamp("us")).cast(pyarrow.int64())
    filled = column.fill_null(False if kind == "bool" else 0)
    values = filled.to_numpy(zero_copy_only=False).astype(np.float64)
    if kind == "date":
        values = values / 86_400e6
    return values, known & ~np.isnan(values)


def text_of(column: pyarrow.Array) -> pyarrow.Array:
    """Values as text: 3 and 3.0 are both "3"."""
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pyarrow.large_string())


def list_length(column: pyarrow.Array, known: int | None, what: str) -> int | None:
    """How many numbers each list of a column holds; `known` is of those before."""
    if types.is_fixed_size_list(column.type):
        lengths: Sequence[Any] = [column.type.list_size]
    else:
        lengths = column.value_lengths().unique().to_pylist()
    found = {*lengths} - {None}
    if column.null_count or len(found | ({known} - {None})) > 1:
        raise InputError(f"{what}: its lists are of different lengths, or missing")
    return next(iter(found), known)


def type_of(kind: pyarrow.DataType) -> str:
    """What a column is to a recipe: number, bool, date, text, list, or other."""
    if types.is_dictionary(kind):
        return type_of(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list" if type_of(kind.value_type) in ("number", "bool") else "other"
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


def shown_type(kind: pyarrow.DataType) -> str:
    """What it is called in errors."""
    return type_of(kind) if type_of(kind) != "other" else str(kind)
