"""What a model could cheat with: copies across a split, features and edges that carry labels.

Nothing is claimed that chance brings about: what tells labels has to tell those of rows that it was
not read off, with a correlation of 0.98 and at least ten of each kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch

from gnnscale.graph import Graph
from gnnscale.graph.adjacency import row_blocks
from gnnscale.graph.reading.labels import labelled
from gnnscale.graph.reading.nodes import Split
from gnnscale.statistics.called import Called
from gnnscale.statistics.copies import Copies, copied_features, copied_neighbours
from gnnscale.statistics.homophily import Homophily
from gnnscale.statistics.views import feature_rows, rows_at_once
from gnnscale.storage.mapped import loaded, read_rows

_SAMPLED = 20_000  # labelled rows, and edges
_ENTRIES = 1 << 26  # of dense features that are looked at, at most
_SURE = 0.98  # correlation of what a column says with the truth
_QUANTITY = 0.999  # of a column with a quantity
_FEW = 10  # rows of a class, and rows that are not
_SHOWN = 3
_TABLE = 1 << 22  # counts of columns and classes at a time
_ALL = 0.99  # of the edges join nodes of one class
_MANY = 100  # edges, for that to be worth a word


@dataclass(frozen=True)
class Leak:
    """Something that a model could cheat with.

    Attributes:
        kind: "split", "features", "neighbours", "column" or "edges".
        count: how many nodes, columns or values are concerned.
        examples: nodes with the training node that each is equal to, or columns.
        words: what was found, in a sentence.
    """

    kind: str
    count: int
    examples: tuple[tuple[int, ...], ...]
    words: str


def find_leaks(
    called: Called, homophily: object = None, split: str = "default"
) -> tuple[Leak, ...]:
    """Look for what a model could cheat with.

    Args:
        called: the graph, and what its parts are called.
        homophily: of the graph, where it has been measured.
        split: the split set that copies are looked for across.
    """
    graph = called.graph
    found: list[Leak] = []
    parts = graph.split(split)
    if parts is not None:
        found += _copies(called, parts)
    if graph.y is not None and bool(labelled(loaded(graph.y), graph.task).any()):
        if graph.x is not None and graph.num_features and graph.y_level != "edge":
            found += _columns(called)
        found += _edges(called)
    if isinstance(homophily, Homophily) and _within(homophily):
        words = (
            f"{homophily.edge:.1%} of the edges join nodes of one class: were they made from the "
            "labels?"
        )
        found.append(Leak("edges", homophily.edges, (), words))
    return tuple(found)


def _within(found: Homophily) -> bool:
    """Whether edges lie within classes as no chance has it."""
    adjusted = found.adjusted or 0.0
    return found.edge >= _ALL and adjusted >= _SURE and found.edges >= _MANY


def _copies(called: Called, split: Split) -> list[Leak]:
    graph = called.graph
    train, others = loaded(split.train), loaded(split.val) | loaded(split.test)
    held, found = int(others.sum()), []
    if (twice := (train & others).nonzero().squeeze(1)).numel():
        few = twice[:_SHOWN].tolist()
        words = f"{twice.numel():,} training nodes are for validation or testing too"
        shown = tuple((node,) for node in few)
        found.append(Leak("split", twice.numel(), shown, f"{words}: {called.nodes(few)}"))
    if graph.x is not None and graph.num_features:
        same = copied_features(graph, split)
        if same.nodes.size:
            found.append(_copied("features", "features", same, held, called))
    alike = copied_neighbours(graph, split)
    if alike.nodes.size:
        found.append(_copied("neighbours", "neighbours", alike, held, called))
    return found


def _copied(kind: str, what: str, copies: Copies, held: int, called: Called) -> Leak:
    graph = called.graph
    pairs = list(zip(copies.nodes.tolist(), copies.originals.tolist(), strict=True))
    agree = ""
    if graph.y is not None and graph.y_level == "node" and graph.task == "classification":
        y = loaded(graph.y)
        first, second = (y[torch.from_numpy(nodes)] for nodes in copies)
        agree = f", {int((first == second).sum()):,} with its label too"
    have = "has" if len(pairs) == 1 else "have"
    shown = ", ".join(f"{called.node(a)} = {called.node(b)}" for a, b in pairs[:_SHOWN])
    return Leak(
        kind,
        len(pairs),
        tuple(pairs[:_SHOWN]),
        f"{len(pairs):,} of {held:,} nodes for validation and testing {have} exactly the {what} "
        f"of a training node{agree}: {shown}",
    )


# --- features that are labels ------------------------------------------------------------------


def _columns(called: Called) -> list[Leak]:
    graph = called.graph
    x, y = _sample(graph)
    if len(y) < 2 * _FEW:
        return []
    if graph.task != "classification":
        told = _correlated(x, y, graph.task)
    elif isinstance(x, np.ndarray):
        told = _telling(x, y)
    else:
        told = _present(x, y) | _telling_sparse(x, y)
    found = []
    whole = sorted(column for column, label in told.items() if label is None)
    if whole:
        found.append(
            Leak(
                "column",
                len(whole),
                tuple((column,) for column in whole[:_SHOWN]),
                f"{_listed('column', whole, called)} of the features alone tells the class",
            )
        )
    single = {column: label for column, label in told.items() if label is not None}
    if single:
        what = "class" if graph.task == "classification" else "label"
        shown = ", ".join(
            f"column {called.feature(column)} tells {what} {called.klass(label)}"
            for column, label in sorted(single.items())[:_SHOWN]
        )
        more = f" and {len(single) - _SHOWN:,} more such" if len(single) > _SHOWN else ""
        found.append(
            Leak(
                "column",
                len(single),
                tuple(sorted(single.items())[:_SHOWN]),
                f"of the features, {shown}{more}",
            )
        )
    return found


def _listed(what: str, columns: list[int], called: Called) -> str:
    shown = ", ".join(map(called.feature, columns[:_SHOWN]))
    more = f" and {len(columns) - _SHOWN:,} more" if len(columns) > _SHOWN else ""
    return f"{what} {shown}{more}" if len(columns) == 1 else f"each of {what}s {shown}{more}"


def _sample(graph: Graph) -> tuple[np.ndarray | scipy.sparse.csr_array, np.ndarray]:
    """Rows of features and labels, of nodes or (as means) of graphs, in random order."""
    assert graph.y is not None
    y = loaded(graph.y)
    known = labelled(y, graph.task).nonzero().squeeze(1).numpy()
    most = _SAMPLED
    if not isinstance(feature_rows(graph, 0, 0), scipy.sparse.csr_array):
        most = max(1000, min(most, _ENTRIES // graph.num_features))
    random = np.random.default_rng(0)
    rows = np.sort(random.permutation(known)[:most])
    taken = []
    pick = None
    if graph.y_level == "graph":
        ptr = torch.tensor([0, graph.num_nodes]) if graph.node_ptr is None else graph.node_ptr
        sizes = ptr.diff().numpy()
        arrays = (1 / np.repeat(sizes, sizes), np.arange(graph.num_nodes), ptr.numpy())
        means = scipy.sparse.csr_array(arrays, shape=(sizes.size, graph.num_nodes))
        pick = means[rows].astype(np.float32).tocsc()
    at_once = rows_at_once(graph)
    for start in range(0, graph.num_nodes, at_once):
        stop = min(start + at_once, graph.num_nodes)
        block = feature_rows(graph, start, stop)
        if pick is not None:
            taken.append(pick[:, start:stop].tocsr() @ block)
        else:
            taken.append(block[rows[(rows >= start) & (rows < stop)] - start])
    if pick is not None:
        total = taken[0]
        for block in taken[1:]:
            total = total + block
        taken = [total]
    x = (
        np.concatenate(taken)
        if isinstance(taken[0], np.ndarray)
        else scipy.sparse.csr_array(scipy.sparse.vstack(taken, "csr"))
    )
    order = random.permutation(len(rows))
    return x[order], y.numpy()[rows[order]]


def _telling(x: np.ndarray, y: np.ndarray) -> dict[int, int | None]:
    """Columns that tell all classes (None) or one."""
    half = len(y) // 2
    found: dict[int, int | None] = {}
    for column in range(x.shape[1]):
        values = x[:, column]
        told = tells(values[:half], y[:half], values[half:], y[half:])
        if told is not False:
            found[column] = told
    return found


def _telling_sparse(x: scipy.sparse.csr_array, y: np.ndarray) -> dict[int, int | None]:
    """Of columns that are there for all classes but one, at least, those that tell all."""
    least = len(y) - np.bincount(y).max()
    columns = x.tocsc()
    full = np.flatnonzero(np.diff(columns.indptr) >= _SURE * least)
    found = _telling(columns[:, full].toarray(), y) if 0 < full.size <= 256 else {}
    return {int(full[column]): told for column, told in found.items()}


def tells(
    fitted: np.ndarray, labels: np.ndarray, held: np.ndarray, truth: np.ndarray
) -> int | bool | None:
    """Whether a column tells classes: of the nearest value seen, the commonest class.

    Returns:
        None where it tells all of them, the class where it tells one from the rest, else False.
    """
    values, group = np.unique(fitted, return_inverse=True)
    pairs, counts = np.unique(np.stack([group, labels]), axis=1, return_counts=True)
    best = np.zeros(values.size, labels.dtype)
    order = np.argsort(counts, kind="stable")
    best[pairs[0, order]] = pairs[1, order]  # the last written is the commonest
    at = np.searchsorted(values, held).clip(1, max(values.size - 1, 1))
    at = at.clip(max=values.size - 1)
    before = np.maximum(at - 1, 0)
    at = np.where(held - values[before] <= values[at] - held, before, at)
    said = best[at]
    classes = int(max(truth.max(initial=0), said.max(initial=0))) + 1
    right = np.bincount(truth[said == truth], minlength=classes).astype(float)
    guessed, actual = (np.bincount(one, minlength=classes) for one in (said, truth))
    correlation = _correlation(right, guessed, actual, len(truth))
    if not (correlation >= _SURE).any():
        return False
    enough = (actual >= _FEW) & (len(truth) - actual >= _FEW)
    if (correlation[enough] >= _SURE).all() and (said == truth).mean() >= _SURE:
        return None
    return int(correlation.argmax())


def _present(x: scipy.sparse.csr_array, y: np.ndarray) -> dict[int, int | None]:
    """Columns that are there, or not there, for the rows of one class."""
    count, classes = len(y), int(y.max()) + 1
    ones = scipy.sparse.csr_array((np.ones(count), (np.arange(count), y)), shape=(count, classes))
    there = scipy.sparse.csr_array(
        ((x.data != 0).astype(float), x.indices, x.indptr), shape=x.shape
    )
    often = np.asarray(there.sum(0))
    wide = np.flatnonzero((often >= _FEW) & (count - often >= _FEW))
    columns, actual = there.tocsc(), np.bincount(y, minlength=classes)
    found: dict[int, int | None] = {}
    step = max(1, _TABLE // classes)
    for some in (wide[start : start + step] for start in range(0, wide.size, step)):
        both = (columns[:, some].T @ ones).toarray()
        sure = np.abs(_correlation(both, often[some, None], actual[None], count)) >= _SURE
        for column, label in zip(*np.nonzero(sure), strict=True):
            found[int(some[column])] = None if classes == 2 else int(label)
    return found


def _correlation(
    both: np.ndarray, guessed: np.ndarray, actual: np.ndarray, count: int
) -> np.ndarray:
    """Matthews's coefficient of a guess and the truth, 0 where either has less than ten rows."""
    few = np.minimum(actual, count - actual) < _FEW
    spread = np.sqrt(1.0 * guessed * (count - guessed)) * np.sqrt(1.0 * actual * (count - actual))
    found = (both * count - 1.0 * guessed * actual) / np.where(spread > 0, spread, 1)
    return np.where(few | (spread == 0), 0.0, found)


