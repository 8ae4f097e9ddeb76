"""Every convolution of PyG, and layers as users write them, against PyG: exact, or refused by name.

    python benchmarks/oracles.py                        # all: some minutes
    python benchmarks/oracles.py --quick                # a sample, as `make check` takes it
    python benchmarks/oracles.py --only GATConv Median  # subjects whose name begins so
    python benchmarks/oracles.py --only GAT --show      # and what was refused, with its message

A cell is a subject (two layers, 8 → 8 → 5, or one of PyG's models) on a graph in a way. The
**oracle** is PyG's, or the user's, own `layer(x, edge_index[, edge_weight][, edge_attr][,
edge_type])` on the whole graph, with the same parameters, drawn at random so that what begins at 0
shows. `edge_attr` goes to layers that were built for it, everything else to those that have a name
for it.

- **full**: `gs.nn.as_layered(layers)(x, edge_index, …)`.
- **chunks**: `ClusterTrainer.predict()`, 7 rows at a time.
- **clusters**: an epoch of `ClusterTrainer` whose loss is finite; and one of its steps, output and
  gradients, against the layers on the subgraph that the batch's nodes induce. That is what a batch
  means.
- **gradient**: a step on the whole graph.

Dropout is 0 in both. Everything is in float64, where the two may differ by 1e-9 of the greatest
figure (of the output, of all gradients): they add in another order, which costs some 1e-15 for each
of at most 200 summands. With `--float32`, and for layers that compute in single precision by
themselves, by 1e-4: 200 summands at 6e-8 are 1e-5.

An outcome is one of
- exact;
- refused: a `GnnscaleError` that names a class of the stack, and why, or says that the loss is nan
  where PyG's output is;
- no oracle: PyG itself fails or does not repeat itself, and we gave something;
- **wrong**;
- **bare**: any other exception, and a refusal that names no class.

A refusal counts as "though local" where `oracle/locality.py`, which knows nothing of gnnscale,
finds the layer local on graphs of that kind, and where PyG runs on the whole graph. The exit status
is 1 where something was wrong or bare.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from oracle import global_layers, pyg_layers, pyg_models, user_layers
from oracle.graphs import KINDS, make_case
from oracle.locality import is_local
from oracle.subjects import Subject
from oracle.ways import WAYS, difference, new_stack, pyg_runs
from rich.console import Console
from rich.table import Table
from torch_geometric.nn import conv as pyg

import gnnscale as gs
from gnnscale.storage.files import write_json
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "oracles.json"
GROUPS = {
    "PyG's layers": pyg_layers.SUBJECTS,
    "PyG's models": pyg_models.SUBJECTS,
    "users', local": user_layers.SUBJECTS,
    "users', not local": global_layers.SUBJECTS,
}
OUTCOMES = ("exact", "refused", "though local", "no oracle", "wrong", "bare")
FAULTS = ("wrong", "bare")
QUICK = ("GCNConv", "GATConv edge_dim", "SAGEConv aggr median", "SAGEConv aggr lstm", "RGCNConv")
QUICK += ("GCN2Conv", "GPSConv", "Gated", "DegreeScaled", "Weight", "MeanOfAll", "NumberOfNodes")
UNDIRECTED = ("undirected", "isolated", "weighted", "one node")


class Cell(NamedTuple):
    """What came of a subject on a graph in a way."""

    outcome: str
    detail: str = ""


def try_cell(subject: Subject, kind: str, way: str, tolerance: float) -> Cell:
    """Run a cell and judge it."""
    case = make_case(kind, subject)
    try:
        ours, oracle = WAYS[way](subject, case)
    except gs.GnnscaleError as error:
        told = str(error)
        named = any(name in told for name in _class_names(subject))
        named |= "loss is nan" in told and not pyg_runs(subject, kind, way)
        return Cell("refused" if named else "bare", f"{type(error).__name__}: {told}")
    except Exception as error:
        return Cell("bare", f"{type(error).__name__}: {error}")
    try:
        theirs = oracle()
    except Exception as error:
        return Cell("no oracle", f"{type(error).__name__}: {error}")
    error = difference(ours, theirs)
    if error <= (1e-4 if subject.float32 else tolerance):
        return Cell("exact")
    if difference(oracle(), theirs) > 0:
        return Cell("no oracle", "the oracle does not repeat itself")
    return Cell("wrong", f"off by {error:.2g}")


def _class_names(subject: Subject) -> set[str]:
    return {type(part).__name__ for module in new_stack(subject) for part in module.modules()}


def try_subject(
    subject: Subject, kinds: Sequence[str], tolerance: float
) -> dict[str, dict[str, Cell]]:
    """All cells of a subject, by graph and way."""
    cells = {kind: {way: try_cell(subject, kind, way, tolerance) for way in WAYS} for kind in kinds}
    refused = {k for k, ways in cells.items() for c in ways.values() if c.outcome == "refused"}
    local = {
        directed: is_local(subject, directed)
        for directed in {kind not in UNDIRECTED for kind in refused}
    }
    for kind in refused:
        for way, cell in cells[kind].items():
            could = local[kind not in UNDIRECTED] and pyg_runs(subject, kind, way)
            if could and cell.outcome == "refused":
                cells[kind][way] = Cell("though local", cell.detail)
    return cells


def of_subject(cells: dict[str, dict[str, Cell]]) -> dict[str, Any]:
    """What is written of a subject: counts by way and outcome; cells by outcome and message."""
    counts: dict[str, dict[str, int]] = {way: {} for way in WAYS}
    said: dict[str, dict[str, list[str]]] = {}
    for kind, ways in cells.items():
        for way, (outcome, detail) in ways.items():
            counts[way][outcome] = counts[way].get(outcome, 0) + 1
            if outcome != "exact":
                detail = re.sub(r"\d+(\.\d+)?%", "…%", detail)[:400]
                said.setdefault(outcome, {}).setdefault(detail, []).append(f"{kind}, {way}")
    return {"counts": counts, "not exact": said}


def chosen(options: argparse.Namespace) -> dict[str, list[Subject]]:
    """The subjects to be tried, by group."""

    def wanted(name: str) -> bool:
        if options.quick:
            return name in QUICK
        return not options.only or any(name.startswith(begin) for begin in options.only)

    return {group: [s for s in all_ if wanted(s.name)] for group, all_ in GROUPS.items()}


def check_all_are_there() -> None:
    """Every convolution of PyG is tried, or has a reason not to be."""
    tried = {subject.name.split(" ")[0] for subject in pyg_layers.SUBJECTS}
    if missing := set(pyg.__all__) - tried - set(pyg_layers.NOT_BUILT):
        raise SystemExit(f"neither tried nor excused: {sorted(missing)}")


def run(options: argparse.Namespace, console: Console) -> dict[str, dict[str, Any]]:
    """Try what is chosen: by group and subject, what came of it."""
    check_all_are_there()
    tolerance = 1e-4 if options.float32 else 1e-9
    found: dict[str, dict[str, Any]] = {}
    for group, subjects in chosen(options).items():
        kinds = pyg_models.GRAPHS if group == "PyG's models" else KINDS
        for subject in subjects:
            of = of_subject(try_subject(subject, kinds, tolerance))
            found.setdefault(group, {})[subject.name] = of
            tell(subject.name, of, options.show, console)
    return found


def tell(name: str, of: dict[str, Any], everything: bool, console: Console) -> None:
    """Print what came of a subject, where it is not all right or all is asked for."""
    total: Counter[str] = Counter()
    for counts in of["counts"].values():
        total.update(counts)
    if everything or set(total) & {*FAULTS, "though local", "no oracle"}:
        line = ", ".join(f"{number} {outcome}" for outcome, number in total.items())
        console.print(f"{name}: {line}", highlight=False, markup=False)
    for outcome, details in of["not exact"].items():
        for detail, where in details.items():
            if outcome in FAULTS or everything:
                text = f"    {outcome}: {detail}  [{len(where)}: {'; '.join(where)}]"
                console.print(text, highlight=False, markup=False, soft_wrap=True)


def summary(found: dict[str, dict[str, Any]], tolerance: float) -> dict[str, Any]:
    """The result: counts by group, way and outcome before what they are made of."""
    counts = {
        group: {
            way: {
                outcome: number
                for outcome in OUTCOMES
                if (number := sum(s["counts"][way].get(outcome, 0) for s in of.values()))
            }
            for way in WAYS
        }
        for group, of in found.items()
    }
    return {
        "tolerance": tolerance,
        "subjects": {group: len(of) for group, of in found.items()},
        "counts": counts,
        "not built": pyg_layers.NOT_BUILT,
        "environment": environment("cpu"),
        "of subjects": found,
    }


def show(result: dict[str, Any], console: Console) -> None:
    table = Table("layers", "way", *OUTCOMES)
    for group, ways in result["counts"].items():
        for way, outcomes in ways.items():
            table.add_row(
                f"{group}, {result['subjects'][group]}",
                way,
                *(f"{outcomes.get(o, 0):,}" for o in OUTCOMES),
            )
    console.print(table)


def faults(result: dict[str, Any]) -> int:
    """Cells that were wrong or bare."""
    return sum(
        outcomes.get(fault, 0)
        for ways in result["counts"].values()
        for outcomes in ways.values()
        for fault in FAULTS
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="a small sample")
    parser.add_argument("--float32", action="store_true", help="in single precision, by 1e-4")
    parser.add_argument("--show", action="store_true", help="print every message")
    options = parser.parse_args()
    torch.set_default_dtype(torch.float32 if options.float32 else torch.float64)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    console = Console()
    found = run(options, console)
    result = summary(found, 1e-4 if options.float32 else 1e-9)
    if not (options.only or options.quick or options.float32):
        write_json(RESULT, result)
    show(result, console)
    sys.exit(faults(result) > 0)


if __name__ == "__main__":
    main()
