"""What memory there is to take."""

import sys

import pytest

from gnnscale.storage import memory

LEAST = 1 << 20


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a process")
def test_limits_are_seen(monkeypatch):
    import resource

    free = memory.available_memory()
    assert free > 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (LEAST, hard))
    assert memory.available_memory() == LEAST


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
@pytest.mark.parametrize(
    ("line", "folder", "limit", "used"),
    [
        ("0::/a/b", "a", "memory.max", "memory.current"),
        ("4:cpu,memory:/a/b", "memory/a", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_limits_of_control_groups(tmp_path, monkeypatch, line, folder, limit, used):
    group = tmp_path / "cgroup" / folder
    (group / "b").mkdir(parents=True)
    (group / limit).write_text("5000")
    (group / used).write_text("3000")
    (group / "memory.stat").write_text("inactive_file 500\nanon 2000\nactive_file 100")
    listed = tmp_path / "listed"
    listed.write_text(line)
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_GROUPS_OF_THIS", listed)
    assert memory.available_memory() == 2600
