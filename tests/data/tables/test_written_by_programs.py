"""What programs write in and around cells, and in files that are no tables: read, or refused."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.tables.table import Table, open_table
from gnnscale.data.tables.text.lines import Lines
from gnnscale.data.tables.text.tails import without_tails
from gnnscale.errors import InputError

quick = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
UNSEEN = "\u00a0\u202f\u2007\u200b\ufeff\u3000"
words = st.text(st.sampled_from("abzé01\"\\,; '"), max_size=5).map(lambda text: f"k{text}k")
digits = st.text(st.sampled_from("019"), min_size=1, max_size=4)


def cells(table: Table) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {column.name: [] for column in table.columns}
    for batch in table.batches():
        for name, read in zip(columns, batch.columns, strict=True):
            columns[name] += read.to_pylist()
    return columns


def small_blocks(monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1 << 22, 64, 16]), "bytes at once")
    monkeypatch.setattr("gnnscale.data.tables.text.lines.BYTES_AT_ONCE", size)


@quick
@given(st.lists(st.tuples(digits, digits), min_size=1, max_size=6), st.booleans(), st.data())
def test_text_that_excel_holds_as_a_formula(tmp_path, monkeypatch, rows, quoted, data):
    small_blocks(monkeypatch, data)
    sep = data.draw(st.sampled_from([",", ";", "\t"]))
    cell = '"=""{}"""' if quoted else '="{}"'
    lines = [sep.join(cell.format(c) for c in row) for row in rows]
    (tmp_path / "t.csv").write_text("\n".join([sep.join(("source", "target")), *lines]))
    found = cells(open_table(tmp_path / "t.csv", "t"))
    for name, column in zip(("source", "target"), zip(*rows, strict=True), strict=True):
        led = any(c.startswith("0") and len(c) > 1 for c in column)
        assert found[name] == [c if led else int(c) for c in column]


@quick
@given(st.lists(st.tuples(words, words, st.integers(0, 9)), min_size=2, max_size=6), st.data())
def test_quotes_behind_backslashes(tmp_path, monkeypatch, rows, data):
    small_blocks(monkeypatch, data)
    sep = data.draw(st.sampled_from([",", ";"]))
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(
            file, delimiter=sep, quoting=csv.QUOTE_NONNUMERIC, doublequote=False, escapechar="\\"
        ).writerows([("source", "target", "weight"), *rows])
    if not any('"' in c for row in rows for c in row[:2]):
        return  # of backslashes alone nobody knows
    found = cells(open_table(tmp_path / "t.csv", "t"))
    assert [*zip(*found.values(), strict=True)] == rows


@quick
@given(st.lists(st.tuples(words, words), min_size=2, max_size=6), st.data())
def test_quotes_that_are_doubled_beside_backslashes(tmp_path, monkeypatch, rows, data):
    small_blocks(monkeypatch, data)
    frame = pd.DataFrame(rows, columns=["source", "target"])
    frame.to_csv(tmp_path / "t.csv", index=False, quoting=csv.QUOTE_ALL)
    try:
        found = cells(open_table(tmp_path / "t.csv", "t"))
    except InputError as error:
        assert "; say sep=" in str(error)
        return
    assert [*zip(*found.values(), strict=True)] == rows


def test_a_quote_behind_a_backslash_after_the_sample(tmp_path):
    rows = "".join(f'"a{i}","b{i}"\n' for i in range(40_000))
    (tmp_path / "t.csv").write_text(f'"source","target"\n{rows}"a\\"x","b"\n')
    with pytest.raises(InputError, match="line 40002 has a quote behind a backslash"):
        list(open_table(tmp_path / "t.csv", "t").batches())


