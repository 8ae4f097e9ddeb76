"""Runs of row-local phases, each fused into one kernel by `torch.compile`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import norm as pyg

from gnnscale.errors import MissingDependency
from gnnscale.kernels import CSR
from gnnscale.kernels.hash_dropout import stream_of
from gnnscale.kernels.hash_dropout.reference import mask_rows, row_keys
from gnnscale.kernels.normalization.reference import graph_norm_formula
from gnnscale.nn.blocks.context import Context
from gnnscale.nn.blocks.phases import Dropout, Features, Join, Phase, Rows, Statistics, slots_of
from gnnscale.nn.convs.networks import Call
from gnnscale.nn.convs.propagation import is_plain_linear
from gnnscale.nn.modules import is_intercepted
from gnnscale.nn.norms import layers as norms
from gnnscale.nn.norms import statistics

# Norms whose forward, over all rows, is a pure function of tensors.
_TRACEABLE = (
    *(pyg.GraphNorm, pyg.LayerNorm, pyg.BatchNorm, nn.BatchNorm1d),
    *(norms.GraphNorm, norms.LayerNorm, norms.BatchNorm),
)


class CompiledRows:
    """A `Runner` that compiles every run of neighbouring row-local phases of a block.

    Linear layers, activations, joins with slots, and norms go into a graph; on CUDA dropout too,
    with the same masks (on the CPU its own kernel is faster). Propagation, opaque convolutions and
    modules from elsewhere stay between the graphs. The number of rows is a symbol: batches of all
    sizes share one graph. Sums are taken in another order, so that results agree to rounding.

    On the CPU compiling takes seconds and saves little of a step: it pays in long runs alone.

    Args:
        device: where the model runs.
        backend: of `torch.compile`.

    Raises:
        MissingDependency: there is no C++ compiler, or on CUDA no triton.
    """

    def __init__(self, device: torch.device, backend: object = "inductor") -> None:
        if backend == "inductor":
            _check_compiler(device)
        self._backend = backend
        self._kinds = (Join,) if device.type == "cpu" else (Join, Dropout)
        self._fused: dict[tuple[Phase, ...], list[Phase | _Fused]] = {}

    def __call__(
        self, block: nn.Module | None, phases: Sequence[Phase], x: Features, context: Context
    ) -> Features:
        key = tuple(phases)
        if key not in self._fused:
            self._fused[key] = self._fuse(phases)
        for phase in self._fused[key]:
            x = phase(x, context)
        return x

    def _fuse(self, phases: Sequence[Phase]) -> list[Phase | _Fused]:
        fused: list[Phase | _Fused] = []
        for fusable, run in groupby(phases, self._is_fusable):
            steps = tuple(run)
            # A module by itself is one kernel already.
            alone = len(steps) == 1 and isinstance(steps[0], Rows)
            fused += [_Fused(steps, self._backend)] if fusable and not alone else steps
        return fused

    def _is_fusable(self, phase: Phase) -> bool:
        """Whether a phase is known to be a pure function of tensors, in training too."""
        if isinstance(phase, Statistics):
            return _is_over_rows(phase.norm) and not is_intercepted(phase.norm)
        if isinstance(phase, Rows):
            return _is_pure(phase.module)
        return isinstance(phase, self._kinds)


class _Fused:
    """Some phases as one compiled function of rows, slots and the keys of the dropout masks."""

    def __init__(self, phases: tuple[Phase, ...], backend: Any) -> None:
        self._phases = phases
        self._slots = [name for phase in phases for name in slots_of(phase)]
        self._compiled = torch.compile(_function(phases), backend=backend)

    def __call__(self, x: Features, context: Context) -> Features:
        values: Any = [context.slots[name] for name in self._slots]
        sparse = any(isinstance(rows, CSR) for rows in (x, *values))
        if not context.training or sparse or "batch" in context.segments:
            for phase in self._phases:
                x = phase(x, context)
            return x
        drops, ids = (phase for phase in self._phases if isinstance(phase, Dropout)), context.ids
        streams = [stream_of(context.dropout_key(phase.stream)) for phase in drops]
        keys = [row_keys(stream, ids(x.shape[0], x.device)) for stream in streams]
        for tensor in (x, *values, *keys):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return self._compiled(x, values, keys)


def _function(phases: Sequence[Phase]) -> Callable[..., Tensor]:
    nowhere: Any = None  # no context: rows are all that the last kind of phase reads

    def rows(x: Any, values: list[Tensor], keys: list[Tensor]) -> Tensor:
        given, masks = iter(values), iter(keys)
        for phase in phases:
            if isinstance(phase, Dropout):
                x = phase.activate(x, nowhere)
                x = mask_rows(x, phase.p, next(masks))
            elif isinstance(phase, Join):
                x = phase.function(*(next(given) for _ in phase.slots), x)
            elif isinstance(phase, Statistics) and isinstance(phase.norm, pyg.GraphNorm):
                x = _graph_norm(phase.norm, statistics.widened(x))
            elif isinstance(phase, Statistics):
                x = phase.norm(statistics.widened(x))
            else:
                x = phase(x, nowhere)
        return x

    # torch counts the graphs of a code object and runs it eagerly after eight: each has its own.
    rows.__code__ = rows.__code__.replace()
    return rows


def _graph_norm(norm: pyg.GraphNorm, x: Tensor) -> Tensor:
    return graph_norm_formula(x, norm.weight, norm.bias, norm.mean_scale, norm.eps)


def _is_over_rows(norm: object) -> bool:
    apart = getattr(norm, "over", "batch") != "batch"
    kept = getattr(norm, "running", False) or getattr(norm, "synchronised", False)
    return type(norm) in _TRACEABLE and not apart and not kept


def _is_pure(module: Any) -> bool:
    source = module.function if isinstance(module, Call) else type(module)
    random = isinstance(module, nn.RReLU | nn.modules.dropout._DropoutNd)
    of_torch = str(source.__module__).split(".")[0] == "torch"
    return (of_torch or is_plain_linear(module)) and not random and not is_intercepted(module)


def _check_compiler(device: torch.device) -> None:
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise MissingDependency("compile=True needs triton on CUDA: `pip install triton`")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        raise MissingDependency(
            "compile=True needs a C++ compiler: install one (`apt install g++`, `xcode-select "
            "--install`) or name it in $CXX"
        ) from error
