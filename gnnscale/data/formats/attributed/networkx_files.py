"""Files that networkx reads: GraphML, GML, GEXF, lists of neighbours and edges with attributes."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import networkx
import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.attributed.attributes import OPTIONS, Attributed, graph_of_attributes
from gnnscale.data.formats.registry import Format
from gnnscale.data.formats.text import read_text
from gnnscale.data.tables.neighbours import head_of, is_comment, layout_of
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import Graph

logger = logging.getLogger(__name__)

_DATA = re.compile(r"\S+[ \t,]+\S+[ \t,]+\{.*\}\s*")
_IDS = ("id", "key", "pid")


def _reads(how: Callable[[Path], networkx.Graph], what: str) -> Callable[..., Graph]:
    """A reader of a format, with what networkx raises told as an error of ours."""

    def read(path: Path, given: Mapping[str, Any]) -> Graph:
        try:
            graph = how(path)
        except (GnnscaleError, MemoryError):
            raise
        except Exception as error:  # a parser's, of any kind
            raise InputError(
                f"{path} is not read as {what} by networkx: {error or type(error).__name__}"
            ) from error
        found = attributed(graph)
        if how is _edgelist:
            found.directed = _is_symmetric(found.edge_index)
        return graph_of_attributes(found, path, given)

    return read


def attributed(graph: networkx.Graph) -> Attributed:
    """What networkx has read: names of nodes as it has them, and all attributes."""
    number = {node: i for i, node in enumerate(graph.nodes)}
    edges = [(number[u], number[v], data) for u, v, data in graph.edges(data=True)]
    edge_index = np.array([(u, v) for u, v, _ in edges], np.int64).reshape(-1, 2).T
    nodes = [data for _, data in graph.nodes(data=True)]
    return Attributed(
        [str(node) for node in graph.nodes],
        edge_index,
        graph.is_directed(),
        _columns(nodes, ()),
        _columns([data for *_, data in edges], _IDS),
        str(graph.graph.get("name") or ""),
    )


def _columns(rows: list[dict[str, Any]], but: tuple[str, ...]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for row in rows for key in row if key not in but)
    return {str(key): [row.get(key) for row in rows] for key in keys}


def _text(path: Path) -> str:
    return "\n".join(read_text(path))


def _graphml(path: Path) -> networkx.Graph:
    content = io.BytesIO(_text(path).encode())
    graphs = list(networkx.readwrite.graphml.GraphMLReader()(path=content))
    if len(graphs) != 1:
        raise InputError(f"{path} holds {len(graphs)} graphs; write each to a file of its own")
    return graphs[0]


def _gml(path: Path) -> networkx.Graph:
    text = _text(path)
    if not re.search(r"^\s*multigraph\b", text, re.M):
        # Files that others write have parallel edges without a word: networkx refuses those.
        text = re.sub(r"\bgraph\s*\[", "graph [\n  multigraph 1", text, count=1)
    try:
        return networkx.parse_gml(text, label="label")
    except networkx.NetworkXError as error:
        if "label" not in str(error):
            raise
        return networkx.parse_gml(text, label="id")  # labels are not there, or not unique


def _gexf(path: Path) -> networkx.Graph:
    # networkx knows the names of 1.1 and 1.2; what Gephi writes now, 1.3, is read likewise.
    text = re.sub(
        r"http://(?:www\.)?gexf\.net/1\.\d(?:draft)?", "http://www.gexf.net/1.2draft", _text(path)
    )
    graph = networkx.read_gexf(io.BytesIO(text.encode()))
    labels = {node: data.pop("label", None) for node, data in graph.nodes(data=True)}
    if all(labels.values()) and len(set(labels.values())) == len(labels):
        return networkx.relabel_nodes(graph, labels)
    if any(labels.values()):
        logger.info("%s: labels do not tell nodes apart: they are called by their ids", path)
    return graph


def _adjlist(path: Path) -> networkx.Graph:
    lines = [line for line in _text(path).splitlines() if not is_comment(line)]
    if all(re.match(r"\s*[^\s:]+\s*:(\s|$)", line) for line in lines):  # "node: neighbours"
        lines = [re.sub(r"[,\[\]{}()]", " ", line.replace(":", " ", 1)) for line in lines]
    return networkx.parse_adjlist(lines)


def _edgelist(path: Path) -> networkx.Graph:
    lines = read_text(path)
    comma = next((line for line in lines if not line.startswith("#")), "").partition("{")[0]
    return networkx.parse_edgelist(
        lines, delimiter="," if "," in comma else None, create_using=networkx.MultiDiGraph
    )


def _node_link(path: Path) -> networkx.Graph:
    content = json.loads(_text(path))
    edges = next((key for key in ("links", "edges") if key in content), None)
    if not isinstance(content.get("nodes"), list) or edges is None:
        raise InputError(f"{path} has no lists nodes and links (or edges)")
    nodes, links = content["nodes"], content[edges]
    ids = [node.get("id", i) for i, node in enumerate(nodes)]
    names = [_id_text(one) for one in ids]
    if len(known := {*names}) < len(names):
        again = next(i for i, name in enumerate(names) if name in names[:i])
        first = ids[names.index(names[again])]
        raise InputError(f"{path}: two nodes have the id {first!r}, or {ids[again]!r}")
    ends = {link[end] for link in links for end in ("source", "target")}
    if absent := [end for end in ends if _id_text(end) not in known]:
        places = all(isinstance(end, int) and 0 <= end < len(nodes) for end in ends)
        if not places or not all(isinstance(one, str) for one in ids):
            raise InputError(f"{path}: a link names {absent[0]!r}, which is the id of no node")
        # Older writers give places in the list of nodes; ids that are text are none of them.
        logger.info("%s: links name the places of nodes, whose ids are text", path)
        links = [{**link, **{e: names[link[e]] for e in ("source", "target")}} for link in links]
    # Links of D3 say nothing of being several: none is lost.
    made = {
        "multigraph": True,
        **content,
        "nodes": [{**n, "id": i} for n, i in zip(nodes, names, strict=True)],
    }
    ends_as_text = [
        {**link, **{e: _id_text(link[e]) for e in ("source", "target")}} for link in links
    ]
    return networkx.node_link_graph({**made, edges: ends_as_text}, edges=edges)


def _id_text(one: object) -> str:
    """An id as text: 1.0 and 1 are the same, as in JSON."""
    return str(int(one)) if isinstance(one, float) and one.is_integer() else str(one)


def _is_symmetric(edge_index: np.ndarray) -> bool:
    """Whether a list holds both directions of every edge, so that none is to be added."""
    pairs = {(u, v) for u, v in edge_index.T.tolist() if u != v}
    return bool(pairs) and all((v, u) in pairs for u, v in pairs)


def _begins(path: Path, *suffixes: str, mark: bytes) -> bool:
    return seen.kind(path) in suffixes and mark in seen.head(path)[:4096].lower()


def _is_gml(path: Path) -> bool:
    return seen.kind(path) == ".gml" and re.search(rb"\bgraph\s*\[", seen.head(path)) is not None


def _is_node_link(path: Path) -> bool:
    """Not of GraphSAGE's folders, which have more than a file of them, nor of GraphStorm's."""
    head = seen.head(path)
    listed = b'"nodes"' in head and head.lstrip()[:1] == b"{" and b'"files"' not in head
    return seen.kind(path) == ".json" and listed and not path.stem.endswith("-G")


def _is_adjlist(path: Path) -> bool:
    if seen.kind(path) in (".adjlist", ".adj"):
        return True
    return seen.kind(path) in (".txt", ".dat", "") and layout_of(*head_of(path)) == "adjlist"


def _is_edgelist(path: Path) -> bool:
    if seen.kind(path) not in (".txt", ".edgelist", ".edges", ".csv", ".tsv", ".dat", ""):
        return False
    first = [line for line in seen.lines(path) if line.strip() and not line.startswith("#")]
    return bool(first) and _DATA.fullmatch(first[0]) is not None


_DOCS = "https://networkx.org/documentation/stable/reference/readwrite/"


def _format(
    name: str, what: str, looks: str, recognises: Callable[[Path], bool], how: Any, page: str
) -> Format:
    return Format(
        name,
        what,
        looks,
        recognises,
        _reads(how, name),
        options=OPTIONS,
        needs="tables",
        documented=_DOCS + page,
    )


FORMATS = (
    _format(
        "graphml",
        "GraphML, of networkx, igraph, Gephi, yEd: attributes are features, labels, weights",
        "*.graphml",
        lambda path: _begins(path, ".graphml", ".xml", mark=b"<graphml"),
        _graphml,
        "graphml.html",
    ),
    _format(
        "gml",
        "GML, as of M. Newman's network data; nodes are called by their labels",
        "*.gml",
        _is_gml,
        _gml,
        "gml.html",
    ),
    _format(
        "gexf",
        "GEXF of Gephi and networkx; nodes are called by their labels",
        "*.gexf",
        lambda path: _begins(path, ".gexf", ".xml", mark=b"<gexf"),
        _gexf,
        "gexf.html",
    ),
    _format(
        "node-link",
        "nodes and links in JSON, of networkx.node_link_data and D3",
        "*.json with nodes, links",
        _is_node_link,
        _node_link,
        "json_graph.html",
    ),
    _format(
        "adjlist",
        "lists of neighbours, of networkx.write_adjlist",
        "*.adjlist, *.txt with `node: neighbours`",
        _is_adjlist,
        _adjlist,
        "adjlist.html",
    ),
    _format(
        "edgelist",
        "edges with attributes in braces, of networkx.write_edgelist",
        "*.edgelist, *.txt with {…}",
        _is_edgelist,
        _edgelist,
        "edgelist.html",
    ),
)
