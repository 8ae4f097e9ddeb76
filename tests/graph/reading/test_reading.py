"""What is given is read alike by every door, whatever it is called and whatever type it has."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.inference.evaluation import wanted_rows
from gnnscale.train.graphs import as_graphs, split_of_graphs

NODES = 7
RING = np.stack([np.arange(NODES), np.roll(np.arange(NODES), 1)])
ONE_RING = settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

#: A door takes arguments of `Graph.from_arrays` by name, and the folder it may write to.
DOORS = {
    "from_arrays": lambda folder, **given: Graph.from_arrays(RING, num_nodes=NODES, **given),
    "from_data": lambda folder, y=None, splits=None, **given: Graph.from_data(
        _data(y, (splits or {}).get("default", {})), **given
    ),
    "npz": lambda folder, **given: _from_npz(folder, **given),
    "build_graph": lambda folder, **given: gs.build_graph(folder / "g", NODES, [RING], **given),
    "from_edge_list": lambda folder, y=None, **given: gs.from_edge_list(
        _edges(folder), num_nodes=NODES, labels=y, **given
    ),
}


def _data(y, parts):
    data = Data(edge_index=torch.from_numpy(RING), num_nodes=NODES)
    if y is not None:
        data.y = torch.as_tensor(np.asarray(y))
    for name, part in parts.items():
        data[name if "_" in name else f"{name}_mask"] = part
    return data


def _edges(folder):
    np.save(folder / "e.npy", RING)
    return folder / "e.npy"


def _from_npz(folder, y=None, splits=None, **given):
    arrays = {"edge_index": RING, "num_nodes": np.array(NODES)}
    if y is not None:
        arrays["y"] = np.asarray(y)
    for name, part in (splits or {}).get("default", {}).items():
        arrays[name if "_" in name else f"{name}_mask"] = np.asarray(part)
    np.savez(folder / "a.npz", **arrays)
    return gs.load(folder / "a.npz", **given)


def in_turn(array):
    """The same in every type that may hold it."""
    for kind in ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "float32"):
        yield array.astype(kind)
    yield torch.from_numpy(array)
    yield torch.from_numpy(array).int()
    yield array.tolist()
    yield array.astype(int).tolist()
    yield pandas.Series(array.astype(int), index=range(1, 1 + len(array)))
    yield array.astype(float)[:, None]


MASKS = st.lists(st.booleans(), min_size=NODES, max_size=NODES).map(np.array)


@pytest.mark.parametrize("door", DOORS)
@ONE_RING
@given(MASKS, st.sampled_from(["val", "valid", "validation_mask", "dev"]), st.data())
def test_a_mask_is_a_mask_in_every_door(tmp_path, door, mask, name, data):
    kinds = list(in_turn(mask))
    train, val = (data.draw(st.sampled_from(range(len(kinds)))) for _ in range(2))
    splits = {"default": {"train": kinds[train], name: list(in_turn(~mask))[val]}}
    graph = DOORS[door](tmp_path, splits=splits)
    assert torch.equal(graph.train_mask, torch.from_numpy(mask))
    assert torch.equal(graph.val_mask, torch.from_numpy(~mask))
    assert not graph.test_mask.any()
    ids = {"default": {"train_idx": np.flatnonzero(mask), "val_idx": np.flatnonzero(~mask)[::-1]}}
    again = DOORS[door](tmp_path, splits=ids)
    assert torch.equal(again.train_mask, graph.train_mask)
    assert torch.equal(again.val_mask, graph.val_mask)


@ONE_RING
@given(MASKS)
def test_a_mask_chooses_rows(mask):
    ids = np.flatnonzero(mask).tolist()
    graphs = as_graphs([Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 0).long())] * NODES)
    for chosen in in_turn(mask):
        assert wanted_rows(chosen, NODES).tolist() == ids
        split = split_of_graphs(graphs, {"train": chosen})
        assert split.train.tolist() == mask.repeat(2).tolist()
    assert wanted_rows(ids[::-1], NODES).tolist() == ids[::-1] or ids in ([0], [1], [0, 1])
    assert wanted_rows([5, 2, 5], NODES).tolist() == [5, 2, 5]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"train_mask": [0, 1, 2, 0, 1, 2, 0]}, "train_mask holds 2; a mask holds booleans or 0"),
        ({"train_mask": np.full(NODES, 255, np.uint8)}, "train_mask holds 255"),
        ({"train_mask": [0, 1, np.nan, 0, 1, 1, 0]}, "train_mask holds nan"),
        ({"valid_mask": [1, 0, 1, 1]}, r"valid_mask has shape \(4,\); it must be \[7\]"),
        (
            {"train_idx": [0, 1, 1, 0, 1, 1, 0]},
            "is called ids .*: call a mask train_mask",
        ),
        ({"test_idx": [1.0, 2.0]}, "test_idx is torch.float64; ids of nodes are integers"),
        ({"test_idx": [-1]}, "-1"),
        ({"test_idx": [3, 7]}, "7"),
        ({"val_idx": [3], "dev_idx": [4]}, "_idx and .*_idx are the same part and differ"),
    ],
)
def test_what_is_no_set_of_nodes_is_refused_in_every_door(tmp_path, door, parts, words):
    parts = {name: np.asarray(part) for name, part in parts.items()}
    with pytest.raises(InputError, match=words):
        DOORS[door](tmp_path, splits={"default": parts})


@pytest.mark.parametrize("door", ["from_arrays", "build_graph", "from_edge_list"])
@pytest.mark.parametrize(
    ("part", "words"),
    [
        ([0, 1, 1, 0], "has 4 entries, all of them 0 or 1: a mask has 7"),
        ([1, 2, 2, 1, 1, 1, 2], "from 1 to 2, some of them repeated: a mask holds 0 and 1"),
        ([[True, False]] * NODES, r"shape \(7, 2\); it must be \[7\]"),
        ([True, False], r"shape \(2,\); it must be \[7\]"),
        ([None, 1], "object; give numbers"),
    ],
)
def test_without_a_name_that_says_it_values_do(tmp_path, door, part, words):
    with pytest.raises(InputError, match=words):
        DOORS[door](tmp_path, splits={"default": {"train": part}})


@pytest.mark.parametrize("chosen", [[0, 1], [1, 0], np.array([0, 1], np.int8)])
def test_what_may_be_both_is_asked_and_the_answers_work(chosen):
    with pytest.raises(InputError, match=r"may be a mask of 2 nodes or ids; for the mask") as asked:
        wanted_rows(chosen, 2)
    mask, ids = str(asked.value).partition("for the mask give ")[2].split(", for the ids ")
    assert wanted_rows(eval(mask), 2).tolist() == np.flatnonzero(chosen).tolist()
    assert wanted_rows(eval(ids), 2).tolist() == [0, 1]
    with pytest.raises(InputError, match="may be a mask of 2 nodes or ids"):
        Graph.from_arrays([[0], [1]], splits={"a": {"test": chosen}})
    assert wanted_rows(range(2), 2).tolist() == [0, 1]
    assert wanted_rows([1, 1], 2).tolist() == [0, 1] and wanted_rows([1.0, 0.0], 2).tolist() == [0]


def test_parts_that_overlap_are_said(caplog):
    parts = {"train": range(3), "val": [2, 3, 5], "test": [5, 6]}
    DOORS["from_arrays"](None, splits={"default": parts})
    assert "1 training nodes are also validation or test nodes" in caplog.text
    assert "1 validation nodes are also test nodes" in caplog.text


def test_a_mask_beside_the_data_stands_in_for_the_datas_own():
    data = _data(None, {"train": [1] * 3 + [0] * 4, "valid_idx": [3, 4]})
    graph = Graph.from_data(data, val_mask=[0] * 6 + [1])
    assert graph.train_mask.tolist() == [True] * 3 + [False] * 4
    assert graph.val_mask.nonzero().tolist() == [[6]]
    with pytest.raises(InputError, match="as masks or in splits, not both"):
        Graph.from_data(data, val_mask=[0] * 7, splits={"default": {"train": [1]}})
    data.train_mask = torch.eye(NODES, dtype=torch.int8)
    graph = Graph.from_data(data)
    assert [int(split.train.nonzero()) for split in graph.splits.values()] == [*range(NODES)]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ma.array([0, 1, 0, 1, 0, 1, 0], mask=[1] + [0] * 6), "1 entries are masked: fill them"),
        (torch.eye(NODES).to_sparse(), "is sparse; give it dense"),
        (np.array([None, 1] * 3 + [1], dtype=object), "is object; give numbers"),
        (np.array(["a", "b"]), "is <U1; give numbers"),
        ([[1, 2], [3]], "cannot be made an array"),
    ],
)
def test_what_is_no_plain_array_is_refused_by_name(array, words):
    for name in ("y", "train_mask", "edge_weight"):
        with pytest.raises(InputError, match=f"{name}.*{words}"):
            DOORS["from_arrays"](None, **{name: array})
    with pytest.raises(InputError, match=words):
        wanted_rows(array, NODES)
