"""What Sphinx is told beside its settings: generated text, docstrings, references, checks."""

from __future__ import annotations

import re
from typing import Any

from extension import docstrings, gallery, public_names, references
from extension.arguments import arguments
from extension.commands import commands
from extension.formats import formats

GENERATED = re.compile(r"^<!-- generated: (?P<what>\w+)(?: (?P<of>.+?))? -->$", re.M)
GENERATORS = {
    "api": public_names.section,
    "arguments": arguments,
    "commands": commands,
    "formats": formats,
}


def fill(app: Any, docname: str, source: list[str]) -> None:
    """Put in what a page has generated, and point its links out of docs/ to pages of the site."""

    def text(found: re.Match[str]) -> str:
        return GENERATORS[found["what"]](found["of"] or "")

    page = GENERATED.sub(text, source[0])
    source[0] = re.sub(r"\]\((\.\./)+benchmarks/README\.md", "](/about/figures.md", page)


def setup(app: Any) -> dict[str, Any]:
    """Register everything; Sphinx calls it."""
    app.connect("source-read", fill)
    app.connect("builder-inited", gallery.check)
    docstrings.setup(app)
    public_names.setup(app)
    references.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