@quick
@given(
    st.lists(
        st.tuples(
            st.text(st.sampled_from("abé. 1"), min_size=1, max_size=5).map(lambda t: f"k{t}k"),
            st.integers(0, 10**7),
            st.floats(0, 1e6).map(lambda x: round(x, 2)),
        ),
        min_size=2, max_size=6,
    ),
    st.data(),
)  # fmt: skip
def test_blanks_that_nobody_sees(tmp_path, monkeypatch, rows, data):
    small_blocks(monkeypatch, data)
    sep = data.draw(st.sampled_from([",", ";", "\t", "|"]))
    around = st.text(st.sampled_from(UNSEEN), max_size=2)
    quote = data.draw(st.sampled_from(["", '"']))
    thousands = data.draw(st.sampled_from(["", "\u00a0", "\u202f", "\u2007"]))

    def written(cell: object) -> str:
        text = f"{cell:,}".replace(",", thousands) if not isinstance(cell, str) else cell
        return quote + data.draw(around) + text + data.draw(around) + quote

    names = "source", "weight", "cost"
    lines = [sep.join(map(written, row)) for row in (names, *rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = cells(open_table(tmp_path / "t.csv", "t"))
    assert tuple(found) == names
    assert [*zip(*found.values(), strict=True)] == rows


def _in_r(rows: list[tuple[object, object]]) -> str:
    return "c(" + ", ".join(json.dumps(cell) for row in rows for cell in row) + ")"


def _in_matlab(rows: list[tuple[object, object]]) -> str:
    return "[" + "; ".join(f"{a} {b}" for a, b in rows) + "]"


SCRIPTS = {
    "Python": repr,
    "Python's sets": lambda rows: repr(set(rows)),
    "JSON": json.dumps,
    "NumPy": lambda rows: str(np.array(rows)),
    "NumPy's repr": lambda rows: repr(np.array(rows)),
    "MATLAB": _in_matlab,
    "MATLAB over lines": lambda rows: _in_matlab(rows).replace("; ", "; ...\n"),
    "MATLAB in lines": lambda rows: "[\n" + "\n".join(f"{a} {b}" for a, b in rows) + "\n]",
    "R": _in_r,
    "Mathematica": lambda rows: "{" + ", ".join(f"{{{a}, {b}}}" for a, b in rows) + "}",
    "tuples in lines": lambda rows: "\n".join(map(repr, rows)),
    "lists in lines": lambda rows: "\n".join(repr([*row]) for row in rows),
}


@quick
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=2, max_size=9)
    | st.lists(st.tuples(words, words).map(lambda row: tuple(w.strip('"\\,; \'') for w in row)),
               min_size=2, max_size=5),
    st.sampled_from(sorted(SCRIPTS)),
    st.sampled_from(["", "edges = ", "edges <- ", "E=", "const e = ", "# edges\n", "% E\nE = "]),
    st.sampled_from([".txt", ".csv", ".m"]),
)  # fmt: skip
def test_lists_of_scripts_are_refused_by_name(tmp_path, rows, script, before, suffix):
    path = tmp_path / f"e{suffix}"
    path.write_text(before + SCRIPTS[script](rows) + "\n")
    with pytest.raises(InputError, match=r"is a list in brackets as a script has it|is JSON: read"):
        open_table(path, "edges")
    path.write_text("source,target\n" + SCRIPTS["lists in lines"](rows) + "\n")
    with pytest.raises(InputError, match="is a list in brackets as a script has it"):
        open_table(path, "edges")


named = st.text(st.sampled_from("ab[](){}-1 ,"), min_size=1, max_size=6).map(lambda t: f"k{t}k")


@quick
@given(st.lists(st.tuples(named, named, st.integers(0, 9)), min_size=1, max_size=5))
def test_names_with_brackets_are_names(tmp_path, rows):
    frame = pd.DataFrame(rows, columns=["source", "target", "weight"])
    frame.source = "[" + frame.source + "]"
    frame.to_csv(tmp_path / "t.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
    found = cells(open_table(tmp_path / "t.csv", "t"))
    assert [*zip(*found.values(), strict=True)] == [*frame.itertuples(index=False, name=None)]


@quick
@given(
    st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=2, max_size=9),
    st.integers(0, 3), st.integers(0, 3), st.data(),
)  # fmt: skip
def test_separators_that_a_spreadsheet_writes_behind(
    tmp_path, monkeypatch, rows, below, right, data
):
    small_blocks(monkeypatch, data)
    sep = data.draw(st.sampled_from([",", ";", "\t"]))
    lines = ["source,target,weight", *(",".join(map(str, row)) for row in rows)]
    more = data.draw(st.lists(st.integers(0, right), min_size=len(lines), max_size=len(lines)))
    lines = [line + "," * n for line, n in zip(lines, more, strict=True)]
    lines += ["," * data.draw(st.integers(1, 2 + right)) for _ in range(below)]
    (tmp_path / "e.csv").write_text("\n".join(lines).replace(",", sep) + "\n")
    found = cells(open_table(tmp_path / "e.csv", "t"))
    found = {name: column for name, column in found.items() if not name.startswith("Unnamed")}
    assert list(found) == ["source", "target", "weight"]
    assert [*zip(*found.values(), strict=True)] == rows


