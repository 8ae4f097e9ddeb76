"""What streams keep: rows in memory as in files, in half precision, dense or sparse."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.inference.activations import ActivationsInMemory
from gnnscale.kernels import CSR
from gnnscale.train.layerwise.streams import AGGREGATED
from tests.helpers.layers import assert_equal, dense
from tests.helpers.small_runs import small_graph
from tests.helpers.strategies import dense_adjacency, graphs
from tests.train.layerwise.layerwise_cases import (
    CLASSES,
    HIDDEN,
    IN,
    MODELS,
    kept,
    place_of,
    stream_of,
    walked,
)


@torch.no_grad()
def collected(model, graph, place="memory", rows=torch.float32, **options):
    """Everything that every section reads of all nodes, and the output."""
    everything = torch.arange(graph.num_nodes)
    found = []
    with place_of(place, graph) as of_place:
        stream = stream_of(model, graph, rows, **of_place, **options)
        for _, (whole,) in walked(model, stream, [everything]):
            found.append({slot: kept(whole, slot).clone() for slot in whole.parts})
        found.append({"output": dense(stream.layer.rows(0, graph.num_nodes)).clone()})
    return found


@pytest.mark.parametrize("name", ["GCN, narrow", "SAGE", "GIN", "TAG", "GCNII", "JK cat", "SIGN"])
@settings(max_examples=3)
@given(
    graph=graphs(min_nodes=2, max_nodes=40, sparse_x=None, dtype=torch.float32),
    chunk_rows=st.sampled_from([16, 1000]),
)
def test_files_hold_what_memory_does_bit_for_bit(name, graph, chunk_rows):
    # Dense products depend, in their last bit, on whether a chunk begins at a cache line.
    model = MODELS[name]().eval()
    expected = collected(model, graph, chunk_rows=chunk_rows)
    for place in ("files", "columns"):
        found = collected(model, graph, place, chunk_rows=chunk_rows)
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[slot], theirs[slot]) for slot in mine)


@settings(max_examples=8)
@given(graphs(min_nodes=2, sparse_x=None, weighted=False), st.integers(1, 3))
def test_against_matrices_written_out(graph, hops):
    """GCN's, GraphSAGE's, GIN's and SGC's propagation of the first layer, from the papers."""
    a, n = dense_adjacency(graph), graph.num_nodes
    x = dense(graph.x)
    looped = a.clone()
    looped[range(n), range(n)] = 1.0  # one loop a node, however many there are
    scale = looped.sum(1).rsqrt()
    gcn = scale[:, None] * looped * scale
    mean = a / a.sum(1, keepdim=True).clamp(min=1)
    wide = (IN, 2 * IN, 2, CLASSES)
    expected = {
        gs.nn.GCN(*wide): gcn @ x,
        gs.nn.GraphSAGE(*wide): mean @ x,
        gs.nn.GIN(*wide): (a + torch.eye(n)) @ x,
        gs.nn.SGC(*wide, K=hops): torch.linalg.matrix_power(gcn, hops) @ x,
    }
    for model, rows in expected.items():
        assert_equal(collected(model.double().eval(), graph)[0][AGGREGATED], rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("place", ["memory", "files"])
def test_half_rows_are_near(dtype, place):
    """What is trained on is rounded; what the next layer is made of is not."""
    graph, model = small_graph(), MODELS["SAGE"]().eval()
    exact, rounded = (collected(model, graph, place, rows) for rows in (torch.float32, dtype))
    assert torch.equal(exact[-1]["output"], rounded[-1]["output"])
    for mine, theirs in zip(rounded[:-1], exact[:-1], strict=True):
        for slot, value in mine.items():
            assert value.dtype == dtype
            assert torch.equal(value, theirs[slot].to(dtype))


@pytest.mark.parametrize("place", ["memory", "files"])
def test_rows_that_overflow_in_half_precision_are_named(place):
    graph = small_graph()
    graph.x[3] = 3e5
    model = gs.nn.GIN(IN, HIDDEN, 2, CLASSES)
    with pytest.raises(InputError, match=r"reach \de\+05.*'float16' holds 6.55e\+04.*'bfloat16'"):
        collected(model, graph, place, torch.float16)
    collected(model, graph, place, torch.bfloat16)


def test_a_stream_leaves_the_features_and_the_folder_as_they_were(tmp_path):
    graph = small_graph()
    before = graph.x.clone()
    model = MODELS["perceptron first"]().eval()  # as wide as the features: might be written over
    stream = stream_of(model, graph, storage=tmp_path)
    with torch.no_grad():
        for _ in walked(model, stream, [torch.arange(4)]):
            assert not os.listdir(tmp_path)
    collected(model, graph)
    assert torch.equal(graph.x, before)


@pytest.mark.parametrize(("least", "kind"), [(2.0, CSR), (-9.0, ActivationsInMemory)])
def test_sparse_features_stay_sparse_unless_aggregation_fills_them(least, kind):
    graph = small_graph()
    sparse = gs.Graph.from_arrays(
        graph.edge_index, (graph.x * (graph.x > least)).to_sparse_csr(), num_nodes=graph.num_nodes
    )
    model = MODELS["GCN"]().eval()
    stream = stream_of(model, sparse)
    (rows,) = next(walked(model, stream, [torch.arange(5)]))[1]
    assert isinstance(rows.parts[AGGREGATED], kind)
