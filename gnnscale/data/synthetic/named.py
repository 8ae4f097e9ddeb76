"""Synthetic graphs: ``synthetic:planted?nodes=10000&communities=100&...`` and their names.

``planted`` is a planted-partition graph with degree correction (Karrer and Newman, 2011,
arXiv 1008.3926). Nodes are put into communities at random, communities into classes in turn. An
edge runs inside a community with probability p, else between two communities; p follows from the
homophily asked for: ``homophily = p + (1 - p) s``, where s is the share of one-class pairs among
pairs of different communities. Communities are what a partitioner should find, and features say
little of the class (class mean of length ``signal`` in unit noise), so that neighbours help.

Structure, features and split are drawn from separate streams of the seed: the structure does not
change with the number of features. Memory is O(edges + nodes · features).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import numpy as np

from gnnscale.data.options import PREFIX, Option, as_query, read_options
from gnnscale.data.splits import random_split
from gnnscale.data.synthetic.amazon import AMAZON2M, amazon2m
from gnnscale.errors import InputError
from gnnscale.graph import Graph

logger = logging.getLogger(__name__)

PLANTED = {
    "nodes": Option(int, 10_000, least=4, most=2**31 - 1),
    "communities": Option(int, None, least=2),
    "classes": Option(int, None, least=2, most=2**15),
    "degree": Option(float, None, least=0),
    "features": Option(int, 64, least=0),
    "homophily": Option(float, 0.8, least=0, most=1),
    "signal": Option(float, 1.0, least=0),
    "exponent": Option(float, 0.0, least=0),
    "seed": Option(int, 0, least=0),
}
"""Options of ``planted``.

Where they are not given: ``communities`` is one for every 100 nodes, at least two a class where
there are nodes enough for the degree; ``classes`` and ``degree``, the mean one, are 10, less in
graphs of fewer than 500 and 50 nodes. ``homophily``: fraction of edges inside a class.
``exponent``: 0 for like nodes, else greater than 2: degrees fall off as degree^-exponent.
``signal``: see the module.
"""

_MOST_ROUNDS = 100
_ROOM = 2.5  # nodes of a community for each neighbour: half of its pairs stay unjoined
_ROWS_AT_ONCE = 1 << 16


def load_synthetic(source: str, options: Mapping[str, object] | None = None) -> Graph:
    """Make the graph that ``synthetic:planted?nodes=...`` or ``synthetic:amazon2m?...`` names.

    Args:
        source: the whole name, prefix included.
        options: further options, by keyword.

    Raises:
        InputError: an unknown generator, or unknown, malformed or contradictory options; it lists
            the valid ones.
    """
    kind, _, query = source.removeprefix(PREFIX).partition("?")
    generators: dict[str, tuple[Callable[..., Graph], dict[str, Option]]]
    generators = {"planted": (planted, PLANTED), "amazon2m": (amazon2m, AMAZON2M)}
    if kind not in generators:
        known = " and ".join(f"{PREFIX}{name}" for name in generators)
        raise InputError(f"no generator is called {kind!r}; there are {known}")
    make, valid = generators[kind]
    return make(**read_options(f"{PREFIX}{kind}", query, options or {}, valid))


def planted(
    nodes: int = 10_000,
    communities: int | None = None,
    classes: int | None = None,
    degree: float | None = None,
    features: int = 64,
    homophily: float = 0.8,
    signal: float = 1.0,
    exponent: float = 0.0,
    seed: int = 0,
) -> Graph:
    """Make a planted-partition graph: undirected, simple, with classes, features and a split.

    See the module and ``PLANTED`` for the arguments; the split is 50/25/25 at random.

    Raises:
        InputError: the options contradict each other; says what would do.
    """
    options = {name: value for name, value in locals().items() if value != PLANTED[name].default}
    if classes is None:
        classes = max(2, min(10, nodes // 50, communities or nodes))
    if communities is None:
        fitting = int(nodes / (_ROOM * (10 if degree is None else max(degree, 1))))
        communities = max(nodes // 100, min(2 * classes, fitting), classes)
    if degree is None:
        degree = min(10.0, (nodes // communities - 1) / 2)
    _check(nodes, communities, classes, exponent)
    structure, feature, split = np.random.default_rng(seed).spawn(3)
    community = structure.permutation(np.arange(nodes) % communities)
    label = community % classes
    weight = _weights(nodes, degree, exponent, structure)
    inside = _share_inside(community, label, weight, homophily)
    num_edges = round(nodes * degree / 2)
    num_inside = round(num_edges * inside)
    sampler = _Sampler(community, weight, structure)
    sampler.check(num_inside, num_edges - num_inside)
    edges = [sampler.draw(num_inside, True), sampler.draw(num_edges - num_inside, False)]
    source, target = np.divmod(np.sort(np.concatenate(edges)), nodes)
    everyone = np.ones(nodes, dtype=bool)
    parts = random_split(everyone, "50/25/25", int(split.integers(2**31)))
    return Graph.from_arrays(
        np.stack([source, target]),
        _features(label, classes, features, signal, feature) if features else None,
        label,
        num_nodes=nodes,
        splits={"default": parts},
        undirected=True,
        task="classification",
        metric="accuracy",
        num_classes=classes,
        name="planted",
        source=f"{PREFIX}planted{as_query(options)}",
    )


def _check(nodes: int, communities: int, classes: int, exponent: float) -> None:
    faults = []
    if communities < classes:
        faults.append(
            f"{PREFIX}planted: {communities} communities for {classes} classes; it takes at least "
            "one community a class"
        )
    if communities > nodes // 2:
        faults.append(
            f"{PREFIX}planted: {communities} communities for {nodes} nodes; it takes at least two "
            "nodes a community"
        )
    if 0 < exponent <= 2:
        faults.append(
            f"{PREFIX}planted: exponent {exponent}; it is 0 (like nodes) or greater than 2 (below, "
            "the mean degree has no limit)"
        )
    if faults:
        raise InputError(faults)


def _weights(nodes: int, degree: float, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Return the expected degree of each node, up to a factor, ``[nodes]``."""
    if exponent == 0:
        return np.ones(nodes)
    weight = (1 - rng.random(nodes)) ** (-1 / (exponent - 1))
    # The structural cut-off: hubs beyond it would need multi-edges to have their degree.
    return np.minimum(weight, max(weight.mean() * np.sqrt(nodes / max(degree, 1)), 1.0))


