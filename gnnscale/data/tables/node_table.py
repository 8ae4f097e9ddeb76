"""Features or labels of nodes, in a table or in an array, a row a node."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.tables.ids.cells import id_batches, is_text
from gnnscale.data.tables.node_ids import Integers, NodeIds, Numbers, Texts
from gnnscale.data.tables.roles import Role
from gnnscale.data.tables.roles.evidence import Look, as_ids, looked_at
from gnnscale.data.tables.roles.totals import refuse_last_ids
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.values.classes import LabelColumns, read_label_columns
from gnnscale.data.tables.values.moments import Clock
from gnnscale.data.tables.values.recipe import FeatureRecipe
from gnnscale.data.tables.values.recipe_making import make_recipe
from gnnscale.errors import InputError, StoreError
from gnnscale.storage.arrow import compute, pyarrow
from gnnscale.storage.files import expanded

_ROWS_AT_ONCE = 1 << 15

logger = logging.getLogger(__name__)


class NodeArray:
    """Features or labels in an array, in memory or an `.npy`, in the order of the nodes.

    Args:
        given: the array or the path of an `.npy`.
        what: what errors call it.

    Raises:
        InputError: it is no array of numbers or booleans, or of text where `text` allows that.
        StoreError: a file is missing or damaged.
    """

    def __init__(self, given: object, what: str, *, text: bool = False) -> None:
        if isinstance(given, str | os.PathLike):
            path = expanded(given)
            what = f"{what} ({path})"
            if not path.is_file():
                raise StoreError(f"{what}: there is no such file")
            try:
                self.array = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise StoreError(f"{what} is damaged, or no array of numbers: {error}") from error
        else:
            try:
                self.array = np.asarray(given)
            except (TypeError, ValueError, RuntimeError) as error:
                raise InputError(f"{what} is no array: {error}") from error
        self.what = what
        kinds = "biufUO" if text else "biuf"
        if not self.array.ndim or self.array.dtype.kind not in kinds:
            raise InputError(
                f"{what} is {type(given).__name__} ({self.array.dtype} {self.array.shape}); give "
                "an array of numbers with a row a node, a table, or a file"
            )

    @property
    def num_rows(self) -> int:
        """How many nodes it has rows of."""
        return len(self.array)

    def features(self) -> Iterator[np.ndarray]:
        """Blocks of features `[k, num_features]`: floats as they are, others as float32."""
        array = self.array[:, None] if self.array.ndim == 1 else self.array
        for start in range(0, len(array), _ROWS_AT_ONCE):
            block = array[start : start + _ROWS_AT_ONCE]
            yield block if block.dtype.kind == "f" else block.astype(np.float32)

    def labels(self, task: str | None) -> LabelColumns:
        """The labels, a row a node."""
        if self.array.dtype.kind in "UO" and self.array.ndim == 1:
            try:
                cells = pyarrow.array(self.array, from_pandas=True)
            except pyarrow.ArrowException as error:
                raise InputError(f"{self.what} holds what no label is: {error}") from error
            return read_label_columns({"labels": pyarrow.chunked_array([cells])}, task)
        return LabelColumns(np.array(self.array), np.ones(self.array.shape, bool), None, task)


class NodeTable:
    """Features or labels in a table.

    Args:
        table: the table.
        roles: what its columns are.

    Attributes:
        what: what errors call it.
        roles: what its columns are.
        id: the column that says whose a row is; None where rows are in the order of nodes.
        text: whether ids are text.
        order: of ids that are 0 to n - 1 in another order, the node of each row; else None.
        clock: of the times of nodes; None where they have none.
    """

    def __init__(self, table: Table, roles: Sequence[Role]) -> None:
        self.what, self.table, self.roles = table.what, table, tuple(roles)
        looks = {role.role: look for role, look in zip(self.roles, looked_at(table), strict=True)}
        self.id = looks.get("id")
        self.clock = Clock(looks["time"], table.what) if "time" in looks else None
        self.text = self.id is not None and is_text(table, self.id)
        self.order: np.ndarray | None = None

    @property
    def num_rows(self) -> int:
        """How many nodes it has rows of."""
        return self.table.num_rows

    def those(self, role: str) -> list[str]:
        """The names of the columns that are this."""
        return [own.column for own in self.roles if own.role == role]

    def times(self, ids: NodeIds) -> np.ndarray | None:
        """When each node became known, float64 `[num_nodes]`, NaN for unknown; None without."""
        found = self.row_times()
        if found is None or self.id is None:
            return found
        times = np.full(ids.num_nodes, np.nan)
        times[self.nodes(ids)] = found
        return times

    def row_times(self) -> np.ndarray | None:
        """When each row became known, float64 `[rows]`; None without."""
        if (clock := self.clock) is None:
            return None
        batches = self.table.batches([clock.name], {clock.name: clock.type})
        return np.concatenate([np.empty(0), *(clock.read(batch[0]) for batch in batches)])

    def node_ids(self, text: bool, memory: int) -> NodeIds:
        """Which nodes there are: those of this table, in its order; numbers from 0 on in theirs.

        Raises:
            InputError: an id is there twice, or empty.
        """
        ids = self._ids(text)
        if isinstance(ids, np.ndarray):
            ascending = np.sort(ids)
            if np.array_equal(ascending, np.arange(ids.size)):
                self.order = None if np.array_equal(ascending, ids) else ids
                return Numbers(ids.size, self.what)
            unique = int(np.count_nonzero(ascending[1:] != ascending[:-1])) + bool(ids.size)
        else:
            unique = len(ids.unique())
        if unique < len(ids):
            raise InputError(
                f"{self.what}: column {self.those('id')[0]} has {len(ids) - unique:,} ids that are "
                "there before; give each node one row"
            )
        return Integers(ids, memory) if isinstance(ids, np.ndarray) else Texts(ids)

    def recipe(
        self, wanted: Mapping[str, str] | str | FeatureRecipe | None, until: float | None = None
    ) -> FeatureRecipe | None:
        """How columns become features, made in one pass unless it is given; None without any.

        Args:
            wanted: what is said of it.
            until: rows that are later say nothing: their means are not known in training.
        """
        if isinstance(wanted, FeatureRecipe):
            known = wanted.ingredients
            if more := [name for name in self.those("feature") if name not in known]:
                logger.warning(
                    "%s: the recipe was made without %s, left out", self.what, ", ".join(more)
                )
            return wanted
        if not (columns := self.those("feature")):
            return None
        if until is None or self.clock is None:
            batches = self.table.batches(columns)
        else:
            batches = self._known(columns, until, self.clock)
        made = make_recipe(batches, wanted, self.what)
        for name, one in made.ingredients.items():
            one.decimal = self.table.marks[name].point if name in self.table.marks else ""
        return made

    def _known(
        self, columns: Sequence[str], until: float, clock: Clock
    ) -> Iterator[pyarrow.RecordBatch]:
        for batch in self.table.batches([*columns, clock.name], {clock.name: clock.type}):
            known = clock.read(batch[clock.name]) <= until
            yield batch.select(list(columns)).filter(pyarrow.array(known))

    def features(self, recipe: FeatureRecipe, scratch: Path) -> Iterator[np.ndarray]:
        """Blocks of features in the order of the nodes, float32 `[k, num_features]`.

        Args:
            recipe: how columns become features.
            scratch: a folder, for rows that are in another order.
        """
        blocks = self._features(recipe)
        if self.order is None:
            yield from blocks
            return
        shape = (self.order.size, len(recipe.names))
        placed = np.memmap(scratch / "features", np.float32, "w+", shape=shape)
        done = 0
        for block in blocks:
            placed[self.order[done : done + len(block)]] = block
            done += len(block)
        for start in range(0, shape[0], _ROWS_AT_ONCE):
            yield np.array(placed[start : start + _ROWS_AT_ONCE])

    def _features(self, recipe: FeatureRecipe) -> Iterator[np.ndarray]:
        there = {column.name for column in self.table.columns}
        needed = [c for c, one in recipe.ingredients.items() if one.kind != "drop" and c in there]
        yield from recipe.apply(self.table.batches(needed), self.what)

    def labels(
        self,
        task: str | None,
        ids: NodeIds | None = None,
        names: Sequence[str] | None = None,
    ) -> LabelColumns | None:
        """The labels, None without any.

        Args:
            task: as for `read_label_columns`.
            ids: of the nodes, in whose order they are placed; None for that of this table.
            names: of the classes there are already.
        """
        if not (columns := self.those("label")):
            return None
        read = read_label_columns(self.cells(columns), task, names, self.what)
        if ids is None or self.id is None:
            return read
        nodes = self.nodes(ids)
        y = np.zeros((ids.num_nodes, *read.y.shape[1:]), read.y.dtype)
        known = np.zeros(y.shape, dtype=bool)
        y[nodes], known[nodes] = read.y, read.known
        return read._replace(y=y, known=known)

    def nodes(self, ids: NodeIds) -> np.ndarray:
        """Whose each row is, int64 `[rows]`.

        Raises:
            InputError: an id is of no node, or has several rows.
        """
        given = self._ids(isinstance(ids, Texts))
        nodes = ids.find(given, f"{self.what}: id")
        if nodes.size and (several := np.bincount(nodes)[nodes] > 1).any():
            again = given[int(several.argmax())]
            shown = again.as_py() if isinstance(given, pyarrow.Array) else int(again)
            raise InputError(f"{self.what}: {shown!r} has several rows; give it one")
        return nodes

    def cells(self, columns: Sequence[str]) -> dict[str, pyarrow.ChunkedArray]:
        """Columns, whole, by name."""
        batches = list(self.table.batches(columns))
        kinds = {column.name: column.type for column in self.table.settled(columns)}
        return {
            name: pyarrow.chunked_array([batch[name] for batch in batches], kinds[name])
            for name in columns
        }

    def _ids(self, text: bool) -> Any:
        assert self.id is not None
        parts = [ids for (ids,) in id_batches(self.table, [self.id], text)]
        if text:
            ids = pyarrow.concat_arrays([pyarrow.array([], pyarrow.large_string()), *parts])
            last = {self.id.name: ids[-1].as_py()} if len(ids) else {}
            refuse_last_ids(self.table, self.roles, last)
            return ids
        return np.concatenate([np.empty(0, np.int64), *parts])


def shares_of(table: Table, wanted: pyarrow.Array, looks: Sequence[Look]) -> dict[str, float]:
    """Of ids `wanted`, different texts, the share that each column of a table holds."""
    found = {look.name: np.zeros(len(wanted), dtype=bool) for look in looks}
    if not (len(wanted) and looks):  # without edges, a name is all that there is to go by
        return {look.name: float(look.called_id) for look in looks}
    # Cells of a text as they are written: no pass is needed to see what all of them are.
    written = [k.name for k in looks if not table.typed and k.column.kind != "float"]
    kinds = dict.fromkeys(written, pyarrow.large_string())
    for batch in table.batches([*found], kinds):
        for name, there in found.items():
            places = compute.index_in(as_ids(batch[name]), value_set=wanted).drop_null()
            there[places.to_numpy()] = True
    return {name: float(there.mean()) for name, there in found.items()}


def known_shares(ids: NodeIds, looks: Sequence[Look]) -> dict[str, float]:
    """Of the first cells of each column, the share that are ids of nodes."""
    names = pyarrow.array(np.arange(ids.num_nodes)) if ids.names is None else ids.names.to_arrow()
    names = names.cast(pyarrow.large_string()) if looks else names
    found = {}
    for look in looks:
        cells = as_ids(look.cells).drop_null()
        known = compute.is_in(cells, value_set=names)
        found[look.name] = float(known.true_count / len(cells)) if len(cells) else 0.0
    return found


def npy_path(given: object) -> Path | None:
    """The path of an `.npy`; None for anything else."""
    path = expanded(given) if isinstance(given, str | os.PathLike) else None
    return path if path is not None and path.suffix == ".npy" else None
