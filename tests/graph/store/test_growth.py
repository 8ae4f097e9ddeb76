"""A store that has grown is the graph that would have been built of everything."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.graph import NodeNames, Partition, open_graph, verify_store
from gnnscale.graph.arrays import read_features
from gnnscale.graph.store import growth, interleaved
from gnnscale.graph.store.cluster_folder import store_meta
from gnnscale.kernels import CSR
from gnnscale.storage.arrow import pyarrow


def names_of(nodes, texts):
    if texts:
        return NodeNames.from_arrow(pyarrow.array([f"n{i}" for i in nodes], pyarrow.string()))
    return NodeNames(torch.tensor([3 * i for i in nodes], dtype=torch.int64))


def dense(x):
    found = torch.zeros(x.shape)
    for row in range(x.shape[0]):
        a, b = x.indptr[row : row + 2].tolist()
        values = 1.0 if x.values is None else x.values[a:b]
        found[row, x.indices[a:b].long()] = values
    return found


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sets(st.sampled_from(["edge_weight", "edge_attr", "edge_type", "node_type"])),
    st.sampled_from(["dense", "sparse", "ones"]),
    st.booleans(),
    st.sampled_from(["train", "val", None]),
)
def test_all_is_where_it_would_be(tmp_path_factory, seed, carried, features, texts, part):
    folder = tmp_path_factory.mktemp("grown")
    rng = np.random.default_rng(seed)
    n, k, parts = int(rng.integers(1, 30)), int(rng.integers(0, 8)), int(rng.integers(1, 5))
    edges = [rng.integers(0, n, (2, int(rng.integers(0, 60))))]
    edges.append(rng.integers(0, n + k, (2, int(rng.integers(0, 20)))))
    counts = [e.shape[1] for e in edges]
    draw = {
        "edge_weight": lambda count: rng.random(count, np.float32),
        "edge_attr": lambda count: rng.random((count, 2), np.float32),
        "edge_type": lambda count: rng.integers(0, 4, count),
    }
    along = {name: [draw[name](count) for count in counts] for name in sorted(carried & {*draw})}
    kinds = rng.integers(0, 3, n + k) if "node_type" in carried else None
    x, y = rng.random((n + k, 3), np.float32), rng.integers(-1, 3, n + k)
    if features != "dense":
        x[rng.random(x.shape) < 0.6] = 0
    if features == "ones":
        x = (x > 0).astype(np.float32)

    def rows(start, stop):
        if features == "dense":
            return x[start:stop]
        found = read_features(scipy.sparse.csr_array(x[start:stop]))
        ones = features == "ones"
        return CSR(found.indptr, found.indices, None if ones else found.values, found.shape)

    train = rng.random(n) < 0.4

    def built(edge_index, own, nodes):
        return gs.Graph.from_arrays(
            edge_index, x=rows(0, nodes), y=y[:nodes], num_nodes=nodes, **own,
            node_type=None if kinds is None else kinds[:nodes],
            task="classification", num_classes=3,
        )  # fmt: skip

    graph = built(edges[0], {name: one for name, (one, _) in along.items()}, n)
    graph.splits = gs.Graph.from_arrays(
        edges[0], num_nodes=n, train_mask=train, val_mask=~train
    ).splits
    graph.names = names_of(range(n), texts)
    assignment = torch.from_numpy(rng.integers(0, parts, n))
    clustered = gs.cluster(graph, Partition(assignment, parts), folder / "before")
    addition = growth.Addition(
        k,
        *edges[1],
        {name: one for name, (_, one) in along.items()},
        {} if kinds is None else {"node_type": kinds[n:]},
        rows(n, n + k),
        y[n:],
        names_of(range(n, n + k), texts),
        part,
        y[n:] >= 0,
    )
    own = {name: getattr(clustered, name) for name in ("node_id", "offsets", "train_ends")}
    meta = store_meta(clustered.graph, parts, "default", "given", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interleaved, "_ROWS", int(rng.integers(1, 9)))
        grown = growth.write_grown(
            clustered.graph, own, "default", addition, folder / "after", meta
        )
    verify_store(folder / "after")
    after = open_graph(folder / "after")
    whole = after.original()
    both = {name: np.concatenate(pair) for name, pair in along.items()}
    wanted = built(np.concatenate(edges, 1), both, n + k)
    assert torch.equal(whole.adj.indptr, wanted.adj.indptr)
    assert torch.equal(whole.adj.indices, wanted.adj.indices)
    values = [[getattr(made, name).tolist() for name in along] for made in (whole, wanted)]
    for row in range(n + k):
        a, b = wanted.adj.indptr[row : row + 2].tolist()
        entries = [
            sorted(zip(wanted.adj.indices[a:b].tolist(), *(one[a:b] for one in own), strict=True))
            for own in values
        ]
        assert entries[0] == entries[1]
    there, come = (
        [
            (*edges[i][:, at], *(np.atleast_1d(own[i][at]).tobytes() for own in along.values()))
            for at in range(counts[i])
        ]
        for i in (0, 1)
    )
    assert grown.repeated == sum(one in set(there) for one in come)
    if kinds is not None:
        assert whole.node_type.tolist() == kinds.tolist()
    if features == "dense":
        assert torch.equal(whole.x, wanted.x)
    else:
        assert (whole.x.values is None) == (features == "ones")
        assert torch.equal(dense(whole.x), dense(wanted.x))
    assert torch.equal(whole.y, wanted.y)
    assert whole.names[:].tolist() == names_of(range(n + k), texts)[:].tolist()
    joins = {name: (y[n:] >= 0) & (name == part) for name in ("train", "val", "test")}
    assert whole.train_mask.tolist() == [*train, *joins["train"]]
    assert whole.val_mask.tolist() == [*~train, *joins["val"]]
    for c in range(parts):  # clusters keep their nodes, training nodes first
        start, end, trained = (int(v[c]) for v in (after.offsets, after.ends, after.train_ends))
        assert after.graph.train_mask[start:trained].all()
        assert not after.graph.train_mask[trained:end].any()
    assert torch.equal(after.partition.assignment[:n].long(), assignment)
    assert after.partition.assignment[n:].tolist() == grown.clusters.tolist()
    assert after.partition.quality(whole).edge_cut == pytest.approx(grown.cut)
    assert Partition(assignment, parts).quality(graph).edge_cut == pytest.approx(grown.cut_before)


def test_new_nodes_join_the_cluster_of_most_neighbours():
    cluster_of = np.array([0, 0, 1, 1, 1, 2], np.int32)
    source, target = np.array([2, 3, 0, 6, 7]), np.array([6, 6, 6, 7, 8])
    addition = growth.Addition(4, source, target, {}, {}, None, None, None, None, np.zeros(4, bool))
    sizes = np.bincount(cluster_of)
    found = growth.clusters_of_new(addition, 6, cluster_of, sizes)
    assert found.tolist() == [
        1,
        1,
        1,
        2,
    ]  # of 6 two neighbours are in 1; 7 and 8 follow; 9 has none
    assert sizes.tolist() == [2, 6, 2]


def test_what_nothing_can_come_to_says_why():
    edge = np.array([[0], [1]])
    graph = gs.Graph.from_arrays(edge, y=np.array([1]), y_level="graph", node_ptr=[0, 2])
    with pytest.raises(InputError, match=r"several graphs, and its labels are of graphs"):
        growth.check_growable(graph)
