"""What the numbers of a graph stand for in the tables that it was read from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from gnnscale.errors import StoreError


@dataclass(frozen=True)
class Schema:
    """What classes and features are called, and how features were made.

    Attributes:
        classes: what each class, label or target is called, in the order of their numbers; None
            where they are called by these.
        features: what each column of `x` is called; None where they have no names.
        recipe: how columns of a table became features, as JSON values; None where they are as
            given. See `gnnscale.data.tables.values.recipe`.
        columns: what every column of the tables was read as, a line each.
        may_be_labels: where no column is one of labels, those that may be, of few values.
    """

    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    recipe: Mapping[str, Any] | None = None
    columns: tuple[str, ...] = ()
    may_be_labels: tuple[str, ...] = ()

    def columns_of(self, role: str) -> list[str]:
        """The columns of the tables that were this: "node id", "label", "feature", …."""
        said = (re.match(r"`(.+)`: (.+?)(?: \(|$)", line) for line in self.columns)
        return [match[1] for match in said if match is not None and match[2] == role]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, known: Mapping[str, Any] | None) -> Schema | None:
        """A schema out of JSON values; None where there is none.

        Raises:
            StoreError: it is no schema.
        """
        if known is None:
            return None
        try:
            listed: dict[str, Any] = {
                key: value if value is None or key == "recipe" else tuple(map(str, value))
                for key, value in known.items()
            }
            return cls(**listed)
        except (TypeError, AttributeError) as error:
            raise StoreError(f"the schema of a graph is damaged: {error}") from error
