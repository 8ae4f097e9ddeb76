"""Schedules: what every device of a pipeline runs, in which order.

A table has no times: a device runs its row from left to right and waits where an input is missing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count, pairwise

from gnnscale.errors import InputError
from gnnscale.parallel.tables import ROWS, Action, Kind

_CHUNKS = {"gpipe": 1, "1f1b": 1, "zbv": 2}  # stages a device, where it is not for the user to say


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
        stages = devices * _CHUNKS.get(name, 2)
    _check_stages(name, devices, micro_batches, stages)
    row = ROWS[name]
    schedule = Schedule(
        name,
        devices,
        stages,
        micro_batches,
        tuple(_device(name, devices, stage) for stage in range(stages)),
        tuple(
            tuple(row(device, devices, micro_batches, stages // devices))
            for device in range(devices)
        ),
    )
    schedule.check()
    return schedule


def _device(name: str, devices: int, stage: int) -> int:
    if name == "zbv":
        return min(stage, 2 * devices - 1 - stage)
    return stage % devices


def _check_stages(name: str, devices: int, micro_batches: int, stages: int) -> None:
    chunks = _CHUNKS.get(name)
    if chunks is not None and stages != chunks * devices:
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
