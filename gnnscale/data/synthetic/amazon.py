"""A graph of the size and character of Amazon2M: ``synthetic:amazon2m?scale=0.25&seed=0``.

Amazon2M (Chiang et al., 2019, arXiv 1905.07953, table 7; ogbn-products is drawn from the same data)
has 2,449,029 products in 47 departments, 61,859,140 pairs bought together and 100 features. Here

- **structure**: classes of Zipf's sizes are cut into super-communities, communities and groups
  about as large as the parts of the paper's 15,000; an edge stays inside a group, or leaves it for
  its community, super-community, class or anywhere, by `SHARES`. Degrees follow a power law with a
  cut-off. Pairs drawn twice are merged, so that fewer edges stay than are drawn.
- **features** of a node: the mean of its department, the offset of its community, and unit noise.
  The means overlap in the noise, so a node alone tells little; neighbours average the noise away.
- **labels**: nodes are of the class whose department they are in, but for a few *stray* communities
  that sell something else, which only their own offset tells, and for a few mislabelled nodes.

This is what tells good training from bad. The departments' means are learnt within an epoch. Stray
communities are told only by features that neighbours have cleared of noise, one by one, over many
epochs; a batch of randomly drawn nodes has no neighbours to learn that from. Mislabelled nodes
bound the accuracy. Sizes of communities are fixed, so that their number grows with the scale, and
with it the steps of an epoch: each is seen as often an epoch at any scale.
`benchmarks/calibration.py` prints the accuracies.

Nodes are numbered at random. All is written to disk as it is drawn, and opened memory-mapped.
Memory: 24 bytes a node while edges are drawn (cumulative weights 8, weights 8, node of each place
4, community of each node 4), labels and masks, and what `build_graph` takes for its sort.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gnnscale.data.kept import open_kept
from gnnscale.data.options import PREFIX, Option, as_query, read_options
from gnnscale.data.splits import Split, random_split
from gnnscale.data.synthetic.hierarchy import divide, draw_edges, power_law_weights
from gnnscale.graph import Graph, build_graph
from gnnscale.storage.files import cache_root

logger = logging.getLogger(__name__)

AMAZON2M = {
    # Below, the smallest class has less than a dozen nodes; above, node ids do not fit 32 bits.
    "scale": Option(float, 1.0, least=0.001, most=800),
    "seed": Option(int, 0, least=0),
}
"""Options of ``amazon2m``; ``scale`` multiplies the numbers of nodes and edges."""

#: Raised when the same options give another graph: graphs in the cache are then made anew.
VERSION = 2

NODES, EDGES, CLASSES, FEATURES = 2_449_029, 61_859_140, 47, 100
SPLIT = "70/5/25"  # 1,709,997 training nodes in the paper

SUPER_COMMUNITY, COMMUNITY, GROUP = (2500, 12_000), (300, 900), (120, 240)
#: Of the edges: anywhere, inside the class, the super-community, the community, the group.
#: Most of what leaves its group stays in the community, so that the full graph's neighbourhoods,
#: which the test sees, are hardly less pure than those of a batch, from which edges between
#: clusters are missing. Were much of it outside, accuracy would sink as training goes on.
SHARES = (0.04, 0.04, 0.04, 0.22, 0.66)
DEGREE_EXPONENT, MOST_WEIGHT = 2.8, 40.0
STRAY, MISLABELLED = 0.09, 0.085
#: Lengths of a class mean, and of a community's offset for each sqrt(2 log(communities)).
CLASS_SIGNAL, COMMUNITY_SIGNAL = 2.0, 0.57

_ROWS_AT_ONCE = 1 << 15


def amazon2m(scale: float = 1.0, seed: int = 0) -> Graph:
    """Open the graph, memory-mapped; the first time, draw it into `$GNNSCALE_CACHE/graphs`.

    The cache is in `~/.cache/gnnscale` by default. A graph appears there when it is whole.

    Args:
        scale: of the numbers of nodes and edges, 0.001 to 800.
        seed: of everything.

    Raises:
        InputError: an option is out of range.
        StoreError: the graph cannot be written, or the disk is full.
    """
    given = {"scale": scale, "seed": seed}
    options = read_options(f"{PREFIX}amazon2m", "", given, AMAZON2M)
    path = _cached(**options)
    if (kept := open_kept(path)) is not None:
        return kept
    drawing = Drawing(options["scale"], options["seed"])
    logger.info("drawing %d nodes and %d edges to %s", drawing.num_nodes, drawing.num_edges, path)
    return build_graph(
        path,
        drawing.num_nodes,
        drawing.edges(),
        x=drawing.features(),
        y=drawing.labels(),
        splits={"default": drawing.split()},
        undirected=True,
        coalesce=True,
        task="classification",
        metric="accuracy",
        num_classes=CLASSES,
        name="amazon2m",
        source=f"{PREFIX}amazon2m{as_query(options)}",
    )


class Drawing:
    """What is drawn: edges, features, labels and split, each from its own stream of the seed."""

    def __init__(self, scale: float, seed: int) -> None:
        self.num_nodes, self.num_edges = round(NODES * scale), round(EDGES * scale)
        self._seed = seed
        rng = self._stream(0)
        size = 1 / np.arange(1, CLASSES + 1)
        self._prior = np.cumsum(size / size.sum())  # up to and with each class
        everything = np.array([0, self.num_nodes])
        classes = np.concatenate([[0], np.rint(self._prior * self.num_nodes).astype(np.int64)])
        super_communities = divide(classes, *SUPER_COMMUNITY, rng)
        communities = divide(super_communities, *COMMUNITY, rng)
        groups = divide(communities, *GROUP, rng)
        self._levels = (everything, classes, super_communities, communities, groups)
        self._weight = power_law_weights(self.num_nodes, DEGREE_EXPONENT, MOST_WEIGHT, rng)
        self._node_of_place = rng.permutation(np.arange(self.num_nodes, dtype=np.int32))
        self._community = np.empty(self.num_nodes, dtype=np.int32)
        numbers = np.arange(communities.size - 1, dtype=np.int32)
        self._community[self._node_of_place] = np.repeat(numbers, np.diff(communities))
        self._department = np.searchsorted(classes, communities[:-1], side="right") - 1
        self._class = self._department.copy()
        self._relabel(self._class, STRAY, rng)

    def edges(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Chunks (source, target) of node ids, each edge in one direction."""
        node = self._node_of_place
        for source, target in draw_edges(
            self._weight, self._levels, SHARES, self.num_edges, self._seed
        ):
            yield node[source], node[target]

    def labels(self) -> np.ndarray:
        """Classes, int64 `[num_nodes]`."""
        label = self._class[self._community]
        self._relabel(label, MISLABELLED, self._stream(1))
        return label

    def features(self) -> Iterator[np.ndarray]:
        """Chunks of features, float32 `[rows, FEATURES]`, in the order of the nodes."""
        rng = self._stream(2)
        mean = rng.standard_normal((CLASSES, FEATURES), dtype=np.float32)
        count = self._department.size
        # The more communities, the further apart, so that a node alone is as easily mistaken.
        length = COMMUNITY_SIGNAL * (2 * np.log(count)) ** 0.5
        centre = rng.standard_normal((count, FEATURES), dtype=np.float32)
        centre *= np.float32(length / FEATURES**0.5)
        centre += np.float32(CLASS_SIGNAL / FEATURES**0.5) * mean[self._department]
        for start in range(0, self.num_nodes, _ROWS_AT_ONCE):
            home = self._community[start : start + _ROWS_AT_ONCE]
            x = self._stream(3, start).standard_normal((home.size, FEATURES), dtype=np.float32)
            x += centre[home]
            yield x

    def split(self) -> Split:
        """Training, validation and test nodes."""
        everyone = np.ones(self.num_nodes, dtype=bool)
        return random_split(everyone, SPLIT, int(self._stream(4).integers(2**31)))

    def _stream(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))

    def _relabel(self, label: np.ndarray, share: float, rng: np.random.Generator) -> None:
        """Give a share of the labels a class drawn by the sizes of the classes, in place."""
        chosen = rng.choice(label.size, round(share * label.size), replace=False)
        label[chosen] = np.searchsorted(self._prior, rng.random(chosen.size))


def _cached(**options: float) -> Path:
    content = json.dumps({"version": VERSION, **options}, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    return cache_root() / "graphs" / f"amazon2m-{digest}"
