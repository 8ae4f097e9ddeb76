"""What of a graph was known when training ended, and when validation did."""

from __future__ import annotations

import contextlib
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.graph.store.known import store_known
from gnnscale.graph.times import Cuts
from gnnscale.storage.mapped import is_mapped
from gnnscale.storage.memory import scratch_folder


class Known:
    """A graph as it was known at the cuts of a split.

    Of a graph in files, so is what was known of it: in a scratch folder, for as long as this lives.

    Args:
        whole: the graph.
        cuts: of the split.

    Attributes:
        whole: the graph, all of it.
    """

    def __init__(self, whole: Graph, cuts: Cuts) -> None:
        self.whole, self._cuts = whole, cuts
        self._folder = _Folder(whole.adj.indices) if is_mapped(whole.adj.indices) else None

    @cached_property
    def train(self) -> Graph:
        """What training knows of."""
        return self._until(self._cuts.train, "train")

    @cached_property
    def val(self) -> Graph:
        """What validation knows of."""
        return self._until(self._cuts.val, "val")

    def held(self) -> dict[str, object]:
        """The graphs that have been made."""
        return {f"known {k}": v for k, v in vars(self).items() if k in ("train", "val")}

    def _until(self, moment: float, name: str) -> Graph:
        if self._folder is None:
            return self.whole.until(moment)
        return store_known(self.whole, moment, self._folder.path / name)


class _Folder:
    """A scratch folder that goes when nothing refers to it any more."""

    def __init__(self, beside: Tensor) -> None:
        held = contextlib.ExitStack()
        self.path: Path = held.enter_context(scratch_folder("gnnscale-known-", beside))
        weakref.finalize(self, held.close)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: its files are read, and not written to."""
        return self


def known_then(
    data: Graph | ClusteredGraph, split: str
) -> tuple[Known | None, Graph | ClusteredGraph, list[str]]:
    """What was known at the cuts of a split, what is trained on, and in words what cannot be.

    Args:
        data: the whole graph.
        split: the split set.

    Returns:
        None, the data, and nothing, where the split has no cuts.
    """
    whole = data.graph if isinstance(data, ClusteredGraph) else data
    chosen = None if split not in (*whole.splits, "default") else whole.split(split)
    if chosen is None or chosen.cuts is None:
        return None, data, []
    if isinstance(data, ClusteredGraph):
        fault = (
            f"split {split!r} ends training at a cut, and these clusters were made of all edges, "
            "later ones too: give the trainer the graph, which it clusters as it was then "
            "(clustered.original(), of a store gnnscale.open_graph(path).original(); on the "
            "command line, what `gnnscale import` writes)"
        )
        return None, data, [fault]
    if whole.edge_time is None and whole.node_time is None:
        fault = f"split {split!r} has cuts, and neither nodes nor edges have times"
        return None, data, [f"{fault}: give node_time= or edge_time="]
    known = Known(whole, chosen.cuts)
    return known, known.train, []
