"""Processes of their own for what is killed, or must not share this one's state.

A server imports everything once and computes nothing: a fork after OpenMP threads have run hangs.
Run as a script, this file is that server.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

_IMPORTED = (
    "gnnscale.graph.store.cluster_folder",
    "gnnscale.parallel",
    "gnnscale.partitioning",
    "gnnscale.train.steps.dry_run",
    "rich.progress",
    "safetensors.torch",
    "tests.helpers.small_runs",
    "torch_geometric.nn",
)


class Fork:
    """A running process.

    Attributes:
        pid: its number.
        output: the file of what it prints.
        errors: the file of its standard error.
    """

    def __init__(self, server: Forks, pid: int, output: Path, errors: Path) -> None:
        self.pid, self._server, self.output, self.errors = pid, server, output, errors

    def wait(self) -> int:
        """Wait for its end; the exit status, negative: the signal that ended it."""
        return self._server.answer(wait=self.pid)


class Forks:
    """Forks processes that have everything imported and have done nothing yet."""

    def __init__(self) -> None:
        here = Path(__file__).resolve()
        self._folder = tempfile.TemporaryDirectory(prefix="gnnscale-forks-")
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, str(here)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Threads that wait without spinning: a busy machine then slows the children little.
            env={**os.environ, "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(here.parents[2])},
        )

    def start(self, code: str, *arguments: str) -> Fork:
        """Run code with these as `sys.argv[1:]`."""
        self._count += 1
        output, errors = (Path(self._folder.name, f"{name}-{self._count}") for name in "oe")
        output.touch()
        errors.touch()
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        request = {
            "code": code, "arguments": arguments, "environment": environment,
            "streams": [os.devnull, str(output), str(errors)], "folder": os.getcwd(),
        }  # fmt: skip
        return Fork(self, self.answer(start=request), output, errors)

    def answer(self, **request: Any) -> int:
        """Send the server a request: to start a process, or to wait for one."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the server."""
        self._process.communicate(timeout=60)
        self._folder.cleanup()


def _child(request: dict[str, Any]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, name in enumerate(request["streams"]):
        os.dup2(os.open(name, os.O_WRONLY if descriptor else os.O_RDONLY), descriptor)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    try:
        exec(request["code"], {"__name__": "__main__"})
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = _child(request)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid


def _serve() -> None:
    from numba.core.registry import cpu_target

    for name in _IMPORTED:
        importlib.import_module(name)
    cpu_target.typing_context.refresh()  # numba's tables: half a second in every child otherwise
    cpu_target.target_context.refresh()
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            print(_fork(request["start"]), flush=True)
        else:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
    os._exit(0)  # taking apart all that was imported takes seconds
