"""Numba's threading layer, and the two decorators with which every kernel here is compiled.

Training runs parallel kernels on the main thread while a prefetch thread runs serial ones. Numba's
``workqueue`` layer aborts the process when two threads launch at once, and is what numba falls back
to by itself, so the layer is chosen here: OpenMP, else TBB, else none (the same kernels, compiled
serially). This module is imported before any kernel is compiled.
"""

from __future__ import annotations

import functools
import importlib
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numba
import torch  # its wheel brings an OpenMP runtime, which numba then shares

from gnnscale.kernels import code_cache

logger = logging.getLogger(__name__)

_settings: Any = numba.config  # its attributes are made at run time
_BACKENDS = {"omp": "numba.np.ufunc.omppool", "tbb": "numba.np.ufunc.tbbpool"}


def _loads(layer: str) -> bool:
    try:
        importlib.import_module(_BACKENDS[layer])
    except ImportError:
        return False
    return True


def _running_layer() -> str | None:
    """Return the layer that another library has already started, None where none has."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


def choose_layer() -> str:
    """Return "omp", "tbb" or "serial", having told numba; warns (RuntimeWarning) on "serial"."""
    running = _running_layer()
    if running in _BACKENDS:
        return running
    if running is None:
        wish = str(_settings.THREADING_LAYER)  # NUMBA_THREADING_LAYER, "default" where unset
        for layer in sorted(_BACKENDS, key=lambda name: (name != wish, name)):
            if _loads(layer):
                _settings.THREADING_LAYER = layer
                return layer
    warnings.warn(
        f"gnnscale's kernels run on one thread: numba's threading layer is "
        f"{running or 'neither OpenMP nor TBB'}. Install libgomp (Linux), libomp (macOS) or "
        f"`pip install tbb`, and leave NUMBA_THREADING_LAYER unset.",
        RuntimeWarning,
        stacklevel=2,
    )
    return "serial"


#: The layer in use: "omp", "tbb" or "serial".
THREADING_LAYER: str = choose_layer()


def num_threads() -> int:
    """Return how many threads a parallel kernel launched from this Python thread uses: torch's."""
    if THREADING_LAYER == "serial":
        return 1
    return min(torch.get_num_threads(), int(_settings.NUMBA_NUM_THREADS))


def _compile(
    function: Callable[..., object], *, cache: bool = True, **options: Any
) -> Callable[..., Any]:
    compiled: Callable[..., Any] = numba.njit(nogil=True, **options)(function)
    if cache:
        code_cache.keep(compiled)
    return compiled


def njit_serial(function: Callable[..., object]) -> Callable[..., Any]:
    """Compile ``function`` to run on the calling thread, without the GIL (fit for prefetching)."""
    return _compile(function)


def njit_parallel(function: Callable[..., object]) -> Callable[..., Any]:
    """Compile ``function`` with its ``prange`` loops in parallel, without the GIL.

    A call takes as many threads as torch has in the calling thread, and leaves torch's as it was:
    numba's first launch would set it to all cores, against the user's ``torch.set_num_threads``,
    and a run would round differently before and after.
    """
    if THREADING_LAYER == "serial":
        # Numba's cache does not tell parallel code from serial code, so this one is not kept.
        return _compile(function, cache=False)
    compiled = _compile(function, parallel=True)

    @functools.wraps(function)
    def launch(*arguments: object) -> None:
        of_torch, of_numba = torch.get_num_threads(), numba.get_num_threads()
        wanted = min(of_torch, int(_settings.NUMBA_NUM_THREADS))
        if wanted != of_numba:  # each question to numba takes microseconds
            numba.set_num_threads(wanted)
        compiled(*arguments)
        if wanted != of_numba:
            numba.set_num_threads(of_numba)
        if torch.get_num_threads() != of_torch:
            torch.set_num_threads(of_torch)

    return launch
