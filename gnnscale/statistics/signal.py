"""Is there anything to learn, and is it in the graph? Probes of what nodes and neighbours are like.

The question is NetInfoF's (Lee, Yu, Park, Ioannidis and Faloutsos, "NetInfoF Framework: Measuring
and Exploiting Network Usable Information", ICLR 2024): how far do the features of a node, those of
its neighbours, and where it stands tell its label? Each is answered by a ridge regression in closed
form, fitted on training nodes and scored on validation nodes. No test label is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.reading.labels import labelled
from gnnscale.statistics.probes import predict, scaled, score
from gnnscale.statistics.views import COLUMNS, Rows, features, structure
from gnnscale.storage.mapped import loaded

_FITTED, _SCORED = 20_000, 10_000  # rows at most
_MOST_CLASSES = 2048  # a column is fitted for each
_FEW = 50  # validation rows, below which nothing is advised
_FOLDS = 10  # of the validation rows, which tell how far a difference may be chance
_SURE = 2.3  # standard errors: 97.5 % one-sided with nine degrees of freedom
_WORTH = 0.05  # of what is missing without the graph, so much has to be gained for "helps"
_MUCH = 0.15
_BLURRED = 0.2  # of what is missing by chance, beyond which noise hides what there is

FEATURES, NEIGHBOURS, STRUCTURE = "features", "neighbours", "structure"
ALL = "all"
_SEEN = {
    FEATURES: "features alone",
    NEIGHBOURS: "neighbours alone (1, 2 hops)",
    STRUCTURE: "structure alone",
    ALL: "all together",
}


@dataclass(frozen=True)
class Signal:
    """How well closed-form probes tell labels.

    Attributes:
        metric: "accuracy", for two classes and for several labels a node "ROC-AUC", for quantities
            "R²"; of classes, the figure is over validation nodes.
        chance: what it is for one who sees nothing: the commonest class, 0.5, or 0.
        scores: the figure by what is seen: "features", "neighbours", "structure" and "all".
        gain: what all together score above features alone, or above chance without features.
        error: the standard error of `gain`.
        rows: how many were fitted and scored.
        split: where they come from, in words.
    """

    metric: str
    chance: float
    scores: Mapping[str, float]
    gain: float
    error: float
    rows: tuple[int, int]
    split: str

    @property
    def advice(self) -> str:
        """What to do with it, in a sentence."""
        if self.rows[1] < _FEW:
            return f"{self.rows[1]} rows to score on are too few to advise"
        alone, whole = self.scores.get(FEATURES), self.scores[ALL]
        if math.isnan(whole):
            return "the rows to score on are all alike: there is nothing to tell apart"
        noise = _SURE * self.error
        best = max(self.scores.values())
        if best - self.chance <= max(noise, _WORTH * (1 - self.chance)):
            if noise > _BLURRED * (1 - self.chance):
                return (
                    f"{self.rows[1]:,} rows to score on are too few to be sure: the best figure is "
                    f"{best:.3f}, by chance {self.chance:.3f}"
                )
            return (
                "nothing tells the labels, neither features nor graph: do labels, ids and features "
                "belong together?"
            )
        if alone is None:
            return (
                f"there are no features, and the graph by itself tells something ({best:.3f}, by "
                f"chance {self.chance:.3f}): train on degrees or on an embedding of the nodes"
            )
        compared = f"{self.metric} {alone:.3f} without it, {whole:.3f} with it"
        if alone - self.chance <= max(noise, _WORTH * (1 - self.chance)):
            return f"features alone say nothing, the graph does: {compared}"
        if not self.helped and self.gain >= _WORTH * (1 - alone):
            return f"the graph may help, on too few rows to be sure: {compared}"
        if not self.helped:
            return (
                f"the graph hardly helps: {compared}. Compare a model that sees no edges "
                "(--model mlp)"
            )
        much = "" if self.gain >= _MUCH * (1 - alone) else " a little"
        return f"the graph helps{much}: {compared}"

    @property
    def helped(self) -> bool:
        """Whether the graph gives more than chance and features alone, by enough to be worth it."""
        missing = 1 - self.scores.get(FEATURES, self.chance)
        few = self.rows[1] < _FEW
        return not few and self.gain > max(_SURE * self.error, _WORTH * missing)

    def words(self) -> dict[str, str]:
        """It in sentences, by what they are about."""
        lines = {_SEEN[name]: f"{figure:.3f}" for name, figure in self.scores.items()}
        fitted, scored = self.rows
        return {
            "probes": f"{self.metric} of ridge regressions on {self.split}: {fitted:,} rows "
            f"fitted, {scored:,} scored",
            "by chance": f"{self.chance:.3f}",
            **lines,
            "so": self.advice,
        }


def probe(graph: Graph, split: str = "default", seed: int = 0) -> Signal:
    """Fit and score the probes.

    Args:
        graph: one whose nodes, or whole graphs, have labels.
        split: the split set; without one, or without validation rows, a random one is drawn of what
            is labelled, without those for testing.
        seed: of projections and of what is drawn.

    Raises:
        InputError: there is nothing to probe, and why.
    """
    if graph.y is None:
        raise InputError("signal: the graph has no labels to tell")
    if graph.y_level == "edge":
        raise InputError("signal: labels of edges are not probed, only those of nodes and graphs")
    if graph.task == "classification" and graph.num_classes > _MOST_CLASSES:
        raise InputError(f"signal: not measured for more than {_MOST_CLASSES:,} classes")
    y = loaded(graph.y)
    train, val, where = _split(graph, y, split, seed)
    if train.numel() < 2 or not val.numel():
        raise InputError(
            f"signal: {train.numel()} labelled rows to fit and {val.numel()} to score are too few"
        )
    rows = Rows(graph, torch.cat([train, val]), graph.y_level == "graph")
    fitted = train.numel()
    seen: dict[str, Tensor] = {}
    if graph.x is not None and graph.num_features:
        # Of a projection, the directions that hardly vary are those that say least.
        each = graph.num_features <= COLUMNS
        own, *near = (scaled(view, fitted, each) for view in features(graph, rows, seed))
        seen[FEATURES] = own
        seen[NEIGHBOURS] = torch.cat(near, dim=1)
    seen[STRUCTURE] = scaled(structure(graph, rows, seed), fitted, each=True)
    seen[ALL] = torch.cat([*seen.values()], dim=1)

    targets, truth, metric = _targets(graph, y, train, val)
    if float(targets.var(0, correction=0).max()) == 0:
        raise InputError("signal: all labels that are trained on are the same")
    outs = {name: predict(view[:fitted], targets, view[fitted:]) for name, view in seen.items()}
    blind = targets.mean(0).expand(val.numel(), -1)
    chance = score(blind, truth, metric) if metric == "accuracy" else 0.5 * (metric == "ROC-AUC")
    scores = {name: score(out, truth, metric) for name, out in outs.items()}
    before = outs.get(FEATURES, blind)
    gain = scores[ALL] - scores.get(FEATURES, chance)
    error = _error(outs[ALL], before, truth, metric)
    return Signal(metric, chance, scores, gain, error, (fitted, val.numel()), where)


def _split(graph: Graph, y: Tensor, name: str, seed: int) -> tuple[Tensor, Tensor, str]:
    """Rows to fit and rows to score, int64, and where they are from."""
    known = labelled(y, graph.task)
    random = torch.Generator().manual_seed(seed)
    split = graph.split(name)
    where = f"the split {name}"
    if split is not None and name == "default":
        where = f"the split {next(iter(graph.splits))}"

    def rows(mask: Tensor) -> Tensor:
        mask = loaded(mask)
        if graph.y_level == "graph":
            starts = torch.tensor([0, graph.num_nodes])
            starts = starts if graph.node_ptr is None else graph.node_ptr
            mask = mask[starts[:-1].clamp(max=max(graph.num_nodes - 1, 0))]
        return (mask & known).nonzero().squeeze(1)

    def some(ids: Tensor, most: int) -> Tensor:
        drawn = torch.randperm(ids.numel(), generator=random)[:most]
        return ids[drawn.sort().values]

    if split is not None and (val := rows(split.val)).numel():
        return some(rows(split.train), _FITTED), some(val, _SCORED), where
    if split is not None:
        free = rows(split.train)
        where = f"three quarters and a quarter of the training rows of {where[4:]}"
    else:
        free = known.nonzero().squeeze(1)
        where = "three quarters and a quarter of the labels, drawn at random: there is no split"
    free = free[torch.randperm(free.numel(), generator=random)]
    cut = 3 * free.numel() // 4
    return some(free[:cut], _FITTED), some(free[cut:], _SCORED), where


def _targets(graph: Graph, y: Tensor, train: Tensor, val: Tensor) -> tuple[Tensor, Tensor, str]:
    """What is fitted, float64 `[rows, outputs]`; what it is scored by; and with what figure."""
    if graph.task == "classification":
        one_hot = torch.zeros(train.numel(), graph.num_classes, dtype=torch.float64)
        one_hot[torch.arange(train.numel()), y[train]] = 1
        return one_hot, y[val], "ROC-AUC" if graph.num_classes == 2 else "accuracy"
    wide = y if y.dim() > 1 else y.unsqueeze(1)
    fitted, scored = wide[train].double(), wide[val].double()
    if graph.task == "multilabel" and not wide.is_floating_point():
        fitted, scored = (part.masked_fill(part < 0, math.nan) for part in (fitted, scored))
    fitted = torch.where(fitted.isnan(), fitted.nanmean(0).nan_to_num(0), fitted)
    if graph.task == "multilabel":
        return fitted, scored, "ROC-AUC"
    scale = fitted.std(0, correction=0)
    scale[scale == 0] = 1
    return fitted / scale, scored / scale, "R²"


def _error(after: Tensor, before: Tensor, truth: Tensor, metric: str) -> float:
    """The standard error of the difference of two scores, over ten parts of the rows."""
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(0))
    found = [
        score(after[part], truth[part], metric) - score(before[part], truth[part], metric)
        for part in order.tensor_split(min(_FOLDS, len(truth)))
    ]
    told = torch.tensor([value for value in found if not math.isnan(value)], dtype=torch.float64)
    return float(told.std() / math.sqrt(told.numel())) if told.numel() > 1 else math.inf
