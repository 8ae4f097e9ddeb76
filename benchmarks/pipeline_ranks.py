"""Functions on several ranks, started by torchrun; for pipeline.py.

Where this user may make one, ranks have a network of their own, in which nobody else talks: what
its loopback device has carried is what they have said to each other, headers included.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gnnscale import comm

_ALONE = ("unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
_OWN_NETWORK = "PIPELINE_OWN_NETWORK"


def on_ranks(
    function: Callable[..., dict[str, Any]], ranks: int, threads: int, **setting: Any
) -> dict[str, Any]:
    """Call a module-level function on every rank; what it returns on rank 0.

    Args:
        function: of arguments and a result that JSON holds.
        ranks: how many.
        threads: of each.
        setting: its arguments.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "outcome.json")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(ranks), __file__]
        command += [function.__module__, function.__name__, json.dumps(setting), str(out)]
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "passive",  # ranks that spin while they wait slow the others
        }
        if _may_be_alone():
            command = [*_ALONE, *command]
            environment |= {"GLOO_SOCKET_IFNAME": "lo", _OWN_NETWORK: "1"}
            environment |= {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # it has no names for addresses
        subprocess.run(command, check=True, env=environment)
        return json.loads(out.read_text())


@functools.cache
def _may_be_alone() -> bool:
    found = all(shutil.which(name) for name in ("unshare", "ip"))
    return found and not subprocess.run([*_ALONE, "true"], capture_output=True).returncode


def carried() -> int | None:
    """Bytes that the ranks' own network has carried so far; None where they have none."""
    if _OWN_NETWORK not in os.environ:
        return None
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    received = next(line for line in lines if line.strip().startswith("lo:"))
    return int(received.split(":")[1].split()[0])


def main() -> None:
    module, name, setting, out = sys.argv[1:]
    comm.start()
    found = getattr(importlib.import_module(module), name)(**json.loads(setting))
    if comm.is_main():
        Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
