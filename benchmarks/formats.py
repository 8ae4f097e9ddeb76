"""Files and layouts that people have: read as their own readers read them, or refused by name.

    python benchmarks/formats.py                    # all that the script makes: two minutes
    python benchmarks/formats.py --only csv dgl     # those whose names have a word in them
    python benchmarks/formats.py --data FOLDER      # real files too: what is in a folder

Every layout is written by its own writer (pandas, networkx, scipy, PyG, DGL, ogb), or by hand from
its documented form where there is none, and read twice: by gnnscale, and by that library or its
like. Compared are nodes by their names, every edge with what it carries, every feature and label,
splits, and the graphs of a set. An outcome is

- right; **asked** where gnnscale has stopped to ask, and was right once it was answered;
- refused: an error of gnnscale's that was meant (of layouts that it does not train on);
- **not read**: an error of gnnscale's that was not meant: nobody is misled, and nobody is served;
- **different**: another graph in silence;
- **bare**: an error that is none of gnnscale's.

The exit status is 1 where one is different or bare. DGL 1.1.3 is not needed: what it alone writes
is left out then, and said. ``pip install dgl==1.1.3 pydantic`` beside gnnscale brings it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from layouts import arrays, dgl, lists, networkx, node_tables, ogb, pyg, real, tables
from layouts.content import Layout, differences
from rich.console import Console
from rich.table import Table

import gnnscale as gs
from gnnscale.storage.files import write_json
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "formats.json"
MODULES = (tables, node_tables, lists, networkx, arrays, pyg, dgl, ogb)
FAULTS = ("different", "bare")
PACKAGES = ("pandas", "networkx", "scipy", "torch_geometric", "dgl", "ogb", "pyarrow")


class Row(NamedTuple):
    """What came of a layout."""

    layout: str
    reader: str
    outcome: str
    words: str


def outcome(layout: Layout, folder: Path) -> Row:
    """Make a layout and read it both ways."""
    if layout.reader.startswith("DGL") and find_spec("dgl") is None:
        return Row(layout.name, layout.reader, "skipped", "DGL 1.1.3 is not installed")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        call, content = layout.make(folder)
    said = ""
    try:
        try:
            graph = call()
        except gs.GnnscaleError as error:
            if layout.answers is None:
                return Row(layout.name, layout.reader, "refused", str(error))
            if not layout.answers:
                return Row(layout.name, layout.reader, "not read", str(error))
            said = str(error)
            graph = call(**layout.answers)
        if content is None:
            return Row(layout.name, layout.reader, "different", "it was to be refused")
        found = differences(graph, content)
    except gs.GnnscaleError as error:
        return Row(layout.name, layout.reader, "not read", str(error))
    except Exception as error:
        return Row(layout.name, layout.reader, "bare", f"{type(error).__name__}: {error}")
    if found:
        return Row(layout.name, layout.reader, "different", "; ".join(found))
    return Row(layout.name, layout.reader, "asked" if said else "right", said)


def run(layouts: Iterable[Layout]) -> list[Row]:
    """All layouts, each in a folder of its own."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="formats-") as root:
        for i, layout in enumerate(layouts):
            folder = Path(root) / f"{i:03d}"
            folder.mkdir()
            row = outcome(layout, folder)
            rows.append(row._replace(words=row.words.replace(f"{folder}/", "").replace(root, "")))
    return rows


def show(rows: Sequence[Row], console: Console) -> None:
    """Print them."""
    table = Table("layout", "read beside by", "outcome", "why", title="Files and layouts")
    for row in rows:
        style = "red" if row.outcome in FAULTS else "yellow" if row.outcome == "not read" else None
        words = " ".join(row.words.split())
        table.add_row(*row[:3], words[:160] + "…" * (len(words) > 160), style=style)
    console.print(table)
    counts = Counter(row.outcome for row in rows)
    console.print(", ".join(f"{counts[key]} {key}" for key in counts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="words, of which one is in the layout's name")
    parser.add_argument("--data", type=Path, help="a folder of real files")
    parser.add_argument("--no-results", action="store_true", help="print, and write no file")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    logger = logging.getLogger("gnnscale")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return _run(given)
    finally:
        logger.setLevel(level)


def _run(given: argparse.Namespace) -> int:
    listed = [layout for module in MODULES for layout in module.LAYOUTS]
    if given.data is not None:
        listed += real.layouts_in(given.data)
    if given.only:
        listed = [each for each in listed if any(word in each.name for word in given.only)]
    rows = run(listed)
    show(rows, Console(width=200) if not sys.stdout.isatty() else Console())
    if not given.only and not given.no_results:
        counts = dict(Counter(row.outcome for row in rows))
        content = {
            "environment": environment("cpu"),
            "packages": {name: gs_version(name) for name in PACKAGES if find_spec(name)},
            "outcomes": counts,
            "layouts": [row._asdict() for row in rows],
        }
        write_json(RESULT, content)
    return int(any(row.outcome in FAULTS for row in rows))


def gs_version(name: str) -> str:
    """The version of a package."""
    from importlib.metadata import version

    return version({"torch_geometric": "torch-geometric"}.get(name, name))


if __name__ == "__main__":
    sys.exit(main())
