"""Other people's files are read as their own readers read them: benchmarks/formats.py."""

import contextlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def formats():
    """The script, and its package of layouts, which has modules called as libraries are."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import formats

        yield formats
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_no_layout_is_read_otherwise_in_silence(formats, capsys):
    with contextlib.suppress(SystemExit):
        status = formats.main(["--no-results"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "not read" not in printed
