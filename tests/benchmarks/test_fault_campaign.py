"""The fault campaign in small: kills, bad inputs, flips, files of other runs; nothing is found."""

import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "fault_campaign.py"


@pytest.mark.slow
def test_nothing_is_found():
    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--quick"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
