"""Learnt: what a trainer trains, keeps and shares: the model, and what of its task is trained."""

from __future__ import annotations

import contextlib
import functools
import logging
import types
from collections import deque
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim import Optimizer

from gnnscale.errors import RunMismatch
from gnnscale.train.run.records import Description
from gnnscale.train.task import Task

logger = logging.getLogger(__name__)

# Before the names of a task's weights, where they are kept beside the model's.
_TASK = "task:"
_MOST = 10_000  # entries of a list or mapping that is looked into: longer ones are data
_OPAQUE = (str, bytes, int, float, complex, type, types.ModuleType, types.BuiltinFunctionType)


class Learnt(nn.Module):
    """A model and its task as one module: what is optimized, clipped, moved, summed over ranks.

    Attributes:
        model: the model.
        task: the task, where it is a module; else a container of the modules and parameters that
            its attributes hold, in lists, mappings, functions and objects as well. What is the
            model's is left out.
    """

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        self.model = model
        self.task = task if isinstance(task, nn.Module) else _container(task, model)

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, the model's under the names that they have there."""
        of_task = {_TASK + name: value for name, value in self.task.state_dict().items()}
        return {**self.model.state_dict(), **of_task}

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what `weights` gave.

        Raises:
            RunMismatch: it is of another model or another task.
        """
        of_task = {k.removeprefix(_TASK): v for k, v in weights.items() if k.startswith(_TASK)}
        for what, module, values in (
            ("model", self.model, of_model(weights)),
            ("task", self.task, of_task),
        ):
            try:
                module.load_state_dict(values)
            except RuntimeError as error:
                raise RunMismatch(f"the run's weights are of another {what}: {error}") from error


def of_model(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of `Learnt.weights`, the model's."""
    return {name: value for name, value in weights.items() if not name.startswith(_TASK)}


def shapes_of_task(task: Task, model: nn.Module) -> Description:
    """Shape and type of what a task has beside the model, by name."""
    return {
        name: "lazy"
        if isinstance(value, UninitializedParameter | UninitializedBuffer)
        else [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for name, value in Learnt(model, task).task.state_dict(keep_vars=True).items()
    }


def task_faults(task: object) -> list[str]:
    """What a task holds that would be trained wrongly, or not at all, in words."""
    faults = []
    kind = type(task).__name__
    try:
        found = list(_walk(task, "", set()))
    except RecursionError:
        return [
            f"{kind} holds objects within objects, too deep to look through: keep what is learnt"
            " in attributes of the task"
        ]
    for name, part in found:
        if isinstance(part, set | frozenset):
            faults.append(
                f"{kind}.{name} is a set of what is learnt, which has no order: make it a list"
            )
        elif isinstance(part, nn.Module):
            faults += _state_faults(f"{kind}.{name}", part)
        elif isinstance(part, Optimizer):
            faults.append(
                f"{kind}.{name} is an optimizer: the trainer trains a task's parameters with the "
                "model's; leave it out"
            )
        elif not isinstance(part, nn.Parameter):
            faults.append(
                f"{kind}.{name} is a tensor that requires gradients, which no optimizer would be "
                "given: make it a torch.nn.Parameter"
            )
    return faults + (_state_faults(kind, task) if isinstance(task, nn.Module) else [])


def _state_faults(name: str, module: nn.Module) -> list[str]:
    state = module.state_dict(keep_vars=True)
    return [
        f"{name}: {key} of its state is of {type(value).__name__}; a run keeps tensors"
        for key, value in state.items()
        if not isinstance(value, Tensor)
    ]


def _container(task: object, model: nn.Module) -> nn.Module:
    container = nn.Module()
    known = {id(part) for part in (*model.modules(), *model.parameters(), *model.buffers())}
    for name, part in _walk(task, "", known):
        # Past `register_parameter` and `add_module`, which refuse names that an attribute may have.
        if isinstance(part, nn.Parameter):
            container._parameters[name] = part
        elif isinstance(part, nn.Module) and not _is_within(part, known):
            container._modules[name] = part
    return container


def _is_within(module: nn.Module, known: set[int]) -> bool:
    """Whether all that a module has is known: a PyG model that was converted, for one."""
    held = [*module.parameters(), *module.buffers()]
    return bool(held) and all(id(value) in known for value in held)


def _walk(value: object, name: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    """Modules, parameters, other leaves that require gradients, optimizers and sets, each once.

    Names tell the way there, and are the same in every process. A module is not looked into, unless
    it is the task itself: what torch does not register is then found, for `task_faults`.
    """
    if id(value) in seen or isinstance(value, _OPAQUE):
        return
    seen.add(id(value))
    if name and isinstance(value, nn.Module | nn.Parameter | Optimizer):
        yield name, value
        return
    if isinstance(value, Tensor):
        if value.is_leaf and value.requires_grad:
            yield name, value
        return
    if isinstance(value, set | frozenset):
        if len(value) <= _MOST and any(isinstance(v, nn.Module | nn.Parameter) for v in value):
            yield name, value
        return
    for key, part in _parts(value):
        key = str(key).replace(".", "/")
        yield from _walk(part, f"{name}/{key}" if name else key, seen)


def _parts(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, nn.Module):
        registered = ("_parameters", "_buffers", "_modules")
        yield from ((k, v) for k, v in vars(value).items() if k not in registered)
    elif isinstance(value, Mapping | list | tuple | deque):
        if len(value) <= _MOST:
            yield from value.items() if isinstance(value, Mapping) else enumerate(value)
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield "self", value.__self__
    elif isinstance(value, types.FunctionType):
        for key, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # of a cell that holds nothing yet
                yield key, cell.cell_contents
    else:
        yield from getattr(value, "__dict__", {}).items()
        for kind in type(value).__mro__:
            slots = getattr(kind, "__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name != "__dict__" and hasattr(value, name):
                    yield name, getattr(value, name)
            trained = (nn.Module, nn.Parameter)  # shared by all that are of the class
            yield from ((k, v) for k, v in vars(kind).items() if isinstance(v, trained))
