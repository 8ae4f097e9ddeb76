"""A layer on trial: what must not matter to it is changed, and its outputs are compared."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gnnscale.graph import Adjacency
from gnnscale.graph.adjacency import release_all
from gnnscale.nn.blocks.phases import Neighbourhood
from gnnscale.nn.convs.propagation import needs_symmetry
from gnnscale.nn.convs.taken import pad_pieces_of
from gnnscale.nn.invariance import changes
from gnnscale.nn.invariance.changes import Comparison, Reason
from gnnscale.nn.invariance.probes import Probe, Values, circle, examples_of, piece_of
from gnnscale.nn.invariance.stand_in import (
    InFull,
    KeptBuffers,
    SameDraws,
    copy_of,
    leave,
    move,
    redraw,
    seed_all,
    set_mode,
)
from gnnscale.nn.modules import has_lazy

Level = Literal["pieces", "graphs", "whole"]

# In float64, rounding through a layer stays below 1e-9, and what a layer computes in float32 on the
# way leaves 1e-6; in float32 it is 1e-5 or so. A dependence on what is changed is of order 1, and
# of a mean over some ten rows still 1e-2.
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}
_FURTHEST = 16  # hops that are tried before none is said to help
ROWS = 64  # of the user's, where a layer takes no others


class Verdict(NamedTuple):
    """What was found out of a layer.

    Attributes:
        reason: what it depends on and must not; None where it may run in pieces.
        change: by how much its output then changes.
        in_training: whether in training mode only.
        symmetric: whether it may on symmetric graphs only.
        enough: a reach that is wide enough, where the reason is its reach and there is one.
        padded: whether its pieces are padded.
    """

    reason: Reason | None = None
    change: float = 0.0
    in_training: bool = False
    symmetric: bool = False
    enough: int | None = None
    padded: bool = False


# Judges a layer, given whether pieces are padded and whether every run has a copy of its own.
Judge = Callable[[bool, bool], Verdict]


class LayerFailed(Exception):
    """A layer raised an error on a graph that it should take.

    Attributes:
        always: whether on the first already.
    """

    always = False


class Trial:
    """One layer, and what it is given.

    Args:
        phase: the layer as a phase.
        rows: some rows `[k, channels]` of x and of the slots that it takes.
        carried: what it takes of the values of edges and nodes.
        level: see `check_invariance`.
        training: whether training mode is tried, too.
    """

    def __init__(
        self,
        phase: Neighbourhood,
        rows: Sequence[Tensor],
        carried: Mapping[str, Tensor],
        level: Level,
        *,
        training: bool = True,
    ) -> None:
        self.phase, self.level, self.carried, self.training = phase, level, carried, training
        self.rows = [x[:ROWS].detach().cpu() for x in rows]
        self.widths = [x.size(1) for x in self.rows]
        self.examples = examples_of(carried)

    def on_made_up_graphs(self) -> Verdict:
        """The verdict of small graphs that are made up.

        Raises:
            LayerFailed: it fails on some.
        """
        return self._settled(self._judged)

    def on_graph(self, adj: Adjacency, found: Verdict) -> Verdict:
        """The verdict of a piece of the user's graph, in evaluation mode."""

        def judged(padded: bool, fresh: bool) -> Verdict:
            layer = StandIn(self, padded or found.padded, fresh)
            graph = piece_of(layer.values, adj, self.carried)
            release_all(adj, *self.carried.values())
            around = changes.of_surroundings(graph, layer.values, symmetric=False)
            reach = changes.of_reach(graph, self.phase.hops, layer.values)
            difference = layer.difference(around) or layer.difference(reach)
            if difference is None:
                return found._replace(padded=layer.padded)
            enough = None
            if difference[0] is changes.HALO:
                for enough in range(self.phase.hops + 1, _FURTHEST + 1):
                    further = changes.of_reach(graph, enough, layer.values)
                    if layer.difference(further) is None:
                        break
                else:
                    enough = None
            return Verdict(*difference, enough=enough, padded=layer.padded)

        return self._settled(judged)

    def _settled(self, judged: Judge) -> Verdict:
        """Padded only where it fails otherwise; what it keeps between calls is looked for last."""
        try:
            found = _padded_if_need_be(judged, fresh=False)
        except LayerFailed:
            found = None
        if found is not None and found.reason is None:
            return found
        try:
            if _padded_if_need_be(judged, fresh=True).reason is None:
                return Verdict(changes.STATE, float("nan"))
        except LayerFailed:
            if found is None:
                raise
        return found or _padded_if_need_be(judged, fresh=True)

    def _judged(self, padded: bool, fresh: bool) -> Verdict:
        layer = StandIn(self, padded, fresh)
        in_pieces, hops = self.level == "pieces", self.phase.hops
        symmetric, both_ways_said = False, needs_symmetry(self.phase.module)
        if self.level != "whole" and (change := layer.draws()):
            return Verdict(changes.DRAWS, change, padded=padded)
        if self.level != "whole" and (change := layer.keeps()):
            return Verdict(changes.STATE, change, padded=padded)
        kinds = list(product((False, True) if self.training else (False,), (False, True)))
        # What lies elsewhere first: some of it is within every reach that is tried here.
        for training, both_ways in kinds:
            layer.set_mode(training)
            graph = self._circle(layer.values, hops, both_ways)
            found = layer.difference(self._comparisons(graph, layer.values, both_ways))
            if found is not None and found[0] is changes.SYMMETRY:
                symmetric = True
            elif found is not None:
                reason = changes.CHOICE if layer.chose else found[0]
                return Verdict(reason, found[1], training, padded=padded)
        for training, both_ways in kinds if in_pieces else ():
            if symmetric and not both_ways:
                continue
            layer.set_mode(training)
            graph = self._circle(layer.values, hops, both_ways)
            found = layer.difference(changes.of_reach(graph, hops, layer.values))
            if found is not None and both_ways_said and not both_ways:
                symmetric = True
            elif found is not None:
                enough, one_way = self._enough(layer, hops, both_ways)
                if enough != hops:
                    return Verdict(*found, training, symmetric or one_way, enough, padded)
                symmetric = True
        return Verdict(symmetric=symmetric, padded=padded)

    def _circle(self, values: Values, hops: int, both_ways: bool) -> Probe:
        size = 4 * hops + 24 if self.level == "pieces" else 9
        return circle(values, size, symmetric=both_ways, rough=not both_ways)

    def _comparisons(self, graph: Probe, values: Values, both_ways: bool) -> Iterable[Comparison]:
        if self.level == "whole":
            return changes.of_order(graph, values)
        if self.level == "graphs":
            return changes.of_other_graphs(graph, values)
        return changes.of_surroundings(graph, values, both_ways)

    def _enough(self, layer: StandIn, hops: int, both_ways: bool) -> tuple[int | None, bool]:
        """A reach that is wide enough, and whether it is on symmetric graphs only.

        Every one is tried on a ring that is four times as wide, lest it reach all of it.
        """
        last = max(hops + 3, _FURTHEST)
        tried = [(reach, both_ways) for reach in range(hops + 1, last + 1)]
        if not both_ways:
            tried += [(reach, True) for reach in range(hops, last + 1)]
        for reach, kind in tried:
            graph = self._circle(layer.values, reach, kind)
            if layer.difference(changes.of_reach(graph, reach, layer.values)) is None:
                return reach, kind and not both_ways
        return None, False


