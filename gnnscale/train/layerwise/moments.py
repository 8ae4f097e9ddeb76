"""Statistics over a whole graph, of a linear map in training, from those of the rows it reads.

A norm over all rows (GraphNorm; PyG's LayerNorm with mode="graph") behind z ↦ W z + b needs no pass
over the graph in a step: with m and C, mean and covariance of all rows z, the map's outputs have
mean W m + b and variances diag(W C Wᵀ), both differentiable in W. The rows are fixed while a
section is trained, so m and C are gathered once, while they are aggregated. Training then
normalises by the statistics that the test normalises by; those of a batch are estimates of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import norm as pyg

from gnnscale.nn import Context
from gnnscale.nn.blocks.phases import Phase, Propagate, Rows, Save, Statistics
from gnnscale.nn.convs.propagation import is_plain_linear
from gnnscale.nn.convs.pyg_convs import SelfWeight
from gnnscale.nn.norms import statistics
from gnnscale.train.layerwise.sections import Combine, Section


class Deviations:
    """Mean and co-deviations of rows that come in chunks.

    Every chunk is taken about its own mean, so that nothing cancels where means are large, and
    chunks are merged in their order (Chan et al., 1983). Floor: rows · width² multiply-adds.

    Attributes:
        rows: how many.
        mean: float64 `[width]`.
        squares: float64 `[width, width]`: the sum of (z − mean)(z − mean)ᵀ.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, z: Tensor) -> None:
        """Take in a chunk `[num_rows, width]`."""
        count = z.size(0)
        if not count:
            return
        mean = z.mean(0, dtype=torch.float64)
        centre = mean.to(z.dtype)
        apart = z - centre
        rounded = mean - centre.double()
        squares = (apart.T @ apart).double() - count * torch.outer(rounded, rounded)
        total = self.rows + count
        delta = mean - self.mean.to(mean.device)
        self.mean = mean - delta * (self.rows / total)
        between = torch.outer(delta, delta) * (self.rows * count / total)
        self.squares = squares + between + self.squares.to(mean.device)
        self.rows = total

    def axes(self) -> Tensor:
        """Float64 `[rank, width]`, whose own sum of outer products is `squares`."""
        # Columns in units of their own, or those of small values would drown in rounding.
        size = self.squares.diagonal().clamp(min=0).sqrt()
        unit = torch.where(size > 0, size, 1.0)
        values, vectors = torch.linalg.eigh(self.squares / torch.outer(unit, unit))
        kept = values > torch.finfo(values.dtype).eps * values.numel() ** 2
        return (vectors[:, kept] * values[kept].sqrt() * unit.unsqueeze(1)).T


@dataclass(frozen=True, eq=False)
class WholeNorm:
    """A norm over all rows, behind a linear map of rows whose mean and axes are known.

    The map is called on the origin, the mean and the principal axes of the rows, in place of its
    weights being looked for: whatever convolution it belongs to, f(axis) − f(origin) is what it
    makes of an axis, and their squares sum up to the outputs' squared deviations.

    Attributes:
        phase: the norm.
        linear: the phases before it.
        rows: how many rows there are.
        points: origin, mean and axes `[2 + rank, width]`, by the slot that holds their columns.
        first: the slot that the phases begin with.
    """

    phase: Statistics
    linear: Sequence[Phase | Combine]
    rows: int
    points: dict[str, Tensor]
    first: str

    def moments(self) -> statistics.Moments:
        """Those of the map's outputs over all rows, differentiable in its parameters."""
        x: Any = self.points[self.first]
        context = Context(None, False, slots={**self.points})  # type: ignore[arg-type]
        # Half precision has too few digits for a difference of squares of √rows deviations.
        with torch.autocast(x.device.type, enabled=False):
            for phase in self.linear:
                x = phase(x, context)
        origin, mean, axes = x.double().tensor_split((1, 2))
        rows = torch.tensor([self.rows], device=mean.device)
        squares = (axes - origin).square().sum(0, keepdim=True)
        moments = statistics.Moments(rows, mean, squares)
        layer_norm = isinstance(self.phase.norm, pyg.LayerNorm)
        return moments.over_channels() if layer_norm else moments

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise some rows of the map's outputs."""
        return statistics.apply_stats(self.phase.norm, statistics.widened(x), self.moments())


class WholeNormGathering:
    """Gathers what the first norm of a section needs, while the section's rows are aggregated.

    Args:
        section: a separable section.
        first: the slot of its aggregated rows.
        widest: the most columns that are worth it. A step runs the linear map on up to so many rows
            more: where that is the size of a batch, the map costs up to twice as much.
    """

    def __init__(self, section: Section, first: str, widest: int) -> None:
        self._found = _first_norm(section)
        self._first = first
        self._widest = widest
        self._spread = Deviations()
        self._widths: dict[str, int] = {}
        read = {slot for phase in self._linear for slot in getattr(phase, "slots", ())}
        self.slots = sorted(read)

    @property
    def wanted(self) -> bool:
        """Whether rows are still to be added."""
        return self._found is not None

    @property
    def _linear(self) -> list[Phase | Combine]:
        return [] if self._found is None else self._found[0]

    def add(self, parts: dict[str, Tensor]) -> None:
        """Take in a chunk of rows, by slot."""
        self._widths = {slot: rows.size(1) for slot, rows in parts.items()}
        self._dtype = parts[self._first].dtype
        if sum(self._widths.values()) > self._widest:
            self._found = None
            return
        rows = [part.to(torch.promote_types(part.dtype, torch.float32)) for part in parts.values()]
        self._spread.add(torch.cat(rows, dim=1) if len(rows) > 1 else rows[0])

    def norm(self) -> WholeNorm | None:
        """The norm; None where there is none that these statistics are those of."""
        # Values that are not finite are left to the loss to report.
        sound = self._spread.rows > 0 and bool(self._spread.squares.isfinite().all())
        if self._found is None or not sound:
            return None
        linear, phase = self._found
        mean = self._spread.mean.unsqueeze(0)
        points = torch.cat([torch.zeros_like(mean), mean, self._spread.axes()]).to(self._dtype)
        columns = points.split([*self._widths.values()], dim=1)
        by_slot = {k: v.contiguous() for k, v in zip(self._widths, columns, strict=True)}
        return WholeNorm(phase, linear, self._spread.rows, by_slot, self._first)


def _first_norm(section: Section) -> tuple[list[Phase | Combine], Statistics] | None:
    """A norm over all rows directly behind a linear map of what a section reads, and that map."""
    linear: list[Phase | Combine] = []
    for phase in section.trained_phases:
        if isinstance(phase, Statistics):
            # Batch norm is left its own meaning: the statistics of batches in training.
            kinds = (pyg.GraphNorm, pyg.LayerNorm)
            kept = statistics.uses_running_statistics(phase.norm)
            known = isinstance(phase.norm, kinds) and statistics.mergeable(phase.norm) and not kept
            return (linear, phase) if known else None
        if not _is_linear(phase, section):
            return None
        linear.append(phase)
    return None


def _is_linear(phase: Phase | Combine, section: Section) -> bool:
    if isinstance(phase, Combine):
        assert isinstance(section.source, Propagate)
        root = section.source.propagation.root
        return root is None or isinstance(root, SelfWeight) or is_plain_linear(root)
    return isinstance(phase, Save) or (isinstance(phase, Rows) and is_plain_linear(phase.module))
