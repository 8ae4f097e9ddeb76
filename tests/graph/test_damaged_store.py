"""A damaged store gives an error of gnnscale, or the figures of before; never a signal."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import DamagedStore
from gnnscale.graph import array_folder, open_graph, verify_store
from gnnscale.graph.mapped import Bound, map_array, prove, read_ranges, read_rows

# Flips a bit and uses the store in all the ways that it is read; what came of every flip. Nearly
# nothing is compared with checksums when it is opened (offsets and train_ends), as of large stores.
USE = """
import json, pathlib, random, sys, warnings
import numpy as np, torch
import gnnscale as gs
from gnnscale.graph import array_folder
from gnnscale.inference import engine

warnings.simplefilter("ignore")
array_folder.VERIFIED = 400
store, flips, out = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), pathlib.Path(sys.argv[3])


def batches(clustered):
    return [
        (b.adj.indices.clone(), b.y.clone(), b.train_mask.clone(), b.node_id.clone())
        for view in ("all", "train")
        for b in gs.ClusterLoader(clustered.view(view), 3, prefetch=0)
    ]


def trained(clustered):
    torch.manual_seed(0)
    graph = clustered.graph
    model = gs.nn.GCN(graph.num_features, 4, 2, graph.num_classes)
    trainer = gs.ClusterTrainer(model, clustered, clusters_per_batch=3, epochs=1, progress=False)
    trainer.fit()
    return [trainer.predict()]


def partitioned(clustered):
    return [gs.partition(clustered.graph, 4, "streaming", cache=False).assignment]


def restored(clustered):
    graph = clustered.original()
    x = graph.x if isinstance(graph.x, torch.Tensor) else graph.x.values
    return [graph.adj.indices, graph.y, x]


def derived(clustered):
    adj = clustered.graph.adj
    return [adj.t().indices, adj.edge_index, adj.in_degree()]


USES = {use.__name__: use for use in (batches, trained, partitioned, restored, derived)}


def flat(found):
    return [t for item in found for t in (item if isinstance(item, tuple) else (item,))]


whole = {name: flat(use(gs.open_graph(store))) for name, use in USES.items()}
for name, place, bit in flips:
    path = store / name
    content = path.read_bytes()
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    path.write_bytes(changed)
    for use in USES:
        with open(out, "a") as file:
            file.write(json.dumps([name, place, bit, use, "crash"]) + "\\n")
        try:
            found = flat(USES[use](gs.open_graph(store)))
            same = all(torch.equal(a, b) for a, b in zip(found, whole[use], strict=True))
            outcome = "same" if same else "other"
        except gs.GnnscaleError as error:
            outcome = "named" if "damaged" in str(error) else f"says {error}"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        with open(out, "a") as file:
            file.write(json.dumps([name, place, bit, use, outcome]) + "\\n")
    path.write_bytes(content)
