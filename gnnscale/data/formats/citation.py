"""Small benchmark graphs as their authors keep them in text: Planetoid, LINQS and Geom-GCN."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.array_graphs import read_arrays
from gnnscale.data.formats.finishing import classes_of, graph_of, names_of
from gnnscale.data.formats.registry import Format
from gnnscale.data.formats.text import read_text
from gnnscale.data.pyg.files import arrays_of
from gnnscale.data.pyg.reading import check_pickle
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.graph.schema import Schema

logger = logging.getLogger(__name__)

_PLANETOID = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
_EDGES, _NODES = "out1_graph_edges.txt", "out1_node_feature_label.txt"


# --- Planetoid ----------------------------------------------------------------------------------


def _planetoid_name(path: Path) -> str | None:
    """The name of the data set in a folder, or of that of which a file is."""
    folder = path if path.is_dir() else path.parent
    pattern = r"ind\.(.+)\.graph" if path.is_dir() else r"ind\.(.+?)\.(?:test\.index|\w+)"
    names = seen.files(path) if path.is_dir() else {path.name}
    found = sorted(match[1] for name in names if (match := re.fullmatch(pattern, name)))
    whole = [n for n in found if {f"ind.{n}.{part}" for part in _PLANETOID} <= seen.files(folder)]
    return whole[0] if len(whole) == 1 else None


def _planetoid(path: Path, given: Mapping[str, Any]) -> Graph:
    from torch_geometric.io import read_planetoid_data

    name = _planetoid_name(path)
    if name is None:
        raise InputError(f"{path} lacks some of ind.NAME.{{{', '.join(_PLANETOID)}}}, of one NAME")
    folder = path if path.is_dir() else path.parent
    for part in _PLANETOID[:-1]:
        check_pickle(folder / f"ind.{name}.{part}")  # numbers only, or refused
    try:
        data = read_planetoid_data(str(folder), name)
    except Exception as error:  # of any kind, where files are not of one data set
        raise StoreError(f"the files ind.{name}.* in {folder} do not fit: {error}") from error
    return graph_of(arrays_of(data, sparse=True), folder, given, {"name": name})


# --- LINQS --------------------------------------------------------------------------------------


def _linqs_files(path: Path) -> tuple[Path | None, Path | None]:
    """The ``.content`` and ``.cites`` of a folder, or beside a file."""
    if path.is_dir():
        stems = {Path(n).stem for n in seen.files(path) if Path(n).suffix in (".content", ".cites")}
        if len(stems) != 1:
            return None, None
        path = path / f"{stems.pop()}.cites"
    elif path.suffix not in (".content", ".cites"):
        return None, None
    content, cites = path.with_suffix(".content"), path.with_suffix(".cites")
    return (content if content.is_file() else None), (cites if cites.is_file() else None)


def _linqs(path: Path, given: Mapping[str, Any]) -> Graph:
    content, cites = _linqs_files(path)
    if cites is None:
        raise InputError(f"{path} has no .cites, the file of edges, beside it")
    pairs = _rows(cites, 2)
    cited, citing = (np.array([row[i] for row in pairs], str) for i in (0, 1))
    if content is None:
        names, y, x, schema = np.unique(np.concatenate([cited, citing])), None, None, None
        logger.info("%s: there is no %s: no features, no labels", cites, f"{cites.stem}.content")
    else:
        rows = _rows(content)
        names = np.array([row[0] for row in rows], str)
        y, classes = classes_of([row[-1] for row in rows])
        x = _numbers(content, [row[1:-1] for row in rows])
        schema = Schema(classes=classes)
        if len(set(names)) < len(names):
            raise InputError(f"{content}: two rows are of one node")
    number = {name: i for i, name in enumerate(names)}
    known = np.array([a in number and b in number for a, b in pairs], bool)
    if not known.all():
        absent = {name for pair in pairs for name in pair if name not in number}
        logger.warning(
            "%s: %d edges are left out, of %d nodes that %s has no row of",
            *(cites, int((~known).sum()), len(absent), content.name if content else ""),
        )
    edge_index = np.array(
        [[number[b], number[a]] for (a, b) in pairs if a in number and b in number]
    )
    return _merged(edge_index.reshape(-1, 2).T, x, y, cites, given, names, schema)


def _merged(
    edge_index: np.ndarray,
    x: np.ndarray | None,
    y: np.ndarray | None,
    path: Path,
    given: Mapping[str, Any],
    names: np.ndarray,
    schema: Schema | None,
) -> Graph:
    """Citations as GCNs are trained on them: undirected, each pair once; or as listed."""
    if given.get("undirected", True):
        logger.info("%s: citations are read as undirected; undirected=False keeps them", path)
        edge_index = np.unique(np.concatenate([edge_index, edge_index[::-1]], axis=1), axis=1)
    arrays = {"edge_index": edge_index, "num_nodes": np.array(len(names))}
    arrays |= {} if x is None else {"x": x}
    arrays |= {} if y is None else {"y": y}
    given = {**given, "undirected": False}
    called = names_of(names.tolist())
    return graph_of(arrays, path, given, {"name": path.stem}, names=called, schema=schema)


# --- Geom-GCN: WebKB, Actor, Wikipedia ----------------------------------------------------------


def _geom_gcn(path: Path, given: Mapping[str, Any]) -> Graph:
    if path.is_file() and path.name != _NODES:
        return _geom_gcn_edges(path, given)
    folder = path if path.is_dir() else path.parent
    rows = _rows(folder / _NODES, 3)[1:]
    number = _ints(folder / _NODES, [row[0] for row in rows])
    if not np.array_equal(np.sort(number), np.arange(len(rows))):
        raise InputError(f"{folder / _NODES}: node_id is not 0 to {len(rows) - 1}, each once")
    order = np.argsort(number)
    cells = [rows[i][1].split(",") for i in order]
    arrays = _geom_features(folder / _NODES, cells)
    arrays["y"] = _ints(folder / _NODES, [rows[i][2] for i in order])
    pairs = _ints(folder / _EDGES, [cell for row in _rows(folder / _EDGES, 2)[1:] for cell in row])
    arrays["edge_index"] = np.unique(pairs.reshape(-1, 2), axis=0).T  # PyG merges duplicates too
    found = sorted(folder.glob("*_split_*.npz"), key=_by_number)
    if not found:
        found = sorted(
            (folder.parent / "splits").glob(f"{folder.name}_split_*.npz"), key=_by_number
        )
    masks = [read_arrays(file) for file in found]
    for part in ("train", "val", "test"):
        if masks and all(f"{part}_mask" in mask for mask in masks):
            arrays[f"{part}_mask"] = np.stack([mask[f"{part}_mask"] for mask in masks], axis=1)
    logger.info("%s: edges are directed, as listed; undirected=True adds their reverse", folder)
    return graph_of(arrays, folder, given)


def _geom_gcn_edges(path: Path, given: Mapping[str, Any]) -> Graph:
    """A list of edges without the table of nodes."""
    if (path.parent / _NODES).is_file() and path.name == _EDGES:
        return _geom_gcn(path.parent, given)
    pairs = _ints(path, [cell for row in _rows(path, 2)[1:] for cell in row]).reshape(-1, 2)
    logger.info("%s: there is no %s beside it: no features, no labels", path, _NODES)
    return graph_of({"edge_index": np.unique(pairs, axis=0).T}, path, given)


def _by_number(path: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else 0, path.name)


def _geom_features(path: Path, cells: list[list[str]]) -> dict[str, np.ndarray]:
    """Rows of zeros and ones; or, as for Actor (film), the numbers of the words that are there."""
    same = len({len(row) for row in cells}) <= 1
    if same and {cell for row in cells for cell in row} <= {"0", "1"}:
        return {"x": np.array(cells, np.float32)}
    lengths = [len(row) if row != [""] else 0 for row in cells]
    words = _ints(path, [cell for row in cells for cell in row if cell])
    if words.size and words.min() < 0:
        raise InputError(f"{path}: features are neither 0 and 1 nor numbers of words")
    width = int(words.max(initial=-1)) + 1
    node = np.repeat(np.arange(len(cells)), lengths)
    node, words = np.unique(np.stack([node, words]), axis=1)
    return {
        "x_indptr": np.searchsorted(node, np.arange(len(cells) + 1)),
        "x_indices": words,
        "x_shape": np.array([len(cells), width]),
    }


def _is_geom_gcn(path: Path) -> bool:
    if path.is_dir():
        return {_EDGES, _NODES} <= seen.files(path)
    first = seen.lines(path, 1)
    header = first[0].split("\t") if first else []
    return path.suffix == ".txt" and (header == ["node_id", "node_id"] or path.name == _NODES)


# --- text ---------------------------------------------------------------------------------------


def _rows(path: Path, columns: int | None = None) -> list[list[str]]:
    """The cells of a text of tabs (or blanks), which small benchmarks are.

    Raises:
        InputError: a line has other cells than it should.
    """
    rows = [line.split("\t") if "\t" in line else line.split() for line in read_text(path)]
    wanted = columns or (len(rows[0]) if rows else 0)
    for i, row in enumerate(rows):
        if len(row) != wanted:
            raise InputError(f"{path}: line {i + 1} has {len(row)} cells, expected {wanted}")
    return rows


def _numbers(path: Path, rows: list[list[str]]) -> np.ndarray:
    try:
        return np.array(rows, np.float32).reshape(len(rows), -1)
    except ValueError as error:
        raise InputError(f"{path}: features are no numbers: {error}") from error


def _ints(path: Path, cells: list[str]) -> np.ndarray:
    try:
        return np.array([int(cell) for cell in cells], np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: {error}") from error


FORMATS = (
    Format(
        "planetoid",
        "citation graphs of Yang et al. 2016; of their pickles only numbers are loaded",
        "ind.NAME.x, …, ind.NAME.graph",
        lambda path: _planetoid_name(path) is not None,
        _planetoid,
        documented="https://github.com/kimiyoung/planetoid",
    ),
    Format(
        "linqs",
        "citations and word vectors: Cora, CiteSeer",
        "NAME.content, NAME.cites",
        lambda path: any(_linqs_files(path)),
        _linqs,
        needs="tables",
        documented="https://linqs.org/datasets/",
    ),
    Format(
        "geom-gcn",
        "WebKB, Actor and Wikipedia pages, with ten splits (Pei et al. 2020)",
        f"{_EDGES}, {_NODES}",
        _is_geom_gcn,
        _geom_gcn,
        documented="https://github.com/bingzhewei/geom-gcn",
    ),
)
