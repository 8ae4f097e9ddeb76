"""Text that is no table: markup, JSON, and lists as scripts write them."""

from __future__ import annotations

import itertools
import re

from gnnscale.data.tables.text.cells import Row
from gnnscale.errors import InputError

_CLOSING = {"[": "]", "(": ")", "{": "}"}
_NAME = r"[A-Za-z_][\w.$]*"
_SAID = re.compile(
    rf"\s*((const|let|var|my|local|set|edges?|graph)\s+)?[\"']?{_NAME}[\"']?\s*(=|<-|:=|:)\s*"
    rf"({_NAME}\s*)?(\[|\(|\{{)"
)
_CALL = re.compile(
    r"\s*(c|list|matrix|cbind|rbind|data\.frame|(np\.|numpy\.)?array|(torch\.)?tensor|set|tuple|"
    r"frozenset|deque|graph|sparse)\s*(\(|\{)"
)
_DRAWING = re.compile(r"\s*(strict\s+)?(di)?graph\b[^\n,;\t]*\{", re.I)
#: The first lines of a graph of DIMACS.
DIMACS = re.compile(r"(?:[ \t]*(?:c.*)?\n)*p[ \t]+[a-z]+[ \t]+\d+[ \t]+\d+[ \t]*(?:\r?\n|\Z)")
_BEGINS = re.compile(r"""[\[({\s]+(["'\-+.\d]|$)""")
_LINES = 50


def refuse_what_is_no_table(text: str, what: str) -> None:
    """Refuse what is text and no table.

    Raises:
        InputError: it is JSON, a page, a drawing, or a list of a script: with what to do.
    """
    text = text.removeprefix("\ufeff")
    start = text.lstrip()[:20].lower()
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise InputError(
            f"{what} is a page of HTML or XML, perhaps in place of the file: look at it"
        )
    if DIMACS.match(text.replace("\r", "")):
        raise InputError(
            f"{what} is a graph as DIMACS gives it, and no table: gnnscale.load({what!r}) reads it"
        )
    lines = (line for line in text.splitlines() if re.match(r"\s*(?!#|%|//)\S", line))
    first = list(itertools.islice(lines, _LINES))
    if not first:
        return
    if _DRAWING.match(first[0]):
        raise InputError(
            f"{what} is a drawing of Graphviz: read it with networkx.nx_pydot.read_dot, and give "
            "Graph.from_networkx that"
        )
    if re.match(r'\{\s*("|\}|$)|\[\s*\{|\[\s*\[[^\]\n]*,|\[\s*"', start) and _is_json(text):
        raise InputError(f"{what} is JSON: read it with pandas.read_json, and give that table")
    rows = first[1:] or first
    said = _SAID.match(first[0]) or _CALL.match(first[0]) or _is_literal(first[0])
    if said or all(map(_is_literal, rows)):
        raise _of_a_script(what, first[0] if said else rows[0])


def refuse_brackets(rows: list[Row], what: str) -> None:
    """Refuse rows in most of which one cell opens a bracket that another closes.

    Raises:
        InputError: there are such.
    """
    torn = [row for row in rows if _is_torn([c for c in row.raw if c.lstrip()[:1] not in "\"'"])]
    if len(torn) * 2 > len(rows):
        raise _of_a_script(what, " | ".join(torn[0].cells))


def _is_json(text: str) -> bool:
    """Whether brackets, names and commas are as JSON has them: not as NumPy and Python do."""
    return re.match(r"\s*\[\s*\[\s*('|[^\s,\]]+\s+[^\s,\]])", text) is None


def _is_literal(line: str) -> bool:
    """Whether a line is a list in brackets, or begins one: not a name with brackets in it."""
    goes_on = line.rstrip().endswith((",", ";", "..."))
    line = line.strip().rstrip(",;").rstrip()
    if line[:1] not in _CLOSING:
        return False
    end = _closing(line)
    if end < 0:
        return goes_on or _BEGINS.match(line) is not None
    inside = line[1:end]
    return end == len(line) - 1 and re.search(r"[,;]|\S\s+[-+.\d]|->", inside) is not None


def _closing(line: str) -> int:
    """Where the bracket closes that a line begins with; -1 where it does not."""
    depth = 0
    for at, sign in enumerate(line):
        depth += (sign in "[({") - (sign in "])}")
        if not depth:
            return at
    return -1


def _is_torn(cells: list[str]) -> bool:
    """Whether a cell opens a bracket that a later one closes."""
    for opening, closing in _CLOSING.items():
        more = [cell.count(opening) - cell.count(closing) for cell in cells]
        if any(n > 0 for n in more) and sum(more) == 0 and next(n for n in more if n) > 0:
            return True
    return False


def _of_a_script(what: str, line: str) -> InputError:
    return InputError(
        f"{what}: {line.strip()[:60]!r} is a list in brackets as a script has it (MATLAB, Python, "
        "R, …), and no row of a table; write a row a line, as 1,2 (MATLAB: writematrix, NumPy: "
        "savetxt, R: write.csv), or give the array to gnnscale.from_edge_list"
    )
