"""Deciding what the columns of a table are, and asking where one may be two things."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from gnnscale.data.tables.column import kind_of
from gnnscale.data.tables.roles import Role, RoleName
from gnnscale.data.tables.roles.evidence import Look, looked_at, nameless
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.text.questions import of_table
from gnnscale.data.tables.values.marks import Doubt, Marks, marks_of
from gnnscale.errors import InputError
from gnnscale.storage.arrow import pyarrow, types


class Deciding:
    """The columns of a table while it is decided what they are.

    Args:
        table: the table.
        drop: the names of columns to leave out.

    Attributes:
        looks: every column, with the first of its cells.
        bare: whether the columns have no names but their numbers.
        faults: what cannot be decided, with the words that decide it.
    """

    def __init__(self, table: Table, drop: Collection[str] = ()) -> None:
        self.table = table
        self.looks = looked_at(table)
        self.bare = nameless(self.looks)
        self.faults: list[str] = []
        self._roles: dict[int, Role] = {}
        for look in self.looks:
            if look.name in drop:
                self.give(look, "left out", "dropped")

    def left(self) -> list[Look]:
        """The columns that are nothing yet."""
        return [look for look in self.looks if look.column.number not in self._roles]

    def those(self, role: RoleName) -> list[Look]:
        """The columns that are this."""
        had = self._roles
        return [k for k in self.looks if (n := k.column.number) in had and had[n].role == role]

    def give(self, look: Look, role: RoleName, why: str) -> None:
        """Say what a column is."""
        self._roles[look.column.number] = Role(look.name, role, why)

    def named(self, wanted: str | int | None, role: RoleName) -> Look | None:
        """The column that the caller names as this; None where he does not.

        Raises:
            InputError: there is none of that name, or it is named as something else as well.
        """
        if wanted is None:
            return None
        look = self.looks[self.table.column(wanted).number]
        if (other := self._roles.get(look.column.number)) is not None:
            raise InputError(
                f"{self.table.what}: column {look.name} is named as {role} and {other.role}; name "
                "another for one of them"
            )
        self.give(look, role, "named")
        return look

    def as_numbers(
        self,
        look: Look,
        otherwise: str,
        of: Literal["number", "edge", "feature", "label"],
        decimal: str = "",
    ) -> Look:
        """A column of text that holds numbers, read as such: see `marks`; any other as it is.

        Args:
            look: the column.
            otherwise: how to say that it is none, for what is asked.
            of: what it is of. Plain numbers in text are text of features and labels; and "12a" is a
                number where that is said, asked about in features, and else text.
            decimal: what stands before decimals, where that is known.
        """
        if look.column.kind != "text" or types.is_dictionary(look.column.type):
            return look
        found = marks_of(self._cells(look), decimal or self.table.decimal)
        if isinstance(found, Marks) and found.plain and of in ("feature", "label"):
            return look
        if isinstance(found, Marks) and not found.known:
            if of == "feature":
                ways = f"for numbers, recipe={{{look.name!r}: 'as is'}}"
                found = Doubt(f"numbers with {found.unit!r}", ways)
            elif of != "number":
                return look
        if isinstance(found, Doubt):
            ways = found.ways or "write all in one way"
            self.faults.append(
                f"{self.table.what}: {look.name} holds {found.found}: {ways}; {otherwise}"
            )
            if look.column.number not in self._roles:
                self.give(look, "left out", "")
        if not isinstance(found, Marks):
            return look
        if of == "label":
            found = replace(found, whole=False)  # 12% is no class number
        self.table.marks[look.name] = found
        column = replace(look.column, type=found.type)
        cells = found.read(look.cells) if _is_text(look) else look.cells.cast(found.type)
        own = Look(column, cells, look.complete)
        self.looks[look.column.number] = own
        return own

    def _cells(self, look: Look) -> Iterator[pyarrow.Array]:
        if _is_text(look):
            yield look.cells
        if not look.complete:
            written = {look.name: pyarrow.large_string()}
            yield from (batch[0] for batch in self.table.batches([look.name], written))

    def written(self, look: Look) -> str:
        """A column as the caller may write it: its name, or its number where it has no other."""
        return str(look.column.number) if self.bare else repr(look.name)

    def ask(self, looks: Sequence[Look], question: str, *keywords: str) -> None:
        """Note that these columns may be several things, and what says which."""
        shown = ", ".join(f"{self.written(look)} ({look.in_words})" for look in looks)
        own = [self.written(look) for look in looks]
        each = own[0] if len(own) == 1 else f"[{', '.join(own)}]"
        words = [f"{key}={each if key == 'drop' else own[0]}" for key in keywords]
        *most, last = words
        said = f"{', '.join(most)} or {last}" if most else last
        some = "column" if len(looks) == 1 else "columns"
        self.faults.append(f"{self.table.what}: {some} {shown} {question}: say {said}")

    def done(self) -> list[Role]:
        """What every column is, in the order of the table.

        Raises:
            InputError: something is not decided.
        """
        if self.faults:
            raise InputError([of_table(fault, self.table.whose) for fault in self.faults])
        return [self._said(self._roles[look.column.number]) for look in self.looks]

    def _said(self, role: Role) -> Role:
        marks = self.table.marks.get(role.column)
        if marks is None or role.role == "left out":
            return role
        return replace(role, why="; ".join(filter(None, (role.why, marks.words))))


def _is_text(look: Look) -> bool:
    """Whether the first cells are text, as later ones are."""
    return kind_of(look.cells.type) == "text"
