"""The planner's page has the figures that are counted."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tables_of_the_page_are_what_is_counted():
    theory = runpy.run_path(str(ROOT / "docs/extension/theory.py"))
    page = (ROOT / "docs/guide/planner.md").read_text()
    for row in (*theory["models"](), *theory["schemes"]()):
        assert row in page, f"python docs/extension/theory.py prints {row}"
