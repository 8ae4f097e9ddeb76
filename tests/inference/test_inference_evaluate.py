"""Metrics and predictions of a whole graph, in whatever order it is stored."""

from __future__ import annotations

import errno
import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.inference import evaluate, make_metric, predict
from gnnscale.nn import Block, LayeredGNN
from tests.helpers.layers import assert_equal, evaluated, few, shaken
from tests.helpers.strategies import graphs

CHUNKS = st.sampled_from([1, 2, 5, None])


def sage() -> LayeredGNN:
    blocks = [Block(pyg.SAGEConv(5, 4), "graph_norm"), Block(pyg.SAGEConv(4, 3), act=None)]
    return shaken(LayeredGNN(blocks))


def reordered(graph: Graph, position: torch.Tensor) -> Graph:
    """The graph with node i moved to `position[i]`."""
    back = position.argsort()
    return Graph.from_arrays(
        position[graph.edge_index], graph.x[back], graph.y[back], num_nodes=graph.num_nodes
    )


@few
@given(graphs(min_nodes=2, weighted=False, unlabelled=True), CHUNKS)
def test_evaluate_leaves_unlabelled_nodes_out(graph, chunk_rows):
    model = sage()
    rows = {name: graph.split()[name] for name in ("train", "val", "test")}
    metrics = {name: [make_metric("accuracy"), make_metric("f1_macro")] for name in rows}
    found = evaluate(model, graph, rows, metrics, chunk_rows=chunk_rows)
    out = evaluated(model, graph)
    assert list(found) == ["train", "val", "test"]
    for name, mask in rows.items():
        assert list(found[name]) == ["accuracy", "f1_macro"]
        chosen = mask & (graph.y >= 0)
        if not chosen.any():
            assert math.isnan(found[name]["accuracy"])
            continue
        right = (out[chosen].argmax(1) == graph.y[chosen]).double().mean()
        assert found[name]["accuracy"] == pytest.approx(right.item())


@few
@given(graphs(min_nodes=2), CHUNKS, st.booleans())
def test_evaluate_regression_and_labels(graph, chunk_rows, whole_numbers):
    model = sage()
    every = torch.ones(graph.num_nodes, dtype=torch.bool)
    out = evaluated(model, graph)
    graph.task = "regression"
    graph.y = torch.randint(-5, 5, out.shape) if whole_numbers else torch.randn(out.shape)
    if not whole_numbers:
        graph.y[0] = float("nan")
    found = evaluate(
        model, graph, {"all": every}, {"all": [make_metric("mae")]}, chunk_rows=chunk_rows
    )
    error = (out - graph.y).abs()
    assert found["all"]["mae"] == pytest.approx(error[~error.isnan()].mean().item())
    graph.task, graph.y = "multilabel", torch.randint(0, 2, out.shape)
    found = evaluate(model, graph, {"all": every}, {"all": [make_metric("accuracy")]})
    right = ((out > 0) == (graph.y == 1)).double().mean()
    assert found["all"]["accuracy"] == pytest.approx(right.item())


def test_negative_targets_are_targets():
    model = LayeredGNN([Block(nn.Linear(1, 1), act=None)])
    y = torch.tensor([-3, 2, -1])
    graph = Graph.from_arrays(torch.zeros(2, 0, dtype=torch.int64), torch.randn(3, 1), y,
                              num_nodes=3, task="regression", num_classes=1)  # fmt: skip
    found = evaluate(model, graph, {"all": torch.ones(3).bool()}, {"all": [make_metric("mae")]})
    expected = (evaluated(model, graph).squeeze(1) - graph.y).abs().mean().item()
    assert found["all"]["mae"] == pytest.approx(expected)


def test_evaluate_wants_labels_of_nodes():
    model = sage()
    graph = Graph.from_arrays(torch.zeros(2, 0, dtype=torch.int64), torch.randn(3, 5), num_nodes=3)
    with pytest.raises(InputError, match="node-level labels"):
        evaluate(model, graph, {}, {})


@few
@given(graphs(min_nodes=2, weighted=False), CHUNKS, st.integers(0, 1000), st.data())
def test_predictions_come_in_the_original_order(graph, chunk_rows, seed, data):
    model = sage()
    out = evaluated(model, graph)
    n = graph.num_nodes
    position = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    moved = reordered(graph, position)
    for stored, where in ((graph, None), (moved, position)):
        options = {"position": where, "chunk_rows": chunk_rows}
        assert_equal(predict(model, stored, **options), out, 1e-8)
        some = data.draw(st.lists(st.integers(0, n - 1), max_size=2 * n))  # duplicates too
        wanted = out[torch.tensor(some, dtype=torch.int64)]
        for nodes in (some, np.array(some, dtype=np.int32)):
            assert_equal(predict(model, stored, nodes=nodes, **options), wanted, 1e-8)
        mask = torch.zeros(n, dtype=torch.bool)
        mask[some] = True
        assert_equal(predict(model, stored, nodes=mask, **options), out[mask], 1e-8)


@pytest.fixture
def graph() -> Graph:
    random = torch.Generator().manual_seed(0)
    edges = torch.randint(0, 9, (2, 20), generator=random)
    return Graph.from_arrays(edges, torch.randn(9, 5, generator=random).double(), num_nodes=9)


@pytest.mark.parametrize("nodes", [None, [4, 1, 1, 8], []])
def test_predictions_go_to_a_file(graph, tmp_path, nodes):
    model = sage()
    path = tmp_path / "new" / "out.npy"
    for _ in range(2):  # an older file is replaced
        found = predict(model, graph, nodes=nodes, out=path, chunk_rows=2)
        assert_equal(found, predict(model, graph, nodes=nodes))
        assert np.array_equal(np.load(path), found.numpy())
        assert os.listdir(path.parent) == ["out.npy"]
    found += 1  # the map is the caller's own
    assert_equal(torch.from_numpy(np.load(path)), predict(model, graph, nodes=nodes))


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_cannot_be_written(graph, tmp_path, monkeypatch):
    model = sage()
    path = tmp_path / "out.npy"
    path.write_bytes(b"as it was")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="No space left"):
        predict(model, graph, out=path)
    assert path.read_bytes() == b"as it was"
    assert os.listdir(tmp_path) == ["out.npy"]
    with pytest.raises(StoreError):
        predict(model, graph, out=path / "below a file.npy")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([0, 9], r"nodes holds ids in \[0, 9\]; allowed is \[0, 8\]"),
        ([-1], r"nodes holds ids in \[-1, -1\]"),
        (torch.ones(8, dtype=torch.bool), r"mask nodes has shape \(8,\); it must be \[9\]"),
        ([0.5, 1.0], "nodes is torch.float64; ids of nodes are integers"),
    ],
)
def test_nodes_that_are_not_there(graph, nodes, words):
    with pytest.raises(InputError, match=words):
        predict(sage(), graph, nodes=nodes)
