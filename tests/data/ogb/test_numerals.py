"""Plain numerals are read as Arrow reads them, bit for bit, or refused."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import csv

from gnnscale.data.ogb.raw import parse_rows

DTYPES = (np.int64, np.float32, np.float64)
DIGITS = st.text("0123456789", min_size=1, max_size=21)


def parsed(text: bytes, dtype: type, columns: int) -> np.ndarray | None:
    table = np.empty((len(text) // (2 * columns) + 1, columns), dtype)
    kind = 0 if dtype is np.int64 else np.dtype(dtype).itemsize
    rows = parse_rows(np.frombuffer(text, np.uint8), kind, table)
    return None if rows < 0 else table[:rows]


def by_arrow(text: bytes, dtype: type, columns: int) -> np.ndarray:
    names = [str(i) for i in range(columns)]
    table = csv.read_csv(
        pa.BufferReader(text),
        csv.ReadOptions(column_names=names),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.from_numpy_dtype(dtype))
        ),
    )
    return np.stack([column.to_numpy() for column in table.columns], axis=1)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@st.composite
def numerals(draw: st.DrawFn) -> str:
    sign, whole = draw(st.sampled_from(["", "-"])), draw(DIGITS)
    point = draw(st.sampled_from(["", "."]))
    power = draw(st.one_of(st.just(""), st.integers(-45, 38).map("e{}".format)))
    return sign + whole + (point + draw(DIGITS) if point else "") + power


@given(st.sampled_from(DTYPES[1:]), st.integers(1, 4), st.lists(numerals(), min_size=4))
def test_floats_are_what_arrow_reads(dtype: type, columns: int, fields: list[str]) -> None:
    rows = [fields[i : i + columns] for i in range(0, len(fields) - columns + 1, columns)]
    for each in rows:  # one refused does not hide the others
        text = ",".join(each).encode() + b"\n"
        if (found := parsed(text, dtype, columns)) is not None:
            assert same_bits(found, by_arrow(text, dtype, columns))


@given(st.sampled_from(DTYPES), st.integers(1, 5), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_what_numpy_writes_is_plain(dtype: type, columns: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(-(10**17), 10**17, (rows, columns))
    if dtype is not np.int64:  # float64 of few digits: those of all are left to Arrow
        table = rng.standard_normal((rows, columns)).astype(np.float32).round(6).astype(dtype)
        table = table.round(6)
    text = "".join(",".join(str(v) for v in row) + "\n" for row in table.tolist()).encode()
    found = parsed(text, dtype, columns)
    assert found is not None and same_bits(found, table.astype(dtype))


@given(st.floats(2**-30, 2**30, width=32), st.integers(-1, 1), st.integers(4, 18))
@example(16777216.0, 0, 8)
def test_float32_are_rounded_once(value: float, off: int, digits: int) -> None:
    below, above = np.float32(value), np.nextafter(np.float32(value), np.float32(np.inf))
    middle = (Fraction(float(below)) + Fraction(float(above))) / 2
    places = digits - 1 - math.floor(math.log10(value))
    if not 0 < places <= 22:
        return
    number = int(middle * 10**places) + off  # next to the middle, as near as so many digits are
    text = f"{number}e-{places}\n".encode()
    found = parsed(text, np.float32, 1)
    assert found is None or same_bits(found, by_arrow(text, np.float32, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1,", ",1", "1,2,3", "1,2\r", "1, 2", '1,"2"', "1,x", "1,nan", "1,-", "1,+2"),
        *("1,2.", "1,.2", "1,2e", "1,2e+3", "1,2e9999", "1,2e30", "1,2e-23"),
        "1,1234567890123456789",
    ],
)
def test_others_are_refused(text: str, dtype: type) -> None:
    assert parsed(f"{text}\n".encode(), dtype, 2) is None
    assert parsed(f"1,2\n{text}\n3,4\n".encode(), dtype, 2) is None
