"""OGB's own list of its data sets: ``master.csv`` of the installed ogb package, read as a file.

ogb is not imported for it: that takes seconds and some 500 MB, for a table of 7 kB.
"""

from __future__ import annotations

import csv
import difflib
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from gnnscale.errors import InputError, MissingDependency
from gnnscale.extras import missing

LEVELS = {"ogbn-": "node", "ogbg-": "graph", "ogbl-": "link"}
_FOLDERS = {"node": "nodeproppred", "graph": "graphproppred", "link": "linkproppred"}

#: OGB's names of metrics, and ours.
METRICS = {"acc": "accuracy", "rocauc": "roc_auc", "rmse": "rmse", "ap": "average_precision"}

#: Data sets of our own making from OGB's files: the part of papers that cite papers.
CITES = "ogbn-mag-cites"
_MADE_FROM = {CITES: "ogbn-mag"}


@dataclass(frozen=True)
class OGBEntry:
    """What OGB says of a data set.

    Attributes:
        name: such as "ogbn-arxiv".
        level: what a label belongs to: "node" or "graph".
        num_tasks: labels a node or graph has.
        num_classes: classes of a label; 2 where it is true or false, -1 for regression.
        metric: OGB's name of it: "acc", "rocauc", ...
        task_type: "multiclass classification", "binary classification", "regression", ...
        download_name: the top folder in the archive.
        version: of the data.
        url: of the archive.
        add_inverse_edge: whether OGB's reader adds the reverse of every edge.
        has_node_attr: whether nodes have features.
        has_edge_attr: whether edges have features.
        split: name of the official split.
        binary: whether the raw files are npz; else csv.gz.
        files_of: the data set of OGB whose files these are: itself but for `ogbn-mag-cites`.
    """

    name: str
    level: str
    num_tasks: int
    num_classes: int
    metric: str
    task_type: str
    download_name: str
    version: str
    url: str
    add_inverse_edge: bool
    has_node_attr: bool
    has_edge_attr: bool
    split: str
    binary: bool
    files_of: str

    @property
    def task(self) -> str:
        """Our name of the task."""
        if self.task_type == "regression":
            return "regression"
        return "multilabel" if self.task_type == "binary classification" else "classification"

    @property
    def our_metric(self) -> str | None:
        """Our name of the metric; None where we have none."""
        return METRICS.get(self.metric)

    @property
    def outputs(self) -> int:
        """Channels that a model gives: classes, labels or targets."""
        return self.num_classes if self.task == "classification" else self.num_tasks

    @property
    def archive(self) -> str:
        """The file name of the archive."""
        return self.url.rpartition("/")[2]

    @property
    def folders(self) -> tuple[str, ...]:
        """What the folder of raw data is called: by ogb in a root, by PyG's, DGL's, in the zip."""
        name = self.files_of.replace("-", "_")
        return (name, f"{name}_pyg", f"{name}_dgl", self.download_name)


def is_ogb(name: str) -> bool:
    """Whether a name is one that OGB gives."""
    return name.startswith(tuple(LEVELS))


def find_entry(name: str) -> OGBEntry:
    """Look a data set up.

    Raises:
        InputError: there is none of that name, or it is of a kind that gnnscale does not train on:
            link prediction, or several kinds of nodes.
        MissingDependency: ogb is not installed.
    """
    level = LEVELS.get(name[:5])
    if level == "link":
        raise InputError(
            f"{name!r} is for link prediction; gnnscale reads OGB's sets for nodes (ogbn-) and "
            "graphs (ogbg-). Give the graph with Graph.from_data and a Task of your own"
        )
    if level is None:
        raise InputError(f"{name!r} is no name of OGB's; those begin with {', '.join(LEVELS)}")
    table = _master(level)
    row = table.get(_MADE_FROM.get(name, name))
    if row is None:
        names = sorted([*table, *(made for made, of in _MADE_FROM.items() if of in table)])
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"OGB has no data set {name!r}.{hint} There are: {', '.join(names)}")
    if row.get("is hetero") == "True" and name not in _MADE_FROM:
        made = [ours for ours, of in _MADE_FROM.items() if of == name]
        part = f"load {made[0]!r}, its papers that cite papers, or " if made else ""
        raise InputError(
            f"{name!r} has several kinds of nodes and edges; gnnscale trains on one kind: {part}"
            "make it one with torch_geometric's HeteroData.to_homogeneous and Graph.from_data"
        )
    return OGBEntry(
        name=name,
        level=level,
        num_tasks=int(row["num tasks"]),
        num_classes=int(row["num classes"]),
        metric=row["eval metric"],
        task_type=row["task type"],
        download_name=row["download_name"],
        version=row["version"],
        url=row["url"],
        add_inverse_edge=row["add_inverse_edge"] == "True",
        has_node_attr=row["has_node_attr"] == "True",
        has_edge_attr=row["has_edge_attr"] == "True",
        split=row["split"],
        binary=row["binary"] == "True",
        files_of=_MADE_FROM.get(name, name),
    )


@functools.cache
def _master(level: str) -> dict[str, dict[str, str]]:
    """The table of a level: data set → field → text."""
    spec = importlib.util.find_spec("ogb")
    if spec is None or not spec.submodule_search_locations:
        raise missing("ogb", "ogb")
    path = Path(spec.submodule_search_locations[0]) / _FOLDERS[level] / "master.csv"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            names, *rows = csv.reader(file)
    except (OSError, ValueError) as error:
        raise MissingDependency(
            f"could not read OGB's list of data sets, {path}: {error}; "
            "pip install --force-reinstall ogb"
        ) from error
    return {
        name: {row[0]: row[column] for row in rows} for column, name in enumerate(names) if name
    }
