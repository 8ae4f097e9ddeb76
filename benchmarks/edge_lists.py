"""Edge lists in files to a graph on disk: gnnscale beside DuckDB doing the same, and a bare scan.

    python benchmarks/edge_lists.py --edges 2e6 20e6 --rounds 2
    python benchmarks/edge_lists.py --edges 200e6 --rounds 1       # some 60 GB of disk, an hour

Both read the file, number the ids in ascending order, sort the edges by target and write them: from
one CSV, one Parquet file, or sixteen part files of Parquet; ids are integers of 40 bits, or text,
of ten million nodes (fewer below 20 million edges). Either may use 1 GB: DuckDB by its own limit,
`gs.from_edge_list` with memory="512MB", as what it holds a node is beside it. DuckDB reads the
file twice, or puts it into a table first: the faster is taken, file by file. Each run is a process
of its own; rounds alternate, and the fastest counts. Memory is the greatest that was anonymous
beyond what was so after the imports, sampled every 20 ms. The scan is DuckDB's, and does nothing
with the ids but look at each.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import compute, csv, parquet
from rich.console import Console
from rich.table import Table

from gnnscale.storage.files import write_json
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "edge_lists.json"
KINDS = ("csv", "parquet", "parts")
IDS = ("integers", "text")
PARTS = 16
NODES = 10_000_000  # for 20 million edges and more
_ROWS_AT_ONCE = 1 << 20

GNNSCALE = """
import gnnscale as gs, gnnscale.data.tables.edge_list, pyarrow.csv, pyarrow.parquet, numba
started()
graph = gs.from_edge_list(edges, source="source", target="target", undirected=False,
                          path=out, memory="512MB")
told["edges"] = graph.num_edges
"""
DUCKDB = """
import duckdb
started()
db = duckdb.connect(out + ".db")
db.execute("SET memory_limit = '1GB'; SET preserve_insertion_order = false")
db.execute("SET enable_progress_bar = false")
db.execute(f"SET threads = {threads}; SET temp_directory = '{out}.tmp'")
read = f"read_csv('{edges}')" if edges.endswith(".csv") else f"read_parquet('{edges}')"
if "*" in edges: read = f"read_parquet('{edges}')"
"""
NUMBERED = """
db.execute(f'''CREATE TABLE ids AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS node FROM
               (SELECT source AS id FROM {read} UNION SELECT target FROM {read})''')
db.execute(f'''COPY (SELECT s.node AS source, t.node AS target FROM {read} e
               JOIN ids s ON e.source = s.id JOIN ids t ON e.target = t.id
               ORDER BY t.node, s.node) TO '{out}.parquet' (FORMAT parquet)''')
told["edges"] = db.execute(f"SELECT count(*) FROM '{out}.parquet'").fetchone()[0]
"""
READERS = {
    "gnnscale": GNNSCALE,
    "duckdb": DUCKDB + NUMBERED,
    "duckdb, table": DUCKDB
    + "db.execute(f'CREATE TABLE edges AS SELECT source, target FROM {read}')\nread = 'edges'"
    + NUMBERED,
    "scan": DUCKDB
    + """
looked = db.execute(f"SELECT count(source), max(source), max(target) FROM {read}").fetchone()
told["edges"] = looked[0]
""",
}
FRAME = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
edges, out, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
told = {{}}
def started():
    print("started", flush=True)
    sys.stdin.readline()
    told["since"] = time.monotonic()
    told["before"] = time.process_time()
{reader}
told["seconds"] = time.monotonic() - told.pop("since")
told["processor"] = time.process_time() - told.pop("before")
print(json.dumps(told), flush=True)
"""


