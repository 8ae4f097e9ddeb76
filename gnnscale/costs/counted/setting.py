"""How a model is run, as far as it enters what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Setting:
    """How a model is run.

    Attributes:
        dtype: of the rows between phases.
        training: whether dropout is on and gradients are made.
        computed: which propagations are computed before training: none, the model's first, or each
            before its layer is trained by itself.
        graphs: whether batches are of whole graphs, over each of which norms run by themselves.
        weighted: whether edges have weights.
        carried: values of edges and nodes by name, not empty where there are some.
    """

    dtype: torch.dtype = torch.float32
    training: bool = True
    computed: Literal["none", "first", "each"] = "none"
    graphs: bool = False
    weighted: bool = False
    carried: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def element(self) -> int:
        """Bytes of a number."""
        return self.dtype.itemsize