def _correlated(
    x: np.ndarray | scipy.sparse.csr_array, y: np.ndarray, task: str
) -> dict[int, int | None]:
    """Columns that are a label or a target, but for a factor and an offset."""
    wide = np.atleast_2d(y.T).T.astype(np.float64)
    found: dict[int, int | None] = {}
    for label in range(wide.shape[1]):
        target = wide[:, label]
        known = np.isfinite(target) & ((target >= 0) | (task == "regression"))
        target = target[known]
        if len(target) < 2 * _FEW or (
            task == "multilabel" and min(target.sum(), (1 - target).sum()) < _FEW
        ):
            continue
        rows = x[np.flatnonzero(known)]
        count = len(target)
        mean = np.asarray(rows.mean(0)).ravel().astype(np.float64)
        squares = (rows * rows) if isinstance(rows, np.ndarray) else rows.multiply(rows)
        square = np.asarray(squares.mean(0)).ravel()
        spread = np.sqrt((square - mean**2).clip(min=0) * target.var())
        shared = np.asarray(rows.T @ (target - target.mean())).ravel() / count
        sure = spread > 1e-6 * np.abs(mean * target.std()) + 1e-12
        correlation = np.where(sure, np.abs(shared) / np.where(sure, spread, 1), 0)
        needed = _QUANTITY if task == "regression" else _SURE
        for column in np.flatnonzero(correlation >= needed):
            found[int(column)] = label
    return found


