"""PyG's normalization layers with what they lack: a choice of rows, running or shared statistics.

Parameters, their names and formulas are PyG's, so that state dicts go both ways. Which statistics:

- `over="batch"` (the default): all rows that a forward pass is given are one graph; where it is
  given several whole graphs (`GraphTrainer`, or `batch=`), each of them. In exact inference: the
  whole graph. Training on clusters then estimates what inference uses, the better the larger a
  batch is.
- `over="cluster"`: each cluster by itself, in training and at inference, which therefore needs the
  clusters. Training and inference agree but for the edges between clusters.
- `over="graph"`: each graph of a data set of several (PPI), or what a batch has of it.
- `running=True` (GraphNorm; batch norm always): inference uses averages kept in training, needs no
  pass of its own, and a node's output does not depend on which other nodes are there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import norm as pyg
from typing_extensions import override

from gnnscale import comm
from gnnscale.choices import choices_checked
from gnnscale.errors import InputError
from gnnscale.nn.norms import statistics
from gnnscale.nn.norms.segments import (
    Over,
    check_over,
    pointers_of,
    segment_of_rows,
)
from gnnscale.nn.norms.statistics import Moments


class GraphNorm(pyg.GraphNorm):
    """Graph normalization (Cai et al., ICML 2021, section 3), exact in batches and in chunks.

    Per graph and channel, with the mean μ over the graph's rows h:

        y = γ (h − α μ) / sqrt(mean((h − α μ)²) + ε) + β

    α, γ, β are learnt (`mean_scale`, `weight`, `bias`, all `[in_channels]`); a learnt α keeps what
    the mean says of the graph. With α = 1 it is instance normalization.

    Args:
        in_channels: channels.
        eps: ε; PyG's 1e-5 by default, the authors' code has 1e-6.
        over: the rows that are a graph: "batch", "cluster" or "graph" (see the module).
        running: keep the running mean and second moment (that about the mean) of all rows, for
            evaluation: then a row-local map, as batch norm's.
        momentum: the share of a batch in the running statistics.
        device: of the parameters.

    Shapes: x `[rows, in_channels]` → `[rows, in_channels]`.

    Raises:
        InputError: `over` or `momentum` is not valid.

    Example:
        >>> import gnnscale as gs
        >>> model = gs.nn.LayeredGNN([gs.nn.Block(conv, norm=gs.nn.GraphNorm(64))])
    """

    @choices_checked
    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        over: Over = "batch",
        running: bool = False,
        *,
        momentum: float = 0.1,
        device: torch.device | str | None = None,
    ) -> None:
        if not 0 < momentum <= 1:
            raise InputError(f"momentum={momentum!r} must lie in (0, 1]")
        super().__init__(in_channels, eps, device=device)
        self.over = check_over(over)
        self.running = running
        self.momentum = momentum
        zero = torch.zeros(in_channels, device=device) if running else None
        one = torch.ones(in_channels, device=device) if running else None
        self.register_buffer("running_mean", zero)
        self.register_buffer("running_var", one)

    def reset_parameters(self) -> None:
        """Set α and γ to 1 and β to 0, and forget the running statistics."""
        super().reset_parameters()
        if getattr(self, "running_mean", None) is not None:  # PyG resets before there are any
            self.running_mean.zero_()
            self.running_var.fill_(1)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        *,
        ptr: Tensor | None = None,
    ) -> Tensor:
        """Normalise rows.

        Args:
            x: `[rows, in_channels]`.
            batch: PyG's vector of the graph of every row, in any order; one graph when None.
            batch_size: number of graphs in `batch`.
            ptr: int64 `[num_graphs + 1]`, instead of `batch`, where each graph's rows begin.
        """
        if self.running and not self.training:
            return statistics.apply_stats(self, x, self._kept())
        if batch is not None and bool((batch.diff() < 0).any()):
            order = torch.argsort(batch, stable=True)
            ordered = self.forward(x[order], batch[order], batch_size)
            return ordered[torch.argsort(order)]
        if batch is not None:
            ptr = pointers_of(batch, x.size(0), batch_size)
        if self.running:
            self._keep(Moments.of(x))
        return statistics.graph_norm(self, x, ptr)

    def _kept(self) -> Moments:
        one = self.running_mean.new_ones(1)
        mean, var = self.running_mean.double(), self.running_var.double()
        return Moments(one, mean.unsqueeze(0), var.unsqueeze(0))

    @torch.no_grad()
    def _keep(self, moments: Moments) -> None:
        if int(moments.rows) == 0:
            return
        self.blend(moments.mean[0], moments.variance[0])

    @torch.no_grad()
    def blend(self, mean: Tensor, variance: Tensor) -> None:
        """Take a batch's mean and variance `[in_channels]` into the running statistics.

        The second moment is kept about the running mean, where it does not cancel: what lies
        between the two means is added (West, 1979).
        """
        delta = mean.to(self.running_mean) - self.running_mean
        share = self.momentum
        self.running_mean += share * delta
        self.running_var.lerp_(variance.to(self.running_var), share)
        self.running_var += share * (1 - share) * delta.square()

    def extra_repr(self) -> str:
        """What torch shows of it."""
        return f"{self.in_channels}, over={self.over!r}, running={self.running}"

    __repr__ = nn.Module.__repr__


class BatchNorm(pyg.BatchNorm):
    """Batch normalization (Ioffe & Szegedy, ICML 2015), perhaps over all ranks.

    Per channel: y = γ (h − μ) / sqrt(σ² + ε) + β, with mean and variance over a batch's rows in
    training and running averages of them in evaluation.

    Args:
        in_channels: channels.
        eps: ε.
        momentum: the share of a batch in the running statistics.
        affine: learn γ and β.
        track_running_stats: keep running statistics; without, evaluation takes those of the graph.
        allow_single_element: pass a batch of one row through with running statistics.
        synchronised: take the statistics over the batches of all ranks of a data-parallel step, as
            if they were one batch (but for edges between them); gradients flow through them.
        device: of the parameters.

    Shapes: x `[rows, in_channels]` → `[rows, in_channels]`.
    """

    @choices_checked
    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        allow_single_element: bool = False,
        *,
        synchronised: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            in_channels, eps, momentum, affine, track_running_stats, allow_single_element, device
        )
        self.synchronised = synchronised

    def forward(self, x: Tensor) -> Tensor:
        """Normalise rows `[rows, in_channels]`; with `synchronised` all ranks call it together."""
        if self.synchronised and self.module.training and comm.world_size() > 1:
            return self._over_ranks(x)
        return super().forward(x)

    def _over_ranks(self, x: Tensor) -> Tensor:
        inner = self.module
        rows = x.new_tensor([x.size(0)], dtype=torch.float64)
        sums = comm.sum_over_ranks(torch.cat([x.sum(0, dtype=torch.float64), rows]))
        count = sums[-1].clamp(min=1)
        mean = sums[:-1] / count
        centred = x - mean.to(x.dtype)
        squares = comm.sum_over_ranks(centred.square().sum(0, dtype=torch.float64))
        variance = squares / count
        if inner.track_running_stats:
            self._keep(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = (variance + inner.eps).rsqrt()
        return statistics.affine(centred, torch.zeros_like(mean)[None], scale[None], inner)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        inner = self.module
        inner.num_batches_tracked.add_(1)
        share = inner.momentum
        if share is None:
            share = 1 / int(inner.num_batches_tracked)
        inner.running_mean.lerp_(mean.to(inner.running_mean), share)
        inner.running_var.lerp_(variance.to(inner.running_var), share)


class _Segmented(nn.Module):
    """A norm of PyG's that takes a batch vector, given pointers instead."""

    @override
    def forward(
        self,
        x: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        *,
        ptr: Tensor | None = None,
    ) -> Tensor:
        """Normalise rows `[rows, in_channels]`; `batch` and `ptr` as `GraphNorm` takes them."""
        if ptr is not None:
            batch, batch_size = segment_of_rows(ptr, x.size(0)), ptr.numel() - 1
        return super().forward(x, batch, batch_size)


