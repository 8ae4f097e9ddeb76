"""A run folder has one writer; who holds it is told, and a dead one holds nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time

import pytest

import gnnscale as gs
from gnnscale.errors import RunInUse
from gnnscale.train.run import lock as run_lock
from gnnscale.train.run.lock import sole_writer
from tests.helpers.small_runs import small_trainer

# Holds a folder; a process that it forked lives on when it is killed.
HOLD = """
import os, sys, time
from gnnscale.train.run.lock import sole_writer
with sole_writer(__import__("pathlib").Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)
    os._exit(0)
"""


def test_a_second_writer_is_refused_until_the_first_is_dead(forks, tmp_path):
    holder = forks.start(HOLD, str(tmp_path / "run"))
    while not (child := holder.output.read_text()).endswith("\n"):
        assert not holder.errors.read_text()
        time.sleep(0.02)
    with pytest.raises(gs.RunInUse, match=rf"process {holder.pid} on "):
        small_trainer(tmp_path / "run").fit()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    # The child that it forked is alive, and keeps nothing.
    assert small_trainer(tmp_path / "run", epochs=1).fit().stopped == "epochs"
    os.kill(int(child), signal.SIGKILL)


class Second(gs.Callback):
    """Another trainer on the same folder, while the first one trains."""

    def __init__(self, run_dir):
        self.run_dir, self.told = run_dir, ""

    def on_epoch_end(self, trainer, row):
        with pytest.raises(gs.RunInUse) as caught:
            small_trainer(self.run_dir).fit()
        self.told = str(caught.value)
        gs.load_run(self.run_dir).trainer.evaluate("test")  # who reads needs no lock


class Interrupted(gs.Callback):
    def on_epoch_end(self, trainer, row):
        raise KeyboardInterrupt


def test_of_two_trainers_in_a_process(tmp_path):
    second = Second(tmp_path / "run")
    trainer = small_trainer(tmp_path / "run", epochs=1, callbacks=[second])
    trainer.fit()
    assert f"another trainer of this process ({os.getpid()} on" in second.told
    trainer.callbacks = [Interrupted()]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(resume=False)
    trainer.callbacks = []
    trainer.fit()  # Ctrl-C has let go of it


def test_no_run_leaves_no_trace(tmp_path):
    with pytest.raises(gs.InputError):
        small_trainer(tmp_path / "a/b").fit(resume="always")
    with pytest.raises(gs.RunMismatch):
        small_trainer(tmp_path / "a/b").fit(resume=True)
    assert not list(tmp_path.iterdir())


def test_where_there_are_no_locks_it_is_told_once(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    run_lock._warn.cache_clear()
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(RuntimeWarning, match="No locks available"), sole_writer(tmp_path):
        pass
    with sole_writer(tmp_path), sole_writer(tmp_path):
        pass


def test_a_folder_for_reading_only_needs_none(tmp_path, monkeypatch):
    opened = os.open

    def as_system_does(path, flags, *mode):
        if flags & (os.O_CREAT | os.O_RDWR):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", as_system_does)
    with sole_writer(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / run_lock.LOCK_FILE).write_text("")
    with sole_writer(tmp_path), pytest.raises(RunInUse), sole_writer(tmp_path):
        pass
