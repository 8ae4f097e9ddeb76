"""Other people's files are read as their own readers read them: benchmarks/formats.py."""

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest

import gnnscale as gs
from gnnscale.graph.names import NodeNames

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def formats():
    """The script, and its package of layouts, which has modules called as libraries are."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import formats

        yield formats
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_what_is_different_is_found(formats):
    """An edge, what it carries, a feature, a label, a name, a split."""
    from layouts.content import Content, differences

    def content(**changed):
        given = {
            "edges": np.array([[0, 1, 1], [1, 2, 2]]),
            "num_nodes": 3,
            "nodes": ["a", "b", "c"],
            "carried": {"edge_weight": np.array([1, 2, 3])},
            "x": np.arange(6).reshape(3, 2),
            "y": np.array([0, 1, -1]),
            "splits": {"train": [True, False, False]},
        }
        return Content(**given | changed)

    same = content()
    graph = gs.Graph.from_arrays(
        same.edges[:, ::-1].copy(),
        same.x.astype(np.float32),
        same.y,
        edge_weight=same.carried["edge_weight"][::-1].copy(),
        train_mask=np.array(same.splits["train"]),
    )
    graph.names = NodeNames.from_arrow(pyarrow.array(same.nodes))
    assert differences(graph, same) == []
    moved = content(nodes=["c", "a", "b"], edges=(same.edges + 1) % 3, x=same.x[[2, 0, 1]],
                    y=same.y[[2, 0, 1]], splits={"train": [False, True, False]})  # fmt: skip
    assert differences(graph, moved) == []
    for changed in (
        {"edges": same.edges[::-1]},
        {"edges": same.edges[:, [0, 1, 0]]},
        {"edges": same.edges[:, :2], "carried": {"edge_weight": np.array([1, 2])}},
        {"undirected": True},
        {"carried": {}},
        {"carried": {"edge_weight": np.array([1, 3, 3])}},
        {"carried": dict(same.carried, edge_attr=np.ones((3, 1)))},
        {"x": same.x[::-1]},
        {"x": None},
        {"y": np.array([0, 1, 1])},
        {"y": np.array(["a", "b", ""])},
        {"nodes": ["a", "b", "d"]},
        {"splits": {"train": [True, True, False]}},
        {"splits": {"test": [True, False, False]}},
        {"node_ptr": [0, 1, 3]},
    ):
        assert differences(graph, content(**changed)), changed


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_no_layout_is_read_otherwise_in_silence(formats, capsys):
    status = formats.main(["--no-results"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert not re.search(r"\d not read", printed), printed
