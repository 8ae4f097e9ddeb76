"""view="train": parts of the training subgraph, every other node attached to one of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.induced import subgraph
from gnnscale.partitioning import partition
from tests.helpers.graphs import assert_same_graph
from tests.helpers.strategies import dense_adjacency, graphs
from tests.partitioning.partition_cases import ALL


def several(graph, cuts):
    """The graph, cut into several: edges between them are dropped."""
    ptr = torch.tensor([0, *sorted(min(c, graph.num_nodes) for c in cuts), graph.num_nodes])
    of = torch.repeat_interleave(torch.arange(ptr.numel() - 1), ptr.diff())
    kept = (of[graph.edge_index[0]] == of[graph.edge_index[1]]).nonzero().squeeze(1)
    return Graph.from_arrays(
        graph.edge_index[:, kept],
        graph.x,
        graph.y,
        train_mask=graph.train_mask,
        val_mask=graph.val_mask,
        node_ptr=ptr,
        num_classes=3,
    )


def attached(graph, part, num_parts):
    """The rule of attachment, node by node on the dense matrix."""
    near = (dense_adjacency(graph) + dense_adjacency(graph).T > 0).fill_diagonal_(False)
    part = part.clone()
    while True:
        sizes = torch.bincount(part[part >= 0], minlength=num_parts).tolist()
        votes = {
            i: torch.bincount(part[near[i] & (part >= 0)], minlength=num_parts).tolist()
            for i in (part < 0).nonzero().squeeze(1).tolist()
        }
        known = {i: v for i, v in votes.items() if any(v)}
        if not known:
            return part
        for i, v in known.items():
            part[i] = min(range(num_parts), key=lambda p: (-v[p], sizes[p], p))


@settings(max_examples=60)
@given(graphs(min_nodes=2), st.data())
def test_others_join_the_part_of_most_neighbours(graph, data):
    cuts = data.draw(st.lists(st.integers(0, graph.num_nodes), max_size=3))
    graph = several(graph, cuts) if cuts else graph
    train = graph.train_mask
    ptr = torch.tensor([0, graph.num_nodes]) if graph.node_ptr is None else graph.node_ptr
    of_graph = torch.repeat_interleave(torch.arange(ptr.numel() - 1), ptr.diff())
    seen = of_graph[train].unique()
    parts = data.draw(st.integers(seen.numel(), int(train.sum())))
    made = partition(graph, parts, "random", seed=3, view="train")

    alone = partition(subgraph(graph, train), parts, "random", seed=3)
    inside = made.assignment[train].long()
    assert inside.unique().numel() == parts
    pairs = torch.stack([inside, alone.assignment.long()], 1).unique(dim=0)
    assert pairs.size(0) == parts  # the same parts, perhaps under other numbers
    owner = torch.full((made.num_parts,), -1)
    owner[made.assignment.long()] = of_graph
    assert torch.equal(owner[made.assignment.long()], of_graph)  # none spans two graphs
    assert (owner.diff() >= 0).all() and int(made.sizes.min()) > 0
    untrained = set(of_graph.unique().tolist()) - set(seen.tolist())
    assert made.num_parts == parts + len(untrained)

    start = torch.full((graph.num_nodes,), -1)
    start[train] = inside
    for g in untrained:
        start[of_graph == g] = made.assignment[of_graph == g].long()
    expected = attached(graph, start, made.num_parts)
    reached = expected >= 0
    assert torch.equal(made.assignment[reached].long(), expected[reached])
    for g in seen.tolist():  # the rest fills the smallest parts of its graph
        left = (~reached) & (of_graph == g)
        before = torch.bincount(expected[reached], minlength=made.num_parts)[owner == g]
        after = made.sizes[owner == g]
        grown = after > before
        assert int((after - before).sum()) == int(left.sum())
        if grown.any():
            assert int(after[grown].max()) - int(after.min()) <= 1
            assert (before[~grown] >= after[grown].max() - 1).all()


@settings(max_examples=20)
@given(graphs(edge_attr=None, sparse_x=None), st.data())
def test_the_subgraph_carries_all_that_the_nodes_and_edges_have(graph, data):
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=graph.num_nodes,
                                           max_size=graph.num_nodes)))  # fmt: skip
    ids = kept.nonzero().squeeze(1)
    inside = (kept[graph.edge_index].all(0)).nonzero().squeeze(1)
    local = kept.long().cumsum(0) - 1
    x = graph.x
    expected = Graph.from_arrays(
        local[graph.edge_index[:, inside]],
        x[ids] if isinstance(x, torch.Tensor) else x.select_rows(ids),
        graph.y[ids],
        num_nodes=ids.numel(),
        edge_weight=None if graph.edge_weight is None else graph.edge_weight[inside],
        edge_attr=None if graph.edge_attr is None else graph.edge_attr[inside],
        edge_type=None if graph.edge_type is None else graph.edge_type[inside],
        node_type=None if graph.node_type is None else graph.node_type[ids],
        edge_time=None if graph.edge_time is None else graph.edge_time[inside],
        node_time=None if graph.node_time is None else graph.node_time[ids],
        num_classes=3,
        **{f"{name}_mask": graph.split()[name][ids] for name in ("train", "val", "test")},
    )
    assert_same_graph(subgraph(graph, kept), expected)


@pytest.mark.parametrize("method", ALL)
def test_every_method_cuts_the_training_nodes(method, tmp_path):
    graph = planted_split()
    made = partition(graph, 8, method, view="train", cache=tmp_path)
    assert made.num_parts == 8 and int(made.sizes.min()) > 0
    assert made.parameters["view"] == "train" and made.method == method
    inside = torch.bincount(made.assignment[graph.train_mask].long())
    assert int(inside.max()) <= 1.3 * graph.train_mask.sum() / 8
    assert 0 <= made.quality(graph).edge_cut < 1
    # What is kept is the cut of the training subgraph: nothing outside it enters.
    entries = sorted(tmp_path.iterdir())
    again = partition(graph, 8, method, view="train", cache=tmp_path)
    assert sorted(tmp_path.iterdir()) == entries
    if entries:
        assert torch.equal(again.assignment, made.assignment)


def planted_split():
    from tests.partitioning.partition_cases import planted

    graph = planted(400, 8)
    index = graph.edge_index
    return Graph.from_arrays(index, num_nodes=400, train_mask=torch.arange(400) % 5 < 3)


def test_a_callable_is_given_the_training_subgraph():
    graph = planted_split()
    given_to = []

    def halves(seen, num_parts, seed):
        given_to.append(seen)
        return torch.arange(seen.num_nodes) * num_parts // seen.num_nodes

    made = partition(graph, 2, halves, view="train")
    assert_same_graph(given_to[0], subgraph(graph, graph.train_mask))
    inside = made.assignment[graph.train_mask]
    assert torch.equal(inside, torch.arange(240, dtype=torch.int32) // 120)


def test_what_cannot_be_cut_is_said():
    graph = Graph.from_arrays([[0], [1]], num_nodes=4, train_mask=[True, False, False, False])
    assert partition(graph, 1, view="train").assignment.tolist() == [0, 0, 0, 0]
    with pytest.raises(InputError, match="num_parts is 2, the split 'default' has 1 training"):
        partition(graph, 2, view="train")
    with pytest.raises(InputError, match=r'0 training nodes.*cut view="all"'):
        partition(Graph.from_arrays([[0], [1]]), 1, view="train")
    with pytest.raises(InputError, match="no view 'test'"):
        partition(graph, 1, view="test")
    with pytest.raises(InputError, match="got Adjacency"):
        partition(graph.adj, 1, view="train")
