"""Flipped bits of stores in use: an error by name, the figures of before, other ones, or a crash.

A store is small, and compared with its checksums when it is opened, or is opened as a large one is:
only `FEW` bytes of it are compared (those of the clusters' bounds), and what is read of the rest is
held to its bounds. Other figures may come of a value that is as good as the one before: a feature,
or an index within the graph. Run as a script, this file is the worker that crashes.

    python figures.py STORE FLIPS.json OUTCOMES.jsonl
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gnnscale as gs
from gnnscale.storage import array_folder

FEW = 400
#: Arrays of which a flipped bit can give another value that is as good, where no checksum is
#: compared.
VALUES = ("x", "y", "indptr", "indices", "node_id", "split", "edge_weight", "edge_attr")
Flip = tuple[str, int, int, bool]  # file, byte, bit, whether the store is opened as a large one


def figure_campaign(flips: int, seed: int) -> dict[str, Any]:
    """Flip so many bits and use the stores in all ways; outcomes by mode, and what is wrong."""
    chance = random.Random(seed)
    counts: dict[str, Counter[str]] = {"compared": Counter(), "as a large one": Counter()}
    findings = []
    with tempfile.TemporaryDirectory(prefix="gnnscale-figures-") as folder:
        for sparse in (False, True):
            store = make_store(Path(folder, f"store-{sparse}"), sparse)
            left = [draw_flip(store, chance, bool(i % 2)) for i in range(-(-flips // 2))]
            for *flip, use, outcome in outcomes_of(store, left):
                mode = "as a large one" if flip[3] else "compared"
                silent = outcome == "other" and not (flip[3] and flip[0].startswith(VALUES))
                known = outcome in ("named error", "same", "other")
                counts[mode][outcome if known else outcome.partition(":")[0]] += 1
                if silent or not known:
                    findings.append({"flip": flip, "use": use, "outcome": outcome})
    return {**{mode: dict(count) for mode, count in counts.items()}, "findings": findings}


def make_store(path: Path, sparse: bool) -> Path:
    """A store of 90 nodes in six clusters."""
    graph = gs.load("synthetic:planted?nodes=90&classes=3&features=6&communities=6")
    if sparse:
        split = graph.splits["default"]
        masks = {"train_mask": split.train, "val_mask": split.val, "test_mask": split.test}
        x = np.random.default_rng(0).random((90, 12)) * (np.arange(12) % 3 == 0)
        import scipy.sparse

        features = scipy.sparse.csr_matrix(x.astype(np.float32))
        graph = gs.Graph.from_arrays(graph.adj.edge_index, features, graph.y, **masks)
    gs.cluster(graph, gs.partition(graph, 6, "contiguous"), path)
    return path


def draw_flip(store: Path, chance: random.Random, large: bool) -> Flip:
    """A bit of an array: every second time of a number's highest byte."""
    path = chance.choice(sorted(store.glob("*.npy")))
    about = json.loads((store / "meta.json").read_text())["arrays"][path.stem]
    width = np.dtype(about["dtype"]).itemsize
    numbers = int(np.prod(about["shape"]))
    byte = width - 1 if chance.random() < 0.5 else chance.randrange(width)
    place = about["bytes"] - numbers * width + chance.randrange(numbers) * width + byte
    return path.name, place, chance.randrange(8), large


def outcomes_of(store: Path, flips: list[Flip]) -> list[list[Any]]:
    """What came of every flip and use; a worker that crashes is followed by another."""
    done: list[list[Any]] = []
    whole = {path: path.read_bytes() for path in store.glob("*.npy")}
    while flips:
        with tempfile.TemporaryDirectory(prefix="gnnscale-flip-") as folder:
            job, out = Path(folder, "flips.json"), Path(folder, "outcomes.jsonl")
            job.write_text(json.dumps(flips))
            command = [sys.executable, __file__, str(store), str(job), str(out)]
            status = subprocess.run(command, capture_output=True).returncode
            lines = [json.loads(line) for line in out.read_text().splitlines()]
        done += [line for line in lines if line[-1] != "crash"]
        if not status:
            break
        done.append([*lines[-1][:-1], f"crash: exit status {status}"])
        flips = flips[1 + flips.index(tuple(lines[-1][:4])) :]
        for path, content in whole.items():
            path.write_bytes(content)
    return done


# --- the worker -------------------------------------------------------------------------------


def batches(clustered: Any) -> list[torch.Tensor]:
    views = [clustered.view(view) for view in ("all", "train")]
    found = [batch for view in views for batch in gs.ClusterLoader(view, 3, prefetch=0)]
    return [t for b in found for t in (b.adj.indices, b.y, b.train_mask, b.node_id)]


def trained(clustered: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = gs.nn.GCN(clustered.graph.num_features, 4, 2, clustered.graph.num_classes)
    trainer = gs.ClusterTrainer(model, clustered, clusters_per_batch=3, epochs=1, progress=False)
    trainer.fit()
    return [trainer.predict()]


def partitioned(clustered: Any) -> list[torch.Tensor]:
    return [gs.partition(clustered.graph, 4, "streaming", cache=False).assignment]


def restored(clustered: Any) -> list[torch.Tensor]:
    graph = clustered.original()
    x = graph.x if isinstance(graph.x, torch.Tensor) else graph.x.values
    return [graph.adj.indices, graph.y, x]


def derived(clustered: Any) -> list[torch.Tensor]:
    adj = clustered.graph.adj
    return [adj.t().indices, adj.edge_index, adj.in_degree()]


USES: tuple[Callable[[Any], list[torch.Tensor]], ...] = (
    batches,
    trained,
    partitioned,
    restored,
    derived,
)


def outcome(use: Callable[[Any], list[torch.Tensor]], store: Path, whole: Any) -> str:
    try:
        found = use(gs.open_graph(store))
    except gs.GnnscaleError as error:
        return "named error" if "damaged" in str(error) else f"unnamed error: {error}"
    except Exception as error:
        return f"unnamed error: {type(error).__name__}: {error}"
    same = all(torch.equal(a, b) for a, b in zip(found, whole, strict=True))
    return "same" if same else "other"


def work(store: Path, flips: list[Flip], out: Path) -> None:
    warnings.simplefilter("ignore")
    bound = array_folder.VERIFIED
    whole = [[t.clone() for t in use(gs.open_graph(store))] for use in USES]
    with open(out, "a", buffering=1) as file:
        for name, place, bit, large in flips:
            content = (store / name).read_bytes()
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            (store / name).write_bytes(changed)
            array_folder.VERIFIED = FEW if large else bound
            for use, before in zip(USES, whole, strict=True):
                about = [name, place, bit, large, use.__name__]
                file.write(json.dumps([*about, "crash"]) + "\n")
                file.write(json.dumps([*about, outcome(use, store, before)]) + "\n")
            (store / name).write_bytes(content)


if __name__ == "__main__":
    work(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3]))
