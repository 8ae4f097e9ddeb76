"""What an epoch adds up: loss, targets, nodes and seconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnscale import comm


class Meter:
    """The sums of an unfinished epoch. The loss stays on the device until somebody reads it.

    Attributes:
        weight: the sum of normalisers.
        seconds: the time it took so far.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self._loss = torch.zeros((), dtype=torch.float64, device=self._device)
        self.weight = 0.0
        self._nodes = 0
        self.seconds = 0.0

    def add(self, loss: Tensor, weight: float, nodes: int) -> None:
        """Count a batch: the sum of its losses, what that is divided by, and its nodes."""
        self._loss += loss.detach()  # added in float64
        self.weight += weight
        self._nodes += nodes

    def over_ranks(self, group: Any = None) -> None:
        """Take the sums of all ranks, at the end of an epoch; waits for the device."""
        if comm.world_size(group) == 1:
            return
        loss, self.weight, nodes = comm.sum_numbers(
            float(self._loss), self.weight, self._nodes, group=group
        )
        self._loss.fill_(loss)
        self._nodes = int(nodes)

    def mean_loss(self) -> float:
        """The mean loss so far; waits for the device."""
        return float(self._loss) / self.weight if self.weight else 0.0

    @property
    def nodes_per_second(self) -> float:
        return self._nodes / max(self.seconds, 1e-9)

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        return {
            "loss": self._loss,
            "weight": self.weight,
            "nodes": self._nodes,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the sums of an interrupted epoch."""
        self._loss = state["loss"].to(self._device)
        self.weight, self._nodes = state["weight"], state["nodes"]
        self.seconds = state["seconds"]
