"""The rows of the schedules: the actions of one device, in their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Literal, NamedTuple

from typing_extensions import override

Kind = Literal["forward", "backward", "input_grad", "weight_grad"]

_LETTERS = {"forward": "F", "backward": "B", "input_grad": "I", "weight_grad": "W"}


class Action(NamedTuple):
    """One computation of one stage on one micro-batch.

    Attributes:
        kind: "forward"; "backward" (gradients of inputs and weights), or its two halves
            "input_grad" and "weight_grad".
        stage: whose computation it is.
        micro_batch: the number of the micro-batch within the step.
    """

    kind: Kind
    stage: int
    micro_batch: int

    @override
    def __str__(self) -> str:
        """In the notation of `torch.distributed.pipelining`: stage, F, B, I or W, micro-batch."""
        return f"{self.stage}{_LETTERS[self.kind]}{self.micro_batch}"


class _RowInTheMaking:
    """Where every action takes the next micro-batch of its kind and stage."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self._next: defaultdict[tuple[Kind, int], Iterator[int]] = defaultdict(count)

    def add(self, stage: int, *kinds: Kind) -> None:
        for kind in kinds:
            self.actions.append(Action(kind, stage, next(self._next[kind, stage])))


def _gpipe(device: int, devices: int, micro_batches: int, chunks: int) -> Iterable[Action]:
    for kind in ("forward", "backward"):
        for micro_batch in range(micro_batches):
            yield Action(kind, device, micro_batch)


def _interleaved(device: int, devices: int, micro_batches: int, chunks: int) -> Iterable[Action]:
    """1F1B over chunks; with one chunk it is 1F1B itself."""
    together = micro_batches // max(1, micro_batches // devices)  # micro-batches of a round
    distance = devices - 1 - device
    # A gradient comes back after a trip to the last device. Where every step also sends forward
    # across the ring, forwards and backwards of neighbours stand two steps apart.
    ahead = (chunks - 1) * together + (2 * distance if chunks > 1 else distance)
    total = chunks * micro_batches
    ahead = min(ahead, total)
    row = _RowInTheMaking()
    for step in range(total + ahead):
        if step < total:
            row.add(step // together % chunks * devices + device, "forward")
        if step >= ahead:
            chunk = chunks - 1 - (step - ahead) // together % chunks
            row.add(chunk * devices + device, "backward")
    return row.actions


def _zbv(device: int, devices: int, micro_batches: int, chunks: int) -> Iterable[Action]:
    """The table of the paper, built for the micro-batches that fill the pipeline at least."""
    filling = max(micro_batches, 2 * devices - 1)
    down, up = device, 2 * devices - 1 - device
    row = _RowInTheMaking()
    both: tuple[Kind, Kind] = ("input_grad", "weight_grad")
    for _ in range(2 * (devices - device) - 1):
        row.add(down, "forward")
    for _ in range(device):
        row.add(up, "forward")
        row.add(down, "forward")
    for _ in range(devices - device):
        row.add(up, "forward", *both)
    for forwarded in range(2 * devices - 1 - device, filling + devices - 1 - device):
        if forwarded < filling:
            row.add(down, "forward")
        row.add(down, *both)
        row.add(up, "forward", *both)
    for _ in range(device):
        row.add(down, "input_grad")
        row.add(up, "input_grad")
    for _ in range(devices - device):
        row.add(down, *both)
    for stage in (up, down):
        for _ in range(device):
            row.add(stage, "weight_grad")
    return (action for action in row.actions if action.micro_batch < micro_batches)


_Row = Callable[[int, int, int, int], Iterable[Action]]
ROWS: dict[str, _Row] = {
    "gpipe": _gpipe,
    "1f1b": _interleaved,
    "interleaved": _interleaved,
    "zbv": _zbv,
}
