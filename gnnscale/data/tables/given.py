"""The tables that a graph is made of: opened, and their columns decided and read."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.tables.edge_table import EdgeArray, Edges, EdgeTable
from gnnscale.data.tables.ids.numbering import Numbering
from gnnscale.data.tables.neighbours import refuse_neighbours
from gnnscale.data.tables.node_ids import NodeIds
from gnnscale.data.tables.node_table import (
    NodeArray,
    NodeTable,
    known_shares,
    npy_path,
    shares_of,
)
from gnnscale.data.tables.roles import Role
from gnnscale.data.tables.roles.edges import edge_roles
from gnnscale.data.tables.roles.evidence import looked_at
from gnnscale.data.tables.roles.no_edges import refuse_counts, refuse_lists, refuse_matrix
from gnnscale.data.tables.roles.nodes import node_roles
from gnnscale.data.tables.roles.totals import refuse_totals
from gnnscale.data.tables.said import (
    ColumnSaid,
    Told,
    dialects,
    labels_said,
    meant_by,
    name_of,
    named_anywhere,
    opened_table,
    recipe_said,
)
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.text.questions import of_table
from gnnscale.data.tables.values.classes import LabelColumns
from gnnscale.data.tables.values.recipe import FeatureRecipe
from gnnscale.errors import InputError
from gnnscale.graph.schema import Schema
from gnnscale.storage.arrow import compute, pyarrow
from gnnscale.storage.files import expanded

logger = logging.getLogger(__name__)

#: Why columns are left out whose loss nobody will mind.
_OF_NO_USE = ("dropped", "row number", "no cells", "always")


class Tables:
    """Edges, and what there is of nodes.

    Args:
        edges: see `gnnscale.from_edge_list`, as the others.
        features: of nodes.
        labels: of nodes.
        told: what is said of columns.
        dialect: what is said of texts.
        num_nodes: where that is said.

    Attributes:
        name: what to call the graph.
        edges: the edges.
        numbering: of the nodes, and of the edges by them.

    Raises:
        InputError: something is no table, has no such column, or a column that may be several
            things.
        StoreError: a file is missing or damaged.
    """

    def __init__(
        self,
        edges: object,
        features: object,
        labels: object,
        told: Told,
        dialect: Mapping[str, Any],
        num_nodes: int | None,
    ) -> None:
        self.name, self._told, self._num_nodes = name_of(edges), told, num_nodes
        texts = dialects(dialect, told)
        self._headed = texts["edges"]["header"] is not None
        opened = {
            "edges": _opened_edges(edges, texts["edges"], told),
            "features": opened_table(features, "features", texts["features"]),
        }
        columns, apart = labels_said(labels, opened["features"])
        opened["labels"] = opened_table(apart, "labels", texts["labels"])
        for table in (opened["features"], opened["labels"]):
            if table is not None and told.id is None and not table.sample(1).num_rows:
                raise InputError(f"{table.what} is empty: it names columns, and has no row")
        self._tables = {key: one for key, one in opened.items() if isinstance(one, Table)}
        nodes = [what for what in self._tables if what != "edges"]
        for keyword, said in (("id", told.id), ("labels", columns[0] if columns else None)):
            if said is not None and not nodes:
                raise InputError(
                    f"{keyword}={said!r} is a column of a table of nodes, and there is none: give "
                    "features="
                )
        self._drop = named_anywhere(self._tables, "drop", told.drop)
        self._time = named_anywhere(self._tables, "time", told.time or self._again(told))
        self.edges = self._edges(opened["edges"], edges)
        self._rows: NodeTable | NodeArray | None = None
        if isinstance(table := opened["features"], Table):
            self._rows = self._nodes(table, columns, apart is not None)
        elif features is not None:
            self._rows = NodeArray(features, "features")
        self._apart: Table | NodeTable | NodeArray | None = None
        if isinstance(table := opened["labels"], Table):
            self._apart = table
        elif apart is not None:
            self._apart = NodeArray(apart, "labels", text=True)
        self.numbering = Numbering(self.edges, self._rows, self._apart, num_nodes)

    @property
    def rows(self) -> NodeTable | NodeArray | None:
        """The table of nodes, or the array in its place."""
        return self._rows

    def node_times(self, ids: NodeIds) -> tuple[np.ndarray | None, bool | None]:
        """When each node became known, `[num_nodes]`, and whether in seconds since 1970.

        Raises:
            InputError: two tables have times of nodes, or not one a node.
        """
        timed = [table for table in self.node_tables() if table.clock is not None]
        if not timed:
            return None, None
        table, clock = timed[0], timed[0].clock
        assert clock is not None
        if len(timed) > 1:
            raise InputError(
                f"time={clock.name!r} is in {' and '.join(one.what for one in timed)}: drop one"
            )
        times = table.times(ids)
        if times is not None and times.size != ids.num_nodes:
            raise InputError(f"{table.what} has {times.size:,} rows for {ids.num_nodes:,} nodes")
        return times, clock.dates

    def may_be_times(self) -> list[str]:
        """The columns of nodes that hold dates or times, or are called so, and are none yet."""
        looks = {look.name: look for t in self.node_tables() for look in looked_at(t.table)}
        roles = {role.column: role.role for t in self.node_tables() for role in t.roles}
        return [
            n for n, k in looks.items() if roles[n] == "feature" and (k.moments or k.called_time)
        ]

    def labels(self, ids: NodeIds, task: str | None) -> LabelColumns | None:
        """The labels in the order of the nodes; None without any."""
        names = self._told.recipe.classes if isinstance(self._told.recipe, Schema) else None
        if isinstance(self._apart, Table):
            self._apart = self._label_table(self._apart, ids)
        if self._apart is None:
            if not isinstance(self._rows, NodeTable):
                return None
            placed = None if self._rows.order is None else ids
            return self._rows.labels(task, placed, names)
        if isinstance(self._apart, NodeArray) or self._apart.id is None:
            if self._apart.num_rows != ids.num_nodes:
                raise InputError(
                    f"{self._apart.what} has {self._apart.num_rows:,} rows for {ids.num_nodes:,} "
                    "nodes, and no column of ids; give a table with ids"
                )
            return self._apart.labels(task)
        return self._apart.labels(task, ids, names)

    def recipe(self, wanted: Any, until: float | None = None) -> FeatureRecipe | None:
        """How columns become features, by the rows known until then; None where there are none."""
        if isinstance(self._rows, NodeTable):
            made = self._rows.recipe(recipe_said(wanted, self._rows.table), until)
            self._rows.roles = tuple(_with_recipe(role, made) for role in self._rows.roles)
            return made
        if wanted is not None:
            raise InputError("recipe= is of columns of a table, and there is no table of nodes")
        return None

    def features(self, recipe: FeatureRecipe | None, scratch: Path) -> Iterator[np.ndarray] | None:
        """Blocks of features; None without any."""
        if isinstance(self._rows, NodeArray):
            return self._rows.features()
        if self._rows is None or recipe is None or not recipe.names:
            return None
        return self._rows.features(recipe, scratch)

    def schema(self, classes: tuple[str, ...] | None, recipe: FeatureRecipe | None) -> Schema:
        """What classes, features and columns are called and were read as."""
        if classes is None and isinstance(self._told.recipe, Schema):
            classes = self._told.recipe.classes
        return Schema(
            classes=classes,
            features=None if recipe is None else recipe.names,
            recipe=None if recipe is None else recipe.to_json(),
            columns=tuple(str(role) for roles in self._roles().values() for role in roles),
            may_be_labels=() if self._labelled() else self._may_be_labels(),
        )

    def _labelled(self) -> bool:
        rows = self._rows
        return self._apart is not None or (
            isinstance(rows, NodeTable) and bool(rows.those("label"))
        )

    def _may_be_labels(self) -> tuple[str, ...]:
        if not isinstance(rows := self._rows, NodeTable):
            return ()
        pairs = zip(looked_at(rows.table), rows.roles, strict=True)
        return tuple(look.name for look, role in pairs if role.role == "feature" and look.of_few)

    def node_tables(self) -> list[NodeTable]:
        """The tables of nodes, whose columns may be splits."""
        return [one for one in (self._rows, self._apart) if isinstance(one, NodeTable)]

    def log(self) -> None:
        """Say what each column was read as; what is left out of edges, as a warning."""
        for table in self._tables.values():
            if table.words:
                words = of_table(", ".join(table.words), table.whose)
                logger.info("%s: %s", table.what, words)
        for what, roles in self._roles().items():
            for role in roles:
                quiet = role.role != "left out" or role.why.startswith(_OF_NO_USE)
                if what == self.edges.what and not quiet:
                    logger.warning("%s: %s; drop=%r says so", what, role, role.column)
                else:
                    logger.info("%s: %s", what, role)

    def _roles(self) -> dict[str, tuple[Role, ...]]:
        edges = {self.edges.what: self.edges.roles} if isinstance(self.edges, EdgeTable) else {}
        return edges | {table.what: table.roles for table in self.node_tables()}

    def _edges(self, table: Table | None, given: object) -> Edges:
        told = self._told
        named = {"source": told.source, "target": told.target, "weight": told.weight}
        if table is None:
            if wrong := [f"{key}={value!r}" for key, value in named.items() if value is not None]:
                raise InputError(f"edges is an array, which has no columns for {', '.join(wrong)}")
            return EdgeArray(given, "edges")
        drop, time = self._drop.get("edges", ()), self._only_time("edges")
        if told.source is None and told.target is None:
            left = [look for look in looked_at(table) if look.name not in drop]
            if told.weight is None:  # who names one has edges
                refuse_matrix(table, left)
            if not (table.typed or self._headed):
                refuse_counts(table, left)
        roles = edge_roles(table, **named, time=time, drop=drop)
        if told.source is None and told.target is None:
            by_role = dict(zip([role.role for role in roles], looked_at(table), strict=True))
            if roles:
                refuse_lists(table, by_role["source"], by_role["target"])
            refuse_totals(table, roles)
        return EdgeTable(table, roles)

    def _refuse_odd_end(self, table: Table, roles: Sequence[Role]) -> None:
        """Refuse rows at the end of a table of nodes that may be none."""
        if self._told.id is None:
            refuse_totals(table, roles)
        if any(role.role == "id" for role in roles) or table.num_rows == self._num_nodes:
            return
        if table.empty_end:
            raise InputError(
                f"{table.what} ends with {table.empty_end:,} rows of separators alone, and rows "
                f"are in the order of nodes: take them out, or say num_nodes={table.num_rows}; if "
                "they are nodes, write NA in their cells"
            )

    def _nodes(self, table: Table, labels: Sequence[ColumnSaid], apart: bool) -> NodeTable:
        first = self.edges.first()
        recipe = recipe_said(self._told.recipe, table)
        if isinstance(recipe, FeatureRecipe):
            declared = set(recipe.ingredients)
        else:
            declared = set() if recipe is None or isinstance(recipe, str) else {*recipe} - {"*"}
        roles = node_roles(
            table,
            lambda looks: shares_of(table, first, looks),
            labels=labels,
            labels_apart=apart,
            features=declared,
            meant=lambda name: meant_by(recipe, name),
            no_order=lambda: self._no_order(table, first),
            **self._told_of("features", table),
        )
        self._refuse_odd_end(table, roles)
        return NodeTable(table, roles)

    def _label_table(self, table: Table, ids: NodeIds) -> NodeTable:
        roles = node_roles(
            table,
            lambda looks: known_shares(ids, looks),
            rest="label",
            no_order=lambda: "" if ids.names is None else "nodes are called by names",
            **self._told_of("labels", table),
        )
        self._refuse_odd_end(table, roles)
        return NodeTable(table, roles)

    def _told_of(self, key: str, table: Table) -> dict[str, Any]:
        """What is said of columns of a table of nodes: names that it has."""
        names = {column.name for column in table.columns}
        own = {"id": self._told.id, "split": self._told.split}
        others = [t for k, t in self._tables.items() if k not in ("edges", key)]
        for what, wanted in own.items():
            if wanted is None or wanted in names:
                continue
            if isinstance(wanted, str) and (
                what == "split" or any(wanted in {c.name for c in t.columns} for t in others)
            ):
                own[what] = None  # of the other table
        return {**own, "time": self._only_time(key), "drop": self._drop.get(key, ())}

    def _only_time(self, key: str) -> str | None:
        named = self._time.get(key, [])
        if len(named) > 1:
            raise InputError(
                f"time={named}: {self._tables[key].what} has all of these; name the one that says "
                "when a row became known"
            )
        return next(iter(named), None)

    def _no_order(self, table: Table, first: pyarrow.Array) -> str:
        """Why the rows of a table cannot be in the order of nodes, as far as one sees."""
        if self._num_nodes is not None or not len(first):
            return ""
        if self.edges.text:
            return f"the edges' ids are text, as {first[0].as_py()!r}"
        numbers = compute.min_max(first.cast(pyarrow.int64())).as_py()
        rows = table.num_rows
        if numbers["min"] < 0 or numbers["max"] >= rows:
            wrong = numbers["min"] if numbers["min"] < 0 else numbers["max"]
            return f"the edges name a node {wrong}, where {rows:,} rows are 0 to {rows - 1:,}"
        return ""

    def _again(self, told: Told) -> list[ColumnSaid]:
        there = {column.name for table in self._tables.values() for column in table.columns}
        return [name for name in told.times_before if name in there]


def _with_recipe(role: Role, recipe: FeatureRecipe | None) -> Role:
    """What a feature is, and what is done to it, where nobody said that."""
    done = None if recipe is None or role.role != "feature" else recipe.ingredients.get(role.column)
    if done is None or not done.why:
        return role
    why = f"standardised, {done.why}; recipe={{{role.column!r}: 'as is'}} leaves it"
    marks = "" if role.why == "named" else role.why
    return replace(role, why="; ".join(filter(None, (marks, why))))


def _opened_edges(edges: object, dialect: Mapping[str, Any], told: Told) -> Table | None:
    """The table of edges; lists of neighbours are refused, unless columns are named."""
    plain = isinstance(edges, str | os.PathLike) and npy_path(edges) is None
    path = expanded(edges) if isinstance(edges, str | os.PathLike) and plain else None
    if path is None or not (told.source is None and told.target is None):
        return opened_table(edges, "edges", dialect)
    refuse_neighbours(path)
    try:
        return opened_table(edges, "edges", dialect)
    except InputError as error:
        refuse_neighbours(path, error)
        raise
