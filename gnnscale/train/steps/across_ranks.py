"""Running statistics of norms where a step's batches are dealt to ranks.

A norm keeps r ← (1 − m) r + m s of what batch after batch shows (s: BatchNorm's means and
variances, those of a GraphNorm that runs). Every rank sees its own batch alone. So that evaluation
does not depend on who asks, and that k ranks learn what one process does from the same k batches,
ranks exchange the s of a step and all apply them, in rank order.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gnnscale import comm
from gnnscale.errors import InputError
from gnnscale.train.run.records import State


class RunningStatistics:
    """Keeps the running statistics of a model the same on all ranks.

    A norm takes part if it has a `momentum` and buffers whose names begin with "running_". Its
    `blend(*values)` takes a batch's values into them; without one they are averaged as torch's
    norms do (with a momentum of None, all `num_batches_tracked` alike). One that is `synchronised`
    sees the batches of all ranks by itself.

    Args:
        model: the model.
        group: the ranks that share the batches; all when None.

    Attributes:
        synchronised: whether there are norms that all ranks have to run together.
    """

    def __init__(self, model: nn.Module, group: dist.ProcessGroup | None = None) -> None:
        self._group, self.synchronised = group, False
        self._norms: list[Any] = []
        if comm.world_size(group) == 1:
            return
        together = [module for module in model.modules() if _is_synchronised(module)]
        inside = {id(part) for module in together for part in module.modules()}
        self.synchronised = bool(together)
        others = (module for module in model.modules() if id(module) not in inside)
        self._norms += filter(_keeps_running, others)

    def check(self, batches: int) -> None:
        """Refuse steps in which a rank has no batch, where norms run over the batches of all.

        Args:
            batches: of an epoch, over all ranks.

        Raises:
            InputError: naming the remedy.
        """
        if self.synchronised and batches % (ranks := comm.world_size(self._group)):
            raise InputError(
                f"synchronised norms run over the batches of all ranks, and an epoch has {batches} "
                f"for {ranks} of them: choose clusters_per_batch so that every rank has one in "
                "every step"
            )

    @contextlib.contextmanager
    def exchanged(self, takes_part: Sequence[bool]) -> Iterator[None]:
        """Run a step's forward and backward pass, then apply every rank's statistics in order.

        Args:
            takes_part: by rank, whether it runs a batch in this step.
        """
        if not self._norms:
            yield
            return
        with self.alone():
            yield
            seen = self.seen()
        self.apply(comm.gather_tensors(seen, self._group), takes_part)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts, a norm keeps what its last batch shows (`seen`), and nothing else."""
        buffers = self._buffers()
        before = [buffer.clone() for buffer in buffers]
        counts = [_count(norm).clone() for norm in self._norms]
        momenta = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.momentum = 1.0  # the buffers are then what this batch shows, and nothing else
        for buffer in buffers:
            buffer.zero_()
        try:
            yield
        finally:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            for norm, count, momentum in zip(self._norms, counts, momenta, strict=True):
                _count(norm).copy_(count)
                norm.momentum = momentum

    def seen(self) -> Tensor:
        """What the last batch showed, `[numbers of all norms]`; empty where there are none."""
        buffers = [buffer.reshape(-1) for buffer in self._buffers()]
        return torch.cat(buffers) if buffers else torch.empty(0)

    @torch.no_grad()
    def apply(self, every: Tensor, takes_part: Sequence[bool]) -> None:
        """Take in what batches showed.

        Args:
            every: `[batches, numbers of all norms]`, in order.
            takes_part: which of them have been there.
        """
        for seen in every[torch.tensor(takes_part)]:
            at = 0
            for norm in self._norms:
                _count(norm).add_(1)
                values = []
                for buffer in _running(norm):
                    values.append(seen[at : at + buffer.numel()].view_as(buffer))
                    at += buffer.numel()
                _blend(norm, values)

    def _buffers(self) -> list[Tensor]:
        return [buffer for norm in self._norms for buffer in _running(norm)]


def _blend(norm: Any, values: list[Tensor]) -> None:
    if hasattr(norm, "blend"):
        norm.blend(*values)
        return
    share = norm.momentum
    if share is None:
        share = 1 / int(_count(norm))
    for buffer, value in zip(_running(norm), values, strict=True):
        buffer.mul_(1 - share).add_(value, alpha=share)


def _running(norm: nn.Module) -> list[Tensor]:
    named = norm._buffers.items()
    return [b for name, b in named if name.startswith("running_") and b is not None]


def _count(norm: nn.Module) -> Tensor:
    count = getattr(norm, "num_batches_tracked", None)
    return torch.zeros((), dtype=torch.int64) if count is None else count


def _is_synchronised(module: nn.Module) -> bool:
    return isinstance(module, nn.SyncBatchNorm) or getattr(module, "synchronised", False)


def _keeps_running(module: nn.Module) -> bool:
    return hasattr(module, "momentum") and bool(_running(module))


class SharedGradients:
    """Sums gradients over ranks through one flat buffer, which they are then views of.

    Args:
        parameters: of the model, in the same order on every rank.
        group: the ranks that share the batches; all when None.
        compression: None, or "ternary" (see `comm.ternary_sum_`).
        seed: of the compression's draws.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        group: dist.ProcessGroup | None = None,
        compression: str | None = None,
        seed: int = 0,
    ) -> None:
        self._parameters = [p for p in parameters if p.requires_grad]
        self._group = group
        self._sizes = [p.numel() for p in self._parameters]
        dtypes = [p.dtype for p in self._parameters]
        self._count = sum(self._sizes)
        self._flat = torch.zeros(
            self._count + len(self._sizes),  # behind the gradients, whether there is one
            dtype=functools.reduce(torch.promote_types, dtypes, torch.float32),
            device=self._parameters[0].device if self._parameters else None,
        )
        self._ternary = comm.TernaryState(seed, group=group) if compression else None

    def sum_(self) -> None:
        """Make the gradients those of all ranks' losses together.

        A parameter without a gradient on any rank keeps none: optimizers leave it alone.

        Raises:
            RankFailure: another rank has failed.
        """
        values, there = self._flat.split([self._count, len(self._sizes)])
        views = values.split(self._sizes)
        mine = [parameter.grad is not None for parameter in self._parameters]
        for parameter, view in zip(self._parameters, views, strict=True):
            if parameter.grad is None:
                view.zero_()
            else:
                view.copy_(parameter.grad.reshape(-1))
        there.copy_(torch.tensor(mine, dtype=self._flat.dtype), non_blocking=True)
        if self._ternary is None:
            comm.all_reduce_(self._flat, group=self._group)
        else:
            comm.all_reduce_(there, group=self._group)
            comm.ternary_sum_(values, self._sizes, self._ternary)
        # Read only where it tells more than is known: a GPU would be waited for.
        anywhere = mine if all(mine) else there.tolist()
        for parameter, view, known in zip(self._parameters, views, anywhere, strict=True):
            shaped = view.view(parameter.shape).to(parameter.dtype)
            parameter.grad = shaped if known else None

    def state_dict(self) -> State:
        """How often the compression has drawn."""
        return {"step": 0 if self._ternary is None else self._ternary.step}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        if self._ternary is not None:
            self._ternary.step = state["step"]