class InstanceNorm(_Segmented, pyg.InstanceNorm):
    """Instance normalization (Ulyanov et al., 2017): GraphNorm with α = 1.

    Per graph and channel: y = γ (h − μ) / sqrt(σ² + ε) + β.

    Args:
        in_channels: channels.
        eps: ε.
        momentum: the share of a batch in the running statistics.
        affine: learn γ and β.
        track_running_stats: keep running statistics for evaluation.
        over: the rows that are a graph: "batch", "cluster" or "graph" (see the module).
        device: of the parameters.
    """

    @choices_checked
    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        over: Over = "batch",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(in_channels, eps, momentum, affine, track_running_stats, device=device)
        self.over = check_over(over)

    @override
    def forward(
        self,
        x: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        *,
        ptr: Tensor | None = None,
    ) -> Tensor:
        """Normalise rows `[rows, in_channels]`; `batch` and `ptr` as `GraphNorm` takes them."""
        if self.running_mean is not None or batch is not None:
            return super().forward(x, batch, batch_size, ptr=ptr)
        return statistics.instance_norm(self, x, ptr)


class LayerNorm(_Segmented, pyg.LayerNorm):
    """Layer normalization (Ba et al., 2016) of each row ("node") or of a graph's values ("graph").

    y = γ (h − μ) / sqrt(σ² + ε) + β with mean and variance over the row's channels, or over all
    values of a graph; there PyG divides by σ + ε where one graph is given without a batch vector,
    and so does this.

    Args:
        in_channels: channels.
        eps: ε.
        affine: learn γ and β.
        mode: "graph" or "node".
        over: for "graph", the rows that are one: "batch", "cluster" or "graph" (see the module).
        device: of the parameters.
    """

    @choices_checked
    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        mode: str = "graph",
        *,
        over: Over = "batch",
        device: torch.device | str | None = None,
    ) -> None:
        if mode not in ("graph", "node"):
            raise InputError(f"mode={mode!r}: layer normalization is by 'graph' or by 'node'")
        super().__init__(in_channels, eps, affine, mode, device=device)
        self.over = check_over(over)


