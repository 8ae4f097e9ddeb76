"""The command line, from the application itself: what every command takes."""

from __future__ import annotations

import enum
import re
from typing import Any, Literal, get_args, get_origin

import typer


def commands(of: str) -> str:
    """Every command with its help and its options; `of` is not used."""
    from gnnscale.cli import app

    group: Any = typer.main.get_command(app)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    lines = [f"## gnnscale {name}", _help(command.help or "")]
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            default = "Arguments" if parameter.param_type_name == "argument" else "Options"
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or default, []).append(
                parameter
            )
    for panel, parameters in panels.items():
        if len(panels) > 1:
            lines.append(f"**{panel}**")
        rows = ["| | | default | |", "|---|---|---|---|", *map(_row, parameters)]
        lines.append("\n".join(rows))
    return "\n\n".join(lines)


def _help(text: str) -> str:
    """A command's help in Markdown: paragraphs, and the examples as a block."""
    before, _, examples = text.partition("[bold]Examples[/bold]")
    shown = [_coded(_plain(paragraph)) for paragraph in before.split("\n\n") if paragraph.strip()]
    lines = [_plain(line) for line in examples.split("\n\n") if line.strip()]
    if lines:
        shown.append("\n".join(["```text", *lines, "```"]))
    return "\n\n".join(shown)


def _row(parameter: Any) -> str:
    names = "<br>".join(f"`{name}`" for name in _names(parameter))
    about = _plain(getattr(parameter, "help", None) or "")
    return f"| {names} | {_kind(parameter)} | {_default(parameter)} | {_cell(_coded(about))} |"


def _names(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        return [parameter.metavar or parameter.name.upper()]
    return [*sorted(parameter.opts, key=len, reverse=True), *parameter.secondary_opts]


def _kind(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False) or parameter.param_type_name == "argument":
        return ""
    if parameter.metavar:
        return f"`{_cell(parameter.metavar)}`"
    described = getattr(
        parameter, "type_descriptor", None
    )  # typer's own, where click's is left out
    kind = parameter.type.name if described is None else described.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ", ".join(f"`{choice.value}`" for choice in kind)
    return f"`{getattr(kind, '__name__', kind)}`"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return _cell(_plain(shown))
    value = parameter.default
    if value is None or callable(value) or getattr(parameter, "is_flag", False):
        return ""
    return f"`{_cell(getattr(value, 'value', value))}`"


def _plain(text: str) -> str:
    text = re.sub(r"\[/?(?:bold|dim|italic|cyan|green|yellow)\]", "", text)
    return " ".join(text.replace("\\[", "[").split())


def _coded(text: str) -> str:
    return re.sub(r"(?<![`\w-])--\w[\w-]*", r"`\g<0>`", text)


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")
