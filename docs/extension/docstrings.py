"""Docstrings as they are written here (Google's sections, Markdown's backticks), for Sphinx."""

from __future__ import annotations

import inspect
import re
from typing import Any

from sphinx.ext.napoleon import Config, GoogleDocstring

FEW = 12  # arguments that a signature shows; of more, those that can be given by position
CODE = re.compile(r"(`{1,2})[^`]+\1(?=(\w?))")
SETTINGS: Any = Config(napoleon_use_ivar=True, napoleon_use_rtype=False)


def convert(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Turn Google's sections into fields."""
    # "`Callback`s": what follows a backtick at once would be taken for code too.
    lines[:] = [CODE.sub(lambda m: m[0] + ("\\ " if m[2] else ""), line) for line in lines]
    # Of a property napoleon would take "The graph: …" for a type and a description.
    kind: Any = "method" if what in ("property", "attribute") else what
    lines[:] = GoogleDocstring(list(lines), SETTINGS, app, kind, name, thing, options).lines()


def shorten(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Leave the types out of signatures with very many arguments: there is a table for them."""
    if not inspect.isclass(thing) or not signature:
        return None
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError):
        return None
    if len(parameters) <= FEW:
        return None
    needed = [p.name for p in parameters if p.default is p.empty and p.kind < p.VAR_POSITIONAL]
    return f"({', '.join([*needed, '**arguments'])})", returns


def hide(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the class describes."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def setup(app: Any) -> None:
    """Connect to autodoc."""
    app.connect("autodoc-process-docstring", convert)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", hide)
