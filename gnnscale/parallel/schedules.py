"""Schedules: what every device of a pipeline runs, in which order.

A table has no times: a device runs its row from left to right and waits where an input is missing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, count, pairwise
from typing import Literal, NamedTuple

from typing_extensions import override

from gnnscale.errors import InputError

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


@dataclass(frozen=True)
class Schedule:
    """What every device runs in one optimizer step.

    Attributes:
        name: as `make_schedule` takes it.
        devices: number of devices P.
        stages: number of stages, P times the chunks a device.
        micro_batches: number of micro-batches M of a step.
        placement: the device of every stage, `[stages]`.
        table: a row a device, in the order in which it runs them.
    """

    name: str
    devices: int
    stages: int
    micro_batches: int
    placement: tuple[int, ...]
    table: tuple[tuple[Action, ...], ...]

    @property
    def splits_backward(self) -> bool:
        """Whether gradients of inputs and of weights are computed apart."""
        return any(action.kind == "weight_grad" for row in self.table for action in row)

    def first(self, micro_batches: int) -> Schedule:
        """This schedule without the micro-batches that an epoch's last step lacks.

        What is left keeps its order, and nothing needs another micro-batch: it runs as the whole
        does.
        """
        left = (tuple(a for a in row if a.micro_batch < micro_batches) for row in self.table)
        return replace(self, micro_batches=micro_batches, table=tuple(left))

    def batches_kept(self, in_one_process: bool) -> int:
        """How many micro-batches' activations a process keeps at a time, at most.

        Parts of the model count as their share of its stages, rounded up.
        """
        most = []
        for row in self.table:
            ends = ("backward", "weight_grad")
            kept = [(action.kind == "forward") - (action.kind in ends) for action in row]
            most.append(max(accumulate(kept), default=0))
        return max(1, -(-(sum(most) if in_one_process else max(most)) // self.stages))

    def source_of(self, action: Action) -> Action | None:
        """The action of a neighbouring stage whose result this one takes.

        None for the first stage's forwards, for the last stage's gradients, which begin at the
        loss, and for gradients of weights, which need what their own stage has kept.
        """
        kind, stage, micro_batch = action
        before = stage - 1 if kind == "forward" else stage + 1
        if kind == "weight_grad" or not 0 <= before < self.stages:
            return None
        return Action(kind, before, micro_batch)

    def reader_of(self, action: Action) -> Action | None:
        """The action of a neighbouring stage that takes this one's result, or None."""
        kind, stage, micro_batch = action
        after = stage + 1 if kind == "forward" else stage - 1
        if kind == "weight_grad" or not 0 <= after < self.stages:
            return None
        return Action(kind, after, micro_batch)

    def needs(self, action: Action) -> list[Action]:
        """What must be done, on any device, before this can run."""
        kind, stage, micro_batch = action
        source = self.source_of(action)
        needed = [] if source is None else [source]
        if kind != "forward":
            own: Kind = "input_grad" if kind == "weight_grad" else "forward"
            needed.append(Action(own, stage, micro_batch))
        return needed

    def in_order(self) -> Iterator[Action]:
        """All actions in an order in which a single process can run them, device after device.

        Ends early where no device can go on: the table then has a deadlock.
        """
        done: set[Action] = set()
        position = [0] * len(self.table)
        moved = True
        while moved:
            moved = False
            for device, row in enumerate(self.table):
                while position[device] < len(row):
                    action = row[position[device]]
                    if not done.issuperset(self.needs(action)):
                        break
                    done.add(action)
                    position[device] += 1
                    moved = True
                    yield action

    def check(self) -> None:
        """Prove that the table can be run, by running it.

        Every stage must compute every micro-batch once forward and once backward, on the device
        where it is placed. Forwards of a stage go by micro-batch, and so do its gradients: running
        statistics and sums of gradients are then those of one device that takes the micro-batches
        one after another, to the last bit.

        Raises:
            InputError: with all faults: what is missing, done twice, misplaced or out of order;
                or the actions that the devices wait for for ever.
        """
        faults = [*self._incomplete(), *self._misplaced(), *self._out_of_order()]
        if faults:
            raise InputError(faults)
        done = set(self.in_order())
        stuck = [next((a for a in row if a not in done), None) for row in self.table]
        if any(stuck):
            waits = (f"device {device} at {a}" for device, a in enumerate(stuck) if a)
            raise InputError(
                f"schedule {self.name!r} has a deadlock: {', '.join(waits)} wait for one another; "
                f"make_schedule has {', '.join(ROWS)}"
            )

    def _incomplete(self) -> Iterator[str]:
        gradients: tuple[Kind, ...] = (
            ("input_grad", "weight_grad") if self.splits_backward else ("backward",)
        )
        wanted = {
            Action(kind, stage, micro_batch)
            for kind in ("forward", *gradients)
            for stage in range(self.stages)
            for micro_batch in range(self.micro_batches)
        }
        found = Counter(action for row in self.table for action in row)
        yield from (f"{action} is missing" for action in sorted(wanted - set(found)))
        for action, times in found.items():
            if action not in wanted:
                yield (
                    f"{action} does not belong to {self.stages} stages and {self.micro_batches} "
                    f"micro-batches with {' and '.join(gradients)}"
                )
            elif times > 1:
                yield f"{action} runs {times} times"

    def _misplaced(self) -> Iterator[str]:
        if len(self.table) != self.devices or len(self.placement) != self.stages:
            yield (
                f"{len(self.table)} rows for {self.devices} devices and {len(self.placement)} "
                f"places for {self.stages} stages: one a device and one a stage are needed"
            )
            return
        for device, row in enumerate(self.table):
            for stage in {a.stage for a in row if a.stage < self.stages}:
                if self.placement[stage] != device:
                    yield f"stage {stage} runs on device {device}, not {self.placement[stage]}"

    def _out_of_order(self) -> Iterator[str]:
        for row in self.table:
            sequences: defaultdict[tuple[Kind, int], list[Action]] = defaultdict(list)
            for action in row:
                sequences[action.kind, action.stage].append(action)
            for sequence in sequences.values():
                for one, other in pairwise(sequence):
                    if one.micro_batch > other.micro_batch:
                        yield f"{one} runs before {other}"


