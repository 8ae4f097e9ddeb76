"""Ranks: who this process is among those that train together.

Stands on `torch.distributed` where a process group has been set up; rank 0 of 1 otherwise.
"""

from __future__ import annotations

import torch


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return torch.distributed.get_rank() if _distributed() else 0


def world_size() -> int:
    """How many processes train together; 1 without a process group."""
    return torch.distributed.get_world_size() if _distributed() else 1
