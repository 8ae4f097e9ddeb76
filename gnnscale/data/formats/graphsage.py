"""Folders that GraphSAINT and GraphSAGE are trained on.

GraphSAINT (Zeng et al. 2020; its README, "Format of datasets", also of PyG's Flickr, Yelp, …)::

    adj_full.npz    scipy.sparse.save_npz: every edge of the graph
    adj_train.npz   those between training nodes, which `inductive=True` finds by itself: not read
    feats.npy, class_map.json (node: class, or a list of 0 and 1), role.json (tr, va, te: nodes)

GraphSAGE (Hamilton et al. 2017; its README, "Input format")::

    NAME-G.json          a graph of networkx.node_link_data, nodes marked with val and test
    NAME-id_map.json     the number of each node, NAME-class_map.json as above
    NAME-feats.npy       in the order of these numbers

Both standardise features on the training nodes as they load them: ``preprocessing="standardise"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.dgl.description import entries
from gnnscale.data.formats.finishing import graph_of, names_of
from gnnscale.data.formats.npz_layouts import edges_of, read_matrix
from gnnscale.data.formats.registry import OPTIONS, Format
from gnnscale.data.options import Option
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.storage.files import read_json

_ROLES = {"tr": "train_idx", "va": "val_idx", "te": "test_idx"}


# --- GraphSAINT -------------------------------------------------------------------------------


def _is_saint(path: Path) -> bool:
    return {"adj_full.npz", "role.json"} <= seen.files(path)


def _saint(path: Path, given: Mapping[str, Any]) -> Graph:
    arrays = edges_of(read_matrix(path / "adj_full.npz"), path / "adj_full.npz")
    count = int(arrays["num_nodes"])
    role = _dict(path / "role.json")
    for key, part in _ROLES.items():
        arrays[part] = _array(role.get(key, []), f"{path / 'role.json'}: {key}", "iu").reshape(-1)
    if (path / "feats.npy").is_file():
        arrays["x"] = _features(path / "feats.npy", count)
    if (path / "class_map.json").is_file():
        arrays["y"] = _labels(path / "class_map.json", {str(i): i for i in range(count)})
    return graph_of(arrays, path, given)


# --- GraphSAGE --------------------------------------------------------------------------------


def _graph_file(path: Path) -> Path | None:
    """The ``NAME-G.json`` that a path is, or the only one in it."""
    if path.is_file():
        return path if path.name.endswith("-G.json") else None
    found = [name for name in seen.files(path) if name.endswith("-G.json")]
    return path / found[0] if len(found) == 1 else None


def _sage(path: Path, given: Mapping[str, Any]) -> Graph:
    file = _graph_file(path)
    assert file is not None, path  # it was recognised
    options = {**given}
    links_as = options.pop("links", None)
    content = _dict(file)
    nodes = entries(content, "nodes", file)
    links = entries(content, "links" if "links" in content else "edges", file)
    prefix = file.name.removesuffix("G.json")
    ids = [str(node.get("id")) for node in nodes]
    id_map = file.with_name(f"{prefix}id_map.json")
    number = dict(zip(ids, range(len(ids)), strict=True))
    if id_map.is_file():
        given_numbers = _dict(id_map)
        numbers = _array(list(given_numbers.values()), str(id_map), "iu")
        number = dict(zip(given_numbers, numbers.tolist(), strict=True))
    count = len(number)
    if sorted(number.values()) != list(range(count)) or not set(ids) <= number.keys():
        raise InputError(f"{id_map} does not number the nodes of {file.name} from 0 on, each once")
    arrays = {
        "num_nodes": np.array(count),
        "edge_index": _links(file, nodes, links, number, links_as),
        **_marks(nodes, number),
    }
    if any("weight" in link for link in links):
        weights = [link.get("weight", 1) for link in links]
        arrays["edge_weight"] = _array(weights, f"{file}: weight", "iuf")
    feats, classes = (file.with_name(prefix + rest) for rest in ("feats.npy", "class_map.json"))
    if feats.is_file():
        arrays["x"] = _features(feats, count)
    if classes.is_file():
        arrays["y"] = _labels(classes, number)
    called = sorted(number, key=lambda name: number[name])
    defaults = {"name": prefix.rstrip("-_") or path.name, "undirected": not content.get("directed")}
    return graph_of(arrays, path, options, defaults, names=names_of(called))


def _links(
    file: Path, nodes: list[Any], links: list[Any], number: Mapping[str, int], links_as: str | None
) -> np.ndarray:
    """Ends of links: ids of nodes, or their places in the list, as networkx before 2.0 wrote them.

    Raises:
        InputError: they may be both, and mean other edges then.
    """
    ends = [(link.get("source"), link.get("target")) for link in links]
    places = [number[str(node.get("id"))] for node in nodes]
    flat = [end for pair in ends for end in pair]
    as_places = all(type(end) is int and 0 <= end < len(nodes) for end in flat)
    as_ids = all(str(end) in number for end in flat)
    if links_as is None:
        if as_places and as_ids and any(places[int(e)] != number[str(e)] for e in set(flat)):
            raise InputError(
                f"{file}: links are between ids of nodes, or their places in the list, as networkx "
                "before 2.0 wrote them? Say links='ids' or links='places'"
            )
        links_as = "ids" if as_ids else "places"
    if not (as_ids if links_as == "ids" else as_places):
        raise InputError(f"{file}: links are not between {links_as} of nodes")
    found = [number[str(e)] if links_as == "ids" else places[int(e)] for e in flat]
    return np.array(found, np.int64).reshape(-1, 2).T


def _marks(nodes: list[Any], number: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Training, validation and test nodes; none where none is marked."""
    if not any("val" in node or "test" in node for node in nodes):
        return {}
    masks = {f"{part}_mask": np.zeros(len(number), dtype=bool) for part in ("train", "val", "test")}
    for node in nodes:
        if "val" not in node and "test" not in node:
            continue  # GraphSAGE leaves it out
        part = "val" if node.get("val") else "test" if node.get("test") else "train"
        masks[f"{part}_mask"][number[str(node.get("id"))]] = True
    return masks


