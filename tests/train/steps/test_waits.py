"""A step of training never waits for the device: it reads no value back and asks for no size."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.small_runs import small_graph, small_trainer

aten = torch.ops.aten
# Operators that stop the host on CUDA, whatever they are given.
WAITING = {
    aten._local_scalar_dense.default,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
}
SETTINGS = {
    "gcn": {},
    "sage": {},
    "gin": {},
    "lazy": {"precision": "bf16"},
    "noisy": {"clip_norm": 1.0, "accumulate": 2},
}
TASKS = [{"class_weight": "balanced"}, {"label_smoothing": 0.1}, {"precompute": True}]


class NoWaiting(TorchDispatchMode):
    """Fails on whatever would wait on CUDA, outside the optimizer (which counts on the host)."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        indices = args[1] if func.overloadpacket in (aten.index, aten.index_put_) else ()
        by_mask = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)
        sizeless = func is aten.repeat_interleave.Tensor and not (kwargs or {}).get("output_size")
        if func in WAITING or by_mask or (sizeless and args[0].numel()):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


def started(model: str, **options):
    trainer = small_trainer(None, model, **options)
    trainer.start()
    trainer.model.train()
    return trainer


@pytest.mark.parametrize("model", SETTINGS)
@pytest.mark.parametrize("weighted", [False, True])
def test_no_operator_of_a_step_waits(model, weighted, monkeypatch):
    trainer = started(model, graph=small_graph(weighted=weighted), **SETTINGS[model])
    no_waiting(trainer, monkeypatch)


@pytest.mark.parametrize("options", TASKS)
def test_nor_does_one_of_the_task(options, monkeypatch):
    no_waiting(started("sage", **options), monkeypatch)


def no_waiting(trainer, monkeypatch):
    update = trainer._sessions.open.step.updates._scaler.step
    monkeypatch.setattr(trainer._sessions.open.step.updates._scaler, "step", outside(update))
    for batch in trainer.loader:
        with NoWaiting():
            trainer.step(batch)


def outside(function):
    """The function, with no mode on."""

    def called(*arguments):
        with torch.utils._python_dispatch._disable_current_modes():
            return function(*arguments)

    return called


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("model", SETTINGS)
@pytest.mark.parametrize("compiled", [False])
def test_cuda_is_never_waited_for(model, compiled):
    trainer = started(model, device="cuda", **SETTINGS[model])
    for number, batch in enumerate(trainer.loader):
        if number == 0:
            trainer.step(batch)  # compiles kernels, and makes the optimizer's state
            continue
        torch.cuda.set_sync_debug_mode("error")
        try:
            trainer.step(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
