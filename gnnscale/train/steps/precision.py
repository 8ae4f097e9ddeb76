"""Mixed precision: products in half precision, everything that adds up in float32."""

from __future__ import annotations

from typing import Any

import torch

from gnnscale.errors import InputError

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
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")  # type: ignore

    def autocast(self) -> Any:
        """The context of a forward pass."""
        return torch.autocast(self._device, self._dtype, enabled=self._mixed)


def precision_faults(name: str, device: torch.device) -> list[str]:
    """Why a device cannot train in that precision, in words."""
    fault = None
    if name in ("bf16", "fp16") and not torch.amp.is_autocast_available(device.type):  # type: ignore
        fault = f"torch has no autocast on {device.type}; use 'float32'"
    elif name == "fp16" and device.type == "cpu":
        fault = "processors calculate float16 in software, slower than float32; use 'bf16'"
    elif name == "bf16" and device.type == "cuda" and not _has_bfloat16():
        fault = "this GPU has no bfloat16 arithmetic; use 'fp16'"
    return [] if fault is None else [f"precision={name!r} on {device}: {fault}"]


def _has_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)
