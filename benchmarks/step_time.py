"""A training step beside its floor and beside other libraries, in one run.

    python benchmarks/step_time.py --scale 0.25                # every case, every contestant
    python benchmarks/step_time.py --cases gcn sage --steps 24
    python benchmarks/step_time.py --cases gcn --profile       # and where the step's time goes

Contestants train the same model with the same weights, Adam and number of threads on the same
batches of the same partition; before anything is timed, their losses over the first steps are
compared. They take turns in bursts of consecutive steps, whose first steps are not counted: caches
fill, the heap settles, and gnnscale's loader comes to prepare one batch for every one it gives.
Loading is what the training loop waits for. "processor" is processor time over all threads, a
loader's included: what another load on the machine changes less, where threads wait passively. On a
GPU a burst is timed whole, so that it need not be stopped.

A contestant that is not there is listed with the reason. DGL and torch-scatter come with
`pip install --no-build-isolation '.[peers]'`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import os
import statistics
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peers import dgl, ours, pyg
from peers.contest import Case, Contestant, Field, Setup, clustered_graph
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from step_floor import Floor, synchronise
from step_profile import profile

from gnnscale.kernels import num_threads
from gnnscale.storage.files import write_json
from gnnscale.train.run.report import environment

RESULTS = Path(__file__).parent / "results"
logger = logging.getLogger(__name__)

BURST = 12
LEAD = 10  # steps of a burst that are not counted
CHECKED = 3  # steps whose losses are compared
TOLERANCE = 2e-3  # Adam divides by the gradient's size, and so enlarges differences in rounding


def cases(scale: float, source: str | None) -> dict[str, Case]:
    """Every case by name. The main graph has 3,750 parts at a quarter of Amazon2M's size."""
    main = source or f"synthetic:amazon2m?scale={scale}"
    parts = max(10, round(15_000 * scale))
    thin = "synthetic:planted?nodes=150000&degree=7&features=100&classes=40"
    every = [
        *(Case(model, main, parts, 10, model) for model in ("gcn", "sage", "gin", "cluster_gcn")),
        Case("gat", main, parts, 10, "gat"),
        Case("wordnet", "wordnet", 150, 15, "sage", hidden=128, dropout=0.5, lr=0.005),
        Case("degree_7", thin, 1000, 10, "gcn", hidden=128),
    ]
    return {case.name: case for case in every}


class Sample(NamedTuple):
    """Seconds of one step."""

    load: float
    train: float
    processor: float  # of all threads, a loader's that works ahead included


def burst(contestant: Contestant, counted: int) -> list[Sample]:
    """Consecutive steps, of which the last `counted` are measured."""
    with contestant.turn():
        for _ in range(LEAD):
            contestant.train(contestant.load())
        samples = consecutive(contestant, counted)
    time.sleep(0.02)  # a loader that works ahead finishes on its own time, not on the next one's
    return samples


def consecutive(contestant: Contestant, counted: int) -> list[Sample]:
    """The measured steps of a burst."""
    device = contestant.setup.device
    synchronise(device)
    samples = []
    before, used = time.perf_counter(), time.process_time()
    for _ in range(counted):
        batch = contestant.load()
        loaded = time.perf_counter()
        contestant.train(batch)
        after, used_after = time.perf_counter(), time.process_time()
        samples.append(Sample(loaded - before, after - loaded, used_after - used))
        before, used = after, used_after
    if device.type == "cpu":
        return samples
    synchronise(device)
    left = time.perf_counter() - before  # what the device had not done yet
    load, train, processor = (sum(part) / counted for part in zip(*samples, strict=True))
    return [Sample(load, train + left / counted, processor)]


def compare_losses(contestants: list[Contestant]) -> dict[str, list[float]]:
    """The losses of the first steps without dropout, which all contestants must share."""
    losses = {}
    for contestant in contestants:
        contestant.begin(dropout=0.0)
        losses[contestant.name] = []
        with contestant.turn():
            for _ in range(CHECKED):
                batch = contestant.load()
                losses[contestant.name].append(contestant.loss(batch))
                contestant.train(batch)
    for step, found in enumerate(zip(*losses.values(), strict=True)):
        if max(found) - min(found) > TOLERANCE * max(found):
            raise SystemExit(f"losses of step {step} differ, so the models do: {losses}")
    return losses


def contest(setup: Setup, steps: int) -> dict[str, Any]:
    """All contestants, taking turns."""
    field: Field = ours.contestants(setup) | pyg.contestants(setup) | dgl.contestants(setup)
    present = [entry for entry in field.values() if isinstance(entry, Contestant)]
    absent = {name: entry for name, entry in field.items() if isinstance(entry, str)}
    losses = compare_losses(present)
    for contestant in present:
        contestant.begin(setup.case.dropout)
    has_floor = setup.case.model != "gat"  # attention is no product of matrices
    floor, draws = Floor(setup), setup.draws()
    samples: dict[str, list[Sample]] = {contestant.name: [] for contestant in present}
    rounds = -(-steps // BURST)
    for number in range(rounds):
        turn = number % len(present)
        for contestant in present[turn:] + present[:turn]:
            samples[contestant.name] += burst(contestant, BURST)
        for clusters in itertools.islice(draws, BURST if has_floor else 0):
            floor.measure(clusters)
        logger.info("%s: round %d of %d", setup.case.name, number + 1, rounds)
    result = {
        "case": asdict(setup.case),
        "batch": batch_sizes(setup),
        "contestants": {name: summary(found) for name, found in samples.items()},
        "absent": absent,
        "losses": losses,
        "environment": {
            **environment(str(setup.device)),
            "numba_threads": num_threads(),
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "as it comes"),
        },
    }
    return result | ratios(result["contestants"], floor.result() if has_floor else None)