def make(folder: Path, edges: int, ids: str) -> None:
    """Write the same edges as CSV, Parquet and part files."""
    if (folder / "whole").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "parts").mkdir(parents=True)
    nodes = min(NODES, edges // 2)
    schema = pyarrow.schema([(name, _TYPES[ids]) for name in ("source", "target")])
    per_part = -(-edges // PARTS)
    with (
        csv.CSVWriter(folder / "edges.csv", schema) as text,
        parquet.ParquetWriter(folder / "edges.parquet", schema) as one,
    ):
        for i in range(PARTS):
            with parquet.ParquetWriter(folder / "parts" / f"part-{i}.parquet", schema) as part:
                for table in _edges(np.random.default_rng(i), per_part, nodes, ids):
                    for file in (text, one, part):
                        file.write(table)
    (folder / "whole").touch()


_TYPES = {"integers": pyarrow.int64(), "text": pyarrow.string()}


def _edges(rng: np.random.Generator, edges: int, nodes: int, ids: str) -> Iterator[pyarrow.Table]:
    for start in range(0, edges, _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, edges - start)
        columns = {}
        for name in ("source", "target"):
            node = rng.integers(0, nodes, count)
            called = pyarrow.array(node * 0x9E3779B97F5 % (1 << 40))  # odd: no two are the same
            if ids == "text":
                text = compute.cast(called, pyarrow.string())
                called = compute.binary_join_element_wise("user", text, "-")
            columns[name] = called
        yield pyarrow.table(columns)


def run(reader: str, edges: str, folder: Path, threads: int) -> dict[str, float]:
    """Read in a process of its own: seconds, and bytes."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", FRAME.format(reader=READERS[reader]), edges, str(work / "g"),
         str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    if process.stdout.readline() != "started\n":
        raise SystemExit(f"{reader} did not start")
    before = peak = _anonymous(process.pid)
    process.stdin.write("\n")
    process.stdin.flush()
    while process.poll() is None:
        peak = max(peak, _anonymous(process.pid))
        time.sleep(0.02)
    told = process.stdout.read().splitlines()
    size = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    shutil.rmtree(work, ignore_errors=True)
    if process.returncode:
        return {"failed": process.returncode, "memory": peak - before}
    return {**json.loads(told[-1]), "memory": peak - before, "imports": before, "written": size}


def _anonymous(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if "Anonymous:" in line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edges", type=float, nargs="+", default=[20e6])
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--ids", nargs="+", default=IDS, choices=IDS)
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=list(READERS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, default=Path("runs/edge_lists"))
    parser.add_argument("--keep", action="store_true", help="the files that were made")
    parser.add_argument("--no-result", action="store_true", help="do not write the result")
    args = parser.parse_args()
    found = []
    for edges in map(int, args.edges):
        for ids in args.ids:
            folder = args.work.resolve() / f"{edges}-{ids}"
            make(folder, edges, ids)
            for kind in args.kinds:
                path = folder / ("parts/*.parquet" if kind == "parts" else f"edges.{kind}")
                runs: dict[str, list[dict[str, float]]] = {name: [] for name in args.readers}
                for _ in range(args.rounds):
                    for name, of in runs.items():
                        of.append(run(name, str(path), folder, args.threads))
                        print(edges, ids, kind, name, of[-1], file=sys.stderr, flush=True)
                found.append({"edges": edges, "ids": ids, "kind": kind, "runs": runs})
                if not args.no_result:
                    keep(found)
            if not args.keep:
                shutil.rmtree(folder)
    show(found)


def keep(found: list[dict[str, Any]]) -> None:
    """Write what was found, beside what is kept of other sizes, ids and files."""
    old = json.loads(RESULT.read_text())["found"] if RESULT.exists() else []
    both = {(one["edges"], one["ids"], one["kind"]): one for one in [*old, *found]}
    write_json(RESULT, {"environment": environment("cpu"), "found": list(both.values())})


def show(found: list[dict[str, Any]]) -> None:
    """Print seconds and memory, and how many times DuckDB's seconds gnnscale takes."""
    table = Table(
        "edges", "ids", "file", "reader", "seconds", "of processor", "memory, MB", "x DuckDB"
    )
    for one in found:
        best = {name: _best(runs) for name, runs in one["runs"].items()}
        peers = [
            best[name]["seconds"] for name in best if "duckdb" in name and "seconds" in best[name]
        ]
        for name, run in best.items():
            cells = [f"{one['edges']:,}", one["ids"], one["kind"], name]
            if "seconds" not in run:
                table.add_row(
                    *cells, f"failed ({run['failed']})", "", f"{run['memory'] / 1e6:,.0f}", ""
                )
                continue
            times = f"{run['seconds'] / min(peers):.2f}" if peers and name == "gnnscale" else ""
            table.add_row(
                *cells, f"{run['seconds']:.1f}", f"{run['processor']:.1f}",
                f"{run['memory'] / 1e6:,.0f}", times,
            )  # fmt: skip
    Console(width=120).print(table)


def _best(runs: list[dict[str, float]]) -> dict[str, float]:
    return min(runs, key=lambda run: run.get("seconds", np.inf))


if __name__ == "__main__":
    main()
