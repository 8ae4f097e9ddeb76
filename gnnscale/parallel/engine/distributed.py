"""TorchEngine: the tables of a schedule on `torch.distributed`, one process a device.

Why not `torch.distributed.pipelining`'s runtime: it splits one batch into micro-batches of one
shape, so clusters would have to be padded to a common size on the wire and every stage's slots
packed into one such shape; and it divides a loss by the number of micro-batches, not by their
training nodes. With the tables given, what is left to do is to send and to receive.

Free of deadlock: sends never block a device; receives from a device are posted in the order in
which it sends, each pair of devices having a group of its own for either direction; so a device
waits for its input alone, which the check of the schedule has proven to come.

Gloo moves a message once it is asked for, by a thread that waits for a core where all are busy. So
a device asks for its next message of a link as soon as it has the one before, and computes
meanwhile: two busy ranks of a two-core machine waited 1.7 ms a message without that, where a
message takes 0.3 ms. NCCL is asked when the message is needed: its receivers occupy the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from gnnscale import comm
from gnnscale.errors import InputError
from gnnscale.loader import Batch
from gnnscale.parallel.engine.passes import (
    Computation,
    Recorder,
    StagePasses,
    Values,
    on_stage,
    put,
)
from gnnscale.parallel.engine.wire import (
    as_agreed,
    links,
    messages,
    packets,
    travelling,
)
from gnnscale.parallel.schedules import Action, Schedule
from gnnscale.parallel.simulation.timeline import Event
from gnnscale.parallel.stages import Stage


class TorchEngine:
    """Runs this process's row of every optimizer step.

    Args:
        stages: all stages of the model, on every rank; this one's are moved to its device.
        schedule: a full step: which stage is where.
        mesh: of dimensions "dp" and "pp", the latter as long as the schedule has devices.
        device: this process's.
        sample: a small batch on that device, for what travels.
        computation: what is computed; of the sample, for its types.
        record: keep what this device ran when, of the last step, in `events`.

    Raises:
        InputError: ranks of a pipeline have different stages, on every rank of it.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        schedule: Schedule,
        mesh: DeviceMesh,
        device: torch.device,
        sample: Batch,
        computation: Computation,
        record: bool = False,
    ) -> None:
        self.stages = list(stages)
        self.device = device
        self.record = record
        self.events: list[Event] = []
        self.group = mesh.get_group("pp")
        self.rank = mesh.get_local_rank("pp")
        self.ranks = dist.get_process_group_ranks(self.group)
        self.placement = schedule.placement
        self.crossing = packets(self.stages, sample, computation)
        self.agree("stages", [schedule.name, self.placement, self.crossing])
        self.links = _open_links(mesh, links(schedule), device)

    @property
    def own(self) -> list[Stage]:
        """The stages of this process."""
        return [s for s in self.stages if self.placement[s.index] == self.rank]

    @property
    def is_last(self) -> bool:
        """Whether the last stage, and the loss, are here."""
        return self.placement[-1] == self.rank

    def agree(self, what: str, value: object) -> None:
        """Check that something is the same on all ranks of the pipeline.

        Raises:
            InputError: it is not, on every one of them.
        """
        found = comm.gather_objects(value, self.group)
        if differing := [rank for rank, other in enumerate(found) if other != found[0]]:
            rank = differing[0]
            raise InputError(
                f"the devices of a pipeline have different {what}: device {rank} has "
                f"{str(found[rank])[:200]}, device 0 {str(found[0])[:200]}; start every rank with "
                "the same model, graph and arguments"
            )

    def place(self) -> None:
        """Move this process's stages to its device, and the others off it."""
        for stage in self.stages:
            here = self.placement[stage.index] == self.rank
            put(stage, self.device if here else torch.device("cpu"))

    def run(
        self, schedule: Schedule, batches: Sequence[Batch], computation: Computation
    ) -> list[Tensor]:
        """Add the gradients of one step to this process's stages.

        Args:
            schedule: of as many micro-batches, with the placement of the full step.
            batches: the micro-batches, the same on all ranks of the pipeline.
            computation: what is computed.

        Returns:
            The sum of losses of every micro-batch, where the last stage is; else nothing.
        """
        step = _Step(self, schedule, batches, computation)
        step.run()
        self.events = step.recorder.events
        if not self.is_last:
            return []
        losses = step.passes[len(self.stages) - 1].losses
        return [losses[micro_batch] for micro_batch in range(len(batches))]

    @torch.no_grad()
    def share_weights(self) -> None:
        """Give every rank of the pipeline the parameters and buffers of all stages."""
        for stage in self.stages:
            source = self.ranks[self.placement[stage.index]]
            for value in (*stage.parameters(), *stage.buffers()):
                travels = value.detach().to(self.device).contiguous()
                value.copy_(comm.broadcast_(travels, source, self.group))


