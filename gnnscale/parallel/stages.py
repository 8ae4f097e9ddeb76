"""Stages: a model cut into contiguous ranges of blocks, one after another on several devices."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence, Set
from itertools import chain, pairwise
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.loader import Batch
from gnnscale.nn import Context, LayeredGNN
from gnnscale.nn.blocks.context import computed_in, of_type
from gnnscale.nn.blocks.operations import block_phases, head_phases, state_of
from gnnscale.nn.blocks.phases import Phase
from gnnscale.nn.convs.propagation import densify
from gnnscale.nn.modules import is_intercepted
from gnnscale.parallel.boundaries import Boundary, boundaries
from gnnscale.train.run.records import State


class Stage(nn.Module):
    """Some consecutive blocks of a `LayeredGNN`. Made by `cut`.

    It holds the modules of its own blocks alone, under the state-dict keys that they have in the
    whole model: the dictionaries of all stages together are the model's. Its phases are numbered as
    there, so that dropout masks and the seeds of opaque convolutions are the same.

    Every stage runs with a `Context` made from its own copy of the batch: structure, ids, segments,
    edge attributes and, for the first, the precomputed first hop do not travel.

    Attributes:
        index: its place among the stages.
        numbers: the numbers of its blocks in the model.
        first: whether it is the first stage, which is given the features.
        last: whether it is the last, with the head, whose "x" is the model's output.
        receives: name and channels of what comes from the stage before: "x", the current rows, then
            the slots in use, each value once. Nothing for the first stage.
        sends: the same of what goes to the next; a slot that is read further on passes through.
        receives_gradients_for: names in `sends` for which the next stage returns a gradient.
        returns_gradients_for: names in `receives` for which this one does: those that a parameter
            made. Raw features, and a fixed propagation of them, have none.
    """

    def __init__(
        self,
        model: LayeredGNN,
        index: int,
        numbers: range,
        before: Boundary | None,
        after: Boundary | None,
    ) -> None:
        super().__init__()
        self.index, self.numbers = index, numbers
        self.first, self.last = before is None, after is None
        self.receives = [] if before is None else list(before.widths)
        self.sends = [] if after is None else list(after.widths)
        self.returns_gradients_for = before.gradients if before is not None else frozenset()
        self.receives_gradients_for = after.gradients if after is not None else frozenset()
        self._same = before.same if before is not None else ()
        self._blocks = tuple(model.blocks[i] for i in numbers)
        # In a tuple: it is registered under the name that it has in the model.
        self._head = (model.head,) if self.last else ()
        self._num_blocks, self._jk = len(model.blocks), model.jk_mode
        self._dtype = computed_in(model)
        self._compiled: tuple[object, list[list[Phase]]] | None = None
        own = {module for block in self._blocks for module in block.modules()}
        others = {module for block in model.blocks for module in block.modules()} - own
        # Past `add_module`, which refuses names that a `Sequential` may have, such as "first".
        self._modules.update(_part(model, own, others, self.last)._modules)

    @property
    def phases(self) -> list[list[Phase]]:
        """The phases of its blocks; in the last stage, of the head after them."""
        state = state_of((*self._blocks, *self._head))
        if self._compiled is None or self._compiled[0] != state:
            phases = block_phases(zip(self.numbers, self._blocks, strict=True), self._jk)
            phases += [head_phases(head, self._num_blocks, self._jk) for head in self._head]
            self._compiled = (state, phases)
        return self._compiled[1]

    @override
    def forward(self, values: Mapping[str, Any], context: Context) -> dict[str, Tensor]:
        """Run the stage on a batch.

        Args:
            values: the features as "x" in the first stage, dense or sparse; else what `receives`
                names, each `[num_nodes, channels]`.
            context: of the batch, made by this stage; its slots are filled here.

        Returns:
            What `sends` names, each `[num_nodes, channels]`; in the last stage the model's output
            `[num_nodes, out_channels]` as "x". Sparse rows are sent dense.

        Raises:
            InputError: a value is missing.
        """
        missing = {"x", *(name for name, _ in self.receives)} - set(values)
        if missing:
            raise InputError(f"stage {self.index} is not given {', '.join(sorted(missing))}")
        context.slots.update({name: value for name, value in values.items() if name != "x"})
        context.slots.update({name: values[other] for name, other in self._same})
        x = values["x"]
        if self.first and (dtype := computed_in(self) or self._dtype) is not None:
            x = of_type(x, dtype)
        for block, phases in zip((*self._blocks, None), self._with_head(), strict=True):
            x = context.runner(block, phases, x, context)
        if self.last:
            return {"x": x}
        sent: dict[str, Tensor] = {}
        given = {id(value) for value in values.values()}
        for name, _ in self.sends:
            value = densify(x if name == "x" else context.slots[name])
            # What passes through is not itself the leaf in which this stage's gradients add up.
            sent[name] = value.view_as(value) if id(value) in given else value
        return sent

    def _with_head(self) -> list[list[Phase]]:
        return self.phases if self.last else [*self.phases, []]

    @override
    def __getstate__(self) -> State:
        return {**self.__dict__, "_compiled": None}  # phases refer to this stage's own modules


def cut(
    model: LayeredGNN,
    cuts: Sequence[int],
    sample: Batch | None = None,
    beside: nn.Module | None = None,
) -> list[Stage]:
    """Cut a model into stages, which share its parameters.

    The head, and parameters that no block reads, belong to the last stage.

    Args:
        model: the model.
        cuts: the numbers of the blocks with which a new stage begins, rising, from 1 on; none at
            all for one stage.
        sample: a small batch on the model's device, for a model whose first layer does not say its
            width or needs edge attributes; see `boundaries`.
        beside: what the last stage holds besides: what a task has to train, where its loss is.

    Raises:
        InputError: there are no such cuts, or a width cannot be found out.
        UnsupportedModel: two stages share a parameter or buffer, or the model itself has hooks.
    """
    faults = stage_faults(list(cuts), len(model.blocks))
    if faults:
        raise InputError(faults)
    if is_intercepted(model) or type(model).forward is not LayeredGNN.forward:
        raise UnsupportedModel(
            f"{type(model).__name__} has hooks or a forward of its own, which stages would skip; "
            "put them on its convolutions"
        )
    crossing = boundaries(model, sample) if cuts else []
    stages = divide(model, cuts, crossing)
    if beside is not None:
        stages[-1]._modules["task:"] = beside
    _refuse_shared(stages)
    return stages


def divide(model: LayeredGNN, cuts: Sequence[int], crossing: Sequence[Boundary]) -> list[Stage]:
    """The stages of a model whose boundaries are known, not checked."""
    ends = [0, *map(operator.index, cuts), len(model.blocks)]
    known = dict(enumerate(crossing, start=1))
    return [
        Stage(model, index, range(start, stop), known.get(start), known.get(stop))
        for index, (start, stop) in enumerate(pairwise(ends))
    ]


def stage_faults(stages: Any, num_blocks: int) -> list[str]:
    """What is wrong with a trainer's `stages`, in words.

    Args:
        stages: "auto", the number of stages, or the cuts as `cut` takes them.
        num_blocks: blocks of the model.
    """
    if isinstance(stages, str):
        return [] if stages == "auto" else [f"stages={stages!r}: 'auto', a number or a list"]
    wanted = stages if isinstance(stages, Sequence) else [stages]
    try:
        numbers = [operator.index(number) for number in wanted]
    except TypeError:
        return [f"stages={stages!r}: 'auto', a whole number, or a list of block numbers"]
    if not isinstance(stages, Sequence):
        if 1 <= numbers[0] <= num_blocks:
            return []
        return [f"stages={stages}: the model has {num_blocks} blocks, so 1 to {num_blocks} stages"]
    rising = all(a < b for a, b in pairwise([0, *numbers, num_blocks]))
    if rising:
        return []
    return [
        f"stages={list(stages)}: the numbers of the blocks with which a new stage begins, rising, "
        f"from 1 to {num_blocks - 1}; the model has {num_blocks} blocks"
    ]


def _part(module: nn.Module, own: Set[nn.Module], others: Set[nn.Module], rest: bool) -> nn.Module:
    """The modules of `own` inside a module, in empty containers that keep their names.

    With `rest`, so is everything else that is not another stage's: the head, for one.
    """
    container = nn.Module()
    container.training = module.training
    for name, child in module._modules.items():
        if child is None:
            continue
        if child in own or (rest and others.isdisjoint(child.modules())):
            container._modules[name] = child
            continue
        inside = _part(child, own, others, rest and child not in others)
        if inside._modules or inside._parameters or inside._buffers:
            container._modules[name] = inside
    if rest:
        container._parameters.update(module._parameters)
        container._buffers.update(module._buffers)
        container._non_persistent_buffers_set = module._non_persistent_buffers_set
    return container


def _refuse_shared(stages: Sequence[Stage]) -> None:
    seen: dict[int, tuple[int, str]] = {}
    shared = []
    for stage in stages:
        named = chain(
            stage.named_parameters(remove_duplicate=False),
            stage.named_buffers(remove_duplicate=False),
        )
        for name, value in named:
            number, other = seen.setdefault(id(value), (stage.index, name))
            if number != stage.index:
                shared.append(f"{other} of stage {number} is {name} of stage {stage.index}")
    if shared:
        raise UnsupportedModel(
            f"stages cannot share weights or buffers, which would have to be summed over devices: "
            f"{'; '.join(shared)}. Cut so that both lie in one stage, or give each block its own"
        )
