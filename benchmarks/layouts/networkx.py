"""Files that networkx writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import networkx
import numpy as np

import gnnscale as gs
from layouts.content import Content, Layouts

LAYOUTS = Layouts()


def made(directed: bool, attributes: bool = True) -> networkx.Graph:
    """A graph whose nodes are called by text, with two features, a label and weights."""
    rng = np.random.default_rng(2)
    drawn = networkx.gnm_random_graph(15, 40, seed=2, directed=directed)
    graph = networkx.relabel_nodes(drawn, {i: f"n{i}" for i in drawn})
    if attributes:
        for _, own in graph.nodes(data=True):
            own.update(age=int(rng.integers(18, 80)), size=float(rng.integers(0, 9)) / 4)
            own["label"] = str(rng.choice(["red", "blue"]))
        for *_, own in graph.edges(data=True):
            own["weight"] = float(rng.integers(1, 9)) / 4
    return graph


def content_of(graph: networkx.Graph, attributes: bool = True) -> Content:
    """What networkx says that it has read."""
    names = list(graph)
    place = {name: i for i, name in enumerate(names)}
    ends = [(place[u], place[v]) for u, v in graph.edges()]
    content = Content(np.array(ends).T, len(names), not graph.is_directed(), names)
    if attributes:
        own = [graph.nodes[name] for name in names]
        content.x = np.array([[each["age"], each["size"]] for each in own])
        content.y = np.array([str(each["label"]) for each in own])
        weights = [each["weight"] for *_, each in graph.edges(data=True)]
        content.carried = {"edge_weight": np.array(weights)}
    return content


def with_attributes(
    folder: Path, file: str, write: Callable, read: Callable, directed: bool
) -> tuple[Callable[..., gs.Graph], Content]:
    """A file with attributes of nodes and edges."""
    graph = made(directed)
    if file.endswith((".gml", ".gexf")):  # where `label` is what a node is called
        for _, own in graph.nodes(data=True):
            own["team"] = own.pop("label")
    write(graph, folder / file)
    found = read(folder / file)
    for _, own in found.nodes(data=True):
        own.setdefault("label", own.get("team"))
        if "team" in own:
            own["label"] = own["team"]
    said = {} if file.endswith(".graphml") else {"labels": "team"}
    return partial(gs.load, folder / file, **said), content_of(found)


for name, suffix, write, read in (
    ("GraphML", "graphml", networkx.write_graphml, networkx.read_graphml),
    ("GML", "gml", networkx.write_gml, networkx.read_gml),
    ("GEXF", "gexf", networkx.write_gexf, networkx.read_gexf),
):
    for directed in (False, True):
        make = partial(
            with_attributes, file=f"g.{suffix}", write=write, read=read, directed=directed
        )
        kind = "directed" if directed else "undirected"
        LAYOUTS.add(f"{name}, {kind}", "networkx", make)


def bare(
    folder: Path, file: str, write: Callable, read: Callable
) -> tuple[Callable[..., gs.Graph], Content]:
    """A file of edges alone."""
    write(made(False, attributes=False), folder / file)
    found = read(folder / file)
    content = content_of(found, False)
    weights = [own.get("weight") for *_, own in found.edges(data=True)]
    if None not in weights:  # Pajek's are 1 where there were none
        content.carried = {"edge_weight": np.array(weights)}
    return partial(gs.load, folder / file), content


for name, file, write, read in (
    ("adjacency list", "g.adjlist", networkx.write_adjlist, networkx.read_adjlist),
    ("edge list with {}", "g.edgelist", networkx.write_edgelist, networkx.read_edgelist),
    (
        "Pajek",
        "g.net",
        networkx.write_pajek,
        lambda path: networkx.Graph(networkx.read_pajek(path)),
    ),
):
    make = partial(bare, file=file, write=write, read=read)
    LAYOUTS.add(f"networkx's {name}", "networkx", make)
