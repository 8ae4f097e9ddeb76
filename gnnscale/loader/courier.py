"""Batches on their way to the device, beside the steps that are computed there.

The thread that prepares batches enqueues their copies (or, where the device holds the graph, their
assembly) on a stream of its own; the computing stream waits for the event at its end, and the host
for neither. Batches in page-locked memory are as many as are prepared ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.graph import ClusteredGraph
from gnnscale.kernels import CSR
from gnnscale.loader.batch import Assembler, Batch
from gnnscale.loader.device_assembler import DeviceAssembler, resident_bytes

_SHARE_OF_FREE_MEMORY = 0.5  # the rest is for activations, and for inference on the whole graph

Assemble = Callable[[Tensor], Batch]


class Prepared(NamedTuple):
    """A batch, and the event after which it is there (None: it is there)."""

    batch: Batch
    ready: torch.cuda.Event | None


class Courier:
    """Prepares batches on one thread and hands them over on another.

    Args:
        assemble: puts a batch together from its clusters, on the host or on the device.
        device: where batches are wanted; None leaves them where they were put together.
    """

    def __init__(self, assemble: Assemble, device: torch.device | None) -> None:
        self._assemble = assemble
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device is not None and device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            # What a device assembler reads was written on the stream of whoever made it.
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def prepare(self, clusters: Tensor) -> Prepared:
        """The batch of these clusters, perhaps still on its way."""
        if self._stream is None:
            batch = self._assemble(clusters)
            return Prepared(batch if self._device is None else batch.to(self._device), None)
        with torch.cuda.stream(self._stream):
            batch = self._assemble(clusters)
            if batch.adj.device.type == "cpu":
                batch = batch.pin_memory().to(self._stream.device, non_blocking=True)
            return Prepared(batch, self._stream.record_event())

    def hand_over(self, prepared: Prepared) -> Batch:
        """The batch, for use on the current stream."""
        if prepared.ready is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(prepared.ready)
            prepared.batch.record_stream(stream)
        return prepared.batch


def make_assembler(
    clustered: ClusteredGraph, first_hop: Tensor | CSR | None, device: torch.device | None
) -> Assemble:
    """A `DeviceAssembler` where the graph takes at most half of the GPU's free memory."""
    if device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if resident_bytes(clustered, first_hop) <= _SHARE_OF_FREE_MEMORY * free:
            return DeviceAssembler(clustered, device, first_hop)
    return Assembler(clustered, first_hop)
