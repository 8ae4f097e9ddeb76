"""Which nodes there are, what they are called, and the edges by the numbers of their nodes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gnnscale.data.tables.column import CellMisfit
from gnnscale.data.tables.edge_table import Edges
from gnnscale.data.tables.ids.cells import check_is_text, may_be_text, tell_unseen
from gnnscale.data.tables.ids.integer_set import IntegerSet
from gnnscale.data.tables.ids.numbered import NumberedEdges
from gnnscale.data.tables.ids.text_set import TextSet
from gnnscale.data.tables.node_ids import Integers, NodeIds, Numbers, Texts, all_integers
from gnnscale.data.tables.node_table import NodeArray, NodeTable
from gnnscale.data.tables.table import Table
from gnnscale.errors import InputError
from gnnscale.storage.arrow import pyarrow

logger = logging.getLogger(__name__)


class Numbering:
    """Numbers the nodes of tables.

    Args:
        edges: between them.
        rows: of the nodes, or the array in their place, where there is one.
        apart: labels that have a table or an array of their own.
        num_nodes: where that is said.
    """

    def __init__(
        self,
        edges: Edges,
        rows: NodeTable | NodeArray | None,
        apart: Table | NodeTable | NodeArray | None,
        num_nodes: int | None,
    ) -> None:
        self._edges, self._rows, self._apart, self._num_nodes = edges, rows, apart, num_nodes
        self._places: np.ndarray | None = None  # of nodes, where the edges say which there are

    def node_ids(self, budget: int, scratch: Path) -> NodeIds:
        """Which nodes there are, and what they are called.

        Raises:
            InputError: nothing says which there are, or two ids differ by what nobody sees.
        """
        ids = self._node_ids(budget, scratch)
        if isinstance(ids, Texts):
            rows = self._rows
            named = rows if isinstance(rows, NodeTable) and rows.id is not None else self._edges
            tell_unseen(ids.names.to_arrow(), named.what)
        return ids

    def _node_ids(self, budget: int, scratch: Path) -> NodeIds:
        num_nodes = self._num_nodes
        rows = self._rows
        if isinstance(rows, NodeTable) and rows.id is not None:
            if num_nodes is not None:
                raise InputError(
                    f"num_nodes={num_nodes}: {rows.what} with ids say how many there are; where "
                    f"rows are in the order of nodes, drop={rows.those('id')[0]!r}"
                )
            return self._ids_of(rows, budget // 4)
        for given in (rows, self._apart):
            if given is None or isinstance(given, Table):
                continue
            if num_nodes is not None and given.num_rows != num_nodes:
                raise InputError(
                    f"{given.what} has {given.num_rows:,} rows for {num_nodes:,} nodes"
                )
            return Numbers(given.num_rows, f"the order of {given.what}, without a column of ids,")
        if num_nodes is not None:
            return Numbers(num_nodes, f"num_nodes={num_nodes}")
        if not self._edges.text:
            try:
                found, places = self._integers(budget, scratch)
            except CellMisfit as error:
                if not self._edges.may_be_text:
                    raise
                assert self._edges.table is not None
                check_is_text(error, self._edges.table)
                logger.info("%s: not all ids are integers; they are read as text", self._edges.what)
            else:
                self._places = places
                self._check_some(found.size)
                plain = found[0] == 0 and found[-1] == found.size - 1
                return Numbers(found.size, "the edges") if plain else Integers(found, budget // 4)
        known, self._read = TextSet(), NumberedEdges(scratch)
        self._read.take(self._edges.chunks(text=True), known.add)
        names, self._places = known.ordered()
        self._check_some(len(names))
        return Texts(names)

    def _ids_of(self, rows: NodeTable, memory: int) -> NodeIds:
        """The ids of a table of nodes: text where those of the edges are, or one of theirs is."""
        if not (self._edges.text or rows.text):
            assert rows.id is not None
            try:
                return rows.node_ids(False, memory)
            except CellMisfit as error:
                if not may_be_text(rows.table, [rows.id]):
                    raise
                check_is_text(error, rows.table)
                logger.info("%s: not all ids are integers; they are read as text", rows.what)
        return rows.node_ids(True, memory)

    def _check_some(self, nodes: int) -> None:
        if not nodes:
            raise InputError(
                f"{self._edges.what} has no edge, and nothing says which nodes there are: give "
                "features=, a table of nodes, or num_nodes="
            )

    def _integers(self, budget: int, scratch: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """All ids of edges, ascending; and the place of each number among them, if they fit."""
        known, self._read = IntegerSet(budget), NumberedEdges(scratch)
        if self._read.take(self._edges.chunks(text=False), known.add):
            return known.ordered()
        both = (np.concatenate(chunk[:2]) for chunk in self._edges.chunks(text=False))
        return all_integers(both, budget, scratch), None

    def numbered(self, ids: NodeIds, absent: str) -> Iterator[tuple[np.ndarray | None, ...]]:
        """Chunks of edges by the numbers of their nodes, as `build_graph` takes them.

        Raises:
            InputError: as `_numbered`.
        """
        for source, target, *more in self._numbered(ids, absent):
            no_weight = [None] * (self._edges.clock is not None and not self._edges.weighted)
            yield (source, target, *no_weight, *more)

    def _numbered(self, ids: NodeIds, absent: str) -> Iterator[tuple[np.ndarray, ...]]:
        """Chunks of edges by the numbers of their nodes; those without a row refused, or left out.

        Raises:
            InputError: an id is of no node; or rows in order are more than the edges name.
        """
        text, what = isinstance(ids, Texts), self._edges.what
        if not text and self._edges.text:
            raise InputError(f"{what}: source and target are text, and nodes integers")
        if self._places is not None:
            yield from self._read.chunks(self._places)
            return
        table = self._rows if isinstance(self._rows, NodeTable) else None
        low, high, dropped = ids.num_nodes, -1, 0
        for source, target, *more in self._edges.chunks(text):
            if absent == "drop":
                found = [ids.look_up(source), ids.look_up(target)]
                known = (found[0] >= 0) & (found[1] >= 0)
                dropped += int((~known).sum())
                found, more = [end[known] for end in found], [values[known] for values in more]
            else:
                try:
                    found = [
                        ids.find(source, f"{what}: source"),
                        ids.find(target, f"{what}: target"),
                    ]
                except InputError as error:
                    if table is None or table.id is None:
                        raise
                    raise self._absent(ids, table) from error
            if found[0].size:
                low = min(low, *(int(end.min()) for end in found))
                high = max(high, *(int(end.max()) for end in found))
            yield (*found, *more)
        if dropped:
            logger.warning("%s: %s edges are left out: no node is called so", what, f"{dropped:,}")
        if table is not None and table.id is None and self._num_nodes is None and high >= 0:
            _check_order(table, low, high)

    def _absent(self, ids: NodeIds, table: NodeTable) -> InputError:
        """What to say of edges whose nodes have no row in a table: how many, and which."""
        edges = absent = 0
        some: set[object] = set()
        for source, target, *_ in self._edges.chunks(isinstance(ids, Texts)):
            unknown = [ids.look_up(end) < 0 for end in (source, target)]
            edges += len(source)
            absent += int((unknown[0] | unknown[1]).sum())
            for end, mask in zip((source, target), unknown, strict=True):
                cells = pyarrow.array(end).filter(pyarrow.array(mask)).unique()
                some.update(cells[: 1 << 16].to_pylist() if len(some) < 1 << 16 else [])
        shown = ", ".join(map(repr, [*some][:3]))
        return InputError(
            f"{self._edges.what}: {absent:,} of {edges:,} edges name {len(some):,} nodes that have "
            f"no row in {table.what}, as {shown}. Give these rows, or leave the edges out: "
            "absent='drop'"
        )


def _check_order(table: NodeTable, low: int, high: int) -> None:
    """Refuse rows in the order of nodes that the edges do not name from the first to the last."""
    rows = table.num_rows
    if low != 0 or high != rows - 1:
        raise InputError(
            f"{table.what} has {rows:,} rows and no column of ids, and the edges name nodes "
            f"{low:,} to {high:,}. Where row i, from 0, is of node i, say num_nodes={rows}; else "
            "name the column of ids, id="
        )