@dataclass
class _Sent:
    """A message under way, and the place of its reader in the other device's row."""

    read_at: int
    works: list[dist.Work]
    tensors: list[Tensor]  # kept until it has arrived


class _Step:
    """This process's part of an optimizer step under way."""

    def __init__(
        self,
        engine: TorchEngine,
        schedule: Schedule,
        batches: Sequence[Batch],
        computation: Computation,
    ) -> None:
        self._engine, self._schedule = engine, schedule
        self._rows = [batch.num_nodes for batch in batches]
        self.passes = {
            stage.index: StagePasses(
                stage, [on_stage(batch, stage, engine.device) for batch in batches], computation
            )
            for stage in engine.own
        }
        self.recorder = Recorder(engine.record)
        others = [d for d in range(schedule.devices) if d != engine.rank]
        self._expected = {d: deque(messages(schedule, d, engine.rank)) for d in others}
        self._place = {a: i for row in schedule.table for i, a in enumerate(row)}
        self._arriving: dict[Action, tuple[list[dist.Work], Values]] = {}
        self._here: dict[Action, Values] = {}
        self._sent: dict[int, list[_Sent]] = {d: [] for d in others}

    def run(self) -> None:
        for device in self._expected:
            self._ask_ahead(device)
        for action in self._schedule.table[self._engine.rank]:
            source = self._schedule.source_of(action)
            received = None if source is None else self._receive(source)
            with self.recorder(action, self._engine.rank, self._engine.device):
                values = self.passes[action.stage].run(action, received)
            self._send(action, values)
        for sent in self._sent.values():
            _finish(sent)

    def _receive(self, action: Action) -> Values:
        device = self._schedule.placement[action.stage]
        if device == self._engine.rank:
            return self._here.pop(action)
        while action not in self._arriving:
            self._post(device)
        works, values = self._arriving.pop(action)
        with comm.together():
            for work in works:
                work.wait()
        self._ask_ahead(device)
        # Before it sent this, it had received all that is read further left in its row.
        sent, place = self._sent[device], self._place[action]
        _finish([message for message in sent if message.read_at < place])
        self._sent[device] = [message for message in sent if message.read_at >= place]
        return values

    def _ask_ahead(self, device: int) -> None:
        if self._expected[device] and self._engine.device.type == "cpu":
            self._post(device)

    def _post(self, device: int) -> None:
        """Ask a device for its next message."""
        action = self._expected[device].popleft()
        engine, rows = self._engine, self._rows[action.micro_batch]
        group, source = engine.links[device, engine.rank], engine.ranks[device]
        works: list[dist.Work] = []
        values: Values = {}
        for packet in travelling(action, engine.crossing):
            buffer = torch.empty(rows, packet.channels, dtype=packet.dtype, device=engine.device)
            with comm.together():
                work = dist.irecv(buffer, source, group)
            works.append(_under_way(work))
            values[packet.name] = buffer
        self._arriving[action] = works, values

    def _send(self, action: Action, values: Values) -> None:
        reader = self._schedule.reader_of(action)
        if reader is None:
            return
        engine, device = self._engine, self._schedule.placement[reader.stage]
        if device == engine.rank:
            self._here[action] = values
            return
        rows = self._rows[action.micro_batch]
        tensors = as_agreed(action, values, travelling(action, engine.crossing), rows)
        group, target = engine.links[engine.rank, device], engine.ranks[device]
        with comm.together():
            works = [_under_way(dist.isend(tensor, target, group)) for tensor in tensors]
        self._sent[device].append(_Sent(self._place[reader], works, tensors))


def _under_way(work: dist.Work | None) -> dist.Work:
    assert work is not None, "this rank is a member of the group"
    return work


def _finish(messages: Sequence[_Sent]) -> None:
    with comm.together():
        for message in messages:
            for work in message.works:
                work.wait()


def _open_links(
    mesh: DeviceMesh, pairs: Sequence[tuple[int, int]], device: torch.device
) -> dict[tuple[int, int], dist.ProcessGroup]:
    """A group for either direction of every pair of devices of this pipeline.

    One number goes over each: NCCL connects with the first message, for which both ends wait.
    """
    mine = {}
    for ranks in mesh.mesh.tolist():
        for source, target in pairs:
            group = comm.group_of(ranks[source], ranks[target])
            if dist.get_rank() not in (ranks[source], ranks[target]):
                continue
            mine[source, target] = group
            with comm.together():
                if dist.get_rank() == ranks[source]:
                    dist.send(torch.ones(1, device=device), ranks[target], group)
                else:
                    dist.recv(torch.empty(1, device=device), ranks[source], group)
    return mine
