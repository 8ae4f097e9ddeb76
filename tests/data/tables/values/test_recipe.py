"""A recipe gives the features that pandas would, in any batches, and again for another table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.data.tables.values.recipe import FeatureRecipe
from gnnscale.data.tables.values.recipe_making import FEW, LARGE, make_recipe
from gnnscale.errors import InputError
from gnnscale.storage.arrow import pyarrow

NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6))
WORDS = st.one_of(st.none(), st.sampled_from(["", "a", "b c", "Ä", "x  y "]))
FRAMES = st.integers(1, 12).flatmap(
    lambda rows: st.fixed_dictionaries(
        {
            "number": st.lists(NUMBERS, min_size=rows, max_size=rows),
            "whole": st.lists(st.integers(-9, 9), min_size=rows, max_size=rows),
            "flag": st.lists(st.booleans(), min_size=rows, max_size=rows),
            "word": st.lists(WORDS, min_size=rows, max_size=rows),
        }
    )
)


def table_of(frame):
    kinds = {"number": pyarrow.float64(), "whole": pyarrow.int64(), "flag": pyarrow.bool_()}
    kinds["word"] = pyarrow.string()
    return pyarrow.table({c: pyarrow.array(frame[c], kind) for c, kind in kinds.items()})


def rows_of(recipe, table, rows=3):
    return np.concatenate(list(recipe.apply(table.to_batches(max_chunksize=rows), "n")))


@settings(max_examples=60)
@given(FRAMES, st.integers(1, 12))
def test_features_are_those_of_pandas(frame, rows):
    table = table_of(frame)
    declared = {"number": "standardise", "word": "one-hot", "whole": "ordinal"}
    recipe = make_recipe(table.to_batches(max_chunksize=rows), declared)
    x = pd.DataFrame(rows_of(recipe, table, rows), columns=list(recipe.names))
    number = pd.Series(frame["number"], dtype=float)
    spread = number.std(ddof=0)
    if number.notna().any() and spread > 1e-9 * max(1, abs(number.mean())):
        wanted = ((number - number.mean()) / spread).fillna(0)
        np.testing.assert_allclose(x["number"], wanted, rtol=1e-4, atol=1e-4)
    if number.isna().any():
        assert x["number missing"].tolist() == number.isna().tolist()
    assert x["flag"].tolist() == [float(v) for v in frame["flag"]]
    assert x["whole"].tolist() == [sorted(set(frame["whole"])).index(v) for v in frame["whole"]]
    dummies = pd.get_dummies(pd.Series(frame["word"], dtype=object))
    for word in dummies.columns:
        assert x[f"word={word}"].tolist() == dummies[word].tolist()
    assert x.filter(like="word=").shape[1] == dummies.shape[1]


@settings(max_examples=30)
@given(FRAMES, st.sampled_from(["hash", "hash:7", "one-hot", None]), st.integers(1, 12))
def test_the_same_again_from_json_in_any_order_of_rows(frame, word, rows):
    table = table_of(frame)
    recipe = make_recipe(table.to_batches(), None if word is None else {"word": word})
    again = FeatureRecipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe and again.names == recipe.names
    whole = rows_of(recipe, table, 99)
    assert whole.shape == (table.num_rows, len(recipe.names))
    turned = table.take(list(range(table.num_rows))[::-1])
    np.testing.assert_array_equal(rows_of(again, turned, rows)[::-1], whole)
    # A column more says nothing, and their order neither.
    wider = table.select(list(frame)[::-1]).append_column("new", table["flag"])
    np.testing.assert_array_equal(rows_of(again, wider), whole)


def test_words_and_dates():
    days = pyarrow.array(pd.to_datetime(["2020-01-01", "2020-01-03", None]))
    flags = pyarrow.array([True, None, False])
    lists = pyarrow.array([[1.0, 2], [3, 4], [5, 6]])
    grades = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([1, 0, None], pyarrow.int8()), ["low", "high"], ordered=True
    )
    table = pyarrow.table({"day": days, "flag": flags, "list": lists, "grade": grades})
    recipe = make_recipe(table.to_batches(), {"grade": "ordinal"})
    assert recipe.names == (
        *("day", "day missing", "flag", "flag missing", "list[0]", "list[1]", "grade"),
    )
    assert rows_of(recipe, table).tolist() == [
        [-1, 0, 1, 0, 1, 2, 1],
        [1, 0, 0.5, 1, 3, 4, 0],
        [0, 1, 0, 0, 5, 6, -1],
    ]
    assert recipe.words == {
        "day": "standardise, missing ones are the mean",
        "flag": "as is, missing ones are the mean",
        "grade": "ordinal, 2 values",
    }


def test_many_values_of_text_are_hashed():
    few = pyarrow.table({"t": [f"v{i}" for i in range(FEW)]})
    many = pyarrow.table({"t": [f"v{i}" for i in range(FEW + 1)]})
    assert make_recipe(few.to_batches()).ingredients["t"].kind == "one-hot"
    assert make_recipe(many.to_batches()).ingredients["t"].kind == "hash"
    x = rows_of(make_recipe(many.to_batches()), many)
    assert (np.abs(x).sum(1) == 1).all()


def test_columns_that_differ_are_named():
    table = pyarrow.table({"a": [1.0], "b": ["x"], "c": [2]})
    recipe = make_recipe(table.to_batches())
    with pytest.raises(InputError) as caught:
        rows_of(recipe, pyarrow.table({"a": ["1"], "b": ["x"]}))
    assert "no column c" in str(caught.value) and "a is text, and was number" in str(caught.value)
    unknown = pyarrow.table({"a": [5.0], "b": ["new"], "c": [2]})
    assert rows_of(recipe, unknown).tolist() == [[5, 0, 2]]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"z": "hash"}, "no column z"),
        ({"a": "often"}, "'often' for a"),
        ("hash:0", "'hash:0'"),
        ({"a": "hash"}, "a is number, which cannot be 'hash'"),
        ({"a": 3}, "3 for a"),
    ],
)
def test_what_does_not_fit_is_refused(declared, words):
    table = pyarrow.table({"a": [1.0, 2.0]})
    with pytest.raises(InputError, match=words):
        make_recipe(table.to_batches(), declared)


def test_what_makes_no_feature_is_refused():
    pairs = pyarrow.array([{"x": 1}])
    with pytest.raises(InputError, match="drop='p'"):
        make_recipe(pyarrow.table({"p": pairs}).to_batches())
    recipe = make_recipe(pyarrow.table({"p": pairs, "a": [1]}).to_batches(), {"p": "drop"})
    assert recipe.names == ("a",)
    ragged = pyarrow.table({"l": [[1.0], [1.0, 2.0]]})
    with pytest.raises(InputError, match="different lengths"):
        make_recipe(ragged.to_batches())
    with pytest.raises(InputError, match="holds inf; clean"):
        make_recipe(pyarrow.table({"a": [float("inf")]}).to_batches())
    large = pyarrow.table({"a": [1e100, 0.0]})
    with pytest.raises(InputError, match="float32"):
        rows_of(make_recipe(large.to_batches(), "as is"), large)
    assert np.isfinite(rows_of(make_recipe(large.to_batches(), "standardise"), large)).all()


@settings(max_examples=40)
@given(
    st.lists(st.floats(-300, 300), min_size=2, max_size=9),
    st.lists(st.sampled_from([0, 1]), min_size=9, max_size=9),
)
def test_large_numbers_are_brought_to_one_scale(numbers, flags):
    columns = {"n": numbers, "flag": flags[: len(numbers)]}
    recipe = make_recipe(pyarrow.table(columns).to_batches())
    x = rows_of(recipe, pyarrow.table(columns))
    large = max(map(abs, numbers)) > LARGE
    assert x[:, 1].tolist() == columns["flag"] and recipe.ingredients["flag"].kind == "as is"
    assert recipe.ingredients["n"].kind == ("standardise" if large else "as is")
    if large and np.std(numbers) > 1e-3:
        np.testing.assert_allclose([x[:, 0].mean(), x[:, 0].std()], [0, 1], atol=1e-3)
    as_is = make_recipe(pyarrow.table(columns).to_batches(), "as is")
    np.testing.assert_allclose(rows_of(as_is, pyarrow.table(columns))[:, 0], numbers, 1e-6, 1e-6)
