"""What the columns of a table are: decided from names, types and cells, or asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from typing_extensions import override

RoleName = Literal[
    "id",
    "source",
    "target",
    "weight",
    "time",
    "label",
    "feature",
    "split",
    "edge feature",
    "left out",
]
_WORDS: dict[RoleName, str] = {"id": "node id"}


@dataclass(frozen=True)
class Role:
    """What one column of a table was read as.

    ``str(role)`` is the line that says so:

    >>> print(Role("paper", "id", "unique integers"), Role("age", "feature", ""), sep=" · ")
    `paper`: node id (unique integers) · `age`: feature
    >>> print(Role("Unnamed: 0", "left out", "row number"))
    `Unnamed: 0`: row number, left out

    Attributes:
        column: what the column is called.
        role: what it is.
        why: what decided; empty where nothing had to.
    """

    column: str
    role: RoleName
    why: str

    @override
    def __str__(self) -> str:
        what = _WORDS.get(self.role, self.role)
        if self.role == "left out":
            return (
                f"`{self.column}`: {self.why}, {what}" if self.why else f"`{self.column}`: {what}"
            )
        return f"`{self.column}`: {what} ({self.why})" if self.why else f"`{self.column}`: {what}"
