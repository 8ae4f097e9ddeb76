"""The trained model beside the baselines."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from gnnscale.cli.console import err, plain
from gnnscale.errors import StoreError

if TYPE_CHECKING:
    from gnnscale.graph import Graph
    from gnnscale.train import Report
    from gnnscale.train.trainer import Trainer

_FILE = "baselines.json"


def comparison_table(results: Mapping[str, float], metric: str, where: str = "test") -> Table:
    """Results by name, the last one, which is the trained model's, in bold."""
    table = Table("", Column(plain(f"{where} {metric}")))
    for position, (name, value) in enumerate(results.items(), start=1):
        style = "bold" if position == len(results) else ""
        table.add_row(plain(name), f"{value:.4f}", style=style)
    return table


def baselines_of_run(
    graph: Graph, trainer: Trainer, report: Report, where: str
) -> dict[str, float]:
    """The baselines for a run, by its own metric; kept in its folder, for they take a while."""
    from gnnscale.benchmarking import baselines
    from gnnscale.storage.files import read_json, write_json

    split, metric = trainer.config.split, report.headline
    asked: dict[str, Any] = {
        "graph": report.run["graph"]["fingerprint"],
        "split": split,
        "metric": metric,
        "where": where,
    }
    path = Path(str(trainer.folder)) / _FILE
    try:
        known = read_json(path)
        if known["asked"] == asked:
            return dict(known["results"])
    except (StoreError, KeyError, TypeError):
        pass  # there are none yet, or not readable ones
    began = time.monotonic()
    with err.status("baselines: majority class, label propagation, MLP on the same features"):
        compared = dataclasses.replace(graph, metric=metric)
        results = baselines(compared, where, split)
    write_json(path, {"asked": asked, "results": results, "seconds": time.monotonic() - began})
    return results
