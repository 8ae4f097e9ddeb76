"""TrainingRows: the rows of training nodes, epoch after epoch, in batches drawn at random.

Rows in a file are read in blocks that lie together: an epoch permutes the blocks, reads some of
them at a time and shuffles the rows of these. Rows in memory are drawn in the same order, so that
where they are kept does not change what is learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.inference import activations
from gnnscale.inference.activation_file import ActivationsInFile
from gnnscale.inference.activations import ActivationsInMemory
from gnnscale.kernels import CSR
from gnnscale.loader import Batch
from gnnscale.train.layerwise.moments import WholeNorm
from gnnscale.train.layerwise.streams import AGGREGATED, SectionInput
from gnnscale.train.layerwise.training import TrainedSection

_Part = Tensor | CSR | activations.Activations
_Span = tuple[int, np.ndarray, np.ndarray]  # its first block's place, its blocks, the rows' order

# Of rows that are shuffled among each other, with their order; three times as much is there at a
# time. The same whatever the bound: what is learnt does not depend on it.
SHUFFLED_BYTES = 16 << 20
ORDER = 40  # bytes a row: its turn, place, position, number and label
CHUNK_ROWS = 1 << 14  # of validation nodes at once


@dataclass
class RowBatch:
    """Rows of a section with their labels: to a task, a batch whose nodes are all training nodes.

    Attributes:
        rows: aggregated rows `[num_nodes, width]`, dense or sparse. They are the layer's, and no
            features: a task that reads `x` finds none.
        slots: rows of what the section reads beside them, by slot.
        y: labels of the nodes.
        node_id: int64 `[num_nodes]`, original ids.
        train_mask: bool `[num_nodes]`, true.
        train_index: int64 `[num_nodes]`, all rows.
        epoch: the epoch it belongs to.
        step: the step within the epoch.
        step_train_nodes: what a loss is divided by.
        norm: see `SectionInput`.
    """

    rows: Tensor | CSR
    slots: dict[str, Tensor | CSR]
    y: Tensor | None
    node_id: Tensor
    train_mask: Tensor
    train_index: Tensor
    epoch: int
    step: int
    step_train_nodes: int
    norm: WholeNorm | None = None
    adj: None = None

    @property
    def num_nodes(self) -> int:
        """Rows of the batch."""
        return self.node_id.numel()


def as_rows(batch: Batch) -> RowBatch:
    """The training nodes of a batch, which are all of its nodes, as rows."""
    assert batch.x is not None
    return RowBatch(
        rows=batch.x,
        slots={},
        y=batch.y,
        node_id=batch.node_id,
        train_mask=batch.train_mask,
        train_index=batch.train_index,
        epoch=0,
        step=0,
        step_train_nodes=batch.step_train_nodes,
    )


class TrainingRows:
    """Batches of the rows that a section trains on; of several ranks, step t takes R of them.

    Args:
        rows: what the section reads of the training nodes.
        y: their labels, or None.
        node_id: int64 `[num_rows]`, their original ids.
        batch_rows: the most rows of a batch, and of a block; they are even in size.
        seed: of the order.
        layer: enters the order.
        device: where batches go.

    Attributes:
        span: see `TrainingBatches`.
    """

    def __init__(
        self,
        rows: SectionInput,
        y: Tensor | None,
        node_id: Tensor,
        batch_rows: int,
        seed: int,
        layer: int,
        device: torch.device,
    ) -> None:
        self._rows = rows
        self._device = device
        self._seed = (seed, layer)
        self._batch_rows = batch_rows
        self._node_id = node_id.to(device)
        self._y = None if y is None else y.to(device)
        self._rank, self._ranks = comm.rank(), comm.world_size()
        self._every: tuple[Tensor, Tensor] | None = None  # mask and index of a batch's rows
        bytes_a_row = ORDER + sum(_bytes_a_row(part) for part in rows.parts.values())
        self.span = max(1, SHUFFLED_BYTES // (bytes_a_row * batch_rows))

    def __len__(self) -> int:
        """Steps an epoch."""
        return -(-self.num_batches // self._ranks)

    @property
    def num_batches(self) -> int:
        """Batches an epoch, of all ranks."""
        return -(-len(self._rows) // self._batch_rows)

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""
        return len(self._rows)

    @property
    def norm(self) -> WholeNorm | None:
        """See `SectionInput`."""
        return self._rows.norm

    def sample(self) -> RowBatch:
        """A batch of a few rows."""
        return next(self.in_order(2))

    def in_order(self, at_once: int) -> Iterator[RowBatch]:
        """All rows, in their order, so many at a time."""
        for start in range(0, len(self._rows), at_once):
            nodes = torch.arange(start, min(start + at_once, len(self._rows)))
            read = {
                slot: _pick(_range(part, nodes), nodes - start, nodes)
                for slot, part in self._rows.parts.items()
            }
            here = nodes.to(self._device)
            y = None if self._y is None else self._y.index_select(0, here)
            yield self._batch(read, y, self._node_id.index_select(0, here), 0, 0)

    def epoch(self, number: int, step: int = 0) -> Iterator[RowBatch | None]:
        """This rank's batches of an epoch, from a step on; None in a last step that lacks one.

        Args:
            number: of the epoch; enters the order.
            step: how many steps have been taken already.
        """
        yield from self._own(number, step * self._ranks)
        if 0 < self.num_batches % self._ranks <= self._rank and step < len(self):
            yield None

    def _own(self, number: int, begin: int) -> Iterator[RowBatch]:
        """This rank's of an epoch's batches, from one of them on."""
        for (first, chosen, order), parts in self._read_ahead(self._spans(number, begin)):
            index = torch.from_numpy(order).to(self._device)
            nodes = torch.from_numpy(self._positions(chosen)[order]).to(self._device)
            # Labels and ids of a span are drawn at once: a step of few rows is mostly calls.
            ids = self._node_id.index_select(0, nodes).tensor_split(chosen.size)
            y: Sequence[Tensor | None] = [None] * chosen.size
            if self._y is not None:
                y = self._y.index_select(0, nodes).tensor_split(chosen.size)
            cut = zip(index.tensor_split(chosen.size), nodes.tensor_split(chosen.size), strict=True)
            for at, (picked, of_rows) in enumerate(cut):
                if first + at >= begin and (first + at) % self._ranks == self._rank:
                    read = {slot: _pick(part, picked, of_rows) for slot, part in parts.items()}
                    turn = (first + at) // self._ranks
                    yield self._batch(read, y[at], ids[at], number, turn)

    def _spans(self, number: int, begin: int) -> Iterator[_Span]:
        """The spans of an epoch, in their order, from that of a batch on."""
        random = np.random.default_rng((*self._seed, number))
        blocks = random.permutation(self.num_batches)
        for first in range(0, self.num_batches, self.span):
            chosen = blocks[first : first + self.span]
            order = random.permutation(self._rows_in(chosen))
            if first + chosen.size > begin:
                yield first, chosen, order

    def _batch(
        self,
        read: dict[str, Tensor | CSR],
        y: Tensor | None,
        node_id: Tensor,
        epoch: int,
        step: int,
    ) -> RowBatch:
        count = node_id.numel()
        if self._every is None or self._every[0].numel() != count:
            ones = torch.ones(count, dtype=torch.bool, device=self._device)
            self._every = (ones, torch.arange(count, device=self._device))
        parts = {slot: part.to(self._device, non_blocking=True) for slot, part in read.items()}
        return RowBatch(
            rows=parts.pop(AGGREGATED),
            slots=parts,
            y=y,
            node_id=node_id,
            train_mask=self._every[0],
            train_index=self._every[1],
            epoch=epoch,
            step=step,
            step_train_nodes=count,
            norm=self._rows.norm,
        )

    def _read_ahead(self, spans: Iterator[_Span]) -> Iterator[tuple[_Span, dict[str, _Part]]]:
        """Every span with its rows: those of files are read while the last are trained on."""
        in_files = any(isinstance(part, ActivationsInFile) for part in self._rows.parts.values())
        if not in_files:
            in_memory: dict[str, _Part] = {**self._rows.parts}
            yield from ((span, in_memory) for span in spans)
            return
        with ThreadPoolExecutor(1) as reader:
            following = next(spans, None)
            ahead = following and reader.submit(self._read, following[1])
            while (span := following) is not None:
                assert ahead is not None
                parts = ahead.result()
                following = next(spans, None)
                ahead = following and reader.submit(self._read, following[1])
                yield span, parts
                del parts

    def _read(self, blocks: np.ndarray) -> dict[str, _Part]:
        ranges = [self._range(block) for block in blocks]
        return {
            slot: _read_ranges(part, ranges) if isinstance(part, ActivationsInFile) else part
            for slot, part in self._rows.parts.items()
        }

    def _range(self, block: int) -> tuple[int, int]:
        # Even ones: a last batch of one row would have no variance for a norm to take.
        rows, blocks = len(self._rows), self.num_batches
        return int(block) * rows // blocks, (int(block) + 1) * rows // blocks

    def _rows_in(self, blocks: np.ndarray) -> int:
        return sum(stop - start for start, stop in map(self._range, blocks))

    def _positions(self, blocks: np.ndarray) -> np.ndarray:
        """The rows of some blocks, in their order."""
        return np.concatenate([np.arange(*self._range(block)) for block in blocks])


def _read_ranges(file: ActivationsInFile, ranges: Sequence[tuple[int, int]]) -> Tensor:
    (columns,) = file.blocks
    rows = torch.empty(sum(b - a for a, b in ranges), file.shape[1], dtype=file.dtype)
    end = 0
    for a, b in ranges:
        start, end = end, end + b - a
        file.read(a, b, columns, rows[start:end])
    return rows


def _range(part: _Part, nodes: Tensor) -> _Part:
    """Rows of a file that lie together, read; others as they are."""
    return (
        part.rows(int(nodes[0]), int(nodes[-1]) + 1)
        if isinstance(part, ActivationsInFile)
        else part
    )


def _pick(part: _Part, in_span: Tensor, of_rows: Tensor) -> Tensor | CSR:
    if isinstance(part, Tensor):  # a span read from a file
        return _widened(part.index_select(0, in_span.to(part.device)))
    if isinstance(part, CSR):
        return part.select_rows(of_rows.to(part.device))
    assert isinstance(part, ActivationsInMemory)
    return _widened(part.values.index_select(0, of_rows.to(part.values.device)))


def _widened(rows: Tensor) -> Tensor:
    """Rows as they are computed with, whatever they are kept in."""
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def _bytes_a_row(part: activations.Activations | CSR) -> int:
    if isinstance(part, CSR):
        return 8 * part.nnz // max(1, part.shape[0])
    return part.shape[1] * part.dtype.itemsize


class RowValidation:
    """Rows that a layer is evaluated on.

    Args:
        rows: those of the validation nodes.
    """

    def __init__(self, rows: TrainingRows) -> None:
        self._rows = rows

    @property
    def num_rows(self) -> int:
        """See `ValidationRows`."""
        return self._rows.num_rows

    def outputs(self, trained: TrainedSection) -> Iterator[tuple[Tensor, Tensor]]:
        """See `ValidationRows`. Norms whose statistics are not known take those of these rows."""
        known = None if self._rows.norm is None else self._rows.norm.phase
        unknown = [norm for norm in trained.section.norms_over_rows if norm is not known]
        at_once = self.num_rows if unknown else CHUNK_ROWS
        for batch in self._rows.in_order(at_once):
            assert batch.y is not None
            yield trained.evaluated(batch), batch.y