def batch_sizes(setup: Setup) -> dict[str, float]:
    """Mean nodes and directed edges of the first batches."""
    from gnnscale.loader import Assembler

    assembler = Assembler(setup.clustered)
    batches = [assembler(torch.tensor(c)) for c in itertools.islice(setup.draws(), 10)]
    return {
        "nodes": statistics.mean(batch.num_nodes for batch in batches),
        "edges": statistics.mean(batch.adj.nnz for batch in batches),
    }


def summary(samples: list[Sample]) -> dict[str, float]:
    """Medians and quartiles in milliseconds."""
    step = sorted(1e3 * (sample.load + sample.train) for sample in samples)
    low, median, high = statistics.quantiles(step, n=4) if len(step) > 1 else step * 3
    return {
        "step": median,
        "lower_quartile": low,
        "upper_quartile": high,
        "load": 1e3 * statistics.median(sample.load for sample in samples),
        "train": 1e3 * statistics.median(sample.train for sample in samples),
        "processor": 1e3 * statistics.median(sample.processor for sample in samples),
        "samples": len(step),
    }


def ratios(found: dict[str, dict[str, float]], floor: dict[str, Any] | None) -> dict[str, Any]:
    """Our step over the floor, the fastest peer and PyG's `edge_index`, on both clocks."""
    peers = {name: figures for name, figures in found.items() if name != ours.Gnnscale.name}
    fastest = min(peers, key=lambda name: peers[name]["step"])

    def over(clock: str, total: float | None) -> dict[str, float]:
        mine = found[ours.Gnnscale.name][clock]
        ratio = {
            "over_fastest_peer": mine / peers[fastest][clock],
            "over_edge_index": mine / peers[pyg.PyG.name][clock],
        }
        return ratio if total is None else ratio | {"over_floor": mine / total}

    return {
        "floor": floor,
        "fastest_peer": fastest,
        "ratio": over("step", floor and floor["total"]),
        "processor_ratio": over("processor", floor and floor["processor"]["total"]),
    }


def table_of(result: dict[str, Any]) -> Table:
    """One case."""
    case, batch, ratio = result["case"], result["batch"], result["ratio"]
    sizes = f"{batch['nodes']:,.0f} nodes, {batch['edges']:,.0f} edges a batch"
    title = f"{case['name']}: {case['model']}, hidden {case['hidden']}, {sizes}"
    heads = ("load", "train", "step", "quartiles", "processor", "gnnscale over it")
    table = Table("ms", *heads, title=title)
    mine = result["contestants"][ours.Gnnscale.name]["step"]
    for name, figures in sorted(result["contestants"].items(), key=lambda item: item[1]["step"]):
        table.add_row(
            name,
            f"{figures['load']:.2f}",
            f"{figures['train']:.2f}",
            f"{figures['step']:.2f}",
            f"{figures['lower_quartile']:.2f} - {figures['upper_quartile']:.2f}",
            f"{figures['processor']:.2f}",
            f"{mine / figures['step']:.3f}",
        )
    if result["floor"] is not None:
        floor = result["floor"]
        parts = f"dense {floor['dense']:.2f}, sparse {floor['sparse']:.2f}"
        total = floor["total"]
        processor = f"{floor['processor']['total']:.2f}"
        over = f"{ratio['over_floor']:.3f}"
        table.add_row("floor", "", "", f"{total:.2f}", parts, processor, over)
    for name, reason in result["absent"].items():
        table.add_row(name, "", "", "absent", reason)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=0.25, help="of Amazon2M, the main graph")
    parser.add_argument("--source", help="another main graph, such as synthetic:planted?nodes=…")
    parser.add_argument("--cases", nargs="*", help="these alone; else all")
    parser.add_argument("--steps", type=int, default=60, help="counted, of every contestant")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true", help="where the step's time goes")
    parser.add_argument("--output", type=Path, help="a JSON file; cases not run stay in it")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler()])
    device = torch.device(arguments.device)
    suffix = "" if device.type == "cpu" else f"_{device.type}"
    output = arguments.output or RESULTS / f"step_time{suffix}.json"
    known = cases(arguments.scale, arguments.source)
    if unknown := set(arguments.cases or ()) - known.keys():
        parser.error(f"no case {sorted(unknown)}; there are {list(known)}")
    clustered, source = None, None
    for name in arguments.cases or known:
        case = known[name]
        if clustered is None or source != case.source:
            clustered = None  # two graphs at once need not fit
            clustered, source = clustered_graph(case.source, case.num_parts), case.source
        setup = Setup(case, clustered, device)
        result = contest(setup, arguments.steps)
        if arguments.profile:
            result["profile"] = profile(setup, output.with_name(f"step_profile{suffix}_{name}.svg"))
        gc.collect()
        before = json.loads(output.read_text()) if output.exists() else {}
        write_json(output, before | {name: result})
        Console().print(table_of(result))


if __name__ == "__main__":
    main()