class PairNorm(_Segmented, pyg.PairNorm):
    """PairNorm (Zhao & Akoglu, ICLR 2020): centred rows, scaled to a common total distance.

    y = s (h − μ) / sqrt(ε + mean ‖h − μ‖²), or s (h − μ) / (ε + ‖h − μ‖) row by row.

    Args:
        scale: s.
        scale_individually: divide each row by its own length.
        eps: ε.
        over: the rows that are a graph: "batch", "cluster" or "graph" (see the module).
    """

    @choices_checked
    def __init__(
        self,
        scale: float = 1.0,
        scale_individually: bool = False,
        eps: float = 1e-5,
        *,
        over: Over = "batch",
    ) -> None:
        super().__init__(scale, scale_individually, eps)
        self.over = check_over(over)


class MeanSubtractionNorm(_Segmented, pyg.MeanSubtractionNorm):
    """y = h − μ, the mean over a graph's rows (Yang et al., 2020).

    Args:
        over: the rows that are a graph: "batch", "cluster" or "graph" (see the module).
    """

    def __init__(self, *, over: Over = "batch") -> None:
        super().__init__()
        self.over = check_over(over)


class GraphSizeNorm(_Segmented, pyg.GraphSizeNorm):
    """y = h / sqrt(n) in a graph of n rows (Dwivedi et al., 2020).

    Args:
        over: the rows that are a graph: "batch", "cluster" or "graph" (see the module).
    """

    def __init__(self, *, over: Over = "batch") -> None:
        super().__init__()
        self.over = check_over(over)


for _cls in (
    BatchNorm,
    GraphNorm,
    GraphSizeNorm,
    InstanceNorm,
    LayerNorm,
    MeanSubtractionNorm,
    PairNorm,
):
    statistics.register_norm(_cls, _cls.__mro__[2 if issubclass(_cls, _Segmented) else 1])
