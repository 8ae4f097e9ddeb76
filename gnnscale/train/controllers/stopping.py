"""Stop controllers: when a layer that is trained alone has been trained enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import override

from gnnscale.choices import whole_faults
from gnnscale.errors import InputError
from gnnscale.train.run.records import Description, State


@dataclass(frozen=True)
class LayerProgress:
    """How far the training of a layer is, after one of its epochs.

    Attributes:
        layer: the layer in training, from 0.
        layers: how many layers are trained.
        epoch: epochs that this layer has had, from 1.
        loss: mean training loss of the epoch.
        metric: the headline metric of the layer's classifier on the validation nodes, or None
            where this epoch was not evaluated.
        higher_is_better: whether a larger metric is a better one.
    """

    layer: int
    layers: int
    epoch: int
    loss: float
    metric: float | None = None
    higher_is_better: bool = True


@dataclass(frozen=True)
class Decision:
    """What a controller says after an epoch.

    Attributes:
        stop: whether the layer's training ends here.
        why: the reason, for the report; empty while training goes on.
        p_stop: the probability of stopping, from controllers that have one; None after epochs at
            which they were not asked.
    """

    stop: bool
    why: str = ""
    p_stop: float | None = None


class StopController(Protocol):
    """Decides after every epoch whether the layer in training stops.

    Trainers bound it: a layer never takes more than their `epochs`, whatever it says.

    Attributes:
        needs_validation: whether it reads `LayerProgress.metric`, so that every epoch of a layer
            has to be evaluated.
    """

    needs_validation: bool

    def begin(self, layer: int, layers: int) -> None:
        """Called before the first epoch of each layer, in order; layer 0 begins a run."""

    def decide(self, progress: LayerProgress) -> Decision:
        """Called once after every epoch."""

    def state_dict(self) -> State:
        """What moves during a run, as plain values and tensors: a resumed run is the same run."""

    def load_state_dict(self, state: State) -> None:
        """Go on from a `state_dict`."""

    def describe(self) -> Description:
        """What makes two controllers the same, as JSON values; learned weights by a checksum."""


class FixedEpochs:
    """Every layer takes the same number of epochs (L-GCN; You et al., CVPR 2020).

    Args:
        epochs: epochs a layer.

    Raises:
        InputError: it is no whole number of at least 1.
    """

    needs_validation = False

    def __init__(self, epochs: int = 80) -> None:
        if faults := whole_faults("epochs", epochs, 1):
            raise InputError(faults)
        self.epochs = int(epochs)

    @override
    def __repr__(self) -> str:
        return f"FixedEpochs({self.epochs})"

    def begin(self, layer: int, layers: int) -> None:
        """See `StopController`."""

    def decide(self, progress: LayerProgress) -> Decision:
        """See `StopController`."""
        stop = progress.epoch >= self.epochs
        return Decision(stop, "fixed epochs" if stop else "")

    def state_dict(self) -> State:
        """See `StopController`."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """See `StopController`."""

    def describe(self) -> Description:
        """See `StopController`."""
        return {"controller": "FixedEpochs", "epochs": self.epochs}


class Plateau:
    """A layer stops when what is monitored has not improved for some epochs.

    Args:
        patience: epochs without improvement after which a layer stops.
        min_delta: the least improvement on the best so far that counts, in units of what is
            monitored.
        monitor: "loss", the training loss of the layer, or "metric", the headline metric of its
            classifier on the validation nodes; epochs without an evaluation then decide nothing.

    Raises:
        InputError: an argument is out of range; every fault is listed.
    """

    def __init__(self, patience: int = 10, min_delta: float = 1e-3, monitor: str = "loss") -> None:
        faults = [
            *whole_faults("patience", patience, 1),
            *number_faults("min_delta", min_delta, 0.0),
        ]
        if monitor not in ("loss", "metric"):
            faults.append(f"monitor={monitor!r} must be 'loss' or 'metric'")
        if faults:
            raise InputError(faults)
        self.patience = int(patience)
        self.min_delta = float(min_delta)
        self.monitor = monitor
        self.needs_validation = monitor == "metric"
        self.begin(0, 1)

    @override
    def __repr__(self) -> str:
        return f"Plateau({self.patience}, min_delta={self.min_delta}, monitor={self.monitor!r})"

    def begin(self, layer: int, layers: int) -> None:
        """See `StopController`."""
        self._best: float | None = None
        self._best_epoch = 0

    def decide(self, progress: LayerProgress) -> Decision:
        """See `StopController`."""
        value = progress.loss if self.monitor == "loss" else progress.metric
        if value is None:
            return Decision(False)
        if self.monitor == "loss" or not progress.higher_is_better:
            value = -value
        better = self._best is None or value > self._best + self.min_delta
        if better and not math.isnan(value):
            self._best, self._best_epoch = value, progress.epoch
        stop = progress.epoch - self._best_epoch >= self.patience
        return Decision(stop, "plateau" if stop else "")

    def state_dict(self) -> State:
        """See `StopController`."""
        return {"best": self._best, "best_epoch": self._best_epoch}

    def load_state_dict(self, state: State) -> None:
        """See `StopController`."""
        self._best, self._best_epoch = state["best"], state["best_epoch"]

    def describe(self) -> Description:
        """See `StopController`."""
        return {
            "controller": "Plateau",
            "patience": self.patience,
            "min_delta": self.min_delta,
            "monitor": self.monitor,
        }


_PROTOCOL = ("needs_validation", "begin", "decide", "state_dict", "load_state_dict", "describe")


def controller_faults(name: str, value: object) -> list[str]:
    """Faults of an argument that is a stop controller."""
    if isinstance(value, type):
        return [f"{name}={value.__name__}: a class; give {value.__name__}()"]
    if missing := [attribute for attribute in _PROTOCOL if not hasattr(value, attribute)]:
        return [f"{name}={value!r} is no StopController: it has no {', '.join(missing)}"]
    return []


def number_faults(name: str, value: object, least: float, above: bool = False) -> list[str]:
    """Faults of an argument that is a finite number from `least` on, or above it."""
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (value > least or (value == least and not above))
    ):
        return []
    limit = f"above {least:g}" if above else f"from {least:g} on"
    return [f"{name}={value!r} must be a number {limit}"]
