"""``gnnscale.from_edge_list``: a graph from a user's own files, of any size and with any ids.

The files are read in a stream, the edges once to see which nodes there are (unless something else
says so) and once to build the graph. What nodes are called decides how they are numbered:

=============================  ====================================================================
features in a table with ids   in the order of that table; every node has a row in it. Ids that are
                               0 to n − 1 are kept as they are
``num_nodes``, or features or  ids are numbers from 0 to ``num_nodes`` − 1, also of nodes without
labels in order                edges, and kept as they are
integers without gaps from 0   kept as they are
other integers                 ascending
text                           ascending by its bytes
=============================  ====================================================================

Text is taken for integers where printing these gives all of what is written: with ``007`` or ``+7``
among them, or other text, ids are text. A Parquet file has types of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gnnscale.choices import choices_checked, whole_faults
from gnnscale.data.kept import built_or_kept, scratch_in
from gnnscale.data.tables.given import Tables
from gnnscale.data.tables.node_ids import NodeIds
from gnnscale.data.tables.node_splits import read_splits_given, split_column
from gnnscale.data.tables.said import Told, listed
from gnnscale.data.tables.time_splits import apart, with_cuts
from gnnscale.errors import InputError
from gnnscale.graph import Graph, build_graph, checked_graph_path
from gnnscale.storage.memory import memory_bytes

VERSION = 6
"""Raised when the same files give another graph: what is kept is then built anew."""


@choices_checked
def from_edge_list(
    edges: Any,
    features: Any = None,
    labels: Any = None,
    *,
    id: str | int | None = None,
    source: str | int | None = None,
    target: str | int | None = None,
    weight: str | int | None = None,
    time: str | int | Sequence[str | int] | None = None,
    drop: str | int | Sequence[str | int] | Mapping[str, Any] = (),
    splits: Any = None,
    recipe: Any = None,
    sep: str | Mapping[str, str] | None = None,
    comment: str | Mapping[str, str] | None = None,
    header: bool | Sequence[str] | Mapping[str, bool | Sequence[str]] | None = None,
    encoding: str | Mapping[str, str] | None = None,
    decimal: str | Mapping[str, str] | None = None,
    id_column: str | int | None = None,
    num_nodes: int | None = None,
    absent: Literal["refuse", "drop"] = "refuse",
    path: str | Path | None = None,
    undirected: bool = True,
    coalesce: bool = False,
    memory: int | str = "512MB",
    seed: int = 0,
    task: str | None = None,
    metric: str | None = None,
    num_classes: int | None = None,
    name: str | None = None,
) -> Graph:
    r"""Build a graph from tables of edges and of nodes, which may be larger than memory.

    Every table is a file (text of any dialect, Parquet, Feather, also packed), a folder or a
    pattern of part files, a DataFrame of pandas or polars, an Arrow table, or an array. What each
    of its columns is, is decided from names, types and cells, and logged in a line a column; where
    a column may be two things, the error has the words for both.

    Args:
        edges: a table of edges; or integers `[2, num_edges]` or `[num_edges, 2]` in an array or an
            `.npy`.
        features: a table of nodes, whose columns are ids, labels, splits and features, or some of
            these; or an array or an `.npy` `[num_nodes, num_features]` in the order of the nodes.
        labels: the name or number of a column of the table of nodes, or several names; a table
            with ids and labels; a mapping from ids to labels; an array or an `.npy` with a row a
            node. Without it, a column called label. Nodes that a table leaves out are unlabelled.
        id: the column of a table of nodes that says whose a row is; without it, the one that holds
            the edges' ids. A table without one is in the order of the nodes, where ids are numbers
            from 0 and there are as many rows.
        source: the column of sources; without it, see `gnnscale.data.tables.roles.edges`.
        target: the column of targets, likewise.
        weight: the column of weights; without it one called weight, or the third of a text without
            header where it holds numbers that are not whole.
        time: the column that says when an edge or a node became known, or one of each: dates,
            times, or numbers. Without it, of edges one of dates or times. They are kept as
            `edge_time` and `node_time`, in seconds since 1970 or as the numbers that they are.
        drop: columns to leave out, of any of the tables; or of one, as `{"features": [0, "age"]}`.
        splits: by time, as "time:60/20/20" or "time:2018-12-31/2019-12-31", where training and
            validation end: a day, a month or a year is known to its end, and training sees no edge,
            node and label that is later. Where edges alone have times, nodes are split as well, as
            "60/20/20 time:2018/2019", or `("fold", "time:2018/2019")` with any of what follows.
            Else shares as "60/20/20", drawn from the nodes that have labels; the name of a column
            of the table of nodes, or that and its values, as
            `("fold", {"train": [0, 1], "val": 2, "test": 3})`; a file with ids and parts; or
            `{"train": …, "val": …, "test": …}`, each a mask in the order of the nodes, ids as the
            edges have them, or a file of ids; or several sets of these by name. Without it, a
            column called split, or columns called train_mask, val_mask, test_mask.
        recipe: what becomes of columns that are features, by their names, as
            `{"city": "one-hot", "age": "standardise"}`: see `gnnscale.data.tables.values.recipe`;
            or the `schema` of another graph, for the same features as that has.
        sep: of a text of edges: what stands between cells; without it, it is seen. Of other tables
            by their names, as `{"features": ";", "labels": ","}`; likewise the next four.
        comment: of a text: what lines that are no rows begin with.
        header: of a text: whether the first row names the columns; or their names.
        encoding: of a text.
        decimal: what stands before decimals, "." or ",", of numbers written as text, where they may
            be read in two ways, as "1,234".
        id_column: the same as `id`.
        num_nodes: says that ids are numbers below it.
        absent: what becomes of edges that name a node which has no row in the table of nodes:
            "refuse" them, or "drop" them.
        path: the folder to store the graph in. Without it, the graph is in memory, or, where it
            takes more than a GB (`IN_MEMORY`), in `$GNNSCALE_CACHE/graphs`, where the same call
            opens it again until a file changes.
        undirected: each edge is given once, and the reverse of every edge but self-loops is added;
            where the edges hold the reverse of every edge already, that is seen and said, and
            nothing is added.
        coalesce: merge parallel edges, adding their weights.
        memory: what sorting edges and integer ids may take, as "512MB" or a number of bytes. Beside
            it: 24 bytes a node, labels and masks; names that are text, twice for a moment, and 24
            bytes for each; and some MB of what is read ahead of a file. On the disk, for a while,
            8 bytes an edge.
        seed: of splits that are drawn.
        task: as for `Graph.from_arrays`.
        metric: as for `Graph.from_arrays`.
        num_classes: as for `Graph.from_arrays`.
        name: what to call it in reports; the file's name without it.

    Returns:
        The graph. Where ids are not kept, its `names` tells what nodes are called: `names[nodes]`,
        `names.find(ids)`; it is stored with the graph. Its `schema` tells what classes and features
        are called, and what each column was read as.

    Raises:
        InputError: a column is missing or may be several things, ids do not fit, …: with what says
            otherwise.
        StoreError: a file is missing or damaged, or the disk is full.

    Example:
        >>> from pathlib import Path
        >>> written = Path("people.csv").write_text("from,to\nann,bob\nbob,cid\n")
        >>> graph = from_edge_list("people.csv")
        >>> graph.names[[0, 2]].tolist(), graph.names.find(["bob"]).tolist()
        (['ann', 'cid'], [1])
        >>> Path("people.csv").unlink()
    """
    arguments = {**locals(), "memory": None, "path": None}  # what the graph depends on
    budget = memory_bytes(memory)
    faults = whole_faults("seed", seed, 0)
    if num_nodes is not None:
        faults += whole_faults("num_nodes", num_nodes, 0, 2**40)
    if faults:
        raise InputError(faults)
    if path is not None:
        path = checked_graph_path(path)
    asked, cuts = apart(splits)
    if id is not None and id_column is not None and id != id_column:
        raise InputError(f"id={id!r} and id_column={id_column!r} are the same; leave one out")
    given = Tables(
        edges,
        features,
        labels,
        told=Told(
            id=id if id_column is None else id_column,
            source=source,
            target=target,
            weight=weight,
            time=listed([] if time is None else time),
            drop=drop if isinstance(drop, Mapping) else listed(drop),
            split=split_column(asked),
            recipe=recipe,
        ),
        dialect={
            "sep": sep,
            "comment": comment,
            "header": header,
            "encoding": encoding,
            "decimal": decimal,
        },
        num_nodes=num_nodes,
    )

    def build(root: Path, source: str | None = None) -> Graph:
        nonlocal task, num_classes
        with scratch_in(root.parent) as scratch:
            ids = given.numbering.node_ids(budget, scratch)
            read = given.labels(ids, task)
            y = None if read is None else read.labels()
            labelled = _labelled(y, ids, task)
            parts = read_splits_given(asked, ids, given.node_tables(), labelled, seed)
            times, dates = given.node_times(ids)
            if cuts is not None:
                clock = given.edges.clock
                of_edges = None if clock is None else clock.dates
                by_column = parts if asked is not None or times is None else None
                may_be = given.may_be_times()
                parts = with_cuts(by_column, cuts, times, dates, of_edges, labelled, may_be)
            ends = (
                None if cuts is None or parts is None else next(iter(parts.values()))["cuts"].train
            )
            made = given.recipe(recipe, ends)
            given.log()
            if read is not None:
                task = read.task if task is None else task
                if task == "classification" and read.names is not None and num_classes is None:
                    num_classes = len(read.names)
            return build_graph(
                root,
                ids.num_nodes,
                given.numbering.numbered(ids, absent),
                x=given.features(made, scratch),
                y=y,
                splits=parts,
                node_time=times,
                undirected="unless given" if undirected else False,
                coalesce=coalesce,
                memory=budget,
                task=task,
                metric=metric,
                num_classes=num_classes,
                name=given.name if name is None else name,
                source=source,
                names=ids.names,
                schema=given.schema(None if read is None else read.names, made),
            )

    if path is None:
        return built_or_kept(given.name, arguments, VERSION, build)
    return build(path)


def _labelled(y: np.ndarray | None, ids: NodeIds, task: str | None) -> np.ndarray:
    """Which nodes have a label: all of them where there are no labels."""
    if y is None:
        return np.ones(ids.num_nodes, dtype=bool)
    known = ~np.isnan(y) if y.dtype.kind == "f" else (y >= 0) | (task == "regression")
    return np.asarray(known if known.ndim == 1 else known.any(1))
