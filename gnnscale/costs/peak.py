"""The most bytes that operations allocate, counted rather than asked of the system."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from gnnscale.loader import Batch
from gnnscale.nn.modules import draws_put_back, evaluation_mode

Forward = Callable[[Any], Tensor]  # from a batch to what a loss is of


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that torch's operations make within the block.

    The count is exact and the same on every run and device. What an operation takes for itself
    while it runs (a sort's buffer) and what other libraries allocate is not in it.

    Attributes:
        peak: the most that was there at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live = 0
        self._known: dict[int, weakref.ref[UntypedStorage]] = {}

    @override
    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):  # was there before, or is counted already
                self._note(value, 0)
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._note(value, value.untyped_storage().nbytes())
        return out

    def _note(self, value: Tensor, size: int) -> None:
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return

        def gone(_: object) -> None:
            self._known.pop(key, None)
            self._live -= size

        self._known[key] = weakref.ref(storage, gone)
        self._live += size
        self.peak = max(self.peak, self._live)


def pass_peak(forward: Forward, model: nn.Module, batch: Batch, *, training: bool) -> int:
    """Bytes that a model's pass over a batch allocates, forward and, in training, backward.

    The model is run in evaluation mode, and left as it was.
    """
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with (
        draws_put_back([batch.adj.device]),
        torch.set_grad_enabled(training),
        evaluation_mode(model),
        PeakBytes() as counted,
    ):
        out = forward(batch)
        if out.requires_grad:
            torch.autograd.grad(out.sum(), learnt, allow_unused=True)
    return counted.peak