def test_a_row_of_separators_amid_others_is_refused_with_its_line(tmp_path):
    for row in (",", " , ", '"",""'):
        (tmp_path / "e.csv").write_text(f"source,target\na,b\n{row}\nb,c\n")
        with pytest.raises(InputError, match=r"source are empty .line 3 of .*; fill them in"):
            gs.from_edge_list(tmp_path / "e.csv")


@quick
@given(st.lists(st.sampled_from(["", " ", '""', "  "]), min_size=2, max_size=60),
       st.sampled_from([",", ";", "\t"]))  # fmt: skip
def test_many_empty_cells_at_the_end_take_no_time(tmp_path, empty, sep):
    (tmp_path / "e.tsv").write_text(
        "\n".join(["source" + sep + "target", f"a{sep}b", sep.join(empty)])
    )
    assert cells(open_table(tmp_path / "e.tsv", "t")) == {"source": ["a"], "target": ["b"]}
    (tmp_path / "e.tsv").write_text(f"a{sep}b\nb{sep}c\n{sep.join([*empty, 'x'])}\n")
    with pytest.raises(InputError):
        gs.from_edge_list(tmp_path / "e.tsv", sep=sep, header=False)


@pytest.mark.parametrize("of", ["features", "labels"])
def test_rows_without_anything_may_be_nodes(tmp_path, of):
    text = {"features": "f0,f1\n1,2\n3,4\n5,6\n", "labels": "label,label2\n1,0\n0,1\n1,1\n"}[of]
    (tmp_path / "n.csv").write_text(text + ",\n,\n")
    edges = np.array([[0, 1], [1, 2]])
    with pytest.raises(InputError, match=r"ends with 2 rows of separators alone.*num_nodes=3"):
        gs.from_edge_list(edges, **{of: tmp_path / "n.csv"})
    assert gs.from_edge_list(edges, **{of: tmp_path / "n.csv"}, num_nodes=3).num_nodes == 3
    (tmp_path / "n.csv").write_text(text + "NA,NA\nNA,NA\n")
    assert gs.from_edge_list(edges, **{of: tmp_path / "n.csv"}, num_nodes=5).num_nodes == 5
    (tmp_path / "n.csv").write_text("id,f0,f1\n0,1,2\n1,3,4\n2,5,6\n,,\n")
    assert gs.from_edge_list(edges, tmp_path / "n.csv").num_nodes == 3


@quick
@given(
    st.lists(st.tuples(*[st.sampled_from(["1", "20", "1.5", '"a,b"', "", '"c""d"'])] * 3),
             min_size=1, max_size=8),
    st.lists(st.sampled_from(["", ",", ",,", ", ,", ',""', ",x", ',"x"', ',""""']),
             min_size=1, max_size=8),
)  # fmt: skip
def test_cells_behind_the_last_column(rows, tails):
    lines = [",".join(row) + tail for row, tail in zip(rows, tails * 8, strict=False)]
    given_ = Lines("".join(line + "\n" for line in lines).encode(), 1)
    found = without_tails(given_, ",", '"', 3)
    used = [tail for _, tail in zip(rows, tails * 8, strict=False)]
    if not any(used) or {",x", ',"x"', ',""""'} & {*used}:
        assert found is None
    else:
        assert found.text.decode() == "".join(",".join(row) + "\n" for row in rows)


@quick
@given(st.lists(st.sampled_from(["1", "1.5", "", "007", "x", "+7", "20", "true"]), min_size=1,
                max_size=12), st.booleans())  # fmt: skip
def test_a_column_is_of_one_type_however_it_is_cut(tmp_path, monkeypatch, written, tail):
    rows = [f"{i},{cell}{',' * tail}" for i, cell in enumerate(written)]
    (tmp_path / "t.csv").write_text("id,a\n" + "\n".join(rows) + "\n")
    wanted = cells(open_table(tmp_path / "t.csv", "t"))
    monkeypatch.setattr("gnnscale.data.tables.text.lines.BYTES_AT_ONCE", 8)
    assert cells(open_table(tmp_path / "t.csv", "t")) == wanted
