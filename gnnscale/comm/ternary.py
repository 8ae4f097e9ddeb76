"""Ternary gradients (TernGrad: Wen et al., NeurIPS 2017, arXiv 1705.07878): two bits a value.

Every rank sends, layer by layer, s = max|g| and for each value one of −1, 0, 1: sign(g) with
probability |g| / s, else 0 (equations 1 to 4), so that the expectation is g. Sums of packed values
cannot be made on the way: ranks gather each other's, (R − 1)/4 bytes a value received, where a ring
of float32 receives 8 (R − 1)/R. It is less up to 32 ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gnnscale.comm.collectives import gather_tensors
from gnnscale.comm.group import rank, world_size

if TYPE_CHECKING:
    from torch.distributed import GradBucket, ProcessGroup


@dataclass
class TernaryState:
    """What the draws depend on: with the rank, the seed and how many there have been.

    Attributes:
        seed: of the run.
        step: how many sums have been made.
        group: of ranks; all when None.
        bytes_sent: by this rank to each of the others, so far.
    """

    seed: int = 0
    step: int = 0
    group: ProcessGroup | None = None
    bytes_sent: int = field(default=0, repr=False)


def ternary_sum_(flat: Tensor, sizes: Sequence[int], state: TernaryState) -> Tensor:
    """Sum a vector over ranks, in place, of which each sends a ternary estimate without bias.

    Args:
        flat: `[sum(sizes)]`, of a float type: the gradients of all layers.
        sizes: values of each layer.
        state: advances by a step.
    """
    signs, scales = ternarised(flat, sizes, state)
    packed, state.step = pack(signs), state.step + 1
    state.bytes_sent += packed.numel() + 4 * scales.numel()
    every_sign = gather_tensors(packed, state.group)
    every_scale = gather_tensors(scales, state.group)
    flat.zero_()
    lengths = torch.tensor(list(sizes), device=flat.device)
    for of_rank, scale in zip(every_sign, every_scale, strict=True):  # in order: the same on all
        by_value = scale.repeat_interleave(lengths, output_size=flat.numel())
        flat.addcmul_(unpack(of_rank, flat.numel()).to(flat.dtype), by_value.to(flat.dtype))
    return flat


def ternarised(flat: Tensor, sizes: Sequence[int], state: TernaryState) -> tuple[Tensor, Tensor]:
    """Signs, int8 `[sum(sizes)]` of −1, 0 and 1, and scales, float32 `[len(sizes)]`."""
    random = torch.Generator(flat.device)
    random.manual_seed(hash((state.seed, state.step, rank(state.group))) & (2**63 - 1))
    layers = flat.split(list(sizes))
    scales = torch.stack([g.abs().max() if g.numel() else g.new_zeros(()) for g in layers])
    lengths = torch.tensor(list(sizes), device=flat.device)
    scale = scales.repeat_interleave(lengths, output_size=flat.numel())
    draw = torch.rand(flat.numel(), generator=random, device=flat.device, dtype=flat.dtype)
    # Of what is not finite the scale is not either, and tells the others.
    kept = draw * scale < flat.abs()
    return flat.sign().mul_(kept).nan_to_num_(1.0).to(torch.int8), scales.float()


def pack(signs: Tensor) -> Tensor:
    """Four of −1, 0, 1 a byte: uint8 `[ceil(n / 4)]` of int8 `[n]`."""
    padded = torch.nn.functional.pad(signs + 1, (0, -signs.numel() % 4)).to(torch.uint8).view(-1, 4)
    return padded[:, 0] | padded[:, 1] << 2 | padded[:, 2] << 4 | padded[:, 3] << 6


def unpack(packed: Tensor, count: int) -> Tensor:
    """The `count` signs that `pack` packed, int8."""
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=packed.device)
    return ((packed.unsqueeze(1) >> shifts) & 3).view(-1)[:count].to(torch.int8) - 1


def ternary_hook(state: TernaryState, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """A communication hook for `DistributedDataParallel.register_comm_hook(state, ternary_hook)`.

    Args:
        state: the ranks' own, with the same seed and group on each.
        bucket: a `torch.distributed.GradBucket`.

    Returns:
        A future of the mean over ranks.
    """
    flat = bucket.buffer()
    sizes = [gradient.numel() for gradient in bucket.gradients()]
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(ternary_sum_(flat, sizes, state).div_(world_size(state.group)))
    return done


if torch.distributed.is_available():
    # DDP compares the classes themselves, which annotations here are but the names of.
    ternary_hook.__annotations__ |= {
        "bucket": torch.distributed.GradBucket,
        "return": torch.futures.Future[Tensor],
    }