def _share_inside(
    community: np.ndarray, label: np.ndarray, weight: np.ndarray, homophily: float
) -> float:
    """Return the share of edges inside communities that gives the homophily asked for."""
    of_community = np.bincount(community, weight) / weight.sum()
    of_class = np.bincount(label, weight) / weight.sum()
    same_community, same_class = (of_community**2).sum(), (of_class**2).sum()
    chance = float((same_class - same_community) / (1 - same_community))
    if homophily < chance:
        raise InputError(
            f"{PREFIX}planted: homophily {homophily} is below {chance:.4f}, which is what classes "
            "as these have by chance; ask for more, or for more classes"
        )
    return (homophily - chance) / (1 - chance)


class _Sampler:
    """Draws distinct undirected edges, both ends by weight, inside or between communities."""

    def __init__(self, community: np.ndarray, weight: np.ndarray, rng: np.random.Generator) -> None:
        self.rng = rng
        self.community = community
        self.order = np.argsort(community, kind="stable")  # nodes, community by community
        self.bounds = np.concatenate([[0.0], np.cumsum(weight[self.order])])
        sizes = np.bincount(community)
        stops = np.cumsum(sizes)
        self.start, self.stop = self.bounds[stops - sizes], self.bounds[stops]
        self.pairs_inside = int((sizes * (sizes - 1) // 2).sum())

    def check(self, inside: int, between: int) -> None:
        """Refuse what leaves hardly a pair unjoined: drawing distinct edges would not end."""
        nodes = self.community.size
        pairs_between = nodes * (nodes - 1) // 2 - self.pairs_inside
        for wanted, pairs, where in (
            (inside, self.pairs_inside, "inside communities; ask for fewer communities"),
            (between, pairs_between, "between communities; ask for more nodes"),
        ):
            if 2 * wanted > pairs:
                raise InputError(
                    f"{PREFIX}planted: {wanted:,} edges are too many for {pairs:,} pairs of nodes "
                    f"{where}, a lower degree, or another homophily"
                )

    def draw(self, count: int, inside: bool) -> np.ndarray:
        """Return `count` keys source · nodes + target, source < target."""
        found = np.empty(0, dtype=np.int64)
        for _ in range(_MOST_ROUNDS):
            missing = count - found.size
            if missing <= 0:
                break
            fresh = self._draw_once(missing + missing // 8 + 16, inside)
            found = _distinct(np.concatenate([found, fresh]))
        if found.size < count:  # heavy hubs in small communities
            logger.warning("planted: %d of %d edges could be drawn", found.size, count)
            return found
        # They are sorted: dropping the last ones would starve nodes of high numbers
        return self.rng.permutation(found)[:count]

    def _draw_once(self, count: int, inside: bool) -> np.ndarray:
        source = self._nodes(self.rng.random(count) * self.bounds[-1])
        point = self.rng.random(count)
        home = self.community[source]
        if inside:
            point = self.start[home] + point * (self.stop - self.start)[home]
        else:
            point = point * self.bounds[-1]
        target = self._nodes(point)
        keep = source != target
        keep &= (self.community[target] == home) == inside
        low, high = np.minimum(source, target)[keep], np.maximum(source, target)[keep]
        return low * self.community.size + high

    def _nodes(self, points: np.ndarray) -> np.ndarray:
        position = np.searchsorted(self.bounds, points, side="right") - 1
        return self.order[np.minimum(position, self.order.size - 1)]


def _features(
    label: np.ndarray, classes: int, width: int, signal: float, rng: np.random.Generator
) -> np.ndarray:
    means = rng.standard_normal((classes, width), dtype=np.float32)
    means *= np.float32(signal) / np.linalg.norm(means, axis=1, keepdims=True)
    x = rng.standard_normal((label.size, width), dtype=np.float32)
    for start in range(0, label.size, _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        x[block] += means[label[block]]
    return x


def _distinct(keys: np.ndarray) -> np.ndarray:
    """The distinct keys, ascending, by sorting: np.unique hashes since NumPy 2.3, slow on these."""
    keys.sort()
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if keys.size else keys
