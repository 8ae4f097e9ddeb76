"""Ids of nodes in files of any kind are the nodes they are of."""

from __future__ import annotations

import logging

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.data.tables import id_list
from gnnscale.data.tables.id_list import read_id_list
from gnnscale.data.tables.roles.evidence import called_as_ids
from gnnscale.errors import InputError
from gnnscale.graph import NodeNames
from gnnscale.storage.arrow import pyarrow


@settings(max_examples=40)
@given(
    st.sampled_from(["text", "integers", "numbers"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.sampled_from([None, "id", "person"]),
    st.sampled_from(["csv", "txt", "parquet"]),
    st.booleans(),
)
def test_ids_are_found_in_any_file(tmp_path_factory, kind, nodes, heading, suffix, wider):
    path = tmp_path_factory.mktemp("ids") / f"i.{suffix}"
    called = {"text": [f"n-{i}" for i in range(10)], "integers": [7 * i + 3 for i in range(10)]}
    names = None
    if kind == "text":
        names = NodeNames.from_arrow(pyarrow.array(called["text"]))
    elif kind == "integers":
        names = NodeNames(torch.tensor(called["integers"]))
    ids = [called[kind][i] if kind in called else i for i in nodes]
    frame = pd.DataFrame({heading or "0": ids})
    if wider and suffix == "csv" and heading == "id":
        frame.insert(0, "score", [0.5] * len(ids))
    if suffix == "parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, header=heading is not None)
    assert read_id_list(path, names).tolist() == nodes


def test_what_is_no_id_is_named(tmp_path):
    path = tmp_path / "i.txt"
    path.write_text("a\nb\nzz\n")
    names = NodeNames.from_arrow(pyarrow.array(["a", "b"]))
    with pytest.raises(InputError, match="'zz'"):
        read_id_list(path, names)
    with pytest.raises(InputError, match="--nodes"):
        read_id_list(path, None)
    path.write_text("")
    assert read_id_list(path, names).tolist() == []
    path.write_text("score,other\n1,2\n")
    with pytest.raises(InputError, match="none of which is called id"):
        read_id_list(path, None)


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
    st.sampled_from([None, "id", "name", "City"]),
    st.sampled_from(["txt", "csv", "tsv"]),
    st.booleans(),
)
def test_ids_with_blanks_and_commas(tmp_path_factory, nodes, heading, suffix, plain):
    called = ["New York", "Los Angeles", "Rome", "San  Marino", "Paris, Texas", "New"]
    names = NodeNames.from_arrow(pyarrow.array(called))
    path = tmp_path_factory.mktemp("ids") / f"i.{suffix}"
    lines = [heading] * (heading is not None) + [called[i] for i in nodes]
    if plain:
        path.write_text("".join(f"{line}\n" for line in lines))
    else:
        pd.Series(lines).to_csv(path, index=False, header=False)  # in quotes where it must be
    assert read_id_list(path, names).tolist() == nodes
    path.write_text(path.read_text() + "New Rome\n")
    with pytest.raises(InputError):
        read_id_list(path, names)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(range(4)), min_size=1, max_size=5),
    st.sampled_from(["New Yrok", "Lodnon", "p-99", "id", "node_id", "name", "Paris, Texas, x"]),
    st.sampled_from([["New York", "London", "p-1", "Paris, Texas"], ["a", "b", "c", "d"]]),
)
def test_a_first_row_that_is_no_id_is_never_left_out_in_silence(
    tmp_path_factory, nodes, first, called
):
    path = tmp_path_factory.mktemp("ids") / "i.txt"
    path.write_text("\n".join([first, *(called[i] for i in nodes)]))
    warned = []
    handler = logging.Handler()
    handler.emit = lambda record: warned.append(record.getMessage())
    logging.getLogger("gnnscale").addHandler(handler)
    try:
        found = read_id_list(path, NodeNames.from_arrow(pyarrow.array(called)))
    except InputError:
        return
    finally:
        logging.getLogger("gnnscale").removeHandler(handler)
    assert found.tolist() == nodes
    assert called_as_ids(first) or [repr(first) in one for one in warned] == [True]


def test_a_list_of_any_length_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(id_list, "_BYTES_AT_ONCE", 7)
    path = tmp_path / "i.txt"
    path.write_bytes("\ufeffSão Tomé\r\n\r\nLos Angeles\r\nSão Tomé".encode())
    names = NodeNames.from_arrow(pyarrow.array(["Los Angeles", "São Tomé"]))
    assert read_id_list(path, names).tolist() == [1, 0, 1]
    assert names.look_up(["Rome", "São Tomé"]).tolist() == [-1, 1]
