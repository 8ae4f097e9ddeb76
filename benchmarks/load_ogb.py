"""Reading a data set of OGB's for the first time: gnnscale beside ogb's own reader.

    python benchmarks/load_ogb.py --scale 1 --beside 0.3 --rounds 2

Makes ogbn-products up, as its csv.gz lie on OGB's server: 61,859,140 random edges and 2,449,029
nodes of 100 features, times the scale. Each reader is a process of its own, started on the same
files, that ends when the data set can be trained on: ogb's has it in memory and has saved what it
will load the next time, gnnscale's has stored it and opened it. Processor seconds, of all threads
and without imports, stand beside those of the clock. Memory is the greatest resident set that the
system saw of the process, mapped files included; what importing the libraries takes is shown apart.
Rounds alternate, and the fastest counts.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import csv
from rich.console import Console
from rich.table import Table

from gnnscale.storage.files import read_json, write_json
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "load_ogb.json"
NODES, EDGES, FEATURES, CLASSES = 2_449_029, 61_859_140, 100, 47
_ROWS_AT_ONCE = 1 << 18

# What a reader's process runs: it says when it has imported, and how many edges there are.
READERS = {
    "gnnscale": """
import gnnscale as gs, numba, torch
import gnnscale.data.loading
started()
graph = gs.load("ogbn-products", root=sys.argv[1])
told["edges"] = graph.num_edges
""",
    "ogb": """
from ogb.nodeproppred import NodePropPredDataset
started()
dataset = NodePropPredDataset("ogbn-products", root=sys.argv[1])
split = dataset.get_idx_split()
told["edges"] = dataset[0][0]["edge_index"].shape[1]
""",
}
FRAME = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
told = {{}}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def started():
    told["imported"] = peak()
    told["since"] = time.monotonic()
    told["before"] = time.process_time()
{reader}
told["seconds"] = time.monotonic() - told.pop("since")
told["processor"] = time.process_time() - told.pop("before")
told["peak"] = peak()
open(sys.argv[2], "w").write(json.dumps(told))
"""


def make(root: Path, scale: float) -> None:
    """Write the raw files of ogbn-products, made up, in a stream."""
    folder = root / "ogbn_products"
    if (folder / "RELEASE_v1.txt").exists():
        return
    nodes, edges = round(NODES * scale), round(EDGES * scale)
    raw, split = folder / "raw", folder / "split" / "sales_ranking"
    raw.mkdir(parents=True, exist_ok=True)
    split.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)

    def pairs() -> Iterator[np.ndarray]:
        for rows in _blocks(edges):
            yield rng.integers(0, nodes, (rows, 2))

    def features() -> Iterator[np.ndarray]:
        for rows in _blocks(nodes):
            yield rng.standard_normal((rows, FEATURES), dtype=np.float32)

    _write(raw / "edge.csv.gz", pairs())
    _write(raw / "node-feat.csv.gz", features())
    _write(raw / "node-label.csv.gz", [rng.integers(0, CLASSES, (nodes, 1))])
    _write(raw / "num-node-list.csv.gz", [np.array([[nodes]])])
    _write(raw / "num-edge-list.csv.gz", [np.array([[edges]])])
    order, bounds = rng.permutation(nodes), (0, nodes // 12, nodes // 10, nodes)
    for part, a, b in zip(("train", "valid", "test"), bounds, bounds[1:], strict=False):
        _write(split / f"{part}.csv.gz", [np.sort(order[a:b])[:, None]])
    (folder / "RELEASE_v1.txt").touch()  # ogb's mark of what is whole


def _blocks(rows: int) -> Iterator[int]:
    yield from (min(_ROWS_AT_ONCE, rows - at) for at in range(0, rows, _ROWS_AT_ONCE))


def _write(path: Path, blocks: Any) -> None:
    options = csv.WriteOptions(include_header=False)
    with gzip.open(path, "wb", compresslevel=1) as file:
        for block in blocks:
            names = [str(i) for i in range(block.shape[1])]
            columns = [pyarrow.array(np.ascontiguousarray(c)) for c in block.T]
            csv.write_csv(pyarrow.table(columns, names), file, options)


def read(reader: str, root: Path) -> dict[str, float]:
    """Read the set in a process of its own: seconds, and bytes."""
    cache, told = root / "cache", root / "told.json"
    for left in (cache, root / "ogbn_products" / "processed"):
        shutil.rmtree(left, ignore_errors=True)
    (root / "ogbn_products" / "processed").mkdir()  # which ogb's archives hold
    code = FRAME.format(reader=READERS[reader])
    subprocess.run(
        [sys.executable, "-c", code, str(root), str(told)],
        env={**os.environ, "GNNSCALE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    found = read_json(told)
    for left in (cache, root / "ogbn_products" / "processed"):
        shutil.rmtree(left, ignore_errors=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of what gnnscale alone reads")
    parser.add_argument("--beside", type=float, default=0.3, help="of what both read; 0 for none")
    parser.add_argument("--rounds", type=int, default=2, help="of what both read")
    parser.add_argument("--folder", type=Path, default=Path("ogb-made-up"), help="of the files")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if args.beside:
        root = args.folder / f"{args.beside:g}"
        make(root, args.beside)
        runs: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
        for _ in range(args.rounds):
            for reader, done in runs.items():
                done.append(read(reader, root))
        for reader, done in runs.items():
            rows.append({"reader": reader, "scale": args.beside, **_best(done)})
    if args.scale:
        root = args.folder / f"{args.scale:g}"
        make(root, args.scale)
        rows.append({"reader": "gnnscale", "scale": args.scale, **_best([read("gnnscale", root)])})
    result: dict[str, Any] = {"rows": rows, "rounds": args.rounds, "machine": environment("cpu")}
    if args.beside:
        ours, theirs = rows[:2]
        result["ogb_over_gnnscale"] = {
            key: theirs[key] / ours[key]
            for key in ("seconds", "processor", "peak", "beyond_imports")
        }
    write_json(RESULT, result)
    _show(result)


def _best(runs: list[dict[str, float]]) -> dict[str, float]:
    best = {key: min(run[key] for run in runs) for key in runs[0]}
    return {**best, "beyond_imports": min(run["peak"] - run["imported"] for run in runs)}


def _show(result: dict[str, Any]) -> None:
    table = Table(
        "reader", "scale", "directed edges", "seconds", "processor", "peak", "beyond imports"
    )
    for row in result["rows"]:
        sizes = (f"{row[key] / 2**20:,.0f} MB" for key in ("peak", "beyond_imports"))
        times = (f"{row[key]:.1f}" for key in ("seconds", "processor"))
        table.add_row(row["reader"], f"{row['scale']:g}", f"{row['edges']:,}", *times, *sizes)
    console = Console()
    console.print(table)
    for key, ratio in result.get("ogb_over_gnnscale", {}).items():
        console.print(f"ogb / gnnscale, {key}: {ratio:.1f}")


if __name__ == "__main__":
    main()
