"""An epoch: each cluster once, the same whatever prefetching and ranks, resumable anywhere."""

import itertools
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError, RunMismatch
from gnnscale.graph import Graph, Partition, cluster
from gnnscale.loader import ClusterLoader, draw_batches
from tests.helpers.strategies import graphs, partitions


def clustered_path(nodes: int = 24, parts: int = 12):
    """A path of `nodes` nodes in `parts` clusters, every third node a training node."""
    ids = torch.arange(nodes)
    graph = Graph.from_arrays(
        torch.stack([ids[:-1], ids[1:]]),
        ids[:, None].float(),
        ids % 2,
        train_mask=ids % 3 == 0,
        undirected=True,
    )
    return cluster(graph, Partition(ids * parts // nodes, parts))


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("gnnscale-loader")]


def seen(loader) -> list:
    """What an epoch yields, in a form that can be compared."""
    return [
        None
        if batch is None
        else (
            batch.epoch,
            batch.step,
            batch.step_train_nodes,
            batch.clusters.tolist(),
            batch.node_id.tolist(),
            batch.edge_index.tolist(),
        )
        for batch in loader
    ]


SETTINGS = {
    "clusters_per_batch": st.integers(1, 8),
    "shuffle": st.booleans(),
    "seed": st.integers(0, 2**40),
    "stratify": st.booleans(),
}


@settings(max_examples=30)
@given(
    graphs(),
    st.data(),
    st.fixed_dictionaries(SETTINGS),
    st.sampled_from([0, 2]),
    st.sampled_from(["all", "train"]),
)
def test_every_node_is_in_one_batch_an_epoch(graph, data, arguments, prefetch, view):
    clustered = cluster(graph, data.draw(partitions(graph))).view(view)
    seen = graph.train_mask | (view == "all")
    loader = ClusterLoader(clustered, **arguments, prefetch=prefetch)
    for epoch in range(2):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert [b.step for b in batches] == list(range(len(loader)))
        assert all(b.epoch == epoch for b in batches)
        clusters = torch.cat([b.clusters for b in batches])
        assert torch.equal(clusters.sort().values, clustered.sizes.nonzero().squeeze(1))
        assert all(b.num_nodes for b in batches)
        nodes = torch.cat([b.node_id for b in batches])
        assert torch.equal(nodes.sort().values, seen.nonzero().squeeze(1))
        train = torch.cat([b.node_id[b.train_mask] for b in batches])
        assert torch.equal(train.sort().values, graph.train_mask.nonzero().squeeze(1))
        assert all(b.step_train_nodes == int(b.train_mask.sum()) for b in batches)
        sizes = [b.clusters.numel() for b in batches]
        assert max(sizes) <= arguments["clusters_per_batch"]
        if arguments["shuffle"]:
            assert max(sizes) - min(sizes) <= 1


@settings(max_examples=15)
@given(st.fixed_dictionaries(SETTINGS), st.integers(1, 3))
def test_epochs_depend_on_seed_and_epoch_alone(arguments, world_size):
    clustered = clustered_path()
    for rank in range(world_size):
        ranks = {"rank": rank, "world_size": world_size}
        loaders = [ClusterLoader(clustered, **arguments, **ranks, prefetch=p) for p in (0, 1, 3)]
        for _ in range(2):
            one, *others = [seen(loader) for loader in loaders]
            assert all(other == one for other in others)
    again = ClusterLoader(clustered, **arguments, **ranks)
    again.epoch = 1
    assert seen(again) == one  # an epoch does not need those before it


def test_epochs_and_seeds_differ():
    drawn = {
        (seed, epoch): str(draw_batches(torch.arange(40), 5, shuffle=True, seed=seed, epoch=epoch))
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(set(drawn.values())) == 16


def test_in_order_without_shuffling():
    loader = ClusterLoader(clustered_path(), 5, shuffle=False)
    for _ in range(2):
        assert [b.clusters.tolist() for b in loader] == [
            [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]
        ]  # fmt: skip


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 99), st.booleans(), st.booleans())
def test_all_clusters_are_dealt(parts, per_batch, seed, shuffle, stratify):
    counts = torch.randint(0, 4, (parts,), generator=torch.Generator().manual_seed(seed))
    per_batch = min(per_batch, parts)
    batches = draw_batches(
        counts, per_batch, shuffle=shuffle, seed=seed, epoch=3, stratify=stratify
    )
    assert len(batches) == -(-parts // per_batch)
    assert torch.cat(batches).sort().values.tolist() == list(range(parts))
    assert all(0 < b.numel() <= per_batch and b.dtype == torch.int64 for b in batches)


def test_every_draw_is_possible():
    """With equal counts any two clusters meet in a batch, stratified or not."""
    for stratify in (False, True):
        met = set()
        for epoch in range(300):
            batches = draw_batches(
                torch.ones(6, dtype=torch.int64),
                2,
                shuffle=True,
                seed=0,
                epoch=epoch,
                stratify=stratify,
            )
            met |= {tuple(sorted(b.tolist())) for b in batches}
        assert met == set(itertools.combinations(range(6), 2))


@settings(max_examples=15)
@given(st.integers(0, 2**20))
def test_stratified_batches_have_even_numbers_of_training_nodes(seed):
    counts = torch.tensor([0] * 40 + [1] * 30 + [10] * 20 + [100] * 10)
    spread = {}
    for stratify in (True, False):
        batches = draw_batches(counts, 10, shuffle=True, seed=seed, epoch=0, stratify=stratify)
        totals = torch.stack([counts[batch].sum() for batch in batches])
        spread[stratify] = int(totals.max() - totals.min())
    assert spread[True] == 0
    assert spread[False] > 0


# --- ranks ----------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.fixed_dictionaries(SETTINGS), st.integers(1, 5))
def test_ranks_share_the_batches_of_one_process(arguments, world_size):
    """Step t takes R consecutive batches; all ranks know its training nodes."""
    clustered = clustered_path()
    alone = ClusterLoader(clustered, **arguments)
    loaders = [
        ClusterLoader(clustered, **arguments, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({len(loader) for loader in loaders}) == 1
    for _ in range(2):
        whole = list(alone)
        epochs = [list(loader) for loader in loaders]
        assert all(len(epoch) == len(loaders[0]) for epoch in epochs)
        dealt = [batch for step in zip(*epochs, strict=True) for batch in step]
        present = dealt[: len(whole)]
        assert all(batch is None for batch in dealt[len(whole) :])
        for one, other in zip(whole, present, strict=True):
            assert torch.equal(one.clusters, other.clusters)
            assert torch.equal(one.node_id, other.node_id)
            assert torch.equal(one.edge_index, other.edge_index)
        for number, step in enumerate(zip(*epochs, strict=True)):
            own = [int(b.train_mask.sum()) for b in step if b is not None]
            for batch in step:
                if batch is not None:
                    assert (batch.step, batch.step_train_nodes) == (number, sum(own))


def test_more_ranks_than_batches():
    loaders = [ClusterLoader(clustered_path(4, 2), 1, rank=rank, world_size=3) for rank in range(3)]
    assert [len(loader) for loader in loaders] == [1, 1, 1]
    batches = [list(loader) for loader in loaders]
    assert batches[2] == [None] and None not in batches[0] + batches[1]


# --- going on -------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    st.fixed_dictionaries(SETTINGS),
    st.integers(0, 30),
    st.integers(1, 2),
    st.sampled_from([0, 1, 3]),
)
def test_going_on_in_the_middle_of_an_epoch(arguments, stop, world_size, prefetch):
    """A state taken while a batch is in use says that the next one comes next."""
    clustered = clustered_path()
    arguments |= {"rank": world_size - 1, "world_size": world_size}
    whole = ClusterLoader(clustered, **arguments)
    expected = [entry for _ in range(4) for entry in seen(whole)]
    broken = ClusterLoader(clustered, **arguments, prefetch=prefetch)
    stop = min(stop, 2 * len(broken))
    done, state = 0, broken.state_dict()
    while done < stop:
        for _ in broken:
            done += 1
            state = broken.state_dict()
            if done == stop:
                break
    resumed = ClusterLoader(clustered, **arguments, prefetch=prefetch)
    resumed.load_state_dict(state)
    rest = []
    while len(rest) < len(expected) - stop:
        rest += seen(resumed)
    assert rest == expected[stop:]


def test_going_on_in_the_same_loader():
    loader = ClusterLoader(clustered_path(), 3, prefetch=1)
    whole = seen(ClusterLoader(clustered_path(), 3))
    for _ in itertools.islice(loader, 2):
        state = loader.state_dict()
    assert (state["epoch"], state["step"]) == (0, 2)
    assert seen(loader) == whole  # broken off: from the start
    loader.load_state_dict(state)
    assert seen(loader) == whole[2:]
    assert (loader.epoch, loader.step) == (1, 0)


def test_a_state_of_the_last_batch_leaves_an_empty_rest():
    """So that what is done at the end of an epoch is done once, after going on as well."""
    loader = ClusterLoader(clustered_path(), 3)
    states = [loader.state_dict() for _ in loader]
    assert (states[-1]["epoch"], states[-1]["step"]) == (0, 4)
    resumed = ClusterLoader(clustered_path(), 3)
    resumed.load_state_dict(states[-1])
    assert list(resumed) == [] and (resumed.epoch, resumed.step) == (1, 0)
    assert seen(resumed) == seen(loader)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"clusters_per_batch": 4},
        {"shuffle": False},
        {"stratify": False},
        {"world_size": 2},
    ],
)
def test_a_state_of_other_draws_is_refused(other):
    state = ClusterLoader(clustered_path(), 3).state_dict()
    loader = ClusterLoader(clustered_path(), **({"clusters_per_batch": 3} | other))
    ((key, value),) = other.items()
    with pytest.raises(RunMismatch, match=rf"{key}=.* there, {value} here$"):
        loader.load_state_dict(state)
    assert (loader.epoch, loader.step) == (0, 0)


