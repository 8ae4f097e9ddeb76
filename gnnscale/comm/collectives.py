"""What ranks tell each other. Every rank calls the same functions in the same order."""

from __future__ import annotations

import contextlib
import itertools
import pickle
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from typing_extensions import override

from gnnscale.comm import group as ranks
from gnnscale.errors import GnnscaleError, RankFailure

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

T = TypeVar("T")

_calls = itertools.count()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Name the rank that broke what ranks do together in this block.

    Raises:
        RankFailure: another rank has failed, or is gone.
    """
    ranks.watch().check()
    try:
        yield
    except RuntimeError as error:
        raise ranks.watch().explain(error) from error


def all_reduce_(tensor: Tensor, op: str = "sum", group: ProcessGroup | None = None) -> Tensor:
    """Reduce a tensor over all ranks, in place; the same bits on each.

    Args:
        tensor: of the same shape and type on every rank.
        op: "sum", "min" or "max".
        group: of ranks; all when None.

    Raises:
        RankFailure: another rank has failed.
    """
    if ranks.world_size(group) > 1:
        with together():
            distributed.all_reduce(tensor, getattr(distributed.ReduceOp, op.upper()), group)
    return tensor


def sum_over_ranks(tensor: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """The sum of every rank's tensor, differentiable: the gradient is the sum of theirs."""
    if ranks.world_size(group) == 1:
        return tensor
    return _SumOverRanks.apply(tensor, group)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, tensor: Tensor, group: ProcessGroup | None) -> Tensor:
        ctx.group = group
        return all_reduce_(tensor.clone(memory_format=torch.contiguous_format), group=group)

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.clone(memory_format=torch.contiguous_format)
        return all_reduce_(total, group=ctx.group), None


def sum_numbers(*numbers: float, group: ProcessGroup | None = None) -> list[float]:
    """The sums over ranks of some numbers, in float64 on the CPU: no device is waited for."""
    if ranks.world_size(group) == 1:
        return list(numbers)
    return all_reduce_(torch.tensor(numbers, dtype=torch.float64), group=group).tolist()


def any_rank(flag: bool) -> bool:
    """Whether it is so on any rank: the same answer on all."""
    return sum_numbers(float(flag))[0] > 0


def gather_tensors(tensor: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Every rank's tensor, of one shape and type: `[world_size, …]` in rank order."""
    size = ranks.world_size(group)
    if size == 1:
        return tensor.unsqueeze(0)
    out = tensor.new_empty(size, *tensor.shape)
    with together():
        distributed.all_gather(list(out.unbind()), tensor.contiguous(), group)
    return out


def broadcast_(tensor: Tensor, src: int = 0, group: ProcessGroup | None = None) -> Tensor:
    """Take over a rank's tensor, in place."""
    if ranks.world_size(group) > 1:
        with together():
            distributed.broadcast(tensor, src, group)
    return tensor


def gather_objects(obj: object, group: ProcessGroup | None = None) -> list[Any]:
    """Every rank's object, in rank order, on every rank."""
    found = [obj] * ranks.world_size(group)
    if len(found) > 1:
        with together():
            distributed.all_gather_object(found, obj, group)
    return found


def broadcast_object(obj: object, src: int = 0, group: ProcessGroup | None = None) -> Any:
    """The object of rank `src`, on every rank."""
    if ranks.world_size(group) == 1:
        return obj
    held = [obj]
    with together():
        distributed.broadcast_object_list(held, src, group)
    return held[0]


def barrier() -> None:
    """Wait for all ranks."""
    from_main(lambda: None)
    sum_numbers(0.0)


def from_main(function: Callable[[], T]) -> T:
    """What a function returns on rank 0, or raises there, on every rank.

    The others wait however long it takes, while rank 0 lives.
    """
    if ranks.world_size() == 1:
        return function()
    watch, number = ranks.watch(), next(_calls)
    outcome: tuple[bool, Any] | None = None
    if ranks.is_main():
        watch.check()
        try:
            outcome = (True, function())
        except RankFailure:
            raise
        except Exception as error:
            outcome = (False, error)
        watch.say(f"done/{number}")
        if number:  # all have been told of the one before
            watch.unsay(f"done/{number - 1}")
    else:
        watch.wait(f"done/{number}")
    fine, result = _told(outcome)
    if fine:
        return result
    raise result


def _told(outcome: tuple[bool, Any] | None) -> tuple[bool, Any]:
    """Rank 0's outcome: the others' copy of it, its own as it is."""
    sent = outcome
    if outcome is not None and not outcome[0] and not _travels(outcome[1]):
        sent = (False, GnnscaleError(f"{type(outcome[1]).__name__}: {outcome[1]}"))
    received = broadcast_object(sent)
    return received if outcome is None else outcome


def _travels(error: Exception) -> bool:
    with contextlib.suppress(Exception):
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    return False