# --- edges that carry labels -------------------------------------------------------------------


def _edges(called: Called) -> list[Leak]:
    """Weights, attributes and types of edges that tell whether both ends are of one class."""
    graph = called.graph
    if graph.task != "classification" or graph.y_level == "graph":
        return []
    columns, y, half, agreement = _sampled_edges(graph)
    if half.sum() < 2 * _FEW or (~half).sum() < 2 * _FEW:
        return []
    found = []
    for name, values in columns.items():
        told = tells(values[half], y[half], values[~half], y[~half])
        if told is False:
            continue
        what = (
            "whether both ends are of one class"
            if agreement
            else "the class of the edge"
            if told is None
            else f"which edges are of class {called.klass(told)}"
        )
        found.append(Leak("edges", 1, (), f"{name} of an edge alone tells {what}"))
    return found


def _sampled_edges(
    graph: Graph,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, bool]:
    """Values of edges by name, what they may tell, which half each is in, and what that is.

    Both directions of an edge are in the same half, and so are parallel edges: they share values.
    """
    assert graph.y is not None
    carried = {name: value for name, value in graph.carried.items() if name != "node_type"}
    at_edges = graph.y_level == "edge"
    random = np.random.default_rng(0)
    share = min(1.0, 2 * _SAMPLED / max(graph.num_edges, 1))
    y = None if at_edges else loaded(graph.y)
    values: dict[str, list[np.ndarray]] = {}
    told, halves = [], []
    for start, stop, rows in row_blocks(graph.adj) if carried else ():
        first = int(graph.adj.indptr[start])
        last = int(graph.adj.indptr[stop])
        target, source = rows.row_index + start, rows.indices.long()
        kept = torch.from_numpy(random.random(last - first) < share) & (target != source)
        if y is None:
            label = read_rows(graph.y, first, last)
            kept &= label >= 0
        else:
            kept &= (y[target] >= 0) & (y[source] >= 0)
            label = (y[target] == y[source]).long()
        told.append(label[kept].numpy())
        low, high = torch.minimum(target, source)[kept], torch.maximum(target, source)[kept]
        halves.append(((low * 0x9E3779B1 + high * 0x85EBCA77) >> 13 & 1).bool().numpy())
        for name, value in carried.items():
            block = read_rows(value, first, last)[kept]
            for column in range(1 if block.dim() == 1 else block.size(1)):
                one = block if block.dim() == 1 else block[:, column]
                called = name if block.dim() == 1 else f"{name} column {column}"
                values.setdefault(called, []).append(one.double().numpy())
    if not told:
        return {}, np.empty(0, int), np.empty(0, bool), not at_edges
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    return joined, np.concatenate(told), np.concatenate(halves), not at_edges
