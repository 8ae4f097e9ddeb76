"""The public names: all of them on a page of the API, each with a docstring."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOMS = (
    "gnnscale",
    "gnnscale.nn",
    "gnnscale.data",
    "gnnscale.graph",
    "gnnscale.partitioning",
    "gnnscale.loader",
    "gnnscale.train",
    "gnnscale.train.layerwise",
    "gnnscale.benchmarking",
    "gnnscale.statistics",
    "gnnscale.planning",
    "gnnscale.parallel",
    "gnnscale.inference",
    "gnnscale.comm",
    "gnnscale.errors",
)
PAGES = Path(__file__).parent.parent / "reference/api"
SECTION = re.compile(r"^<!-- generated: api (?P<room>[\w.]+): (?P<names>.+?) -->$", re.M)


def names_of(room: str) -> list[str]:
    """What a room offers."""
    module = importlib.import_module(room)
    listed = getattr(module, "__all__", None)
    if listed is None:
        listed = [k for k, v in vars(module).items() if getattr(v, "__module__", "") == room]
    return [name for name in listed if not inspect.ismodule(getattr(module, name))]


@functools.cache
def places() -> dict[int, str]:
    """Where each public object is documented: by the first room that has it. Keyed by `id`."""
    found: dict[int, str] = {}
    for room in ROOMS:
        for name in names_of(room):
            found.setdefault(id(getattr(importlib.import_module(room), name)), f"{room}.{name}")
    return found


@functools.cache
def public_path(target: str) -> str | None:
    """The public path of `gnnscale.graph.graph.Graph`, of `Graph` or `gs.Graph`."""
    name = target.rpartition(".")[2]
    paths = {path for path in places().values() if path.rpartition(".")[2] == name}
    return min(paths, key=len) if paths else None


def section(of: str) -> str:
    """Names of a room, as a page has them; `*` stands for those that no page names."""
    room, _, wanted = of.partition(": ")
    names = wanted.split()
    if names == ["*"]:
        named = {name for place, name in _named() if place == room}
        names = [
            name
            for name in names_of(room)
            if name not in named
            and places()[id(getattr(importlib.import_module(room), name))] == f"{room}.{name}"
        ]
    return "\n".join(["```{eval-rst}", *(_entry(room, name) for name in names), "```"])


def _named() -> Iterator[tuple[str, str]]:
    for page in PAGES.glob("*.md"):
        for found in SECTION.finditer(page.read_text()):
            for name in found["names"].split():
                yield found["room"], name


def _entry(room: str, name: str) -> str:
    thing = getattr(importlib.import_module(room), name)
    path = f"{room}.{name}"
    if inspect.isclass(thing) and not thing.__module__.startswith("gnnscale"):
        origin = f"{thing.__module__.partition('.')[0]}.nn.{thing.__name__}"
        return f".. py:class:: {path}\n\n   ``{origin}``, as it is.\n"
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return f".. autoexception:: {path}\n   :show-inheritance:\n"
    if inspect.isclass(thing):
        above = "object, Module, Protocol, dict, tuple, MessagePassing"
        return f".. autoclass:: {path}\n   :members:\n   :inherited-members: {above}\n"
    if callable(thing):
        return f".. autofunction:: {path}\n"
    listed = ", ".join(f"``{key}``" for key in thing) if hasattr(thing, "__iter__") else str(thing)
    return f".. py:data:: {path}\n\n   {listed}\n"


def check(app: Any, env: Any) -> None:
    """Warn of public names that no page has, and of those without a docstring."""
    from sphinx.util import logging  # the rest is also asked without it

    logger = logging.getLogger(__name__)
    shown = {name for name in env.get_domain("py").objects}
    for path in sorted(set(places().values())):
        if path not in shown:
            logger.warning("%s is public, and on no page of reference/api", path)
    for path in undocumented():
        logger.warning("%s is public, and has no docstring", path)


def undocumented() -> Iterator[str]:
    """Public names, and public members of public classes, without a docstring."""
    for path in sorted(set(places().values())):
        room, _, name = path.rpartition(".")
        thing = getattr(importlib.import_module(room), name)
        if not (inspect.isclass(thing) or callable(thing)):
            continue
        if not (thing.__doc__ if inspect.isclass(thing) else inspect.getdoc(thing)):
            yield path
        if inspect.isclass(thing) and thing.__module__.startswith("gnnscale"):
            for member, value in vars(thing).items():
                method = inspect.isroutine(value) or isinstance(value, property | classmethod)
                # PyG writes `propagate` and `collect` into a class when it is first made.
                ours = getattr(value, "__module__", thing.__module__) == thing.__module__
                public = method and ours and not member.startswith("_")
                if public and not inspect.getdoc(getattr(thing, member)):
                    yield f"{path}.{member}"


def setup(app: Any) -> None:
    """Check when all pages are read."""
    app.connect("env-check-consistency", check)