def make_schedule(
    name: str, devices: int, micro_batches: int, stages: int | None = None
) -> Schedule:
    """The table of a schedule, checked to be complete and free of deadlock.

    - "gpipe" (Huang et al., NeurIPS 2019, arXiv 1811.06965): all forwards, then all backwards, a
      stage a device. Holds M activations.
    - "1f1b" (PipeDream-flush; Narayanan et al., ICML 2021, arXiv 2006.09503): a backward as soon as
      it can run. The same bubble (P−1)/(M+P−1), but stage s holds at most P−s activations.
    - "interleaved" (Narayanan et al., SC 2021, arXiv 2104.04473, §2.2): 1f1b over v chunks of the
      model a device; the bubble is (P−1)/(vM+P−1), the traffic v times as much. Micro-batches go in
      rounds of M divided by ⌊M/P⌋, which must come out even.
    - "zbv", experimental (Qi et al., ICLR 2024, arXiv 2401.10241, §6): two chunks a device in the
      shape of a V, stages d and 2P−1−d on device d, and gradients of weights computed apart, where
      a device would wait. Once M ≥ 2P−1, and where forward, gradient of inputs and gradient of
      weights take equally long, no device waits between its first action and its last.

    The order within each row is that of `torch.distributed.pipelining`.

    Args:
        name: one of these.
        devices: number of devices P.
        micro_batches: number of micro-batches M of an optimizer step.
        stages: number of stages; None: P, or 2P for "interleaved" and "zbv".

    Raises:
        InputError: an unknown name, sizes below 1, stages that do not fit the schedule, or
            micro-batches that do not divide into rounds.
    """
    if name not in ROWS:
        raise InputError(f"schedule must be one of {', '.join(ROWS)}, not {name!r}")
    if devices < 1 or micro_batches < 1:
        raise InputError(
            f"a schedule needs at least 1 device and 1 micro-batch, not {devices} and "
            f"{micro_batches}"
        )
    if stages is None:
        stages = devices * CHUNKS[name]
    _check_stages(name, devices, micro_batches, stages)
    rows = (
        ROWS[name](device, devices, micro_batches, stages // devices) for device in range(devices)
    )
    schedule = Schedule(
        name,
        devices,
        stages,
        micro_batches,
        tuple(_device(name, devices, stage) for stage in range(stages)),
        tuple(tuple(_numbered(row, micro_batches)) for row in rows),
    )
    schedule.check()
    return schedule


def _device(name: str, devices: int, stage: int) -> int:
    if name == "zbv":
        return min(stage, 2 * devices - 1 - stage)
    return stage % devices


def _check_stages(name: str, devices: int, micro_batches: int, stages: int) -> None:
    chunks = CHUNKS[name]
    if name != "interleaved" and stages != chunks * devices:
        raise InputError(
            f"schedule {name!r} has {chunks} stages a device: {chunks * devices} stages for "
            f"{devices} devices, not {stages}; schedule 'interleaved' takes any multiple"
        )
    if stages < 1 or stages % devices:
        raise InputError(
            f"schedule {name!r} needs a multiple of {devices} devices as stages, not {stages}; "
            f"take {max(1, round(stages / devices)) * devices}"
        )
    rounds = max(1, micro_batches // devices)
    if name == "interleaved" and stages > devices and micro_batches % rounds:
        below = next(m for m in range(micro_batches, 0, -1) if m % max(1, m // devices) == 0)
        above = next(m for m in count(micro_batches) if m % (m // devices) == 0)
        raise InputError(
            f"schedule 'interleaved' cannot divide {micro_batches} micro-batches into {rounds} "
            f"equal rounds over {devices} devices; take {below} or {above} micro-batches"
        )


# --- the rows of a table ------------------------------------------------------------------------
# What a device computes of which stage, for one micro-batch after another.
_Row = Iterator[tuple[Kind, int]]


def _numbered(row: _Row, micro_batches: int) -> Iterator[Action]:
    """Give every action the next micro-batch of its kind and stage, as long as there is one."""
    following: defaultdict[tuple[Kind, int], Iterator[int]] = defaultdict(count)
    for kind, stage in row:
        if (micro_batch := next(following[kind, stage])) < micro_batches:
            yield Action(kind, stage, micro_batch)


def _gpipe(device: int, devices: int, micro_batches: int, chunks: int) -> _Row:
    for _ in range(micro_batches):
        yield "forward", device
    for _ in range(micro_batches):
        yield "backward", device


def _interleaved(device: int, devices: int, micro_batches: int, chunks: int) -> _Row:
    """1F1B over chunks; with one chunk it is 1F1B itself."""
    together = micro_batches // max(1, micro_batches // devices)  # micro-batches of a round
    distance = devices - 1 - device
    # A gradient comes back after a trip to the last device. Where every step also sends forward
    # across the ring, forwards and backwards of neighbours stand two steps apart.
    ahead = (chunks - 1) * together + (2 * distance if chunks > 1 else distance)
    total = chunks * micro_batches
    ahead = min(ahead, total)
    for step in range(total + ahead):
        if step < total:
            yield "forward", step // together % chunks * devices + device
        if step >= ahead:
            chunk = chunks - 1 - (step - ahead) // together % chunks
            yield "backward", chunk * devices + device


def _zbv(device: int, devices: int, micro_batches: int, chunks: int) -> _Row:
    """The table of the paper, built for the micro-batches that fill the pipeline at least."""
    filling = max(micro_batches, 2 * devices - 1)
    down, up = device, 2 * devices - 1 - device
    for _ in range(2 * (devices - device) - 1):
        yield "forward", down
    for _ in range(device):
        yield "forward", up
        yield "forward", down
    for _ in range(devices - device):
        yield "forward", up
        yield from _backward(up)
    for forwarded in range(2 * devices - 1 - device, filling + devices - 1 - device):
        if forwarded < filling:
            yield "forward", down
        yield from _backward(down)
        yield "forward", up
        yield from _backward(up)
    for _ in range(device):
        yield "input_grad", down
        yield "input_grad", up
    for _ in range(devices - device):
        yield from _backward(down)
    for stage in (up, down):
        for _ in range(device):
            yield "weight_grad", stage


def _backward(stage: int) -> _Row:
    yield "input_grad", stage
    yield "weight_grad", stage


ROWS: dict[str, Callable[[int, int, int, int], _Row]] = {
    "gpipe": _gpipe,
    "1f1b": _interleaved,
    "interleaved": _interleaved,
    "zbv": _zbv,
}
CHUNKS = {"gpipe": 1, "1f1b": 1, "interleaved": 2, "zbv": 2}  # stages a device, unless told
