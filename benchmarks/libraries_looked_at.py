"""Libraries that were looked at and not taken, beside what stands in their place.

    python benchmarks/libraries_looked_at.py

Seconds are of the processor, all threads together, and the fastest of some rounds counts. A library
that is not installed is left out by name. Nothing else needs them: put them into an environment
beside the project's (`pip install pydantic jsonargparse tyro torchmetrics`).
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.metadata
import importlib.util
import math
import operator
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow
import torch
from pyarrow import csv
from rich.console import Console
from rich.table import Table

from gnnscale.choices import Argument
from gnnscale.data.ogb.raw import parse_rows
from gnnscale.declared import arguments_of
from gnnscale.inference.metrics import make_metric
from gnnscale.storage.files import write_json
from gnnscale.train.options import ClusterOptions
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "libraries_looked_at.json"
PACKAGES = ("pydantic", "jsonargparse", "tyro", "typer", "torchmetrics", "scikit-learn", "pyarrow")
SCORES, CHUNK = 200_000, 4096
TABLES = {"features": (20_000, 100), "edges": (500_000, 2)}  # rows and columns

Figures = dict[str, float]


def there(library: str) -> bool:
    """Whether it is installed; it is named where it is not."""
    found = importlib.util.find_spec(library) is not None
    if not found:
        Console(stderr=True).print(f"{library} is not installed: left out")
    return found


def fastest(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the processor that it takes."""
    work()  # what is compiled or made the first time
    found = math.inf
    for _ in range(rounds):
        started = time.process_time()
        work()
        found = min(found, time.process_time() - started)
    return found


def checking(rounds: int) -> Figures:
    """Microseconds to check a field of a ClusterTrainer's arguments, given their defaults."""
    known = arguments_of(ClusterOptions)
    options = ClusterOptions(None, None)
    times = 1000 * len(known) / 1e6
    found = {"gnnscale": fastest(lambda: [options.faults() for _ in range(1000)], rounds) / times}
    if there("pydantic"):
        fields = [(name, hint_for_pydantic(argument)) for name, argument in known.items()]
        pydantic = importlib.import_module("pydantic")
        adapter = pydantic.TypeAdapter(make_dataclass("Options", fields))
        given = {name: getattr(options, name) for name in known}
        check = functools.partial(adapter.validate_python, given, strict=False)
        found["pydantic"] = fastest(lambda: [check() for _ in range(1000)], rounds) / times
    return found


def hint_for_pydantic(argument: Argument) -> Any:
    """The type of an argument, its range with the number that it is of."""
    values, kinds = argument.parts
    if Any in kinds:
        return Any
    names = {"least": "ge", "most": "le", "above": "gt"}
    limits = {of: argument.said[name] for name, of in names.items() if name in argument.said}
    field = importlib.import_module("pydantic").Field
    hints = [Annotated[k, field(**limits)] if k in (int, float) else k for k in kinds]
    if values:
        hints.append(Literal[values])
    return functools.reduce(operator.or_, hints)


def importing(rounds: int) -> Figures:
    """Milliseconds to import what builds command lines, and torchmetrics beside torch."""

    def started(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def fewest(code: str) -> float:
        return 1000 * min(started(code) for _ in range(rounds))

    python, found = fewest("pass"), {}
    for library in ("typer", "jsonargparse", "tyro", "torch"):
        if there(library):
            found[library] = fewest(f"import {library}") - python
    if there("torchmetrics"):  # which imports torch
        found["torchmetrics"] = fewest("import torchmetrics") - fewest("import torch")
    return found


def ranking(rounds: int) -> Figures:
    """Seconds for the area under the ROC curve, of scores in chunks."""
    drawn = torch.Generator().manual_seed(0)
    score = torch.rand(SCORES, generator=drawn)
    label = (torch.rand(SCORES, generator=drawn) < score).long()
    chunks = list(zip(score.split(CHUNK), label.split(CHUNK), strict=True))

    def ours() -> float:
        metric = make_metric("roc_auc")
        for scores, labels in chunks:
            metric.update(scores[:, None], labels[:, None].float())
        return metric.compute()

    def theirs() -> float:
        metric = importlib.import_module("torchmetrics.classification").BinaryAUROC()
        for scores, labels in chunks:
            metric.update(scores, labels)
        return float(metric.compute())

    found = {"gnnscale, scikit-learn": fastest(ours, rounds)}
    if there("torchmetrics"):
        assert math.isclose(ours(), theirs(), rel_tol=1e-4)
        found["torchmetrics"] = fastest(theirs, rounds)
    return found


def parsing(rounds: int, kind: str) -> Figures:
    """MB of text a second, of features or edges as OGB writes them."""
    rows, columns = TABLES[kind]
    draw = np.random.default_rng(0)
    values: np.ndarray = draw.integers(0, 2_449_029, (rows, columns))
    if kind == "features":
        values = draw.standard_normal((rows, columns)).astype(np.float32)
    lines = [",".join(map(str, row)) for row in values]
    text = ("\n".join(lines) + "\n").encode()
    of_float = values.dtype.itemsize if values.dtype.kind == "f" else 0
    table = np.empty((rows + 1, columns), values.dtype)
    names = [f"f{i}" for i in range(columns)]
    types = dict.fromkeys(names, pyarrow.from_numpy_dtype(values.dtype))

    def ours() -> np.ndarray:
        assert parse_rows(np.frombuffer(text, np.uint8), of_float, table) == rows
        return table[:rows]

    def theirs() -> np.ndarray:
        read = csv.read_csv(
            pyarrow.BufferReader(text),
            csv.ReadOptions(column_names=names),
            convert_options=csv.ConvertOptions(column_types=types),
        )
        return np.stack([column.to_numpy() for column in read.columns], 1)

    assert np.array_equal(ours(), values) and np.array_equal(theirs(), values)
    contestants = {"gnnscale": ours, "pyarrow.csv": theirs}
    return {name: len(text) / 1e6 / fastest(work, rounds) for name, work in contestants.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    found = {
        "microseconds to check a field": checking(rounds),
        "milliseconds to import": importing(rounds),
        f"seconds for the area under ROC of {SCORES:,} scores": ranking(rounds),
        **{f"MB of {kind} read in a second": parsing(rounds, kind) for kind in TABLES},
    }
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    write_json(RESULT, {**found, "versions": versions, "environment": environment("cpu")})
    table = Table("", "", "")
    for what, figures in found.items():
        for name, value in figures.items():
            table.add_row(what, name, f"{value:.3g}")
    Console().print(table)


if __name__ == "__main__":
    main()
