"""The simulator: how long a schedule takes, given what every computation and message costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnnscale.errors import InputError
from gnnscale.parallel.schedules import Action, Kind, Schedule
from gnnscale.parallel.simulation.timeline import Event, Timeline, Transfer

Sends = Literal["overlap", "block", "rendezvous"]


def simulate(
    schedule: Schedule,
    seconds: Mapping[Kind, ArrayLike],
    *,
    sent: ArrayLike = 0,
    returned: ArrayLike | None = None,
    latency: ArrayLike = 0.0,
    bandwidth: ArrayLike = np.inf,
    sends: Sends = "overlap",
    activations: ArrayLike | None = None,
) -> Timeline:
    """Run a schedule's table on a clock instead of on devices.

    A device runs its row in order; an action starts when the one before it has ended and its input
    has arrived. A message takes latency + bytes / bandwidth seconds. From one device to another
    there is one link, whose bandwidth messages have one after another. Stages on one device hand
    over for nothing.

    Args:
        schedule: what runs.
        seconds: by kind of action, `[stages, micro_batches]` or what broadcasts to it. Every kind
            that the schedule has: "forward" and "backward", or with "zbv" "forward", "input_grad"
            and "weight_grad".
        sent: bytes of activations over each boundary, `[stages − 1, micro_batches]`: for `n` rows
            of one float32 tensor of width F, 4·F·n.
        returned: bytes of gradients that come back; None: as many.
        latency: seconds a message, `[stages − 1]` or one for all.
        bandwidth: bytes a second, likewise.
        sends: "overlap": a device computes on while its messages leave, and they wait for nobody;
            "block": it computes on once its message has arrived; "rendezvous": it computes on, but
            a message leaves only once its receiver has come to the action that needs it.
        activations: bytes that a stage holds from a forward to the end of its gradients,
            `[stages, micro_batches]`.

    Raises:
        InputError: costs that are missing, negative, not finite or of another shape, or a schedule
            that cannot run (`Schedule.check`).
    """
    schedule.check()
    shape = (schedule.stages, schedule.micro_batches)
    boundaries = (schedule.stages - 1, schedule.micro_batches)
    links = (schedule.stages - 1,)
    faults: list[str] = []
    kinds = {action.kind for row in schedule.table for action in row}
    if missing := sorted(kinds - set(seconds)):
        faults.append(
            f"schedule {schedule.name!r} runs {', '.join(missing)}, but seconds has "
            f"{', '.join(seconds) or 'nothing'}; give those of every kind"
        )
    if sends not in get_args(Sends):
        faults.append(f"sends must be one of {', '.join(get_args(Sends))}, not {sends!r}")
    durations = {
        kind: _filled(f"seconds[{kind!r}]", seconds[kind], shape, faults)
        for kind in kinds & set(seconds)
    }
    forward = _filled("sent", sent, boundaries, faults)
    messages = _Messages(
        forward,
        forward if returned is None else _filled("returned", returned, boundaries, faults),
        _filled("latency", latency, links, faults),
        _filled("bandwidth", bandwidth, links, faults, most=np.inf),
    )
    held = None if activations is None else _filled("activations", activations, shape, faults)
    if not np.all(np.asarray(bandwidth) > 0):
        faults.append(f"bandwidth must be above 0 bytes a second, not {np.min(bandwidth)}")
    if faults:
        raise InputError(faults)
    clock = _Clock(schedule, durations, messages, sends)
    clock.run()
    return Timeline(
        schedule.placement,
        tuple(sorted(clock.events, key=lambda e: (e.start, e.device))),
        tuple(clock.transfers),
        None if held is None else held.astype(np.int64),
    )


class _Messages(NamedTuple):
    """What every message weighs and how long it takes; see `simulate`."""

    sent: NDArray[np.float64]
    returned: NDArray[np.float64]
    latency: NDArray[np.float64]
    bandwidth: NDArray[np.float64]


class _Clock:
    """The state of a simulated step: where each device stands in its row, and since when."""

    def __init__(
        self,
        schedule: Schedule,
        durations: Mapping[Kind, NDArray[np.float64]],
        messages: _Messages,
        sends: Sends,
    ) -> None:
        self.schedule, self.durations, self.messages, self.sends = (
            schedule, durations, messages, sends,
        )  # fmt: skip
        self.events: list[Event] = []
        self.transfers: list[Transfer] = []
        self._position = [0] * schedule.devices
        self._free = [0.0] * schedule.devices  # when a device ended its last action
        self._ended: dict[Action, float] = {}
        # Messages go by the action that takes them.
        self._posted: dict[Action, Action] = {}  # not moving yet, with their senders
        self._arrived: dict[Action, float] = {}
        self._last_sent: list[Action | None] = [None] * schedule.devices
        self._link_free: defaultdict[tuple[int, int], float] = defaultdict(float)

    def run(self) -> None:
        moved = True
        while moved:
            moved = False
            for reader in list(self._posted):
                moved |= self._move(reader)
            for device in range(self.schedule.devices):
                while self._step(device):
                    moved = True

    def _next(self, device: int) -> Action | None:
        row = self.schedule.table[device]
        return row[self._position[device]] if self._position[device] < len(row) else None

    def _move(self, reader: Action) -> bool:
        """Let a message go, if it is known when it can."""
        place = self.schedule.placement
        sender = self._posted[reader]
        source, target = place[sender.stage], place[reader.stage]
        start = max(self._ended[sender], self._link_free[source, target])
        if self.sends == "rendezvous":
            if self._next(target) != reader:
                return False
            start = max(start, self._free[target])
        boundary, forward = min(sender.stage, reader.stage), reader.stage > sender.stage
        sizes = self.messages.sent if forward else self.messages.returned
        size, latency = sizes[boundary, sender.micro_batch], self.messages.latency[boundary]
        end = start + float(latency + size / self.messages.bandwidth[boundary])
        self.transfers.append(
            Transfer(source, target, boundary, forward, sender.micro_batch, int(size), start, end)
        )
        # The next message may set out while this one's last byte still travels.
        self._link_free[source, target] = end - latency
        self._arrived[reader] = end
        del self._posted[reader]
        return True

    def _step(self, device: int) -> bool:
        """Run a device's next action, if it is known when it can."""
        action = self._next(device)
        if action is None:
            return False
        start = self._free[device]
        for need in self.schedule.needs(action):
            if self.schedule.placement[need.stage] == device:
                if need not in self._ended:
                    return False
            elif action not in self._arrived:
                return False
            else:
                start = max(start, self._arrived[action])
        last = self._last_sent[device]
        if last is not None and self.sends == "block":
            if last not in self._arrived:
                return False
            start = max(start, self._arrived[last])
        end = start + float(self.durations[action.kind][action.stage, action.micro_batch])
        self.events.append(Event(device, *action, start, end))
        self._ended[action] = self._free[device] = end
        self._position[device] += 1
        reader = self.schedule.reader_of(action)
        if reader is not None and self.schedule.placement[reader.stage] != device:
            self._posted[reader] = action
            self._last_sent[device] = reader
        return True


def _filled(
    name: str,
    values: ArrayLike,
    shape: tuple[int, ...],
    faults: list[str],
    most: float = np.finfo(np.float64).max,
) -> NDArray[np.float64]:
    """Values of the shape that is needed; faults are noted."""
    array = np.asarray(values, np.float64)
    wrong = array[~((array >= 0) & (array <= most))]
    if wrong.size:
        faults.append(f"{name} has {wrong[0]}; every value must be finite and at least 0")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        faults.append(f"{name} has the shape {list(array.shape)}, not {list(shape)}")
        return np.zeros(shape)
