"""The YAML files in which DGL's data sets say what they consist of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gnnscale.errors import InputError, StoreError
from gnnscale.extras import from_extra


def read_description(path: Path) -> dict[str, Any]:
    """What a YAML file says, without running anything that is in it.

    Raises:
        StoreError: it is missing, or no YAML.
        InputError: it holds something else than names and values.
        MissingDependency: PyYAML is not installed.
    """
    yaml = from_extra("dgl", "yaml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {content!r}; it must say what the set consists of")
    return content


def entries(of: object, field: str, path: Path) -> list[dict[str, Any]]:
    """A list of entries in a description; none where the field is empty or not there.

    Raises:
        InputError: it is something else.
    """
    found = of.get(field) if isinstance(of, dict) else None
    if found is None:
        return []
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InputError(f"{path}: {field} is {found!r}; it must be a list of entries")
    return found


def wanted(entry: dict[str, Any], field: str, path: Path) -> str:
    """A text in an entry.

    Raises:
        InputError: it is not there.
    """
    value = entry.get(field)
    if not isinstance(value, str):
        raise InputError(f"{path}: {entry!r} has no {field}, which is a text")
    return value


def within(entry: dict[str, Any], field: str, path: Path) -> dict[str, Any]:
    """What an entry holds by names in a field; nothing where that is empty or not there.

    Raises:
        InputError: it is something else.
    """
    found = entry.get(field)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: {field} is {found!r}; names and values are expected")
    return found


def names(given: object, what: str, path: Path) -> list[str]:
    """A text, or a list of texts, as a list; empty where there is none.

    Raises:
        InputError: it is something else.
    """
    listed = [] if given is None else given if isinstance(given, list) else [given]
    found = [name for name in listed if isinstance(name, str)]
    if len(found) < len(listed):
        raise InputError(f"{path}: {what} is {given!r}; a name, or a list of names, is expected")
    return found
