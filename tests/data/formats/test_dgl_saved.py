"""Files of dgl.save_graphs, which DGL 1.1.3 has written (see dgl_files/make.py)."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.formats.dgl import saved
from tests.data.formats.dgl_files import make
from tests.helpers.same_graph import assert_edges, assert_nodes, assert_split


def assert_small(graph: gs.Graph, expected: dict) -> None:
    nodes, values = expected["nodes"], expected["edge_values"]
    assert_nodes(graph, nodes["feat"], nodes["label"])
    assert_split(graph, train=nodes["train_mask"], val=nodes["val_mask"], test=nodes["test_mask"])
    assert_edges(graph, expected["edges"], edge_weight=values["weight"], edge_attr=values["feat"])


@pytest.mark.parametrize("seed", range(len(make.FORMATS)))
def test_a_graph_is_read_in_every_format(seed):
    graph = gs.load(make.HERE / f"{make.FORMATS[seed]}.bin")
    assert_small(graph, make.small(seed))
    again = gs.load(graph.source)
    assert_small(again, make.small(seed))


@pytest.mark.parametrize("kind", make.FORMATS)
def test_a_large_graph_is_built_on_disk(kind, monkeypatch):
    monkeypatch.setattr(saved, "LARGE", 0)
    seed = make.FORMATS.index(kind)
    for _ in range(2):  # built, and opened
        graph = gs.load(make.HERE / f"{kind}.bin", edge_features="none")
        expected = make.small(seed)
        nodes = expected["nodes"]
        assert_nodes(graph, nodes["feat"], nodes["label"])
        assert_split(graph, train=nodes["train_mask"], val=nodes["val_mask"])
        assert_edges(graph, expected["edges"], edge_weight=expected["edge_values"]["weight"])


def test_several_graphs_are_numbered_through():
    graph = gs.load(make.HERE / "several.bin")
    sizes = [each["num_nodes"] for each in make.SEVERAL]
    first = np.cumsum([0, *sizes])
    assert graph.node_ptr.tolist() == first.tolist()
    assert graph.y_level == "graph"
    x = np.concatenate([each["nodes"]["feat"] for each in make.SEVERAL])
    assert_nodes(graph, x, make.GRAPH_LABELS)
    edges = [each["edges"] + start for each, start in zip(make.SEVERAL, first, strict=False)]
    carried = [
        np.concatenate([g["edge_values"][k] for g in make.SEVERAL]) for k in ("weight", "feat")
    ]
    assert_edges(graph, np.concatenate(edges, axis=1), edge_weight=carried[0], edge_attr=carried[1])


def test_types_are_refused_by_name_or_made_one_node_space():
    path = make.HERE / "typed.bin"
    with pytest.raises(gs.InputError, match=r"author, paper.*homogeneous=True"):
        gs.load(path)
    graph = gs.load(path, homogeneous=True)
    authors = make.TYPES["author"]
    writes, cites = make.RELATIONS.values()
    edges = np.concatenate([writes + np.array([[0], [authors]]), cites + authors], axis=1)
    assert_edges(graph, edges, edge_type=[0] * 3 + [1] * 3)
    assert_nodes(
        graph, np.concatenate([*make.TYPED_FEATURES.values()]), [-1] * authors + [0, 1, 0, 1]
    )
    assert graph.node_type.tolist() == [0] * authors + [1] * make.TYPES["paper"]


def test_what_is_not_said_by_names_is_asked():
    path = make.HERE / "coo.bin"
    with pytest.raises(gs.InputError, match=r"features='h'.*there are .*feat"):
        gs.load(path, features="h")
    with pytest.raises(gs.InputError, match="labels='team'"):
        gs.load(path, labels="team")
    bare = gs.load(path, features="none", labels="none", edge_features="weight")
    assert bare.x is None and bare.y is None and bare.edge_weight is None
    assert_edges(bare, make.small(0)["edges"], edge_attr=make.small(0)["edge_values"]["weight"])


@given(st.data())
def test_a_damaged_file_is_named_and_never_another_error(tmp_path_factory, data):
    """Whatever byte is another, and wherever the file ends."""
    kind = data.draw(st.sampled_from(["coo", "csr", "csc", "several", "typed"]))
    content = bytearray((make.HERE / f"{kind}.bin").read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(8, len(content) - 1))]
    else:
        place = data.draw(st.one_of(st.integers(8, 31), st.integers(4096, len(content) - 1)))
        content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "g.bin"
    path.write_bytes(content)
    try:
        graph = gs.load(path, homogeneous=True)
    except gs.GnnscaleError as error:
        assert str(path) in str(error)
    else:
        graph.check()


def test_a_version_of_before_2020_is_named(tmp_path):
    content = bytearray((make.HERE / "coo.bin").read_bytes())
    content[8] = 1
    path = tmp_path / "old.bin"
    path.write_bytes(content)
    with pytest.raises(gs.InputError, match=r"version 1.*dgl\.save_graphs"):
        gs.load(path)


def test_the_name_of_the_file_does_not_matter(tmp_path):
    path = Path(shutil.copy(make.HERE / "coo.bin", tmp_path / "graph"))
    assert_small(gs.load(path), make.small(0))
