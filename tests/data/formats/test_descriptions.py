"""Folders whose JSON or YAML says something else than it should: named, or another good graph."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from tests.data.formats import test_dgl_folders, test_graphstorm, test_json_sets

ONE_EDGE = "src_id,dst_id,w\n0,1,2\n"
ONE_NODE = "node_id,feat,label\n0,1,0\n1,2,1\n"


def csv_dataset(folder: Path) -> None:
    meta = {
        "node_data": [{"file_name": "nodes.csv", "ntype": "n"}],
        "edge_data": [{"file_name": "edges.csv", "etype": ["n", "e", "n"]}],
        "graph_data": {"file_name": "graphs.csv"},
        "separator": ",",
        "version": "1.0.0",
    }
    graphs = "graph_id,label\n0,1\n"
    test_dgl_folders.write(folder, meta, nodes=ONE_NODE, edges=ONE_EDGE, graphs=graphs)


MAKERS = {
    "meta.yaml": csv_dataset,
    "metadata.yaml": lambda f: test_dgl_folders.on_disk_folder(f, "numpy", "numpy"),
    "config.json": test_graphstorm.write,
    "role.json": lambda f: test_json_sets.saint(f, {str(i): i % 3 for i in range(14)}),
    "class_map.json": lambda f: test_json_sets.saint(f, {str(i): [i % 2, 1] for i in range(14)}),
    "toy-G.json": lambda f: test_json_sets.sage(f, [*range(5)]),
    "toy-id_map.json": lambda f: test_json_sets.sage(f, [*range(5)]),
    "toy-class_map.json": lambda f: test_json_sets.sage(f, [*range(5)]),
    "g.jsonl": lambda f: (
        f.mkdir(),
        (f / "g.jsonl").write_text(json.dumps(test_json_sets.LINES[0])),
    ),
}
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**70), st.floats(), st.text(max_size=3),
    st.just([]), st.just({}), st.just(["a"]), st.just([1, 2]), st.just({"a": 1}), st.just([[1]]),
    st.just("../x"), st.just([None]),
)  # fmt: skip


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            yield from places(value, (*path, key))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("descriptions")
    for name, make in MAKERS.items():
        make(root / name)
    return root


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=25)
@given(data=st.data())
def test_what_a_description_says_wrongly_is_named(folders, name, data):
    file = folders / name / name
    sound = file.read_text()
    read, write = (yaml.safe_load, yaml.safe_dump) if "yaml" in name else (json.loads, json.dumps)
    content = copy.deepcopy(read(sound))
    place = data.draw(st.sampled_from([*places(content)]))
    value = data.draw(VALUES)
    if not place:
        content = value
    else:
        holder = content
        for key in place[:-1]:
            holder = holder[key]
        if data.draw(st.booleans()):
            holder[place[-1]] = value
        else:
            del holder[place[-1]]
    try:
        file.write_text(write(content))
        graph = gs.load(folders / name)
        graph.check()
    except gs.GnnscaleError as error:
        assert str(error)
    finally:
        file.write_text(sound)
