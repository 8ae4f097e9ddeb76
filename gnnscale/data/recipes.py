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
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints


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
    """Build the recipes of a card from tables in which `table_faults` found nothing."""
    recipes = {}
    for name, table in tables.items():
        content = dict(table)
        if "published" in content:
            content["published"] = Published(**content["published"])
        recipes[name] = Recipe(name, **content)
    return recipes


def table_faults(
    table: Mapping[str, object], kind: type, where: str = "", leave_out: tuple[str, ...] = ()
) -> list[str]:
    """What is wrong with a table of a card that a dataclass is to be made of, in words.

    Args:
        table: as TOML has it.
        kind: the dataclass, whose fields may be dataclasses, tuples or tables of them.
        where: the table's name, in errors; none for the card itself.
        leave_out: fields that the table does not hold.
    """
    at = f"{where}: " if where else ""
    called = at or "field "
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind) if f.name not in leave_out}
    needed = [n for n, f in known.items() if f.default is f.default_factory is MISSING]
    faults = [f"{called}{name!r} is missing" for name in needed if name not in table]
    for name, value in table.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            faults.append(f"{at}unknown field {name!r}{hint}")
        elif (below := _faults_below(where, name, value, hints[name])) is not None:
            faults += below
        else:
            fault = _value_fault(value, hints[name], least=1 if where else 0)
            faults += [f"{called}{name!r} {fault}"] if fault else []
    return faults


def _faults_below(where: str, name: str, value: object, hint: object) -> list[str] | None:
    """Faults of the tables that a field holds; None where it holds something else."""
    record = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
    if record is None:
        return None
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            return [f"field {name!r} must be tables: [[{name}]]"]
        tables = {f"field {name!r}, entry {i}": one for i, one in enumerate(value, start=1)}
    elif get_origin(hint) is dict:
        if not isinstance(value, dict):
            return [f"field {name!r} is {value!r}; it must hold tables: [{name}.NAME]"]
        tables = {f"[{name}.{key}]": one for key, one in value.items()}
    else:
        tables = {f"{where} {name}": value}
    of: Any = record
    skip = ("name",) if of is Recipe else ()  # which is the table's own
    return [
        fault
        for place, one in tables.items()
        for fault in (
            table_faults(one, of, place, skip)
            if isinstance(one, dict)
            else [f"{place} is {one!r}; it must be a table"]
        )
    ]


_WORDS: dict[Any, str] = {float: "a number", dict: "a table", list: "a list"}


def _value_fault(value: object, hint: Any, least: int) -> str:
    kind = get_args(hint)[0] if isinstance(hint, UnionType) else hint  # TOML has no None
    kind = {tuple: list, Mapping: dict}.get(get_origin(kind) or kind, get_origin(kind) or kind)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
        return f"is {value!r}; it must be {_WORDS.get(kind, f'of type {kind.__name__}')}"
    if kind is int and value < least:
        return f"is {value}; it must {'be at least 1' if least else 'not be negative'}"
    return ""
