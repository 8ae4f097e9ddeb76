"""Tables of edges and nodes, with ids, features and labels, as pandas writes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import gnnscale as gs
from layouts.content import Content, Layouts
from layouts.tables import RNG, content_of, edge_frame

LAYOUTS = Layouts()


def node_frame(edges: pd.DataFrame) -> pd.DataFrame:
    """A table of the nodes of edges, shuffled."""
    ids = pd.unique(edges[["source", "target"]].to_numpy().ravel())
    RNG.shuffle(ids)
    frame = pd.DataFrame({"node": ids})
    frame["age"] = RNG.integers(18, 80, len(ids)) / 2
    frame["size"] = RNG.integers(0, 5, len(ids)) + 0.25
    frame["team"] = RNG.choice(["red", "green", "blue"], len(ids))
    return frame


def frames(
    folder: Path, change: Callable[[pd.DataFrame, pd.DataFrame], None], **said: Any
) -> tuple[Callable[..., gs.Graph], Content]:
    """Tables of edges and nodes in Parquet, changed by a function first."""
    edges = edge_frame("text")
    nodes = node_frame(edges)
    content = content_of(edges, nodes)
    change(edges, nodes)
    edges.to_parquet(folder / "edges.parquet")
    nodes.to_parquet(folder / "nodes.parquet")
    call = partial(
        gs.from_edge_list,
        folder / "edges.parquet",
        features=folder / "nodes.parquet",
        **{"labels": "team", **said},
    )
    return call, content


@LAYOUTS("edges and nodes, labels of text", "pandas")
def nodes_csv(folder: Path, how: str = "csv") -> tuple[Any, Content]:
    """An id column called `node` in another order than edges have."""
    edges = edge_frame("text")
    nodes = node_frame(edges)
    for name, frame in (("edges", edges), ("nodes", nodes)):
        if how == "csv":
            frame.to_csv(folder / f"{name}.csv", index=False)
        else:
            frame.to_parquet(folder / f"{name}.parquet")
    read = pd.read_csv if how == "csv" else pd.read_parquet
    edges, nodes = (read(folder / f"{name}.{how}") for name in ("edges", "nodes"))
    call = partial(gs.from_edge_list, folder / f"edges.{how}", features=folder / f"nodes.{how}")
    return partial(call, labels="team"), content_of(edges, nodes)


LAYOUTS.add("edges and nodes in parquet", "pandas", partial(nodes_csv, how="parquet"))


@LAYOUTS("nodes with an id of another name", "pandas", {"id": "paper"})
def nodes_paper(folder: Path) -> tuple[Any, Content]:
    """The column `paper` holds the ids: the one that went wrong for 73.6 % of the labels."""
    edges = edge_frame("gaps")
    nodes = node_frame(edges)
    edges.to_csv(folder / "edges.csv", index=False)
    nodes.rename(columns={"node": "paper"}).to_csv(folder / "nodes.csv", index=False)
    call = partial(gs.from_edge_list, folder / "edges.csv", features=folder / "nodes.csv")
    read = pd.read_csv(folder / "nodes.csv").rename(columns={"paper": "node"})
    return partial(call, labels="team"), content_of(pd.read_csv(folder / "edges.csv"), read)


@LAYOUTS("several labels with missing cells", "pandas", {"labels": ["fun", "long"]})
def several_labels(folder: Path) -> tuple[Any, Content]:
    """0 and 1 in two columns, empty where unknown."""
    edges = edge_frame()
    nodes = node_frame(edges)[["node"]]
    for name in ("fun", "long"):
        nodes[name] = RNG.choice([0, 1, np.nan], len(nodes))
    edges.to_csv(folder / "edges.csv", index=False)
    nodes.to_csv(folder / "labels.csv", index=False)
    content = content_of(pd.read_csv(folder / "edges.csv"))
    table = (
        pd.read_csv(folder / "labels.csv")
        .astype({"node": str})
        .set_index("node")
        .loc[content.nodes]
    )
    content.y = table[["fun", "long"]].to_numpy()

    def call(**said: Any) -> gs.Graph:
        return gs.from_edge_list(folder / "edges.csv", **{"labels": folder / "labels.csv"} | {
            key: value for key, value in said.items() if key != "labels"
        })  # fmt: skip

    return call, content


@LAYOUTS("nodes with labels in categories", "pandas")
def categories(folder: Path) -> tuple[Any, Content]:
    """A dictionary in Parquet, whose order is not that of the alphabet."""

    def change(edges: pd.DataFrame, nodes: pd.DataFrame) -> None:
        nodes["team"] = pd.Categorical(nodes["team"], ["red", "green", "blue"])

    return frames(folder, change)


@LAYOUTS("nodes without edges", "pandas")
def without_edges(folder: Path) -> tuple[Any, Content]:
    """A row in the table of nodes is a node."""
    edges = edge_frame("text")
    nodes = pd.concat([node_frame(edges), pd.DataFrame(
        {"node": ["alone", "too"], "age": [1.0, 2.0], "size": [3.25, 4.25], "team": ["red", "blue"]}
    )])  # fmt: skip
    edges.to_csv(folder / "edges.csv", index=False)
    nodes.to_csv(folder / "nodes.csv", index=False)
    call = partial(gs.from_edge_list, folder / "edges.csv", features=folder / "nodes.csv")
    read = [pd.read_csv(folder / f"{name}.csv") for name in ("edges", "nodes")]
    return partial(call, labels="team"), content_of(*read)


@LAYOUTS("labels of some nodes, in a file apart", "pandas")
def labels_apart(folder: Path) -> tuple[Any, Content]:
    """The others have none."""
    edges = edge_frame("gaps")
    known = node_frame(edges)[["node", "team"]].iloc[:12]
    edges.to_csv(folder / "edges.csv", index=False)
    known.to_csv(folder / "labels.csv", index=False)
    content = content_of(pd.read_csv(folder / "edges.csv"))
    table = pd.read_csv(folder / "labels.csv", dtype=str).set_index("node")["team"]
    content.y = table.reindex(content.nodes).fillna("").to_numpy(dtype=object)
    call = partial(gs.from_edge_list, folder / "edges.csv", labels=folder / "labels.csv")
    return call, content


@LAYOUTS("an edge of a node that no row has", "pandas", None)
def unknown_node(folder: Path) -> tuple[Any, None]:
    """Refused, and named."""

    def change(edges: pd.DataFrame, nodes: pd.DataFrame) -> None:
        edges.loc[len(edges)] = ["nobody", edges["source"][0]]

    return frames(folder, change)[0], None


@LAYOUTS("the same id in two rows", "pandas", None)
def doubled_id(folder: Path) -> tuple[Any, None]:
    """Which row is it?"""

    def change(edges: pd.DataFrame, nodes: pd.DataFrame) -> None:
        nodes.loc[len(nodes)] = nodes.loc[0]

    return frames(folder, change)[0], None


@LAYOUTS("node table with pandas' index", "pandas")
def nodes_with_index(folder: Path) -> tuple[Any, Content]:
    """The numbers of rows are no feature and no id."""
    edges = edge_frame("text")
    nodes = node_frame(edges)
    edges.to_csv(folder / "edges.csv")
    nodes.to_csv(folder / "nodes.csv")
    read = [pd.read_csv(folder / f"{name}.csv", index_col=0) for name in ("edges", "nodes")]
    call = partial(gs.from_edge_list, folder / "edges.csv", features=folder / "nodes.csv")
    return partial(call, labels="team"), content_of(*read)
