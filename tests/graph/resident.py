"""What of files is resident in this process."""

import sys

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


def resident_file_pages() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[2])
