"""Tables in files of any kind and dialect, and in memory: the cells that were written, or asked."""

from __future__ import annotations

import csv
import math
import zipfile

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather

from gnnscale.data.tables.column import CellMisfit
from gnnscale.data.tables.table import Table, open_table
from gnnscale.data.tables.text import lines, part
from gnnscale.errors import InputError, StoreError

quick = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def cells(table: Table) -> dict[str, list[object]]:
    """All cells but numbers of rows, missing ones None."""
    chosen = [c.name for c in table.columns if not c.row_number]
    read = pyarrow.Table.from_batches(
        list(table.batches(chosen)),
        pyarrow.schema([(c.name, c.type) for c in table.settled(chosen)]),
    )
    return read.to_pydict()


def same(found: object, wanted: object) -> bool:
    if wanted is None or wanted is pd.NA or (isinstance(wanted, float) and math.isnan(wanted)):
        return found is None or (isinstance(found, float) and math.isnan(found))
    return found == wanted


def assert_cells(table: Table, wanted: dict[str, list[object]]) -> None:
    found = cells(table)
    assert list(found) == list(wanted)
    for name, column in wanted.items():
        assert len(found[name]) == len(column)
        assert all(map(same, found[name], column)), (name, found[name], column)


texts = st.text(st.sampled_from("abzéß#%/'\"; ,\t|\n.0€"), min_size=1, max_size=5).map(
    lambda text: "k" + text + "k"
)
columns = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "small": st.integers(0, 9),
    "float": st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
    "text": texts,
}


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Tables of some rows; names that a user would choose."""
    rows = draw(st.integers(2, 8))
    kinds = draw(st.lists(st.sampled_from(sorted(columns)), min_size=2, max_size=4))
    names = draw(st.permutations(["source", "age of node", "größe", "c_4", "x;y"]))
    made = {}
    for name, kind in zip(names, kinds, strict=False):
        drawn = draw(st.lists(columns[kind], min_size=rows, max_size=rows))
        gone = draw(st.sets(st.integers(1, rows - 1), max_size=1))
        drawn = [None if i in gone else cell for i, cell in enumerate(drawn)]
        types = {"integer": "Int64", "small": "Int64", "float": "float64", "text": "str"}
        made[name] = pd.Series(drawn, dtype=types[kind])
    frame = pd.DataFrame(made)
    kind = draw(st.sampled_from(["plain", "shuffled", "named", "text"]))
    if kind == "shuffled":
        frame = frame.iloc[draw(st.permutations(range(rows)))]
    if kind == "named":
        frame.index = pd.Index(range(7, 7 + rows), name="id")
    if kind == "text":
        frame.index = pd.Index([f"n{i}" for i in range(rows)])
    return frame


def with_index(frame: pd.DataFrame, unnamed: str) -> dict[str, list[object]]:
    """The cells of a frame, its index too where that is no numbers of rows."""
    wanted = {str(name): frame[name].astype(object).tolist() for name in frame.columns}
    name = frame.index.name
    if name is None and frame.index.dtype.kind in "iu":
        return wanted
    return {name or unnamed: frame.index.tolist(), **wanted}


@quick
@given(frames(), st.data())
def test_what_pandas_writes_as_text_is_read_again(tmp_path, monkeypatch, frame, data):
    draw = data.draw
    sep = draw(st.sampled_from([",", ";", "\t", "|"]))
    index = draw(st.booleans())
    options = {
        "sep": sep,
        "index": index,
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"])),
        "lineterminator": draw(st.sampled_from(["\n", "\r\n", "\r"])),
        "decimal": "," if sep != "," and draw(st.booleans()) else ".",
        "header": draw(st.booleans()),
    }
    if options["lineterminator"] == "\r":  # before 3.13, Python puts no quotes around "\n" then
        options["quoting"] = csv.QUOTE_ALL
    suffix = draw(st.sampled_from([".csv", ".tsv", ".txt", ".csv.gz", ".csv.xz", ".csv.zip", ""]))
    if options["encoding"] == "utf-16" and len(suffix) > 4:
        suffix = ".csv"  # packed, pandas leaves the mark of byte order out
    path = tmp_path / f"t{suffix}"
    frame.to_csv(path, **options)
    wanted = (
        with_index(frame, "Unnamed: 0") if index else with_index(frame.reset_index(drop=True), "")
    )
    said = {}
    if draw(st.booleans()):
        said = {"sep": sep, "header": options["header"], "comment": ""}
        if options["encoding"] == "cp1252":
            said["encoding"] = "cp1252"
    monkeypatch.setattr(lines, "BYTES_AT_ONCE", draw(st.sampled_from([1 << 22, 64, 16])))
    while (
        not index and len(wanted) > 1 and all(same(None, column[-1]) for column in wanted.values())
    ):
        wanted = {name: column[:-1] for name, column in wanted.items()}  # separators alone
    try:
        table = open_table(path, "table", **said)
    except InputError as error:
        assert any(word in str(error) for word in ("; say ", "decimal")), error
        assert not said or "decimal" in str(error)
        return
    if not options["header"]:
        named = list(wanted)
        if index and (frame.index.name or frame.index.dtype.kind not in "iu"):
            wanted = dict(zip((f"f{i}" for i in range(len(named))), wanted.values(), strict=True))
        else:
            wanted = dict(
                zip((f"f{i + index}" for i in range(len(named))), wanted.values(), strict=True)
            )
            if index:
                wanted = {"f0": frame.index.tolist(), **wanted}
    assert_cells(table, wanted)


@quick
@given(frames(), st.data())
def test_what_pandas_writes_with_types_is_read_again(tmp_path, frame, data):
    kind = data.draw(st.sampled_from(["parquet", "feather", "memory", "arrow", "polars"]))
    path: object = tmp_path / "t"
    if kind == "parquet":
        frame.to_parquet(tmp_path / "t")
    elif kind == "feather":
        feather.write_feather(frame.reset_index(drop=True), str(tmp_path / "t"))
        frame = frame.reset_index(drop=True)
    elif kind == "memory":
        path = frame
    elif kind == "arrow":
        path = pyarrow.Table.from_pandas(frame)
    else:
        frame = frame.reset_index(drop=True)
        path = polars.from_pandas(frame)
    wanted = with_index(frame, "__index_level_0__")
    if len(wanted) > frame.shape[1]:
        first = next(iter(wanted))
        wanted[first] = wanted.pop(first)  # pandas writes an index behind the columns
    assert_cells(open_table(path, "table"), wanted)


INTEGERS = [[1, 2], [2, 3]]


@pytest.mark.parametrize(
    ("text", "names", "wanted"),
    [
        ("1,2\n2,3\n", ["f0", "f1"], INTEGERS),
        ("source,target\r1,2\r2,3\r", ["source", "target"], INTEGERS),
        ("\ufeffsource,target\r\n1,2\r\n2,3", ["source", "target"], INTEGERS),
        ("1, 2\n2, 3\n", ["f0", "f1"], INTEGERS),
        ("# Nodes: 3\n# From To\n 1\t 2\n2   3 \n", ["f0", "f1"], INTEGERS),
        ("% sym\n1 2\n2 3\n", ["f0", "f1"], INTEGERS),
        ("#source,target\n1,2\n2,3\n", ["source", "target"], INTEGERS),
        ("sep=;\na;b\n1;2\n2;3\n", ["a", "b"], INTEGERS),
        ("1::2\n2::3\n", ["f0", "f1"], INTEGERS),
        ("nd w\n0 1 3.5\n2 3 4\n", ["f0", "f1", "f2"], [[0, 1, 3.5], [2, 3, 4]]),
        ('"x" "y"\n"1" 0.5 "a b"\n"2" 1 "b"\n', ["x", "y"], [[0.5, "a b"], [1, "b"]]),
        (",a\n0,5\n1,6\n", ["a"], [[5], [6]]),
        (",a\nann,5\nbob,6\n", ["Unnamed: 0", "a"], [["ann", 5], ["bob", 6]]),
        ("hero1,hero2\nann,bob\nbob,cid\n", ["hero1", "hero2"], [["ann", "bob"], ["bob", "cid"]]),
        ("from, to\nann, bob\nbob, ann\n", ["from", "to"], [["ann", "bob"], ["bob", "ann"]]),
        ("#a,#b\n#b,#c\n", ["f0", "f1"], [["#a", "#b"], ["#b", "#c"]]),
        ("a,b\n#c,d\nd,a\n", ["f0", "f1"], [["a", "b"], ["#c", "d"], ["d", "a"]]),
        ("ann lee\tbob\nbob\tcid\n", ["f0", "f1"], [["ann lee", "bob"], ["bob", "cid"]]),
        ("a;b\n1,5;2\n2,25;3\n", ["a", "b"], [[1.5, 2], [2.25, 3]]),
        ("1,5 2,5\n1,0 3,5\n", ["f0", "f1"], [[1.5, 2.5], [1, 3.5]]),
        ("from,to\nann 1,bob 2\nbob 2,di 4\n", ["from", "to"],
         [["ann 1", "bob 2"], ["bob 2", "di 4"]]),
        ("from\tto\nann 1\tbob 2\nbob 2\tdi 4\n", ["from", "to"],
         [["ann 1", "bob 2"], ["bob 2", "di 4"]]),
        ('"W" Y\t5\nfoo\t6\n', ["f0", "f1"], [['"W" Y', 5], ["foo", 6]]),
        ("id,n\n1,'a, b'\n2,'c'\n", ["id", "n"], [[1, "a, b"], [2, "c"]]),
        ('id, n\n1, "a, b"\n2, "c"\n', ["id", "n"], [[1, "a, b"], [2, "c"]]),
        ("id,a\n007,1\n8,\n", ["id", "a"], [["007", 1], ["8", None]]),
        ("id,a\n98446744073709551615,NA\n4,2\n", ["id", "a"],
         [["98446744073709551615", None], ["4", 2]]),
        ("a,b\n1,2,\n3,4,\n", ["a", "b"], [[1, 2], [3, 4]]),
        ("a;b;;\n1;2;;\n3;4\n;;;\n", ["a", "b"], [[1, 2], [3, 4]]),
        (";;\na;b;\n1;2;\n;;\n3;4;\n;;\n\n;;\n", ["a", "b", "Unnamed: 2"],
         [[1, 2, None], [None, None, None], [3, 4, None]]),
        ("My export\na,b\n1,2\n", ["a", "b"], [[1, 2]]),
        ("0,1,2\n0.5,0.25,0.1\n", ["0", "1", "2"], [[0.5, 0.25, 0.1]]),
        ("id,0,1\n5,4,3\n", ["id", "0", "1"], [[5, 4, 3]]),
        ("node_id\tnode_id\n0\t1\n", ["node_id (column 0)", "node_id (column 1)"], [[0, 1]]),
        ("source,target\n", ["source", "target"], []),
        ("# nothing but this\n", [], []),
        ("\n \n", [], []),
        ("", [], []),
    ],
)  # fmt: skip
def test_dialects(tmp_path, monkeypatch, text, names, wanted):
    for size in (1 << 20, 8):
        monkeypatch.setattr(lines, "BYTES_AT_ONCE", size)
        for suffix in (".csv", ".txt"):
            (tmp_path / f"t{suffix}").write_bytes(text.encode())
            table = open_table(tmp_path / f"t{suffix}", "table")
            columns = {name: [row[i] for row in wanted] for i, name in enumerate(names)}
            assert_cells(table, columns)
            assert table.num_rows == len(wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#a,b\nc,d\nd,e\n", "'#a | b' may be a comment or a row; say comment='#' to leave"),
        ("# c\n1 2\n#3 4\n5 6\n", "'#3 | 4' may be a comment or a row"),
        ("1 2\n# hello\n5 6\n", "'# | hello' may be a comment or a row"),
        ("a;b\n1,500;2\n2,250;3\n", "1,500 may be a number with a decimal comma or with thousands"),
        ("name,2019,2020\nann,5,6\n", "may name the columns or be a row"),
        ("land,1990,1991\nDE,1,2\nFR,3,4\n", "may name the columns or be a row"),
        ("a;b\n1.5;2,5\n", "numbers written as 2,5 and as 1.5; write all with a decimal point"),
        ('{"a": 1}\n', "is JSON: read it with pandas.read_json"),
        ("<!DOCTYPE html>\n", "is a web page, which is not read"),
        ('<?xml version="1.0"?>\n', "is a page of HTML or XML"),
        ("0,1,2\n5,4,3\n", r"\(0 \| 1 \| 2\) may name the columns or be a row; say header=True"),
        ("abc,5\n1,6\n", "may name the columns or be a row"),
        ("ann,bob\ncid,dan\n", "may name the columns or be a row; say header=True or header=False"),
        ("a;b,c;d\ne;f,g;h\n", r"2 ways; say sep=';' \(3 columns: e \| f,g \| h\) or sep=','"),
        ("a,b\n1,2\n1,2,3\n4,5\n", "line 3 has 3 cells where others have 2: '1 | 2 | 3'"),
        ("1,2\n3,4,5,6,7\n", "line 1 has 2 cells where others have 5"),
        ("a,b\n1,2\n" * 2, "line 3 repeats the header; take it out"),
        ("a,b\n" + "1,2\n" * 100_000 + "1,2,3\n", "line 100002 has 3 cells where others have 2"),
        ("a,b\n" + "1,2\n" * 100_000 + '"z,2\n', "row that begins '\"z,2' does not close"),
        ("\0\1\2", "is no table: its bytes are neither text nor Parquet"),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_asked(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        list(open_table(tmp_path / "t.csv", "table").batches())


def test_a_separator_that_is_nowhere_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no line holds sep=';'; sep=',' gives 2 columns"):
        open_table(tmp_path / "t.csv", "t", sep=";")
    assert_cells(open_table(tmp_path / "t.csv", "t", sep=","), {"a": [1], "b": [2]})


def test_a_column_is_one_type_for_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(part, "_SAMPLE_BYTES", 64)
    monkeypatch.setattr(lines, "BYTES_AT_ONCE", 64)
    rows = "".join(f"{i},{i},{i},,{i}\n" for i in range(1, 200))
    (tmp_path / "t.csv").write_text(f"id,a,b,c,d\n{rows}007,x,1.5,7,\n")
    table = open_table(tmp_path / "t.csv", "table")
    assert [c.kind for c in table.columns] == ["integer", "integer", "integer", "empty", "integer"]
    kinds = [c.kind for c in table.settled()]
    assert kinds == ["text", "text", "float", "integer", "integer"]
    last = {name: column[-1] for name, column in cells(table).items()}
    assert last == {"id": "007", "a": "x", "b": 1.5, "c": 7, "d": None}
    for name, message in (("id", "holds '007', which no number"), ("a", "line 201: a is 'x', not")):
        with pytest.raises(CellMisfit, match=message):
            list(table.batches([name], {name: pyarrow.int64()}))
    whole = list(table.batches(["d"], {"d": pyarrow.string()}))
    assert pyarrow.Table.from_batches(whole)["d"].to_pylist() == [*map(str, range(1, 200)), None]


def test_floats_of_whole_numbers_are_integers_where_asked(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1.0,2\n,1.5\n")
    table = open_table(tmp_path / "t.csv", "table")
    (batch,) = table.batches(["a"], {"a": pyarrow.int64()})
    assert batch["a"].to_pylist() == [1, None]
    with pytest.raises(CellMisfit, match=r"line 3: b is '1.5', not int64"):
        list(table.batches(["b"], {"b": pyarrow.int64()}))


def test_folders_and_patterns(tmp_path):
    frame = pd.DataFrame({"id": [1, 2], "a": [0.5, 1.5]})
    for i, year in enumerate(("2020", "2021")):
        folder = tmp_path / "t" / f"year={year}" / "kind=a%20b"
        folder.mkdir(parents=True)
        frame.assign(id=frame.id + 2 * i).to_parquet(folder / "part-0.parquet")
    (tmp_path / "t" / "_SUCCESS").touch()
    (tmp_path / "t" / ".part.crc").touch()
    assert_cells(
        open_table(tmp_path / "t", "t"),
        {
            "id": [1, 2, 3, 4],
            "a": [0.5, 1.5] * 2,
            "year": [2020, 2020, 2021, 2021],
            "kind": ["a b"] * 4,
        },
    )
    for i in (2, 10):
        frame.assign(id=i).to_csv(tmp_path / f"part-{i}.csv", index=False)
    assert_cells(
        open_table(tmp_path / "part-*.csv", "t"), {"id": [2, 2, 10, 10], "a": [0.5, 1.5] * 2}
    )
    (tmp_path / "part-11.csv").write_text("id,b\n1,2\n")
    with pytest.raises(InputError, match=r"part-11.csv has no column a, which .*part-2.csv has"):
        open_table(tmp_path / "part-*.csv", "t")
    (tmp_path / "part-11.csv").write_text("a,id\n1,x\n")
    ids = cells(open_table(tmp_path / "part-*.csv", "t"))["id"]
    assert ids == ["2", "2", "10", "10", "x"]
    pd.DataFrame({"id": ["x"], "a": [1.0]}).to_parquet(tmp_path / "part-12.csv")
    with pytest.raises(InputError, match=r"id is .*string in .*write both as one type"):
        open_table(tmp_path / "part-1[02].csv", "t")
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none.csv", "no-*.csv"):
        with pytest.raises(StoreError, match=r"without files|is missing|no file is called"):
            open_table(tmp_path / name, "t")


def test_rows_numbered_by_pandas_are_no_data(tmp_path):
    frame = pd.DataFrame({"id": [3, 1, 2], "a": [3.0, 1.0, 2.0]})
    wanted = {"id": [1, 3], "a": [1.0, 3.0]}
    chosen = frame.iloc[[1, 0]]
    chosen.index = [5, 2]
    for table in (chosen, pd.concat([chosen, chosen])):
        table.to_parquet(tmp_path / "t.parquet")
        table.to_csv(tmp_path / "t.csv")
        pd.read_csv(tmp_path / "t.csv").to_csv(tmp_path / "again.csv", index=False)
        for it in (table, tmp_path / "t.parquet", tmp_path / "t.csv", tmp_path / "again.csv"):
            opened = open_table(it, "t")
            twice = len(table) // 2
            assert_cells(opened, {name: column * twice for name, column in wanted.items()})
            assert sum(c.row_number for c in opened.columns) == 1
    frame.set_index("id").to_parquet(tmp_path / "t.parquet")
    opened = open_table(tmp_path / "t.parquet", "t")
    assert opened.column("id").kind == "integer" and not opened.column("id").row_number


def test_columns_by_name_or_number(tmp_path):
    table = open_table(pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]), "t")
    assert table.column(1) == table.column("b") and table.column(2).number == 2
    for wanted, message in (
        ("a", "2 columns called a: choose by number, 0 or 2"),
        ("c", "has no column c; there are 0: a"),
        (3, "has no column 3"),
        (True, "a column is a name or a number, not True"),
        (1.5, "a column is a name or a number, not 1.5"),
    ):
        with pytest.raises(InputError, match=message):
            table.column(wanted)
    assert open_table(pd.DataFrame({7: [1], 9: [2]}), "t").column(9).number == 1
    with pytest.raises(InputError, match="0 is the number of column '1' and the name"):
        open_table(pd.DataFrame({1: [1], 0: [2]}), "t").column(0)


def test_what_is_no_table_is_refused_by_name(tmp_path):
    for text, message in (
        (b"\x80\x04\x95abc", "a pickle .* gnnscale loads none"),
        (b"ORC\n\x1a\x08\0\0", "an ORC file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x89HDF\r\n", "an HDF5 file"),
    ):
        (tmp_path / "t.csv").write_bytes(text)
        with pytest.raises(InputError, match=message):
            open_table(tmp_path / "t.csv", "t")
    (tmp_path / "t.csv").write_text("ORCID,name\n1,ann\n")
    assert_cells(open_table(tmp_path / "t.csv", "t"), {"ORCID": [1], "name": ["ann"]})
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", "a,b\n1,2\n")
    assert_cells(open_table(tmp_path / "t.zip", "t"), {"a": [1], "b": [2]})
    with zipfile.ZipFile(tmp_path / "t.zip", "a") as archive:
        archive.writestr("b.csv", "a,b\n1,2\n")
    with pytest.raises(InputError, match=r"holds 2 files \(a.csv, b.csv\); unpack it"):
        open_table(tmp_path / "t.zip", "t")
    for it in (3, [1, 2], np.zeros(3)):
        with pytest.raises(InputError, match="give a file, a folder or a pattern"):
            open_table(it, "t")
    mixed = pd.DataFrame({"id": pd.Series([7, "007", None], dtype=object)})
    assert_cells(open_table(mixed, "t"), {"id": ["7", "007", None]})
    with pytest.raises(InputError, match="holds what no column of a table can"):
        open_table(pd.DataFrame({"id": [object()]}), "t")
    records = np.array([(1, "ann"), (2, "bob")], dtype=[("id", "i4"), ("name", "U3")])
    assert_cells(open_table(records, "t"), {"id": [1, 2], "name": ["ann", "bob"]})