"""
# What tells other values in silence: no bound is known of them, or any number within it will do.
VALUES = ("x", "x_values", "y", "indices", "x_indices", "indptr", "node_id", "split")


def make(path, sparse):
    graph = gs.load("synthetic:planted?nodes=90&classes=3&features=6&communities=6")
    if sparse:
        x = scipy.sparse.random(90, 12, 0.3, "csr", np.float32, random_state=0)
        graph = gs.Graph.from_arrays(
            graph.adj.edge_index, x, graph.y, train_mask=graph.splits["default"].train
        )
    gs.cluster(graph, gs.partition(graph, 6, "contiguous"), path)
    return path


def place(path, kind):
    """A byte of the array: of the highest of a number, or of any."""
    size = path.stat().st_size
    meta = json.loads((path.parent / "meta.json").read_text())["arrays"][path.stem]
    width = np.dtype(meta["dtype"]).itemsize
    start = size - int(np.prod(meta["shape"])) * width
    count = (size - start) // width
    number = kind % count
    byte = width - 1 if kind % 2 else kind // 7 % width
    return start + number * width + byte


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_no_flip_ends_the_process(sparse, forks, tmp_path):
    store, out = make(tmp_path / "store", sparse), tmp_path / "outcomes"
    chance = np.random.default_rng(0)
    flips = [
        (path.name, place(path, int(chance.integers(1 << 20))), int(chance.integers(8)))
        for path in sorted(store.glob("*.npy"))
        for _ in range(3)
    ]
    run = forks.start(USE, str(store), json.dumps(flips), str(out))
    status = run.wait()
    outcomes = [json.loads(line) for line in out.read_text().splitlines()]
    assert status == 0, (status, outcomes[-1:], run.errors.read_text()[-2000:])
    outcomes = [o for o in outcomes if o[-1] != "crash"]
    bad = [o for o in outcomes if o[-1] not in ("named", "same", "other")]
    assert not bad, bad
    silent = [o for o in outcomes if o[-1] == "other" and not o[0].startswith(VALUES)]
    assert not silent, silent
    assert sum(o[-1] == "named" for o in outcomes) > 20


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_a_small_store_tells_of_any_flip_when_it_is_opened(sparse, tmp_path):
    store, chance = make(tmp_path / "store", sparse), np.random.default_rng(0)
    for path in sorted(store.glob("*.npy")):
        content = path.read_bytes()
        changed = bytearray(content)
        changed[chance.integers(len(content))] ^= chance.integers(1, 256)
        path.write_bytes(changed)
        for read in (open_graph, verify_store):
            with pytest.raises(DamagedStore, match=path.name):
                read(store)
        path.write_bytes(content)


@given(st.data())
def test_what_is_read_keeps_to_its_bound(tmp_path_factory, data):
    """By row, by range and whole: found wherever what is read holds it, and nowhere else."""
    dtype = data.draw(st.sampled_from([np.int32, np.int64]))
    numbers = np.sort(np.array(data.draw(st.lists(st.integers(0, 9), min_size=2)), dtype))
    at = data.draw(st.integers(0, len(numbers) - 1))
    wrong = data.draw(st.sampled_from([-1, 10, np.iinfo(dtype).min, np.iinfo(dtype).max]))
    ascending = data.draw(st.booleans())
    numbers[at] = wrong
    path = tmp_path_factory.mktemp("array") / "a"
    numbers.tofile(path)
    array = map_array(path, numbers.dtype, numbers.shape, bound=Bound(0, 10, ascending))
    start = data.draw(st.integers(0, len(numbers)))
    stop = data.draw(st.integers(start, len(numbers)))
    span = (start, stop)
    for read in (lambda: read_rows(array, *span), lambda: read_ranges(array, [span])):
        if start <= at < stop:
            with pytest.raises(DamagedStore, match=f"numbers outside .*, such as {wrong}"):
                read()
        else:
            assert read().numpy().tolist() == numbers[start:stop].tolist()
    with pytest.raises(DamagedStore, match=r"info .* --verify"):
        prove(array)
    with pytest.raises(DamagedStore):
        read_ranges(array, [(0, len(numbers) + 1)])


def test_pointers_ascend_within_a_range_not_from_one_to_the_next(tmp_path):
    np.array([0, 4, 2, 6]).tofile(tmp_path / "a")
    array = map_array(tmp_path / "a", np.dtype(np.int64), (4,), bound=Bound(0, 7, True))
    assert read_ranges(array, [(2, 4), (0, 2)]).tolist() == [2, 6, 0, 4]
    for read in (lambda: read_rows(array, 1, 3), lambda: prove(array)):
        with pytest.raises(DamagedStore, match="do not ascend"):
            read()


def test_masks_hold_truth_values(tmp_path):
    np.array([0, 1, 64], np.uint8).tofile(tmp_path / "a")
    array = map_array(tmp_path / "a", np.dtype(bool), (3,), bound=Bound(0, 2))
    assert read_rows(array, 0, 2).tolist() == [False, True]
    with pytest.raises(DamagedStore, match="such as 64"):
        prove(array)


def test_a_whole_store_is_opened_alike_whether_or_not_it_is_compared(tmp_path, monkeypatch):
    store = make(tmp_path / "s", sparse=True)
    small = open_graph(store).graph.fingerprint()
    monkeypatch.setattr(array_folder, "VERIFIED", 0)
    clustered = open_graph(store)
    assert clustered.graph.fingerprint() == small
    assert torch.equal(clustered.graph.adj.t().indices, open_graph(store).graph.adj.t().indices)
