"""Optimizers and learning-rate schedules by name, or by the user's own factory."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
)

from gnnscale.errors import InputError
from gnnscale.train.options import TrainerOptions, name_of
from gnnscale.train.run.records import State
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.task import Task

_NAMED: dict[str, Callable[..., Optimizer]] = {
    "adam": functools.partial(torch.optim.Adam, fused=True),
    "adamw": functools.partial(torch.optim.AdamW, fused=True),
    "sgd": functools.partial(torch.optim.SGD, momentum=0.9),
}
OPTIMIZERS = (*_NAMED,)
SCHEDULERS = ("cosine", "onecycle")


def make_optimizer(options: TrainerOptions, learnt: nn.Module) -> Optimizer:
    """The optimizer of a run.

    Args:
        options: the trainer's. What the task has besides, and `parameter_groups` leaves out, is a
            last group.
        learnt: all that is trained; a `Learnt` where there are `parameter_groups`.

    Raises:
        InputError: the function makes none that a loop can step, the groups are none, or the model
            has nothing to train.
    """
    choice, parameter_groups = options.optimizer, options.parameter_groups
    if parameter_groups is None:
        parameters: list[Any] = [p for p in learnt.parameters() if p.requires_grad]
    else:
        assert isinstance(learnt, Learnt)
        parameters = _with_task(_groups(parameter_groups(learnt.model)), learnt.task)
    if not parameters:
        raise InputError("the model has no parameters that require gradients")
    own = {} if callable(choice) else {"lr": options.lr, "weight_decay": options.weight_decay}
    try:
        made = (choice if callable(choice) else _NAMED[choice])(parameters, **own)
    except (TypeError, ValueError, RuntimeError) as error:
        groups = "" if parameter_groups is None else " with parameter_groups"
        name = name_of(choice) if callable(choice) else repr(choice)
        raise InputError(f"optimizer={name}{groups} cannot be made: {error}") from error
    return _checked(made, choice) if callable(choice) else made


def _checked(made: object, choice: object) -> Optimizer:
    """What a function made, if it is an optimizer that takes a step without a closure."""
    if not isinstance(made, Optimizer):
        raise InputError(f"optimizer={name_of(choice)} returns {type(made).__name__}, no optimizer")
    if isinstance(made, torch.optim.SparseAdam):
        raise InputError(
            f"optimizer={name_of(choice)}: SparseAdam takes sparse gradients, and those of "
            f"trainers are dense; take {', '.join(OPTIMIZERS)} or another of torch.optim"
        )
    closure = inspect.signature(made.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InputError(
            f"optimizer={name_of(choice)}: {type(made).__name__} evaluates the loss several times "
            f"a step, and trainers do once; take {', '.join(OPTIMIZERS)} or another of torch.optim"
        )
    return made


def make_scheduler(
    options: TrainerOptions, optimizer: Optimizer, total_steps: int
) -> tuple[LRScheduler, str]:
    """The schedule and how often it advances: a named one every "step", a user's every "epoch"."""
    choice = options.scheduler
    if callable(choice):
        return choice(optimizer), "epoch"
    if choice == "cosine":
        return CosineAnnealingLR(optimizer, T_max=total_steps), "step"
    return OneCycleLR(optimizer, max_lr=options.lr, total_steps=total_steps), "step"


def watched_figure(scheduler: LRScheduler, task: Task, has_validation: bool) -> str | None:
    """What a plateau is of: one figure throughout, never loss and metric in turn.

    Raises:
        InputError: the schedule waits for growth, and nothing there grows.
    """
    if not isinstance(scheduler, ReduceLROnPlateau):
        return None
    better = "max" if any(m.higher_is_better for m in task.metrics()[:1]) else "min"
    if better == scheduler.mode and has_validation:
        return f"val_{task.headline}"
    if scheduler.mode == "min":
        return "loss"
    raise InputError(
        "ReduceLROnPlateau(mode='max') watches the validation metric: it needs validation "
        "nodes and a metric that grows; mode='min' watches the loss"
    )


def _groups(given: Any) -> list[Any]:
    """What `parameter_groups` returned: groups, or parameters, or these with their names."""
    try:
        groups = [
            {**group, "params": _listed(group["params"])} if isinstance(group, dict) else group
            for group in given
        ]
        if all(isinstance(p, Tensor) for p in _parameters(groups)):
            return groups
    except (TypeError, KeyError, IndexError):
        pass
    raise InputError(
        f"parameter_groups returned {given!r:.200}; it returns parameters of the model, or groups "
        "of them as torch.optim takes them: [{'params': list(model.parameters()), 'lr': 0.01}]"
    )


def _parameters(groups: list[Any]) -> list[Any]:
    """The parameters of groups, without their names."""
    given = [p for g in groups for p in (g["params"] if isinstance(g, dict) else [g])]
    return [p[1] if isinstance(p, tuple) else p for p in given]


def _with_task(groups: list[Any], task: nn.Module) -> list[Any]:
    """Groups, and of a task's parameters what is not among them."""
    given = [p for g in groups for p in (g["params"] if isinstance(g, dict) else [g])]
    known = set(map(id, _parameters(groups)))
    named = bool(given) and isinstance(given[0], tuple)
    left = [
        (f"task:{name}", p) if named else p
        for name, p in task.named_parameters()
        if p.requires_grad and id(p) not in known
    ]
    if left and groups and isinstance(groups[0], dict):
        return [*groups, {"params": left}]
    return [*groups, *left]


def _listed(params: Any) -> list[Any]:
    return [params] if isinstance(params, Tensor) else list(params)


def schedule_state(scheduler: LRScheduler | None) -> State | None:
    """A schedule's state without what cannot be stored (its own functions)."""
    if scheduler is None:
        return None
    kept = (str, bool, int, float, list, tuple, dict, Tensor, type(None))
    return {k: v for k, v in scheduler.state_dict().items() if isinstance(v, kept)}
