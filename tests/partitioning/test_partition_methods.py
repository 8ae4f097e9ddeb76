"""Every method gives the number of parts asked for, none empty, whatever the graph."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError, MissingDependency, PartitionError
from gnnscale.graph import Graph
from gnnscale.partitioning import dispatch, partition
from tests.partitioning.partition_cases import ALL, NATIVE, SEEING, graphs, installed, planted


def cut_of(graph, method, parts=20, **options):
    return partition(graph, parts, method, cache=False, **options).quality(graph).edge_cut


@pytest.mark.parametrize("method", ALL)
@settings(max_examples=5)
@given(
    graph=graphs(),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**40),
    balance=st.sampled_from(["nodes", "edges", 7.5]),
    imbalance=st.sampled_from([0, 0.03, 0.5]),
)
def test_no_part_is_empty(method, graph, share, seed, balance, imbalance):
    n = graph.num_nodes
    parts = 1 + round(share * (n - 1))
    part = partition(graph, parts, method, seed, balance=balance, imbalance=imbalance, cache=False)
    assert part.assignment.dtype == torch.int32
    assert part.num_nodes == n
    assert part.num_parts == parts
    assert part.method == method
    assert part.seed == seed
    assert int(part.sizes.min()) >= 1
    assert int(part.sizes.sum()) == n


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("parts", [1, 199, 200])
def test_extreme_numbers_of_parts(method, parts):
    graph = planted(200, 10)
    part = partition(graph, parts, method, cache=False)
    assert sorted(part.assignment.unique().tolist()) == list(range(parts))


@pytest.mark.parametrize("method", NATIVE)
def test_small_parts_are_all_there(method):
    graph = planted(5000, 10)
    assert partition(graph, 1000, method, cache=False).quality(graph).empty_parts == 0


@pytest.mark.parametrize("method", ALL)
def test_the_seed_alone_decides(method):
    graph = planted()
    one, again, other = (
        partition(graph, 20, method, seed, deterministic=True, cache=False).assignment
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert torch.equal(one, other) == (method == "contiguous")


@pytest.mark.parametrize("method", NATIVE)
def test_native_methods_find_planted_blocks(method):
    graph = planted()
    assert cut_of(graph, method) < 0.35 < 0.9 < cut_of(graph, "random")


def test_streaming_lies_far_below_random():
    graph = planted()
    assert cut_of(graph, "streaming") < 0.6 * cut_of(graph, "random")


@pytest.mark.parametrize("method", SEEING)
@pytest.mark.parametrize("balance", ["nodes", "edges", 30])
def test_balance(method, balance):
    """Half of the nodes have three times the edges of the others."""
    dense, thin = planted(1000, 10, degree=24), planted(1000, 10, degree=8, seed=1)
    edges = torch.cat([dense.edge_index, thin.edge_index + 1000], 1)
    graph = Graph.from_arrays(edges, num_nodes=2000)
    part = partition(graph, 10, method, balance=balance, cache=False)
    a_node = {"nodes": torch.inf, "edges": 1}.get(balance, balance)  # in edges
    weight = graph.adj.in_degree() / a_node + 1
    load = torch.bincount(part.assignment.long(), weights=weight.double(), minlength=10)
    assert float(load.max() / load.mean()) < 1.08


@pytest.mark.parametrize("method", ALL)
def test_a_directed_graph_is_cut_as_undirected(method):
    edges = planted().edge_index
    graph = Graph.from_arrays(edges[:, edges[0] < edges[1]], num_nodes=2000)
    part = partition(graph, 20, method, cache=False)
    assert int(part.sizes.min()) >= 1
    if method not in ("random", "contiguous"):
        assert part.quality(graph).edge_cut < 0.7


@pytest.mark.parametrize("method", ALL)
@settings(max_examples=3)
@given(data=st.data())
def test_a_part_never_spans_two_graphs(method, data):
    members = data.draw(st.lists(graphs(min_nodes=1, max_nodes=15), min_size=2, max_size=5))
    sizes = [g.num_nodes for g in members]
    pointers = np.concatenate([[0], np.cumsum(sizes)])
    edges = torch.cat([g.edge_index + int(p) for g, p in zip(members, pointers, strict=False)], 1)
    graph = Graph.from_arrays(edges, num_nodes=sum(sizes), node_ptr=torch.from_numpy(pointers))
    parts = data.draw(st.integers(len(sizes), sum(sizes)))
    assignment = partition(graph, parts, method, cache=False).assignment.numpy()
    assert set(assignment) == set(range(parts))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    assert len(set(zip(assignment, owner, strict=True))) == parts


def test_fewer_parts_than_graphs():
    edges = torch.tensor([[0, 2, 4], [1, 3, 5]])
    graph = Graph.from_arrays(edges, num_nodes=6, node_ptr=torch.tensor([0, 2, 4, 6]))
    with pytest.raises(InputError, match="num_parts is 2; this data set has 3 graphs"):
        partition(graph, 2, "random")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_parts": 41}, "num_parts is 41, the graph has 40 nodes"),
        ({"num_parts": 0}, "num_parts is 0"),
        ({"num_parts": -3}, "num_parts is -3"),
        ({"num_parts": 2.0}, "num_parts must be an integer, got 2.0"),
        ({"num_parts": True}, "num_parts must be an integer, got True"),
        ({"num_parts": "2"}, "num_parts must be an integer, got '2'"),
        ({"num_parts": 2, "method": "mettis"}, "unknown method 'mettis'; choose 'auto'"),
        ({"num_parts": 2, "seed": 0.5}, "seed must be an integer"),
        ({"num_parts": 2, "balance": "edge"}, "balance='edge' must be 'nodes', 'edges' or"),
        ({"num_parts": 2, "balance": 0.5}, "balance=0.5 must be .* number from 1 to 1000000"),
        ({"num_parts": 2, "balance": True}, "balance=True must be"),
        ({"num_parts": 2, "imbalance": -0.1}, "imbalance must be a number"),
        ({"num_parts": 2, "preset": "best"}, "unknown preset 'best'"),
        ({"num_parts": 2, "threads": 0}, "threads must be an integer of at least 1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        partition(planted(40, 4), **arguments)


def test_all_faults_at_once():
    with pytest.raises(InputError) as caught:
        partition(planted(40, 4), 41, "mettis", balance="edge")
    assert len(caught.value.faults) == 3


def test_auto_takes_the_first_that_is_installed(monkeypatch):
    graph = planted(200, 10)
    monkeypatch.setattr(dispatch, "_installed", lambda name: name == "streaming")
    assert partition(graph, 10, cache=False).method == "streaming"
    with pytest.raises(MissingDependency, match=r"pip install pymetis.*method='streaming'"):
        partition(graph, 10, "metis", cache=False)
    monkeypatch.undo()
    first = next(name for name in dispatch.METHODS if installed(name))
    assert partition(graph, 10, cache=False).method == first


def test_callable_is_validated_and_repaired():
    graph = planted(40, 4)

    def halves(graph, num_parts, seed):
        return torch.arange(graph.num_nodes) % 2

    part = partition(graph, 5, halves, seed=3)
    assert part.method == "halves"
    assert sorted(part.assignment.unique().tolist()) == [0, 1, 2, 3, 4]
    assert partition(graph, 2, halves).assignment.tolist() == [0, 1] * 20


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.zeros(39, int), r"'<lambda>': .*\[40\]; the partitioner returned int64 \[39\]"),
        (np.zeros(40), "returned float64"),
        (np.arange(40), r"must lie in \[0, 3\]; the partitioner returned \[0, 39\]"),
        (-np.ones(40, int), r"returned \[-1, -1\]"),
        (None, "returned object"),
        (torch.zeros(40, dtype=torch.bfloat16), "returned Tensor: "),
    ],
)
def test_wrong_output_of_a_callable(result, message):
    with pytest.raises(PartitionError, match=message):
        partition(planted(40, 4), 4, lambda graph, num_parts, seed: result)


def test_callable_that_spans_graphs():
    edges = torch.tensor([[0, 2], [1, 3]])
    graph = Graph.from_arrays(edges, num_nodes=4, node_ptr=torch.tensor([0, 2, 4]))
    with pytest.raises(PartitionError, match="several graphs into part 1"):
        partition(graph, 3, lambda graph, num_parts, seed: [0, 1, 1, 2])
    assert partition(graph, 3, lambda graph, num_parts, seed: [0, 0, 1, 2]).num_parts == 3
