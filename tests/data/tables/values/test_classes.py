"""Labels out of columns of any type: classes keep what they are called."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.data.tables.values.classes import read_label_columns
from gnnscale.errors import InputError
from gnnscale.graph.reading.labels import read_labels
from gnnscale.storage.arrow import pyarrow

LABELS = st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "Ä", "10", "9"])), min_size=1)


def column(values, kind=None, chunks=1):
    size = max(1, -(-len(values) // chunks))
    parts = [pyarrow.array(values[i : i + size], kind) for i in range(0, len(values), size)]
    return pyarrow.chunked_array(parts, kind)


@settings(max_examples=60)
@given(LABELS, st.integers(1, 3), st.booleans())
def test_text_is_classes_that_keep_their_names(values, chunks, dictionary):
    given_column = column(values, pyarrow.string(), chunks)
    if dictionary:
        given_column = given_column.dictionary_encode()
    read = read_label_columns({"y": given_column})
    y = read.labels()
    assert list(read.names) == sorted(set(values) - {None, ""})
    assert [None if i < 0 else read.names[i] for i in y] == [v or None for v in values]
    again = read_label_columns({"y": given_column}, names=[*read.names, "more"])
    np.testing.assert_array_equal(again.labels(), y)


@settings(max_examples=30)
@given(st.lists(st.one_of(st.none(), st.lists(st.sampled_from("abc"), max_size=3)), min_size=1))
def test_lists_are_several_labels(values):
    read = read_label_columns({"tags": column(values, pyarrow.list_(pyarrow.string()))})
    assert list(read.names) == sorted({tag for tags in values for tag in tags or ()})
    for row, tags in zip(read.labels(), values, strict=True):
        if tags is None:
            assert (row == -1).all()
        else:
            assert [name for name, one in zip(read.names, row, strict=True) if one] == sorted(
                set(tags)
            )


@settings(max_examples=30)
@given(st.lists(st.one_of(st.none(), st.sampled_from([-7, 3, 2000, 5000])), min_size=1))
def test_numbers_that_are_classes_are_numbered_through(values):
    read = read_label_columns({"y": column(values, pyarrow.int64())}, "classification")
    used = sorted(set(values) - {None})
    if read.names is None:  # numbered from 0 on, as they are
        assert not used or used == [3]
    else:
        assert list(read.names) == [str(value) for value in used]
        named = [None if i < 0 else int(read.names[i]) for i in read.labels()]
        assert named == values


def test_missing_cells_of_whole_numbers_are_unlabelled():
    for kind in (pyarrow.int64(), pyarrow.float64(), pyarrow.uint8(), pyarrow.decimal128(5, 2)):
        read = read_label_columns({"y": column([0, None, 2, 1], kind)})
        labels = read_labels(torch.from_numpy(read.labels()), read.task)
        assert labels.task == "classification" and labels.y.tolist() == [0, -1, 2, 1]


def test_several_columns():
    flags = {"a": column([True, None]), "b": column([False, True])}
    read = read_label_columns(flags)
    assert read.task == "multilabel" and read.names == ("a", "b")
    assert read.labels().tolist() == [[1, 0], [-1, 1]]
    targets = read_label_columns({"a": column([0.5, None]), "b": column([2, 3])})
    labels = read_labels(torch.from_numpy(targets.labels()), targets.task)
    assert labels.task == "regression" and targets.names == ("a", "b")
    with pytest.raises(InputError, match="b is text"):
        read_label_columns({"a": column([1]), "b": column(["x"])})


def test_order_of_a_dictionary():
    codes = pyarrow.array([1, 0, 1], pyarrow.int8())
    sizes = pyarrow.DictionaryArray.from_arrays(codes, ["small", "large"], ordered=True)
    read = read_label_columns({"size": pyarrow.chunked_array([sizes])})
    assert read.names == ("small", "large") and read.labels().tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("values", "task", "names", "words"),
    [
        (["a"], "regression", None, "is text, which is classes; for regression"),
        ([f"n{i}" for i in range(20)], None, None, "is it an id"),
        (["c"], None, ["a", "b"], "holds 'c', none of the 2 classes"),
        ([5], "classification", ["3", "4"], "holds '5', none of the 2 classes"),
        ([datetime.date(2020, 1, 1)], None, None, "labels are numbers, text or booleans"),
        ([["a"]], "classification", None, "several labels a row, not classification"),
    ],
)
def test_what_is_no_label_is_refused(values, task, names, words):
    with pytest.raises(InputError, match=words):
        read_label_columns({"y": column(values)}, task, names)
