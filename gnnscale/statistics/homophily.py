"""Do edges join like with like, and do neighbours' labels tell a node's?

Edge homophily, the share of the edges that join nodes of one class, is high wherever one class is
large: by chance it is Σ p̄(c)², p̄(c) being the share of the edge ends that lie in class c. The
adjusted homophily takes that away, (h - Σ p̄²) / (1 - Σ p̄²), and is 0 where edges do not care. It
is Newman's assortativity coefficient ("Mixing patterns in networks", 2003), and for labels that are
no classes his correlation over edges stands in its place. The label informativeness is the share of
the uncertainty about a node's class that the class of a neighbour takes away, I(y; y') / H(y) over
the ends of a random edge: it counts any pattern, such as edges that join unlike with unlike. Both
as in Platonov, Kuznedelev, Babenko and Prokhorenkova, "Characterizing Graph Datasets for Node
Classification: Homophily-Heterophily Dichotomy and Beyond", NeurIPS 2023, equations 1, 2 and 4.

Self-loops are left out: they say nothing of neighbours. A directed edge is an edge whichever way it
points; parallel edges count each. Unlabelled ends leave their edges out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.graph import Graph
from gnnscale.graph.adjacency import row_blocks
from gnnscale.graph.reading.labels import known_labels
from gnnscale.statistics.called import Called
from gnnscale.storage.mapped import loaded

_MOST_CLASSES = 2048  # the counts of all pairs are a table of 8 bytes each
_FAR = 5.0  # standard deviations of a count from chance, for it to be worth a word
_TIMES = 1.5  # and how many times chance, or one part in so many
_FEW_ENDS = 10  # edges that a class needs for it


class Pair(NamedTuple):
    """Two classes (or one twice) that are joined more or less often than chance has it.

    Attributes:
        a: a class.
        b: the other; `a` again for the edges within it.
        edges: those that join them.
        times: how many times as many as by chance; between two classes, by chance among the edges
            that join different classes.
    """

    a: int
    b: int
    edges: int
    times: float


@dataclass(frozen=True, eq=False)
class Homophily:
    """What the classes at the ends of edges say.

    Attributes:
        edge: share of the edges that join nodes of one class.
        chance: what that share would be if edges did not care.
        node: mean over nodes of the share of their neighbours (in-neighbours) in their own class.
        adjusted: see the module; None where all ends lie in one class.
        informativeness: see the module; None too where there are more than 2,048 classes.
        within: float64 `[num_classes]`, of the edge ends of a class, the share whose other end is
            in it too; NaN where it has no edges.
        ends: float64 `[num_classes]`, the share of all edge ends that lie in a class, which is what
            `within` would be by chance.
        joined: float64 `[num_classes, num_classes]`, symmetric: the shares of the edges, the class
            compatibility matrix where a row is divided by its sum. None beyond 2,048 classes.
        pairs: surprises, the greatest first.
        edges: directed edges that were counted.
    """

    edge: float
    chance: float
    node: float
    adjusted: float | None
    informativeness: float | None
    within: Tensor
    ends: Tensor
    joined: Tensor | None
    pairs: tuple[Pair, ...]
    edges: int

    @property
    def verdict(self) -> str:
        """Whether the labels of neighbours tell those of nodes, in a sentence."""
        if self.adjusted is None:
            return "all edges lie in one class: there is nothing to tell"
        told = 0.0 if self.informativeness is None else self.informativeness
        if self.adjusted >= 0.5:
            return "neighbours are mostly of one class: a model that averages neighbours fits"
        if self.adjusted >= 0.2:
            return "neighbours are of one class more often than not by chance: edges tell something"
        if told >= 0.1:
            return (
                "neighbours are seldom of one class, and yet tell it: which classes are joined is "
                "a pattern, for models that tell a node from its neighbours (GraphSAGE)"
            )
        if not self.tells_nothing:
            return "neighbours' labels tell little of a node's"
        large = (
            ": that so many edges join one class is because it is large" if self.edge > 0.5 else ""
        )
        return f"neighbours' labels hardly tell a node's{large}"

    @property
    def tells_nothing(self) -> bool:
        """Whether neighbours' labels hardly tell a node's."""
        adjusted, told = self.adjusted, self.informativeness
        return adjusted is not None and told is not None and max(adjusted / 0.1, told / 0.03) < 1

    def words(self, called: Called) -> dict[str, str]:
        """It in sentences, by what they are about."""
        lines = {
            "homophily": f"{self.edge:.3f} of the edges join nodes of one class (by chance "
            f"{self.chance:.3f}); {self.node:.3f} of a node's neighbours on average"
        }
        if self.adjusted is not None:
            lines["adjusted homophily"] = (
                f"{self.adjusted:.3f}, where 0 is chance and 1 all edges within classes"
            )
        if self.informativeness is not None:
            lines["label informativeness"] = (
                f"{self.informativeness:.3f}: a neighbour's class takes away "
                f"{self.informativeness:.1%} of the uncertainty about a node's"
            )
        elif self.joined is None:
            lines["label informativeness"] = f"not measured for more than {_MOST_CLASSES:,} classes"
        lines["so"] = self.verdict
        if self.pairs:
            lines["surprises"] = "; ".join(_pair(pair, called) for pair in self.pairs)
        return lines


@dataclass(frozen=True, eq=False)
class Assortativity:
    """For several labels or quantities a node: their correlation over the ends of edges.

    Attributes:
        by_column: float64 `[columns]`, of every label or target: 0 is chance, 1 equal at both ends
            of every edge; for a 0/1 label the adjusted homophily. NaN where it does not vary.
        task: "multilabel" or "regression".
    """

    by_column: Tensor
    task: str

    @property
    def mean(self) -> float:
        """The mean over the columns that vary; NaN where none does."""
        return float(self.by_column.nanmean())

    def words(self, called: Called) -> dict[str, str]:
        """It in sentences, by what they are about."""
        what = "label" if self.task == "multilabel" else "target"
        if math.isnan(self.mean):
            return {"homophily": f"no {what} varies over the ends of edges"}
        text = f"{self.mean:.3f} is the correlation of a {what} over edges, where 0 is chance"
        if self.by_column.numel() > 1:
            low, high = (
                int(best)
                for best in (
                    self.by_column.nan_to_num(2).argmin(),
                    self.by_column.nan_to_num(-2).argmax(),
                )
            )
            text = (
                f"{text}, on average: from {self.by_column[low]:.3f} ({called.klass(low)}) to "
                f"{self.by_column[high]:.3f} ({called.klass(high)})"
            )
        so = (
            "neighbours are alike: a model that averages neighbours fits"
            if self.mean >= 0.5
            else "neighbours tell something of a node"
            if self.mean >= 0.2
            else "neighbours' labels tell little of a node's"
        )
        return {"homophily": text, "so": so}


def homophily(graph: Graph) -> Homophily | Assortativity | None:
    """Measure it, in one pass over the edges; None where labels do not belong to nodes."""
    if graph.y is None or graph.y_level != "node":
        return None
    y = loaded(graph.y)
    if graph.task != "classification":
        return _assortativity(graph, y if y.dim() > 1 else y.unsqueeze(1))
    counted = _count(graph, y)
    if not counted.edges:
        return None
    # An edge is seen from both of its ends, so that of a directed graph p̄ is over all ends.
    ends = counted.ends.double() / (2 * counted.edges)
    same = counted.same.double()
    edge, chance = float(same.sum()) / counted.edges, float(ends.square().sum())
    several = int((counted.ends > 0).sum()) > 1
    joined = pairs = informativeness = None
    if counted.joint is not None:
        table = counted.joint.double()
        joined = (table + table.T) / (2 * counted.edges)
        informativeness = _informativeness(joined, ends) if several else None
        edges = counted.edges / (2 if graph.adj.symmetric else 1)
        pairs = _surprises(joined * edges, ends)
    return Homophily(
        edge=edge,
        chance=chance,
        node=counted.node,
        adjusted=(edge - chance) / (1 - chance) if several else None,
        informativeness=informativeness,
        within=2 * same / counted.ends,
        ends=ends,
        joined=joined,
        pairs=tuple(pairs or ()),
        edges=counted.edges,
    )


class _Counts(NamedTuple):
    edges: int
    ends: Tensor  # int64 [classes], of edges in a class
    same: Tensor  # int64 [classes], edges within a class
    joint: Tensor | None  # int64 [classes, classes], target and source
    node: float


def _count(graph: Graph, y: Tensor) -> _Counts:
    classes = max(graph.num_classes, 1)
    tabled = classes <= _MOST_CLASSES
    joint = torch.zeros(classes * classes if tabled else 0, dtype=torch.int64)
    ends, same = torch.zeros(2, classes, dtype=torch.int64)
    edges, shares, nodes = 0, 0.0, 0
    for start, stop, rows in row_blocks(graph.adj):
        row, source = rows.row_index, rows.indices.long()
        a, b = y[start:stop][row], y[source]
        kept = (row + start != source) & (a >= 0) & (b >= 0)
        row, a, b = row[kept], a[kept], b[kept]
        alike = a == b
        edges += a.numel()
        if tabled:
            joint += torch.bincount(a * classes + b, minlength=classes * classes)
        else:
            same += torch.bincount(a[alike], minlength=classes)
            ends += torch.bincount(a, minlength=classes) + torch.bincount(b, minlength=classes)
        met = torch.bincount(row, minlength=stop - start)
        own = torch.bincount(row[alike], minlength=stop - start)
        some = met > 0
        shares += float((own[some].double() / met[some]).sum())
        nodes += int(some.sum())
    node = shares / nodes if nodes else math.nan
    if not tabled:
        return _Counts(edges, ends, same, None, node)
    joint = joint.view(classes, classes)
    return _Counts(edges, joint.sum(0) + joint.sum(1), joint.diagonal(), joint, node)


def _informativeness(joined: Tensor, ends: Tensor) -> float:
    def entropy(shares: Tensor) -> float:
        return -float(torch.xlogy(shares, shares).sum())

    return 2 - entropy(joined) / entropy(ends)


def _surprises(edges: Tensor, ends: Tensor) -> list[Pair]:
    """Classes that avoid themselves; pairs far from chance among the edges between classes."""
    found: list[tuple[float, Pair]] = []
    total = float(edges.sum())

    def note(a: int, b: int, seen: float, chance: float) -> None:
        if abs(seen - chance) < _FAR * math.sqrt(chance) or chance < _FEW_ENDS:
            return
        times = seen / chance
        if times <= 1 / _TIMES or (times >= _TIMES and a != b):
            told = seen * math.log(times) if seen else 0.0
            deviance = told - seen + chance  # Poisson's: how far from chance
            found.append((deviance, Pair(a, b, round(seen), times)))

    for a, share in enumerate(ends.tolist()):
        note(a, a, float(edges[a, a]), total * share * share)
    between = edges - torch.diag(edges.diagonal())
    leaving = between.sum(1)
    out = float(leaving.sum())
    if out and int((leaving > 0).sum()) > 2:  # of two classes there is but one pair
        # In proportion to what leaves both, without the diagonal, which holds nothing.
        share = leaving / out
        chance = torch.outer(share, share) * (out / (1 - float(share.square().sum())))
        far = ((between - chance).abs() >= _FAR * chance.clamp(min=1).sqrt()).triu(1)
        for a, b in far.nonzero().tolist():
            note(a, b, 2 * float(between[a, b]), 2 * float(chance[a, b]))
    found.sort(key=lambda one: -one[0])
    more = [pair for _, pair in found if pair.times > 1][:2]
    less = [pair for _, pair in found if pair.times < 1][:2]
    return more + less


def _pair(pair: Pair, called: Called) -> str:
    rate = f"{pair.times:.{1 if pair.times >= 0.095 else 2}f} times"
    if pair.a == pair.b:
        return (
            f"class {called.klass(pair.a)} joins itself {rate} as often as by chance "
            f"({pair.edges:,} edges)"
        )
    both = f"{called.klass(pair.a)} and {called.klass(pair.b)}"
    return f"classes {both} are joined {rate} as often as by chance ({pair.edges:,} edges)"


def _assortativity(graph: Graph, y: Tensor) -> Assortativity:
    """Pearson's correlation over edges, each taken both ways, a column at a time."""
    found = []
    for column in range(y.size(1)):
        values = y[:, column].double()
        known = known_labels(y[:, column], graph.task)
        values = values.masked_fill(~known, 0.0)
        centre = float(values.sum() / known.sum().clamp(min=1))  # else squares cancel
        values -= centre
        count = sums = squares = products = 0.0
        for start, stop, rows in row_blocks(graph.adj):
            row, source = rows.row_index, rows.indices.long()
            kept = (row + start != source) & known[start:stop][row] & known[source]
            a, b = values[start:stop][row[kept]], values[source[kept]]
            count += 2 * a.numel()
            sums += float(a.sum() + b.sum())
            squares += float(a.square().sum() + b.square().sum())
            products += 2 * float((a * b).sum())
        mean = sums / count if count else 0.0
        variance = squares / count - mean * mean if count else 0.0
        varies = variance > 1e-12 * max(squares / count if count else 0.0, 1e-300)
        found.append((products / count - mean * mean) / variance if varies else math.nan)
    return Assortativity(torch.tensor(found, dtype=torch.float64), graph.task)