# --- both -------------------------------------------------------------------------------------


def _dict(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; an object is expected")
    return content


def _array(values: object, what: str, kinds: str) -> np.ndarray:
    try:
        array = np.array(values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{what}: lists are of several lengths: {error}") from error
    if array.size and array.dtype.kind not in kinds:
        wanted = "numbers" if "f" in kinds else "whole numbers"
        raise InputError(f"{what} holds {array.dtype}; {wanted} are expected")
    return array if array.size else array.astype(np.int64)


def _features(path: Path, count: int) -> np.ndarray:
    try:
        x = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if x.shape[:1] != (count,):
        raise InputError(f"{path} is {x.shape} for {count:,} nodes")
    return np.asarray(x)


def _labels(path: Path, number: Mapping[str, int]) -> np.ndarray:
    """Classes `[nodes]`, or several labels `[nodes, labels]`; -1 or NaN where there is none."""
    given = _dict(path)
    if absent := [name for name in given if name not in number]:
        raise InputError(f"{path}: {len(absent):,} labels are of no node; the first: {absent[0]!r}")
    widths = {len(label) if isinstance(label, list) else 0 for label in given.values()}
    if len(widths) > 1:
        raise InputError(f"{path}: labels are of several lengths: {sorted(widths)[:6]}")
    values = _array(list(given.values()), str(path), "biuf")
    unknown, kind = (np.nan, values.dtype) if values.dtype.kind == "f" else (-1, np.int64)
    y = np.full((len(number), *values.shape[1:]), unknown, kind)
    y[[number[name] for name in given]] = values
    return y


FORMATS = (
    Format(
        "graphsaint",
        "a folder that GraphSAINT is trained on, as Flickr and Yelp are published",
        "a folder with adj_full.npz, role.json, feats.npy, class_map.json",
        _is_saint,
        _saint,
        documented="https://github.com/GraphSAINT/GraphSAINT#format-of-datasets",
    ),
    Format(
        "graphsage",
        "a folder that GraphSAGE is trained on: a graph of networkx as JSON, and its siblings",
        "NAME-G.json, NAME-id_map.json, NAME-class_map.json, NAME-feats.npy",
        lambda path: _graph_file(path) is not None,
        _sage,
        options={**OPTIONS, "links": Option(str, choices=("ids", "places"))},
        documented="https://github.com/williamleif/GraphSAGE#input-format",
    ),
)
