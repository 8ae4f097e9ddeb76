"""The state of an optimizer whose parameters' gradients lie on several ranks.

Every rank makes the optimizer of the whole model, which keeps state of the parameters that get
gradients there: those of its own stages. Parameters are numbered alike on all ranks, so the parts
together are the state of one process that trains them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from gnnscale import comm

State = dict[str, Any]


def part_of(state: State, optimizer: Optimizer, parameters: Iterable[Parameter]) -> State:
    """Of an optimizer's state, what belongs to some parameters."""
    own = {id(parameter) for parameter in parameters}
    numbered = [id(p) for group in optimizer.param_groups for p in group["params"]]
    return {**state, "state": {n: of for n, of in state["state"].items() if numbered[n] in own}}


def whole(state: State, group: Any) -> State:
    """The state over all parameters, on every rank of the pipeline, each of which gives its own."""
    here = {
        number: {k: v.cpu() if isinstance(v, Tensor) else v for k, v in of_one.items()}
        for number, of_one in state["state"].items()
    }
    parts: State = {}
    for part in comm.gather_objects(here, group):
        parts |= part
    return {**state, "state": dict(sorted(parts.items()))}
