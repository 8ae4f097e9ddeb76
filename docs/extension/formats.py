"""The table of formats that are read, from the registry."""

from __future__ import annotations

from gnnscale.data.formats.registry import Format, list_formats


def formats(of: str) -> str:
    """All formats, as a table."""
    rows = ["| `format=` | looks like | what it is | streams | needs |", "|---|---|---|---|---|"]
    return "\n".join([*rows, *map(_row, list_formats())])


def _row(made: Format) -> str:
    linked = made.documented.startswith("http")
    what = f"{made.what} ([layout]({made.documented}))" if linked else made.what
    needs = "" if made.needs is None else f"`{made.needs}`"
    streams = "yes" if made.streams else ""
    cells = (f"`{made.name}`", f"`{made.looks}`", what, streams, needs)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
