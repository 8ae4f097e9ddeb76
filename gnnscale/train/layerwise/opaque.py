"""Opaque sections: trained on clusters of the frozen input, as `ClusterTrainer` trains a model.

What attention and the like aggregate depends on what is trained, so that it cannot be made once.
Such a section reads the rows of whole clusters and the edges among them; all that comes before it
stays frozen, and is read where it is kept: in memory or in a file, cluster by cluster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from gnnscale import comm
from gnnscale.costs.clusters import clusters_that_fit
from gnnscale.costs.passes import pass_cost
from gnnscale.graph import ClusteredGraph
from gnnscale.inference.activations import Activations, Chunks, GraphFeatures
from gnnscale.inference.engine import advance
from gnnscale.kernels import CSR
from gnnscale.loader import Assembler, Batch, ClusterLoader
from gnnscale.loader.batch import Ranges, take_features
from gnnscale.nn import Context
from gnnscale.nn.blocks.phases import Collect
from gnnscale.nn.convs.propagation import densify
from gnnscale.train.layerwise.sections import Section
from gnnscale.train.layerwise.streams import Stream
from gnnscale.train.layerwise.training import TrainedSection


@dataclass
class SlottedBatch(Batch):
    """A batch with the rows of a frozen layer. Without `x`: they are no features to a task.

    Attributes:
        rows: of the frozen layer `[num_nodes, width]`, dense or sparse.
        slots: its rows of what the section reads beside them, by slot.
    """

    rows: Tensor | CSR | None = None
    slots: dict[str, Tensor | CSR] = field(default_factory=dict)


class ClusterBatches:
    """Batches of clusters that an opaque section trains on.

    Args:
        section: the section.
        stream: what it reads, at the nodes of the view.
        seen: the clustered graph, or the view of it, that is trained on.
        clusters_per_batch: clusters a step.
        seed: of the draws.
        device: where batches go.
    """

    span = 1  # see `TrainingBatches`: clusters are drawn for every step

    def __init__(
        self,
        section: Section,
        stream: Stream,
        seen: ClusteredGraph,
        clusters_per_batch: int,
        seed: int,
        device: torch.device,
    ) -> None:
        bare = dataclasses.replace(seen, graph=dataclasses.replace(seen.graph, x=None))
        self._seen = bare
        self._device = device
        # A row of the stream is a node of the view.
        self._starts = torch.cat([torch.zeros(1, dtype=torch.int64), seen.sizes.cumsum(0)])
        self._x, self._layers = stream.layer, stream.layers
        self._slots = _slots_of(section, stream)
        drawn = np.random.SeedSequence((seed, section.index)).generate_state(1)
        self._rank = comm.rank()
        self._loader = ClusterLoader(
            bare,
            clusters_per_batch,
            seed=int(drawn[0]),
            rank=self._rank,
            world_size=comm.world_size(),
            device=device,
        )

    def keep_within(self, section: Section, memory: int | str, held: int, fewer: bool) -> None:
        """Take as many clusters a step as `memory` has room for: see `clusters_that_fit`."""

        def forward(batch: SlottedBatch) -> Tensor:
            context, x = Context.of(batch, training=False), batch.rows
            assert x is not None
            for phase in section.trained_phases:
                x = phase(x, context)
            return densify(x)

        cost, loader = None, self._loader
        if memory != "auto":
            trained = nn.ModuleList(section.modules)
            copies = 2 + loader.prefetch
            cost = pass_cost(forward, trained, self.sample(), memory, training=True, copies=copies)
        loader.clusters_per_batch = clusters_that_fit(
            cost, self._seen, loader.clusters_per_batch, memory, held, fewer=fewer
        )

    def __len__(self) -> int:
        """Steps an epoch."""
        return len(self._loader)

    @property
    def num_batches(self) -> int:
        """Batches an epoch, of all ranks."""
        return self._loader.num_batches

    @property
    def num_rows(self) -> int:
        """Nodes of the view: all of them are computed, whether they are training nodes or not."""
        return self._seen.num_nodes

    def epoch(self, number: int, step: int = 0) -> Iterator[SlottedBatch | None]:
        """This rank's batches of an epoch, from a step on; None in a last step that lacks one.

        Args:
            number: of the epoch; enters the draws.
            step: how many steps have been taken already.
        """
        state = self._loader.state_dict()
        self._loader.load_state_dict({**state, "epoch": number, "step": step})
        drawn = self._loader.steps(number)[step:]
        for batch, of_ranks in zip(self._loader, drawn, strict=True):
            if batch is None:
                yield None
                continue
            # Its own: ranks add theirs up.
            batch = dataclasses.replace(batch, step_train_nodes=batch.train_index.numel())
            yield self._with_rows(batch, of_ranks[self._rank])

    def sample(self) -> SlottedBatch:
        """The largest cluster."""
        largest = self._seen.sizes.argmax().reshape(1)
        return self._with_rows(Assembler(self._seen)(largest).to(self._device), largest)

    def _with_rows(self, batch: Batch, clusters: Tensor) -> SlottedBatch:
        # The host's own: those of the batch may be on a device, which would be waited for.
        clusters = clusters.sort().values
        starts, ends = self._starts[clusters], self._starts[clusters + 1]
        ranges = list(zip(starts.tolist(), ends.tolist(), strict=True))
        slots = {slot: self._taken(parts, ranges) for slot, parts in self._slots.items()}
        return SlottedBatch(**vars(batch), rows=self._taken([self._x], ranges), slots=slots)

    def _taken(self, parts: list[Activations], ranges: Ranges) -> Tensor | CSR:
        only = parts[0]
        if isinstance(only, GraphFeatures) and isinstance(only.x, CSR):
            taken = take_features(only.x, ranges)
            assert taken is not None
            return taken.to(self._device)
        rows = [torch.cat([part.rows(a, b) for a, b in ranges]) for part in parts]
        whole = torch.cat(rows, dim=1) if len(rows) > 1 else rows[0]
        return whole.to(self._device)


class WholeGraph:
    """The validation nodes of an opaque section, which is evaluated over the whole graph, exactly.

    Args:
        section: the section.
        stream: what it reads, at all nodes.
        nodes: int64, the validation nodes, ascending.
        y: their labels.
    """

    def __init__(self, section: Section, stream: Stream, nodes: Tensor, y: Tensor) -> None:
        self._stage = section
        self._stream = stream
        self._nodes = nodes
        self._y = y

    @property
    def num_rows(self) -> int:
        """Nodes of the graph: all of them are computed for some."""
        return self._stream.graph.num_nodes

    @torch.no_grad()
    def outputs(self, trained: TrainedSection) -> Iterator[tuple[Tensor, Tensor]]:
        """See `ValidationRows`."""
        section, stream = self._stage, self._stream
        layers = stream.layers
        found = advance(
            section.trained_phases, stream.graph, layers, stream.layer, self._copied_slots()
        )
        for start, end in layers.ranges():
            low, high = torch.searchsorted(self._nodes, torch.tensor([start, end])).tolist()
            if high > low:
                rows = layers.rows(found, start, end)
                chosen = (self._nodes[low:high] - start).to(rows.device)
                yield rows.index_select(0, chosen), self._y[low:high].to(rows.device)

    def _copied_slots(self) -> dict[str, list[Activations]]:
        """The slots as the section may write to them: a running maximum is kept where it stands."""
        maxima = {
            phase.slot
            for phase in self._stage.trained_phases
            if isinstance(phase, Collect) and phase.mode == "max" and not phase.first
        }
        return {
            slot: [self._copy(part) for part in parts] if slot in maxima else list(parts)
            for slot, parts in _slots_of(self._stage, self._stream).items()
        }

    def _copy(self, layer: Activations) -> Activations:
        layers = self._stream.layers

        def chunks() -> Chunks:
            for start, end in layers.ranges():
                yield start, end, layers.rows(layer, start, end)

        return layers.keep(chunks(), whole_rows=True)


def _slots_of(section: Section, stream: Stream) -> dict[str, list[Activations]]:
    """What the section reads beside the layer: values of earlier sections, and the layer itself."""
    earlier = {slot: stream.slots[slot] for slot in section.earlier_slots}
    own: dict[str, list[Activations]] = {
        slot: [stream.layer] for slot in section.input_slots & section.slots_read
    }
    return {**earlier, **own}
