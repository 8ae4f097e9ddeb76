"""What all tests of benchmarking/ share."""

from __future__ import annotations

from tests.helpers.small_runs import bare_runs, drawn, metered  # noqa: F401  (fixtures)
