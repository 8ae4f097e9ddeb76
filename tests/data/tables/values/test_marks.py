"""Numbers as people write them read back as they were, or are asked about: never otherwise."""

from __future__ import annotations

import csv
import logging

import pandas as pd
import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.tables.values.marks import Doubt, Marks, is_marked, marks_of
from gnnscale.errors import InputError
from gnnscale.storage.arrow import pyarrow

quick = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MONEY = ["$", "€", "USD"]
STYLES = st.fixed_dictionaries(
    {
        "thousands": st.sampled_from(["", ",", ".", "'", "\u2019", " ", "\u00a0", "\u202f"]),
        "decimal": st.sampled_from([".", ","]),
        "places": st.integers(0, 4),
        "unit": st.sampled_from(["", "{}%", "{} %", "${}", "{} €", "€ {}", "USD {}", "{}kg"]),
        "minus": st.sampled_from(["-{}", "\u2212{}", "({})", "{}-"]),
        "word": st.sampled_from(["", "n.a.", "-", "?", "Unknown", "N/A"]),
    }
).filter(lambda style: style["thousands"] != style["decimal"])
NUMBERS = st.lists(st.integers(-(10**10), 10**10), min_size=2, max_size=12)


def written(number: int, style: dict) -> str:
    """So many of the last decimal place, as this style has it."""
    whole, rest = divmod(abs(number), 10 ** style["places"])
    text = f"{whole:,}".replace(",", style["thousands"])
    if style["places"]:
        text += style["decimal"] + f"{rest:0{style['places']}d}"
    text = style["unit"].format(text) if style["unit"] else text
    return style["minus"].format(text) if number < 0 else text


def column(numbers, style):
    """Cells, and the numbers in them; every fifth is a word for none."""
    words = [style["word"] != "" and i % 5 == 4 for i in range(len(numbers))]
    cells = [
        style["word"] if none else written(n, style) for n, none in zip(numbers, words, strict=True)
    ]
    scale = 10 ** style["places"]
    return cells, [None if w else n / scale for n, w in zip(numbers, words, strict=True)]


def sign_of(style) -> str:
    """The decimal sign that is meant, as a user knows it."""
    return (
        style["decimal"] if style["places"] else {",": ".", ".": ","}.get(style["thousands"], ".")
    )


def as_decimals(style) -> bool:
    """Whether 1.234 are thousands, which are decimals where nobody says otherwise."""
    money = any(sign in style["unit"] for sign in MONEY)
    return style["thousands"] == "." and not style["places"] and not money


@settings(deadline=None, max_examples=300)
@given(NUMBERS, STYLES, st.sampled_from([1, 3, 99]), st.booleans())
def test_a_style_reads_back_or_is_asked(numbers, style, at_once, told):
    cells, wanted = column(numbers, style)
    chunks = [pyarrow.array(cells[i : i + at_once]) for i in range(0, len(cells), at_once)]
    if as_decimals(style) and not told:
        return
    found = marks_of(chunks, sign_of(style) if told else "")
    if isinstance(found, Doubt):
        negative = style["minus"] in ("({})", "{}-") and all(n < 0 for n in wanted if n)
        assert negative or (f"decimal={sign_of(style)!r}" in found.ways and not told)
    elif found.plain:
        bare = {c for c in cells if c != style["word"]}
        assert not style["unit"] and all(
            c.strip("-\u2212").replace(".", "", 1).isdecimal() for c in bare
        )
    if isinstance(found, Marks):
        read = [value for chunk in chunks for value in found.read(chunk).to_pylist()]
        assert read == wanted
        assert found.missing == ((style["word"],) if None in wanted else ())
        assert found.whole is (style["places"] == 0)


@pytest.mark.parametrize(
    "cells",
    [
        ["12:30", "9:05"],
        ["1.2.3", "2.0.1"],
        ["192.168.0.1", "10.0.0.7"],
        ["2020-01-02", "2020-02-03"],
        ["007 kg", "012 kg"],
        ["1,2,3", "4,5,6"],
        ["item 5", "item 7"],
        ["12a", "14b"],
        ["3 4", "5 6"],
        ["1/2", "3/4"],
        ["5.-", "7.-"],
        ["red", "?", "5"],
        ["?", "-"],
        ["<5", "7"],
        ["Rs.500", "Rs.700"],
        [],
    ],
)
def test_what_is_no_column_of_numbers(cells):
    assert marks_of([pyarrow.array(cells, pyarrow.string())]) is None


@pytest.mark.parametrize(
    ("cells", "found", "ways"),
    [
        (
            ["1,234", "2,345"],
            "'1,234', which may be 1234 or 1.234",
            "say decimal='.' for the first",
        ),
        (
            ["€1.234", "€999"],
            "'€1.234', which may be 1234 or 1.234",
            "say decimal=',' for the first",
        ),
        (["5kg", "300g"], "'5kg' and '300g', of several units", ""),
        (["5", "12%"], "'5' and '12%', of several units", ""),
        (["(5)", "(7)"], "'(5)', and no number that is not written so", ""),
        (["1,234.5", "1.234,5"], "numbers written in several ways", ""),
    ],
)
def test_what_is_in_doubt(cells, found, ways):
    doubt = marks_of([pyarrow.array(cells)])
    assert isinstance(doubt, Doubt) and found in doubt.found and doubt.ways.startswith(ways)


