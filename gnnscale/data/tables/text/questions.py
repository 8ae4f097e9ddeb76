"""What is asked about a text, asked of one of several tables.

Whoever reads a text says `header=True`, which is of the edges where there are other tables, too. Of
a table of nodes the line that works is `header={'features': True}`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from gnnscale.errors import InputError

_SAID = re.compile(
    r"(?<![\w.'\"?&/=-])(sep|comment|header|encoding|decimal)="
    r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[[^\]]*\]|(?![{(])[\w-]*)"
)
_NUMBERED = re.compile(r"(?<![\w.'\"?&/=-])drop=(\d+|\[\d+(?:, \d+)*\])")
_SAY = re.compile(r"[;,.]?\s+[Ss]ay .*", re.S)


def of_table(message: str, table: str) -> str:
    """A message whose options are of this table: `sep=';'` is `sep={'features': ';'}`.

    >>> of_table("say sep=';' or header=True", "features")
    "say sep={'features': ';'} or header={'features': True}"
    """
    if table in ("", "edges"):
        return message
    message = _NUMBERED.sub(rf"drop={{{table!r}: \1}}", message)
    return _SAID.sub(lambda m: f"{m[1]}={{{table!r}: {m[2] or '…'}}}", message)


@contextlib.contextmanager
def asked_of(table: str) -> Iterator[None]:
    """Errors from within say their options as those of this table; "" where there is one alone."""
    try:
        yield
    except InputError as error:
        # The same error, with all that it holds.
        InputError.__init__(error, [of_table(fault, table) for fault in error.faults])
        raise


@contextlib.contextmanager
def written_as(how: str) -> Iterator[None]:
    """Errors from within say how to write a text that no option is of."""
    try:
        yield
    except InputError as error:
        plain = [
            f"{_SAY.sub('', fault)}; {how}" if _SAID.search(fault) else fault
            for fault in error.faults
        ]
        InputError.__init__(error, plain)
        raise
