"""Recipes: published settings for a data set, and the result that was published with them.

A card holds them as tables, which `gnnscale bench` starts from::

    [recipes.cluster]
    title = "Cluster-GCN with GraphSAGE"
    source = "where the settings stand, and what differs from them"
    trainer = "cluster"
    runs = 10
    settings = { model = "sage", hidden_channels = 256, num_layers = 3, epochs = 50 }
    published = { method = "ClusterGCN (SAGE aggr)", test = 0.7897, test_sd = 0.0033, source = "…" }
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Published:
    """A published row, as a leaderboard has it.

    Attributes:
        method: what it is called there.
        test: mean of the card's metric on the test set over runs, as a fraction.
        source: where it stands.
        test_sd: standard deviation over runs.
        val: mean on the validation set.
        val_sd: its standard deviation.
        parameters: of the model.
        hardware: what it was run on.
    """

    method: str
    test: float
    source: str
    test_sd: float | None = None
    val: float | None = None
    val_sd: float | None = None
    parameters: int | None = None
    hardware: str | None = None


@dataclass(frozen=True)
class Recipe:
    """Settings to train with.

    Attributes:
        name: what ``--recipe`` calls it.
        title: one line for people.
        source: where the settings stand, and in what the recipe differs from it.
        settings: arguments of model and trainer by name, as a card's preset has them.
        trainer: the trainer's name.
        runs: how many seeds the published row is over.
        published: the published row, where there is one.
    """

    name: str
    title: str
    source: str
    settings: Mapping[str, Any] = field(hash=False)
    trainer: str = "cluster"
    runs: int = 10
    published: Published | None = None


def read_recipes(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Recipe]:
    """Build the recipes of a card from tables in which `recipe_faults` found nothing."""
    recipes = {}
    for name, table in tables.items():
        content = dict(table)
        if "published" in content:
            content["published"] = Published(**content["published"])
        recipes[name] = Recipe(name, **content)
    return recipes


def recipe_faults(value: Any) -> list[str]:
    """What is wrong with the tables of a card's recipes, in words."""
    if not isinstance(value, dict):
        return [f"field 'recipes' is {value!r}; it must hold tables: [recipes.NAME]"]
    faults = []
    for name, table in value.items():
        where = f"[recipes.{name}]"
        if not isinstance(table, dict):
            faults.append(f"{where} is {table!r}; it must be a table")
            continue
        faults += _table_faults(where, table, Recipe, leave_out=("name",))
        if "published" in table:
            faults += _table_faults(f"{where} published", table["published"], Published)
    return faults


_KINDS: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "Mapping[str, Any]": dict,
    "Published | None": dict,
}
_WORDS = {"Mapping[str, Any]": "a table", "Published | None": "a table", "float": "a number"}


def _table_faults(where: str, table: Any, kind: type, leave_out: tuple[str, ...] = ()) -> list[str]:
    if not isinstance(table, dict):
        return [f"{where} is {table!r}; it must be a table"]
    known = {f.name: f for f in fields(kind) if f.name not in leave_out}
    needed = [n for n, f in known.items() if f.default is f.default_factory is MISSING]
    faults = [f"{where}: {name!r} is missing" for name in needed if name not in table]
    for name, value in table.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            faults.append(f"{where}: unknown field {name!r}{hint}")
            continue
        declared = str(known[name].type)
        plain = declared if declared in _KINDS else declared.removesuffix(" | None")
        if not isinstance(value, _KINDS[plain]) or isinstance(value, bool):
            word = _WORDS.get(plain, f"of type {plain}")
            faults.append(f"{where}: {name!r} is {value!r}; it must be {word}")
        elif plain == "int" and value < 1:
            faults.append(f"{where}: {name!r} is {value}; it must be at least 1")
    return faults
