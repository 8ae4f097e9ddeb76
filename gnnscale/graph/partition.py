"""Partition: which part every node belongs to, and how good that is."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.errors import DamagedStore, InputError, StoreError
from gnnscale.graph.adjacency import row_blocks
from gnnscale.storage.files import atomic_write, checked_path
from gnnscale.storage.formats import Format

if TYPE_CHECKING:
    from gnnscale.graph.graph import Graph


FORMAT = Format(
    "gnnscale-partition", 1, "partition", "gnnscale.partition(graph, num_parts=…).save(path)"
)


@dataclass(frozen=True)
class PartitionQuality:
    """Figures of a partition on a graph.

    Attributes:
        edge_cut: fraction of the edges whose ends lie in different parts (self-loops are kept).
        node_balance: nodes of the largest part over the mean.
        edge_balance: kept edges of the fullest part over the mean (1.0 where none is kept).
        train_balance: training nodes of the fullest part over the mean; None without a split.
        empty_parts: parts without a node.
        label_entropy: mean over parts, weighted by labelled nodes, of the entropy of the labels in
            the part, in bits; None without class labels.
    """

    edge_cut: float
    node_balance: float
    edge_balance: float
    train_balance: float | None
    empty_parts: int
    label_entropy: float | None


@dataclass(frozen=True, eq=False)
class Partition:
    """An assignment of nodes to parts.

    Attributes:
        assignment: int32 `[num_nodes]`, ids in `[0, num_parts)`.
        num_parts: how many parts there are.
        method: what made it: "kaminpar", "metis", …, or the name of the user's callable.
        seed: the seed it was made with.
        seconds: wall time it took; 0 when it came from the cache.
        parameters: further settings of the method.
    """

    assignment: Tensor
    num_parts: int
    method: str = "given"
    seed: int = 0
    seconds: float = 0.0
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # NumPy integers are no JSON; both numbers are written to files.
        for name in ("num_parts", "seed"):
            try:
                object.__setattr__(self, name, operator.index(getattr(self, name)))
            except (TypeError, RuntimeError):  # a tensor without data raises the latter
                raise InputError(f"{name}={getattr(self, name)!r} must be an integer") from None
        if not 1 <= self.num_parts < 2**31:
            raise InputError(f"num_parts={self.num_parts} must be at least 1 and below 2^31")
        try:
            assignment = torch.as_tensor(self.assignment).cpu()
        except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
            raise InputError(f"an assignment is one integer per node: {error}") from error
        if assignment.dim() != 1 or assignment.is_floating_point() or assignment.is_complex():
            raise InputError(
                f"an assignment is one integer per node; got {assignment.dtype} "
                f"{tuple(assignment.shape)}"
            )
        if assignment.numel():
            assignment = assignment.long()
            low, high = int(assignment.min()), int(assignment.max())
            if low < 0 or high >= self.num_parts:
                raise InputError(
                    f"part ids span [{low}, {high}]; with {self.num_parts} parts the range is "
                    f"[0, {self.num_parts - 1}]"
                )
        object.__setattr__(self, "assignment", assignment.to(torch.int32))

    @override
    def __repr__(self) -> str:
        return (
            f"Partition({self.num_nodes:,} nodes in {self.num_parts:,} parts, method "
            f"{self.method!r}, seed {self.seed}, {self.seconds:.3g} s)"
        )

    @property
    def num_nodes(self) -> int:
        """Nodes that are assigned."""
        return self.assignment.numel()

    @property
    def sizes(self) -> Tensor:
        """Nodes of each part, int64 `[num_parts]`."""
        return torch.bincount(self.assignment.long(), minlength=self.num_parts)

    def quality(self, graph: Graph) -> PartitionQuality:
        """Measure edge cut, balances and label entropy on `graph`."""
        if graph.num_nodes != self.num_nodes:
            raise InputError(
                f"the partition has {self.num_nodes} nodes, the graph {graph.num_nodes}"
            )
        part = self.assignment.long()
        kept_per_part = torch.zeros(self.num_parts, dtype=torch.int64)
        for start, _, rows in row_blocks(graph.adj):
            target = part[start + rows.row_index]
            same = (target == part[rows.indices.long()]).long()
            kept_per_part.index_add_(0, target, same)  # blocks are many, and may be parts, too
        kept = int(kept_per_part.sum())
        train_balance = None
        if graph.train_mask is not None and bool(graph.train_mask.any()):
            train = torch.bincount(part[graph.train_mask], minlength=self.num_parts)
            train_balance = _max_over_mean(train)
        sizes = self.sizes
        return PartitionQuality(
            edge_cut=1 - kept / graph.num_edges if graph.num_edges else 0.0,
            node_balance=_max_over_mean(sizes),
            edge_balance=_max_over_mean(kept_per_part),
            train_balance=train_balance,
            empty_parts=int((sizes == 0).sum()),
            label_entropy=self._label_entropy(graph),
        )

    def _label_entropy(self, graph: Graph) -> float | None:
        if graph.y is None or graph.y_level != "node" or graph.task != "classification":
            return None
        labelled = graph.y >= 0
        if not bool(labelled.any()):
            return None
        key = self.assignment.long()[labelled] * graph.num_classes + graph.y[labelled].long()
        pairs, counts = key.unique(return_counts=True)
        parts = pairs // graph.num_classes
        total = torch.zeros(self.num_parts, dtype=torch.float64)
        total.index_add_(0, parts, counts.double())
        share = counts.double() / total[parts]
        return float(-(counts.double() * share.log2()).sum() / counts.sum()) + 0.0

    def save(self, path: str | Path) -> None:
        """Write to `path` (.npz, no pickle): assignment and how it was made."""
        about = json.dumps(
            {
                **FORMAT.stamp,
                "num_parts": self.num_parts,
                "method": self.method,
                "seed": self.seed,
                "seconds": self.seconds,
                "parameters": self.parameters,
            }
        )
        with atomic_write(path) as file:
            np.savez(file, assignment=self.assignment.cpu().numpy(), about=np.array(about))

    @classmethod
    def load(cls, path: str | Path) -> Partition:
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing or cannot be read.
            DamagedStore: it is no partition.
        """
        path = checked_path(path)
        try:
            # NumPy leaves a file that it opened and could not read to the garbage collector.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
                about = json.loads(str(content["about"]))
                assignment = torch.from_numpy(content["assignment"])
                return cls(assignment, **FORMAT.unstamped(about, path))
        except StoreError:  # of another version
            raise
        except FileNotFoundError:
            raise StoreError(f"no partition at {path}") from None
        except OSError as error:
            why = error.strerror or error
            raise StoreError(f"the partition at {path} cannot be read: {why}") from error
        except MemoryError:
            raise
        except Exception as error:
            raise DamagedStore(f"the partition at {path} cannot be read: {error}") from error


def _max_over_mean(counts: Tensor) -> float:
    total = int(counts.sum())
    return float(counts.max()) * counts.numel() / total if total else 1.0