def test_all_differences_of_a_state_are_named():
    state = ClusterLoader(clustered_path(), 3).state_dict()
    with pytest.raises(RunMismatch, match=r"num_parts=12 .*clusters_per_batch=3 .*seed=0 "):
        ClusterLoader(clustered_path(24, 8), 4, seed=5).load_state_dict(state)


# --- the thread -----------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_broken_off_iteration_leaves_no_thread(prefetch):
    loader = ClusterLoader(clustered_path(), 2, prefetch=prefetch)
    for _ in loader:
        assert len(threads()) == (1 if prefetch else 0)
        break
    assert not threads()
    with pytest.raises(KeyError):
        for _ in loader:
            raise KeyError
    assert not threads()
    batches = iter(loader)
    next(batches)
    batches.close()
    assert not threads()
    assert len(list(loader)) == 6
    assert not threads()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_errors_of_the_thread_are_raised_here(prefetch):
    clustered = clustered_path()
    loader = ClusterLoader(clustered, 2, prefetch=prefetch)
    clustered.node_id = None
    with pytest.raises(AttributeError):
        list(loader)
    assert not threads()


# --- arguments ------------------------------------------------------------------------------


def test_bad_arguments_are_named_all_at_once():
    with pytest.raises(InputError) as caught:
        ClusterLoader(clustered_path(), 0, seed=-1, rank=2, world_size=2, prefetch=-3)
    assert caught.value.faults == [
        "clusters_per_batch=0 must be a whole number, at least 1",
        "seed=-1 must be a whole number, at least 0",
        "prefetch=-3 must be a whole number, at least 0",
        "rank=2 must lie in [0, world_size=2)",
    ]
    for rank, size in ((0, 0), (-1, 2), (0.5, 2), (0, "2"), (0, None)):
        with pytest.raises(InputError, match=r"(rank|world_size)=\S+ must be a whole number"):
            ClusterLoader(clustered_path(), rank=rank, world_size=size)
    with pytest.raises(InputError, match="shuffle=1 must be True or False"):
        ClusterLoader(clustered_path(), shuffle=1)


def test_more_clusters_than_there_are_is_the_whole_graph():
    loader = ClusterLoader(clustered_path(), 99)
    assert loader.clusters_per_batch == 12 and len(loader) == 1
    (batch,) = loader
    assert batch.num_nodes == 24 and batch.adj.num_edges == 46


def test_steps_are_known_without_reading():
    loader = ClusterLoader(clustered_path(), 3, world_size=2)
    steps = loader.steps(0)
    assert len(steps) == len(loader)
    assert [b.clusters.tolist() for b in loader] == [sorted(s[0].tolist()) for s in steps]