class StandIn:
    """A stand-in of a layer on trial, with what it is given.

    Parameters drawn anew in float64 and normal rows, as far as it runs on them, and that to finite
    values; else parameters near its own or its own, rows of the user's, float32.
    """

    def __init__(self, trial: Trial, padded: bool, fresh: bool) -> None:
        self.padded, self._fresh, self._whole = padded, fresh, trial.level == "whole"
        self.chose = False  # whether it chose some of all rows at random when it ran last
        original = copy_of(trial.phase.module)
        pad_pieces_of(original, padded)
        self.dtype: torch.dtype
        self.values: Values
        failure: LayerFailed | None = None
        fallback = None
        for self.dtype, given, draw in product(_TOLERANCE, (False, True), (redraw, move, leave)):
            generator = torch.Generator().manual_seed(0)
            rows = trial.rows if given else None
            self.values = Values(trial.widths, trial.examples, rows, self.dtype, generator)
            self._hold(trial, copy.deepcopy(original).to(self.dtype))
            try:
                finite = self._drawn(trial, functools.partial(draw, generator=generator))
            except LayerFailed as error:
                failure = failure or error
                continue
            if finite:
                return
            fallback = fallback or (self.dtype, self.values, self._module)
        if fallback is None:
            assert failure is not None
            failure.always = True
            raise failure
        self.dtype, self.values, module = fallback
        self._hold(trial, module)

    def _hold(self, trial: Trial, module: nn.Module) -> None:
        self._module, self._kept = module, KeptBuffers(module)
        self._unused = copy.deepcopy(module)
        self._phase = replace(trial.phase, module=module, on_adjacency=None)
        pad_pieces_of(module, self.padded)
        set_mode(module, training=False)

    def _drawn(self, trial: Trial, draw: Callable[[nn.Module], None]) -> bool:
        base = trial._circle(self.values, trial.phase.hops, both_ways=False)
        if has_lazy(self._module):
            self.run(base)
        draw(self._module)
        self._kept, self._unused = KeptBuffers(self._module), copy.deepcopy(self._module)
        finite = True
        for training in (True, False) if trial.training else (False,):
            self.set_mode(training)
            finite &= bool(self.run(base).isfinite().all())
        return finite

    def set_mode(self, training: bool) -> None:
        """Training or evaluation mode."""
        set_mode(self._module, training)
        set_mode(self._unused, training)

    def run(self, probe: Probe, seed: int = 0, unused: bool = False) -> Tensor:
        """Its output for a graph, `[num_nodes, values]`; `unused`: of a copy that ran on none.

        In training every row draws the same. In evaluation nothing that is drawn may matter, or be
        drawn for rows in their order from a seed of the layer's own.
        """
        self._kept.restore()
        phase = self._phase
        if self._fresh or unused:
            phase = replace(phase, module=copy.deepcopy(self._unused))
            pad_pieces_of(phase.module, self.padded)
        seed_all(seed)
        x, *beside = probe.rows
        try:
            with InFull(self.dtype):
                if self._module.training or self._whole:
                    with SameDraws() as draws:
                        out = phase.run(x, probe.edge_index, probe.carried, beside)
                    self.chose = draws.chosen
                else:
                    out = phase.run(x, probe.edge_index, probe.carried, beside)
        except Exception as error:
            raise LayerFailed(
                f"a graph of {probe.num_nodes} nodes and {probe.edge_index.size(1)} edges "
                f"({type(error).__name__}: {error})"
            ) from error
        return out.double().reshape(probe.num_nodes, -1)

    def draws(self) -> float:
        """By how much its output changes with the seed of random numbers."""
        base = circle(self.values, 9, symmetric=True, rough=False)
        first, second = (self.run(base, seed) for seed in (0, 1))
        change = _change(first, second, second)
        return change if change > _TOLERANCE[self.dtype] else 0.0

    def keeps(self) -> float:
        """By how much its output depends on the graphs that it ran on before."""
        graph = circle(self.values, 14, symmetric=True, rough=True)
        found, wanted = self.run(graph), self.run(graph, unused=True)
        change = _change(found, wanted, wanted)
        return change if change > _TOLERANCE[self.dtype] else 0.0

    def difference(self, comparisons: Iterable[Comparison]) -> tuple[Reason, float] | None:
        """The first comparison whose rows are not equal, and by how much."""
        outputs: dict[int, tuple[Probe, Tensor]] = {}
        for reason, changed, rows, original, wanted in comparisons:
            if id(original) not in outputs:
                outputs[id(original)] = (original, self.run(original))
            reference = outputs[id(original)][1]
            change = _change(self.run(changed)[rows], reference[wanted], reference)
            if not change <= _TOLERANCE[self.dtype]:
                return reason, change
        return None


def _padded_if_need_be(judged: Judge, fresh: bool) -> Verdict:
    try:
        return judged(False, fresh)
    except LayerFailed as failure:
        try:
            return judged(True, fresh)
        except LayerFailed:
            raise failure from failure.__cause__


def _change(found: Tensor, wanted: Tensor, reference: Tensor) -> float:
    """The greatest difference, relative to the greatest value of the channel."""
    if found.shape != wanted.shape or not torch.equal(found.isfinite(), wanted.isfinite()):
        return float("inf")
    found, wanted, reference = (x.nan_to_num(0.0, 0.0, 0.0) for x in (found, wanted, reference))
    scale = reference.abs().amax(0)
    scale = scale.clamp(min=1e-3 * float(scale.max()))
    return float(((found - wanted).abs() / scale.clamp(min=1e-300)).max())
