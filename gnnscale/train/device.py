"""Where to train."""

from __future__ import annotations

import torch

from gnnscale.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA where there is one.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"device={name!r} is no device: 'auto', 'cpu', 'cuda', 'cuda:1' …"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device={name!r}: there are {torch.cuda.device_count()} CUDA devices; use 'auto'"
        )
    if device.type == "cuda" and device.index is None:
        # By number, as its tensors are: "cuda" and "cuda:0" compare unequal.
        return torch.device("cuda", torch.cuda.current_device())
    return device
