"""Updates: from the losses of batches to new weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gnnscale.errors import RunMismatch
from gnnscale.train.optimizers import schedule_state


class Updates:
    """Accumulates the gradients of batches, then clips them and advances weights and schedule.

    The gradient of an update is that of the batches' summed losses over their summed normalisers,
    the same as that of one batch which holds them all.

    Args:
        model: the model.
        optimizer: its optimizer.
        scheduler: a learning-rate schedule, or None.
        interval: whether the schedule advances every "step" (update) or every "epoch".
        watched: the figure of an epoch's row that a `ReduceLROnPlateau` goes by.
        scaler: scales the loss of float16; does nothing where it is not enabled.
        clip_norm: greatest norm of an update's gradient, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: Any,
        interval: str,
        watched: str | None,
        scaler: torch.amp.GradScaler,  # type: ignore[name-defined]
        clip_norm: float | None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._interval = interval
        self._watched = watched
        self._scaler = scaler
        self._clip_norm = clip_norm
        self._parameters = list(model.parameters())  # a search through all modules, once
        self._first = self._total = 0.0  # normalisers of the first batch, and of all, since `apply`
        # Else torch warns of a schedule that moves before the optimizer: where a run was stopped
        # between the two, and where the first steps of float16 overflow and are left out.
        vars(optimizer)["_opt_called"] = True

    def add(self, loss: Tensor, normaliser: float) -> None:
        """Add the gradient of a batch.

        Args:
            loss: the sum of the batch's losses.
            normaliser: what it is divided by, above 0.
        """
        if not self._total:
            for parameter in self._parameters:
                parameter.grad = None
            self._first = normaliser
        self._total += normaliser
        # By the first batch's normaliser, put right in `apply` when that of all is known: a sum
        # that is not divided overflows in float16.
        self._scaler.scale(loss / self._first).backward()

    def apply(self) -> None:
        """Update the weights; does nothing where no batch has been added."""
        if not self._total:
            return
        self._scaler.unscale_(self.optimizer)
        if self._total != self._first:
            for gradient in self._gradients().values():
                gradient.mul_(self._first / self._total)
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self._first = self._total = 0.0
        if self.scheduler is not None and self._interval == "step":
            self.scheduler.step()

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Advance a schedule that goes by epochs; `row`: the figures of this one."""
        if self.scheduler is None or self._interval == "step":
            return
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        elif self._watched in row:
            self.scheduler.step(row[self._watched])

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, schedule, scale, and the gradients of an update that has only begun."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": schedule_state(self.scheduler),
            "scaler": self._scaler.state_dict(),
            "begun": [self._first, self._total],
            "gradients": self._gradients() if self._total else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            RunMismatch: it is of another optimizer.
        """
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise RunMismatch(f"the run had another optimizer or other groups: {error}") from error
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        self._first, self._total = state["begun"]
        self.model.zero_grad(set_to_none=True)
        for name, parameter in self.model.named_parameters():
            if name in state["gradients"]:
                parameter.grad = state["gradients"][name].to(parameter.device)

    def _gradients(self) -> dict[str, Tensor]:
        named = self.model.named_parameters()
        return {name: p.grad for name, p in named if p.grad is not None}
