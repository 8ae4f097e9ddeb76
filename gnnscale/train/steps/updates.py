"""Updates: from the losses of batches to new weights."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gnnscale import comm
from gnnscale.errors import InputError, RunMismatch
from gnnscale.train.options import TrainerOptions
from gnnscale.train.run.records import Row, State
from gnnscale.train.steps.across_ranks import SharedGradients
from gnnscale.train.steps.optimizers import schedule_state


class Updates:
    """Accumulates the gradients of batches, then clips them and advances weights and schedule.

    The gradient of an update is that of the batches' summed losses over their summed normalisers,
    the same as that of one batch which holds them all. Of several ranks, the batches of all count,
    and every rank makes the same update: one that has no batch as well.

    Args:
        model: all that is trained.
        optimizer: its optimizer.
        scheduler: a learning-rate schedule, or None.
        interval: whether the schedule advances every "step" (update) or every "epoch".
        watched: the figure of an epoch's row that a `ReduceLROnPlateau` goes by.
        scaler: scales the loss of float16; does nothing where it is not enabled.
        options: the trainer's.
        shared: sums gradients over ranks; None where this process trains alone.
        other_stages: the ranks among which the model's gradients lie, each with those of its own
            stages; None where they are all here.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        interval: str,
        watched: str | None,
        scaler: GradScaler,
        options: TrainerOptions,
        shared: SharedGradients | None = None,
        other_stages: dist.ProcessGroup | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._interval = interval
        self._watched = watched
        self._scaler = scaler
        self._options = options
        self._shared = shared
        self._other_stages = other_stages
        self._parameters = list(model.parameters())  # a search through all modules, once
        self.fresh = True  # until the first batch
        self._first = self._total = 0.0  # normalisers of the first batch, and of all, since `apply`
        # Else torch warns of a schedule that moves before the optimizer: where a run was stopped
        # between the two, and where the first steps of float16 overflow and are left out.
        vars(optimizer)["_opt_called"] = True

    def add(self, loss: Tensor | None, normaliser: float) -> None:
        """Add the gradient of a batch, or of several ranks' batches of a step.

        Args:
            loss: the sum of the losses of this rank's batch; None where it has none.
            normaliser: what the losses of all are divided by, above 0.
        """
        self.count(normaliser)
        if loss is not None:
            self.root(loss).backward()

    def count(self, normaliser: float) -> None:
        """Count a batch whose gradient is added by other means: from `root` of its loss."""
        self.fresh = False
        if not self._total:
            for parameter in self._parameters:
                parameter.grad = None
            self._first = normaliser
        self._total += normaliser

    def root(self, loss: Tensor) -> Tensor:
        """What the backward pass of a batch starts from, once it has been counted.

        The loss by the first batch's normaliser, put right in `apply` when that of all is known: a
        sum that is not divided overflows in float16.
        """
        return self._scaler.scale(loss / self._first)

    def apply(self) -> None:
        """Update the weights; does nothing where no batch has been added."""
        if not self._total:
            return
        if self._total != self._first:
            for gradient in self._gradients().values():
                gradient.mul_(self._first / self._total)
        if self._shared is not None:
            # Before they are unscaled: what overflowed on one rank is then seen on all.
            self._shared.sum_()
        self._scaler.unscale_(self.optimizer)
        if self._options.clip_value is not None:
            nn.utils.clip_grad_value_(self._parameters, self._options.clip_value)
        if self._options.clip_norm is not None:
            self._clip(self._options.clip_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self._first = self._total = 0.0
        if self.scheduler is not None and self._interval == "step":
            self.scheduler.step()

    def _clip(self, greatest: float) -> None:
        # A stage without gradients has a norm too, and where the others' are.
        device = self._parameters[0].device
        norm = nn.utils.get_total_norm(self._gradients().values()).to(device)
        if self._other_stages is not None:
            norm = comm.all_reduce_(norm.square(), group=self._other_stages).sqrt()
        nn.utils.clip_grads_with_norm_(self._parameters, greatest, norm)

    def end_epoch(self, row: Row) -> None:
        """Advance a schedule that goes by epochs; `row`: the figures of this one."""
        if self.scheduler is None or self._interval == "step":
            return
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        elif self._watched in row:
            self.scheduler.step(row[self._watched])

    def state_dict(self) -> State:
        """Optimizer, schedule, scale, and the gradients of an update that has only begun."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": schedule_state(self.scheduler),
            "scaler": self._scaler.state_dict(),
            "sums": None if self._shared is None else self._shared.state_dict(),
            **self.begun(),
        }

    def begun(self) -> State:
        """Of the state, what is this rank's own: an update that has only begun."""
        return {
            "begun": [self._first, self._total],
            "gradients": self._gradients() if self._total else {},
        }

    def load_state_dict(self, state: State) -> None:
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
        if self._shared is not None:
            self._shared.load_state_dict(state["sums"])
        self._first, self._total = state["begun"]
        self.model.zero_grad(set_to_none=True)
        gradients = dict(state["gradients"])
        for name, parameter in self.model.named_parameters():
            if name in gradients:
                parameter.grad = gradients.pop(name).to(parameter.device)
        if gradients:
            raise RunMismatch(f"the run had other parameters: {', '.join(sorted(gradients))}")

    def _gradients(self) -> dict[str, Tensor]:
        named = self.model.named_parameters()
        return {name: p.grad for name, p in named if p.grad is not None}


def gentler(options: TrainerOptions) -> str:
    """What to do where losses or weights are not finite, in words."""
    return f"a smaller lr (it is {options.lr}) or clip_norm=1.0"


_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class MixedPrecision:
    """What runs in which precision (Micikevicius et al., ICLR 2018).

    Dense products run in the half type, where `torch.autocast` has them do so. Parameters, their
    gradients, the optimizer, norms and the loss stay in float32. Propagation and dropout keep the
    type of their rows and calculate in float32: rows are widened for the sum and rounded
    once. Sparse features times a weight stay in float32. Opaque
    convolutions run as they do under autocast.

    Args:
        name: "float32" (each parameter's own type: no autocast), "bf16" or "fp16". With "fp16" the
            loss is scaled, so that small gradients do not vanish.
        device: where training runs.

    Raises:
        InputError: the device has no arithmetic for it.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if faults := precision_faults(name, device):
            raise InputError(faults)
        self._dtype = _DTYPES[name]
        self._device = device.type
        self._mixed = name != "float32"
        self.scaler = GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return torch.autocast(self._device, self._dtype, enabled=self._mixed)


def precision_faults(name: str, device: torch.device) -> list[str]:
    """Why a device cannot train in that precision, in words."""
    fault = None
    if name in ("bf16", "fp16") and not is_autocast_available(device.type):
        fault = f"torch has no autocast on {device.type}; use 'float32'"
    elif name == "fp16" and device.type == "cpu":
        fault = "processors calculate float16 in software, slower than float32; use 'bf16'"
    elif name == "bf16" and device.type == "cuda" and not _has_bfloat16():
        fault = "this GPU has no bfloat16 arithmetic; use 'fp16'"
    return [] if fault is None else [f"precision={name!r} on {device}: {fault}"]


def _has_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)
