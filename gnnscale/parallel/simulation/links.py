"""Links: what a message between two ranks takes, beyond what they compute; measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from gnnscale import comm

_BYTES = (8, 1 << 18, 1 << 20)  # little, and some hundred rows to thousands of a usual width
_WARM_UP, _ROUNDS = 4, 15  # the first ones connect
_SIDE, _COMPUTING = 256, 2e-3  # rows of a matrix, seconds of its products


class Link(NamedTuple):
    """What a message takes between two ranks; `simulate` takes these under the same names.

    Attributes:
        latency: seconds from being handed over to being there.
        bandwidth: bytes a second, of what comes to that with the size.
        sending: seconds that a message holds its sender.
        copying: seconds a byte that it holds the sender besides: it is copied out of its memory.
        receiving: seconds that it holds its receiver, once it is there: it asks for the next one.
    """

    latency: float = 0.0
    bandwidth: float = float("inf")
    sending: float = 0.0
    copying: float = 0.0
    receiving: float = 0.0

    @property
    def throughput(self) -> float:
        """Bytes a second of a long message, from one end to the other."""
        seconds = self.copying + 1 / self.bandwidth
        return 1 / seconds if seconds else float("inf")


def measure_link(
    device: torch.device,
    group: distributed.ProcessGroup | None = None,
    compute: Callable[[torch.device], object] | None = None,
) -> Link:
    """What a message takes between neighbouring ranks: the slowest pair's, the same on all.

    All ranks of the group take part. Messages of some sizes are asked for, handed over and waited
    for as the engine does, and made anew each time, as values are. What holds sender and receiver
    is timed while both compute before and after: threads that move messages then share the cores
    with them. What a message takes on its way is timed to and fro, while both wait for it. Without
    a process group tensors are handed over within one process, for nothing.

    Args:
        device: where tensors lie that are sent.
        group: of the ranks of a pipeline; all when None.
        compute: a few milliseconds of what ranks do between messages; None: matrix products.
    """
    size, place = comm.world_size(group), comm.rank(group)
    if size == 1:
        return Link()
    slowest, other = torch.zeros(5, dtype=torch.float64), place ^ 1
    if other < size:
        peer = other if group is None else distributed.get_global_rank(group, other)
        way, handed, taken = [], [], []
        with comm.together():
            for count in _BYTES:
                made = torch.zeros(count, dtype=torch.uint8, device=device)
                way.append(_to_and_fro(made, peer, place < other))
                sends, takes = _both_ways(made, peer, place < other, compute or _products)
                handed.append(sends)
                taken.append(takes)
        found = [*_line(way), *_line(handed), statistics.median(taken)]
        slowest = torch.tensor(found, dtype=torch.float64)
    latency, moving, *held = comm.all_reduce_(slowest, "max", group).tolist()
    return Link(latency, 1 / moving if moving else float("inf"), *held)


def _to_and_fro(made: Tensor, peer: int, begins: bool) -> float:
    """Seconds of a message from being handed over to being there, for a receiver that waits."""
    rounds = []
    came = _Asked(made, peer)
    for left in reversed(range(_WARM_UP + _ROUNDS)):
        values = made + 1
        started = time.perf_counter()
        if not begins:
            came.wait()
            came = _Asked(made, peer) if left else came
        sent = distributed.isend(values, peer)
        handed = time.perf_counter() - started
        if begins:
            came.wait()
            there = time.perf_counter()
            came = _Asked(made, peer) if left else came
            asking = time.perf_counter() - there
            # There and back: the other asks for its next message before it answers.
            rounds.append(max(0.0, (there - started - asking) / 2 - handed))
        _wait(sent)
    return statistics.median(rounds[_WARM_UP:]) if begins else 0.0


def _both_ways(
    made: Tensor, peer: int, begins: bool, compute: Callable[[torch.device], object]
) -> tuple[float, float]:
    """Seconds that a message holds who sends it, and who takes it, where both compute."""
    handed, taken = [], []
    came = _Asked(made, peer)
    # NCCL moves one message after the other: what one end sends first the other takes first.
    first = begins or made.device.type == "cpu"
    for left in reversed(range(_WARM_UP + _ROUNDS)):
        sent: distributed.Work | None = None
        for sends in (first, not first):
            compute(made.device)
            values = made + 1
            started = time.perf_counter()
            if sends:
                sent = distributed.isend(values, peer)
                handed.append(time.perf_counter() - started)
                continue
            came.wait()
            if left:
                came = _Asked(made, peer)
                taken.append(time.perf_counter() - started)
        _wait(sent)
    return statistics.median(handed[_WARM_UP:]), statistics.median(taken[_WARM_UP:])


def _products(device: torch.device) -> None:
    """Some milliseconds of work for one core."""
    square = torch.ones(_SIDE, _SIDE, device=device)
    ends = time.perf_counter() + _COMPUTING
    while time.perf_counter() < ends:
        square = (square @ square).clamp_(max=1)


class _Asked:
    """A message that is asked for: ahead by Gloo, by NCCL when it is waited for.

    NCCL runs what it is given in order: were both ends to ask first, none would come to send.
    """

    def __init__(self, like: Tensor, peer: int) -> None:
        self._buffer, self._peer = torch.empty_like(like), peer
        ahead = like.device.type == "cpu"
        self._work = distributed.irecv(self._buffer, peer) if ahead else None

    def wait(self) -> None:
        _wait(self._work or distributed.irecv(self._buffer, self._peer))
        if self._buffer.is_cuda:
            torch.cuda.synchronize(self._buffer.device)


def _wait(work: distributed.Work | None) -> None:
    assert work is not None, "this rank is a member of the group"
    work.wait()


def _line(seconds: Sequence[float]) -> tuple[float, float]:
    """Seconds of a message, and of each byte, from those of messages of `_BYTES`."""
    few, *more = seconds
    slopes = [(other - few) / count for other, count in zip(more, _BYTES[1:], strict=True)]
    return few, max(0.0, statistics.median(slopes))
