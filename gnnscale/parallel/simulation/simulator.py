"""The simulator: how long a schedule takes, given what every computation and message costs."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnnscale.errors import InputError
from gnnscale.parallel.schedules import Action, Kind, Schedule
from gnnscale.parallel.simulation.timeline import Event, Timeline, Transfer

Link = tuple[int, int]  # from one device to another


def simulate(
    schedule: Schedule,
    seconds: Mapping[Kind, ArrayLike],
    *,
    sent: ArrayLike = 0,
    returned: ArrayLike | None = None,
    latency: ArrayLike = 0.0,
    bandwidth: ArrayLike = np.inf,
    sending: ArrayLike = 0.0,
    copying: ArrayLike = 0.0,
    receiving: ArrayLike = 0.0,
    ahead: float = math.inf,
    activations: ArrayLike | None = None,
) -> Timeline:
    """Run a schedule's table on a clock instead of on devices.

    A device runs its row in order; an action starts when the one before it has ended, what that
    sends has been handed over, and its own input has arrived and been taken. A message takes
    latency + bytes / bandwidth seconds from being handed over. From one device to another there is
    one link, whose bandwidth messages have one after another. Stages on one device hand over for
    nothing.

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
        sending: seconds that a message holds the device that sends it, likewise.
        copying: seconds a byte that it holds that device besides, likewise.
        receiving: seconds that it holds the device that takes it, once it is there, likewise.
        ahead: how many messages of a link a device has asked for beside the one it needs. A message
            leaves once it is asked for: with 0 when its receiver has come to the action that needs
            it, as NCCL is asked; with 1 when that has the message before, as gloo is asked; without
            end at once.
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
    if not ahead >= 0:
        faults.append(f"ahead={ahead}: how many messages, at least 0")
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
        _filled("sending", sending, links, faults),
        _filled("copying", copying, links, faults),
        _filled("receiving", receiving, links, faults),
    )
    held = None if activations is None else _filled("activations", activations, shape, faults)
    if not np.all(np.asarray(bandwidth) > 0):
        faults.append(f"bandwidth must be above 0 bytes a second, not {np.min(bandwidth)}")
    if faults:
        raise InputError(faults)
    clock = _Clock(schedule, durations, messages, ahead)
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
    sending: NDArray[np.float64]
    copying: NDArray[np.float64]
    receiving: NDArray[np.float64]


class _Clock:
    """The state of a simulated step: where each device stands in its row, and since when."""

    def __init__(
        self,
        schedule: Schedule,
        durations: Mapping[Kind, NDArray[np.float64]],
        messages: _Messages,
        ahead: float,
    ) -> None:
        self.schedule, self.durations, self.messages, self.ahead = (
            schedule, durations, messages, ahead,
        )  # fmt: skip
        self.events: list[Event] = []
        self.transfers: list[Transfer] = []
        self._position = [0] * schedule.devices
        self._free = [0.0] * schedule.devices  # when a device is done with its last action
        self._done: set[Action] = set()
        # Messages go by the action that takes them.
        self._expected: defaultdict[Link, deque[Action]] = defaultdict(deque)  # not asked for yet
        for row in schedule.table:
            for action in row:
                reader = schedule.reader_of(action)
                if reader is not None and (link := self._link(action, reader)) is not None:
                    self._expected[link].append(reader)
        self._asked: dict[Action, float] = {}
        # Not moving yet: with who sends it, and since when.
        self._handed: defaultdict[Link, deque[tuple[Action, Action, float]]] = defaultdict(deque)
        self._arrived: dict[Action, float] = {}
        self._link_free: defaultdict[Link, float] = defaultdict(float)

    def run(self) -> None:
        for link, expected in self._expected.items():
            for _ in range(int(min(self.ahead, len(expected)))):
                self._ask(link, 0.0)
        moved = True
        while moved:
            moved = False
            for device in range(self.schedule.devices):
                while self._step(device):
                    moved = True

    def _link(self, sender: Action, reader: Action) -> Link | None:
        """The two devices that a message goes between; None within one."""
        place = self.schedule.placement
        source, target = place[sender.stage], place[reader.stage]
        return None if source == target else (source, target)

    def _ask(self, link: Link, now: float) -> None:
        """Ask for the next message of a link, if there is one more."""
        if self._expected[link]:
            self._asked[self._expected[link].popleft()] = now

    def _arrival(self, reader: Action, link: Link) -> float | None:
        """When the message for an action to which its device has come is there, if it is known."""
        while reader not in self._asked:
            self._ask(link, self._free[link[1]])
        while reader not in self._arrived:
            if not self._handed[link]:
                return None
            self._move(link)
        return self._arrived.pop(reader)

    def _move(self, link: Link) -> None:
        """Let the first message of a link go, which is asked for."""
        sender, reader, handed = self._handed[link].popleft()
        start = max(handed, self._link_free[link], self._asked[reader])
        boundary, size = self._crossing(sender, reader)
        latency = self.messages.latency[boundary]
        end = start + float(latency + size / self.messages.bandwidth[boundary])
        forward = reader.stage > sender.stage
        self.transfers.append(
            Transfer(*link, boundary, forward, sender.micro_batch, int(size), start, end)
        )
        # The next message may set out while this one's last byte still travels.
        self._link_free[link] = end - latency
        self._arrived[reader] = end

    def _crossing(self, sender: Action, reader: Action) -> tuple[int, float]:
        """The boundary that a message crosses, and its bytes."""
        boundary = min(sender.stage, reader.stage)
        sizes = self.messages.sent if reader.stage > sender.stage else self.messages.returned
        return boundary, float(sizes[boundary, sender.micro_batch])

    def _step(self, device: int) -> bool:
        """Run a device's next action, if it is known when it can."""
        row = self.schedule.table[device]
        if self._position[device] == len(row):
            return False
        action = row[self._position[device]]
        source = self.schedule.source_of(action)
        link = None if source is None else self._link(source, action)
        needs = self.schedule.needs(action)
        if not all(need in self._done for need in needs if link is None or need != source):
            return False
        start = self._free[device]
        if source is not None and link is not None:
            arrived = self._arrival(action, link)
            if arrived is None:
                return False
            start = max(start, arrived)
            if self.ahead:
                self._ask(link, start)
            start += float(self.messages.receiving[self._crossing(source, action)[0]])
        end = start + float(self.durations[action.kind][action.stage, action.micro_batch])
        self.events.append(Event(device, *action, start, end))
        self._done.add(action)
        self._position[device] += 1
        self._free[device] = self._handed_over(action, end)
        return True

    def _handed_over(self, action: Action, end: float) -> float:
        """When a device is done with an action: at its end, or once its message is handed over."""
        reader = self.schedule.reader_of(action)
        link = None if reader is None else self._link(action, reader)
        if reader is None or link is None:
            return end
        boundary, size = self._crossing(action, reader)
        end += float(self.messages.sending[boundary] + size * self.messages.copying[boundary])
        self._handed[link].append((action, reader, end))
        return end


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
