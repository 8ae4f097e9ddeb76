"""SharedGradients: the gradients of an update, summed over ranks in one all-reduce."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from gnnscale import comm


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
        group: Any = None,
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

    def state_dict(self) -> dict[str, Any]:
        """How often the compression has drawn."""
        return {"step": 0 if self._ternary is None else self._ternary.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        if self._ternary is not None:
            self._ternary.step = state["step"]