@pytest.mark.parametrize(
    ("cells", "wanted", "words"),
    [
        (["1,234", "1,234,567"], [1234, 1234567], "numbers, thousands marked by ','"),
        (["12,34,567", "1,000"], [1234567, 1000], "numbers, thousands marked by ','"),
        (["0,123", "1,234"], [0.123, 1.234], "numbers, decimal comma"),
        (["1.234,56", "7,5"], [1234.56, 7.5], "numbers, thousands marked by '.', decimal comma"),
        (["$(1,000.50)", "$2.00"], [-1000.5, 2],
         "numbers, thousands marked by ',', each with '$', negative in brackets"),
        (["-€5", "€-7", "0"], [-5, -7, 0], "numbers, each with '€'"),
        (["5-", "7"], [-5, 7], "numbers, minus behind"),
        (["1e3 kg", "2.5 kg"], [1000, 2.5], "numbers, each with 'kg'"),
        (["5", "-", " n.a. "], [5, None, None], "numbers, '-', 'n.a.' missing"),
    ],
)  # fmt: skip
def test_what_is_said(cells, wanted, words):
    found = marks_of([pyarrow.array(cells)])
    assert isinstance(found, Marks) and found.words == words
    assert found.read(pyarrow.array(cells)).to_pylist() == wanted


def test_cells_that_may_be_numbers():
    assert all(map(is_marked, ["5", "-5", "1,5", "5 %", "(3)", "$1,000.00", "0.5"]))
    assert not any(map(is_marked, ["", "a", "007", "5x", "1-2", "inch"]))


@quick
@given(NUMBERS, STYLES, st.sampled_from([",", ";", "\t", "memory"]), st.booleans())
def test_features_weights_and_labels_are_the_plain_ones(tmp_path, numbers, style, sep, told):
    """The graph of a table in any style is that of its plain numbers."""
    if as_decimals(style) and not told:
        return
    n = len(numbers)
    ids = [f"p{i}" for i in range(n)]
    cells, wanted = column(numbers, style)
    ends = {"source": ids, "target": ids[1:] + ids[:1]}
    whole, _ = column(numbers, {**style, "word": ""})
    found = [marks_of([pyarrow.array(texts)]) for texts in (whole, cells)]
    if sep == "memory" and any(isinstance(marks, Marks) and marks.plain for marks in found):
        return  # numbers that somebody made text of stay text

    def graph(weights, values, labels, **options):
        tables = {
            "e.csv": pd.DataFrame({**ends, "weight": weights}),
            "n.csv": pd.DataFrame({"id": ids, "a": values, "y": labels}),
        }
        if sep != "memory":
            for name, frame in tables.items():
                frame.to_csv(tmp_path / name, sep=sep, index=False, quoting=csv.QUOTE_MINIMAL)
            tables = {name: tmp_path / name for name in tables}
        return gs.from_edge_list(
            *tables.values(), labels="y", task="regression", undirected=False, **options
        )

    scale = 10 ** style["places"]
    plain = graph([k / scale for k in numbers], wanted, [k / scale for k in numbers])
    try:
        read = graph(
            whole,
            cells,
            whole,
            **({"decimal": dict.fromkeys(("edges", "features"), sign_of(style))} if told else {}),
        )
    except InputError as error:
        assert any(word in str(error) for word in ("decimal=", "write all", "; say sep="))
        return
    assert read.feature_names == plain.feature_names
    assert read.x.flatten().tolist() == pytest.approx(plain.x.flatten().tolist(), rel=1e-5)
    assert read.edge_weight.tolist() == pytest.approx(plain.edge_weight.tolist(), rel=1e-6)
    assert read.y.flatten().tolist() == pytest.approx(plain.y.flatten().tolist(), rel=1e-6)


EDGES = pd.DataFrame({"source": ["a", "b", "c", "d"], "target": ["b", "c", "d", "a"]})
IDS = ["a", "b", "c", "d"]


def nodes(**columns):
    return pd.DataFrame({"id": IDS, **columns})


def test_it_is_said_in_the_line_of_the_column(caplog):
    caplog.set_level(logging.INFO)
    table = nodes(income=["1,234", "2,345,678", "?", "9"], age=["5 kg", "7 kg", "3 kg", "9 kg"])
    graph = gs.from_edge_list(EDGES, table)
    assert (
        "`income`: feature (numbers, thousands marked by ',', '?' missing; standardised, being up "
        "to 2.34568e+06; recipe={'income': 'as is'} leaves it)"
    ) in caplog.text
    assert "`age`: feature (numbers, each with 'kg')" in caplog.text
    assert gs.from_edge_list(EDGES, polars.from_pandas(table)).x.tolist() == graph.x.tolist()
    assert graph.feature_names == ("income", "income missing", "age")


