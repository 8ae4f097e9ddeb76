"""The threading layer is chosen, never left to numba's fallback. Each case needs a new process."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # interpreters that import torch anew

PRODUCT = """
import torch
from gnnscale.kernels import CSR, THREADING_LAYER, num_threads, relu_dropout, spmm
eye = CSR.from_dense(torch.eye(3))
assert torch.equal(spmm(eye, torch.eye(3)), torch.eye(3))
import numba
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a new interpreter with these variables set."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


COUNT = "print(num_threads(), torch.get_num_threads(), numba.get_num_threads())\n"


def test_workqueue_is_never_taken_and_kernels_take_torchs_threads_and_leave_them_alone():
    """As many as the environment gives torch, and then as torch is told."""
    more = "torch.set_num_threads(2)\n" + COUNT
    done = run(
        PRODUCT + COUNT + more + "print(THREADING_LAYER, numba.threading_layer())",
        NUMBA_THREADING_LAYER="workqueue",
        OMP_NUM_THREADS="1",
        NUMBA_NUM_THREADS="2",
    )
    assert done.returncode == 0, done.stderr
    *counts, chosen, running = done.stdout.split()
    assert counts == ["1", "1", "2", "2", "2", "2"]
    assert chosen == running and chosen in ("omp", "tbb")


def test_without_any_layer_kernels_run_serially():
    hide = "import sys\nfor name in ('omppool', 'tbbpool', 'workqueue'):\n"
    hide += "    sys.modules['numba.np.ufunc.' + name] = None\n"
    kernel = (  # the fastest to compile, which it is anew: serial code is not kept
        "import numpy as np\n"
        "from gnnscale.kernels import THREADING_LAYER, num_threads\n"
        "from gnnscale.kernels.rows.cpu import renumber\n"
        "ids = np.array([2, 0, 1])\n"
        "renumber(ids, np.array([5, 6, 7]))\n"
        "assert ids.tolist() == [7, 5, 6]\n"
    )
    done = run(hide + kernel + "print(THREADING_LAYER, num_threads())")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["serial", "1"]
    assert "one thread" in done.stderr