def test_another_table_is_read_as_the_first_was():
    first = gs.from_edge_list(EDGES, nodes(a=["1,234.5", "2,345.5", "3.5", "4.5"]))
    later = gs.from_edge_list(
        EDGES, nodes(a=["1,234", "2,345", "3,456", "4,567"]), recipe=first.schema
    )
    plain = gs.from_edge_list(EDGES, nodes(a=[1234, 2345, 3456, 4567]), recipe=first.schema)
    assert later.x.tolist() == plain.x.tolist()
    text = gs.from_edge_list(EDGES, nodes(a=["5%", "7%", "5%", "9%"]), recipe={"a": "one-hot"})
    assert text.feature_names == ("a=5%", "a=7%", "a=9%")
    again = gs.from_edge_list(EDGES, nodes(a=["5%", "5%", "5%", "9%"]), recipe=text.schema)
    assert again.x[:, 0].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (nodes(a=["1,234", "2,345", "3,456", "4,567"]),
         ["which may be 1234 or 1.234", "decimal={'features': '.'}", "decimal={'features': ','}",
          "recipe={'a': 'one-hot'}"]),
        (nodes(a=["12x", "13x", "14x", "15x"]),
         ["numbers with 'x'", "recipe={'a': 'as is'}", "recipe={'a': 'one-hot'}"]),
        (nodes(label=["1", "2", "unknown", "1"]), ["holds 'unknown': a class, or no label"]),
    ],
)  # fmt: skip
def test_what_is_asked(table, words):
    with pytest.raises(InputError) as caught:
        gs.from_edge_list(EDGES, table)
    assert all(word in str(caught.value) for word in words)


def test_the_words_that_answer():
    table = nodes(a=["1,234", "2,345", "3,456", "4,567"], b=["12x", "13x", "14x", "15x"])
    recipe = {"a": "as is", "b": "as is"}
    for sign, first in ((".", 1234), (",", 1.234)):
        graph = gs.from_edge_list(EDGES, table, recipe=recipe, decimal={"features": sign})
        assert graph.x[0].tolist() == pytest.approx([first, 12])
    with pytest.raises(InputError, match="decimal=';': what stands before decimals"):
        gs.from_edge_list(EDGES, table, decimal=";")


def test_ids_are_never_numbers_with_marks():
    edges = pd.DataFrame({"source": ["1,234,567", "5%"], "target": ["5%", "$7"]})
    assert gs.from_edge_list(edges).names[:].tolist() == ["$7", "1,234,567", "5%"]


def test_numbers_that_are_marked_after_the_sample(tmp_path):
    n = 70_000
    EDGES.to_csv(tmp_path / "e.csv", index=False)
    cells = [str(i % 900) for i in range(n - 1)] + ['"1,234,567"']
    rows = "".join(f"{IDS[i] if i < 4 else i},{cell}\n" for i, cell in enumerate(cells))
    (tmp_path / "n.csv").write_text(f"id,a\n{rows}")
    graph = gs.from_edge_list(tmp_path / "e.csv", tmp_path / "n.csv", recipe="as is")
    assert graph.x.shape == (n, 1) and graph.x.max() == 1234567


def test_edges_with_marked_numbers_are_asked_about_as_others():
    with pytest.raises(
        InputError, match=r"column 'fee' .* may be weights of the edges: say weight"
    ):
        gs.from_edge_list(EDGES.assign(fee=["$1", "$2", "$3", "$4"]))
    weighted = gs.from_edge_list(EDGES.assign(fee=["$1", "$2", "$3", "$4"]), weight="fee")
    assert sorted(weighted.edge_weight.tolist()) == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["5", "n.a.", "7", "9"], "1 cells of edges: weight are empty or 'n.a.'"),
        (["5", "many", "7", "9"], "column 'weight' .text such as 'many'. is called as weights are"),
        (["1,234", "2,345", "1,000", "9"], "may be 1234 or 1.234: say decimal='.' for the first"),
        (["5kg", "300g", "1kg", "2kg"], "'5kg' and '300g', of several units: write all in one way"),
    ],
)
def test_weights_that_are_asked_about(weights, message):
    with pytest.raises(InputError, match=message):
        gs.from_edge_list(EDGES.assign(weight=weights))


def test_labels_with_marks_are_quantities_or_asked():
    with pytest.raises(InputError, match="classes, or quantities"):
        gs.from_edge_list(EDGES, nodes(label=["10%", "20%", "10%", "30%"]))
    graph = gs.from_edge_list(EDGES, nodes(label=["10%", "20%", "10%", "30%"]), task="regression")
    assert graph.y.flatten().tolist() == [10, 20, 10, 30]
