"""Whether a task's loss is a sum over targets: what that means in a step, and a check of it.

A trainer divides the losses of a step's batches, added up, by their normalisers, added up. Where
losses are sums over targets that is the mean over all of them, however they are dealt to batches. A
mean, taken for a sum, is divided once more, and training stands still.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR
from gnnscale.loader import Batch
from gnnscale.nn.modules import evaluation_mode, has_lazy, settle_unused
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.steps.undone import undone
from gnnscale.train.task import NodeTask, Task, check_depends, counted, is_additive

logger = logging.getLogger(__name__)

_ROWS = 1024  # of a batch that a loss is tried on: it may compare all with all
_EXACT = 5e-3  # of the values: a learning rate that is off by less harms nothing
_SAME = 1e-4  # of the values: two calls that are further apart have drawn random numbers
_DRAWS = 24
# Twice the batch is twice a sum, in the mean over the draws. A mean gives 1. Negatives that avoid
# edges give 2 but for the share of edges among pairs: the bounds leave room for a third of them.
_TWICE = (1.7, 2.4)
_ERRORS = 8.0  # standard errors that a deviation from 2 has to exceed as well


def try_loss(
    learnt: Learnt, task: Task, out: Tensor, batch: Batch, edge_labels: bool = False
) -> None:
    """Run a task's loss on a sample batch, in evaluation mode; see that it is the sum it says.

    Two disjoint sets of targets, on two copies of the batch without edges between them, are held
    against both together, as one batch of both copies: so nodes, edges and graphs are targets
    alike. Where the loss draws random numbers, the mean over draws is held against that of the
    batch doubled, and refused only where it is far from twice as much. The task is left as it was,
    and so are random generators; lazy parameters get their shapes.

    Args:
        learnt: the model and the task.
        task: the task.
        out: the model's output for the batch `[rows, channels]`.
        batch: the batch.
        edge_labels: whether its labels are of edges.

    Raises:
        InputError: the loss is no scalar, does not depend on the output, or makes parameters; the
            normaliser is no number from 0 on; or one of them is not additive, and the task does
            not say so.
    """
    if type(task) is NodeTask:
        return
    known = {id(parameter) for parameter in learnt.parameters()}
    out = out.detach().to(torch.promote_types(out.dtype, torch.float32))
    if out.size(0) == batch.num_nodes > _ROWS:
        out, batch = out[:_ROWS], shortened(batch, _ROWS, edge_labels)
    with torch.enable_grad(), evaluation_mode(learnt):
        if has_lazy(learnt):
            task.loss(out.clone().requires_grad_(), batch)
            settle_unused(learnt.task)
        with undone(task, learnt.task, out.device):
            _try(task, out, batch)
            _check_complete(learnt, task, known)


def _try(task: Task, out: Tensor, batch: Batch) -> None:
    def loss_of(rows: Tensor, batch: Batch, number: int) -> Tensor:
        # Draws that are seeded by epoch or step differ too from one number to the next.
        seen = replace(batch, epoch=number % 2, step=number)
        loss = task.loss(rows.clone().requires_grad_(), seen)
        if not isinstance(loss, Tensor) or loss.dim():
            found = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(
                f"{type(task).__name__}.loss returned {found}; it returns one number, a tensor of "
                "no dimensions: the sum over a batch's targets, as .sum() gives it"
            )
        return loss

    def value(rows: Tensor, batch: Batch, number: int) -> float:
        return float(loss_of(rows, batch, number).detach())

    loss, targets = loss_of(out, batch, 0), batch.train_index.numel()
    if counted(task, batch):
        check_depends(task, loss)
    elif targets:
        kind = type(task).__name__
        logger.warning("%s.normaliser skips a batch of %d training nodes: it is 0", kind, targets)
    if not is_additive(task):
        return
    one, other = halves(batch)
    turned = out.flip(0)  # other outputs of the same kind: log-probabilities stay such
    both = joined(one, other, out.size(0))
    try:
        parts = [(out, one), (turned, other), (torch.cat([out, turned]), both)]
        first, again = ([value(*part, number) for part in parts] for number in range(2))
        weights = [counted(task, part) for _, part in parts]
        weighed_again = [counted(task, part) for _, part in parts]
    except InputError:
        raise
    except Exception as error:  # of a task that reads what a batch of two copies has not
        logger.info("whether the loss is additive could not be found out: %s", error)
        return
    if _differ(first, again, _SAME):
        _try_random(task, value, out, batch)
    elif _differ([first[0] + first[1]], first[2:], _EXACT):
        raise InputError(_fault(task, *first))
    if weights == weighed_again and _differ([weights[0] + weights[1]], weights[2:], _SAME):
        raise InputError(_normaliser_fault(task, *weights))


def _check_complete(learnt: Learnt, task: Task, known: set[int]) -> None:
    """See that the loss has made no parameters: the optimizer would not know them."""
    now = Learnt(learnt.model, task).task.named_parameters()
    if made := [name for name, parameter in now if id(parameter) not in known]:
        raise InputError(
            f"{type(task).__name__}.loss makes the parameters {', '.join(made)}, which the "
            "optimizer would never be given: make them in __init__, or in prepare"
        )


def _try_random(
    task: Task, value: Callable[[Tensor, Batch, int], float], out: Tensor, batch: Batch
) -> None:
    """Hold the mean loss of a batch, over draws, against that of the batch twice."""
    twice, rows = joined(batch, batch, out.size(0)), torch.cat([out, out])
    pairs = np.array(
        [(value(out, batch, number), value(rows, twice, number)) for number in range(_DRAWS)]
    )
    once, doubled = pairs.mean(0)
    apart = 2 * pairs[:, 0] - pairs[:, 1]
    error = apart.std(ddof=1) / math.sqrt(_DRAWS)
    inside = _TWICE[0] <= doubled / once <= _TWICE[1] if once else True
    if math.isfinite(error) and not inside and abs(apart.mean()) > _ERRORS * error:
        raise InputError(_fault(task, once, once, doubled))


def _differ(left: list[float], right: list[float], share: float) -> bool:
    """Whether numbers are further apart than a share of them; never where one is not finite."""
    return any(
        math.isfinite(a) and math.isfinite(b) and abs(a - b) > share * max(abs(a), abs(b))
        for a, b in zip(left, right, strict=True)
    )


def _fault(task: Task, one: float, other: float, both: float) -> str:
    kind = type(task).__name__
    return (
        f"{kind}.loss is not a sum over targets: {one:.4g} for some of a batch, {other:.4g} for "
        f"others, {both:.4g} for both together. A mean does that (F.cross_entropy without "
        "reduction='sum'), and so does a term that does not grow with the batch (multiply it by "
        "self.normaliser(batch)). Return the sum, which trainers divide by the normaliser. Or, "
        "where a batch's loss is meant as it is (a softmax within the batch, a contrastive loss, a "
        f"mean), write `additive = False` in {kind}: a step is then the mean of the losses of its "
        "batches, weighted by their normalisers"
    )


def _normaliser_fault(task: Task, one: float, other: float, both: float) -> str:
    kind = type(task).__name__
    return (
        f"{kind}.normaliser is not a number of targets: {one:.4g} for some of a batch, "
        f"{other:.4g} for others, {both:.4g} for both together. Return how many targets the loss "
        "sums over (batch.train_index.numel(), batch.adj.num_edges); or, where a batch's loss is "
        f"meant as it is, write `additive = False` in {kind}"
    )


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """A batch with one half of its targets, and with the other; with all twice, if there is one."""
    index = batch.train_index
    if index.numel() < 2:
        return batch, batch
    found = []
    for half in index.tensor_split(2):
        mask = torch.zeros_like(batch.train_mask)
        mask[half] = True
        found.append(
            replace(batch, train_mask=mask, train_index=half, step_train_nodes=half.numel())
        )
    return found[0], found[1]


def joined(one: Batch, other: Batch, rows: int) -> Batch:
    """One batch of two, without edges between them.

    Args:
        one: a batch.
        other: a batch like it.
        rows: of the model's output for `one`.
    """
    first = {field.name: getattr(one, field.name) for field in fields(one)}
    second = {field.name: getattr(other, field.name) for field in fields(other)}
    found = {name: _both(value, second[name]) for name, value in first.items()}
    found["train_index"] = torch.cat([first["train_index"], second["train_index"] + rows])
    for name in ("ptr", "graph_ptr"):
        if isinstance(start := first.get(name), Tensor):
            found[name] = torch.cat([start, second[name][1:] + start[-1]])
    if (adj := first["adj"]) is not None:
        indices = torch.cat([adj.indices, second["adj"].indices + adj.num_nodes])
        indptr = torch.cat([adj.indptr, second["adj"].indptr[1:] + adj.num_edges])
        weight = _both(adj.edge_weight, second["adj"].edge_weight)
        found["adj"] = Adjacency(indptr, indices, weight)
    found["step_train_nodes"] = first["step_train_nodes"] + second["step_train_nodes"]
    return replace(one, **found)


def _both(one: Any, other: Any) -> Any:
    if isinstance(one, Tensor):
        return torch.cat([one, other])
    if isinstance(one, dict):
        return {name: _both(value, other[name]) for name, value in one.items()}
    if isinstance(one, CSR) and not isinstance(one, Adjacency):
        return CSR(
            torch.cat([one.indptr, other.indptr[1:] + one.nnz]),
            torch.cat([one.indices, other.indices]),
            _both(one.values, other.values),
            (one.shape[0] + other.shape[0], one.shape[1]),
        )
    return one


def shortened(batch: Batch, rows: int, edge_labels: bool) -> Batch:
    """A batch's first rows, and the edges among them."""
    adj = batch.adj
    kept = torch.arange(rows, device=batch.node_id.device)
    found: dict[str, Any] = {}
    edges = None
    if adj is not None:
        inside = adj.indices[: int(adj.indptr[rows])] < rows
        edges = inside.nonzero().squeeze(1)
        before = torch.cat([inside.new_zeros(1, dtype=torch.int64), inside.cumsum(0)])
        weight = None if adj.edge_weight is None else adj.edge_weight[edges]
        found["adj"] = Adjacency(before[adj.indptr[: rows + 1]], adj.indices[edges], weight)
    for field in fields(batch):
        name, value = field.name, getattr(batch, field.name)
        of_edges = name.startswith("edge_") or (name == "y" and edge_labels)
        if isinstance(value, CSR) and name != "adj":
            found[name] = value.select_rows(kept)
        elif isinstance(value, Tensor) and name in ("ptr", "graph_ptr"):
            found[name] = torch.cat([value[value < rows], value.new_tensor([rows])])
        elif isinstance(value, Tensor) and name == "train_index":
            found[name] = value[value < rows]
        elif isinstance(value, Tensor) and name != "clusters":
            found[name] = value[edges] if of_edges else value[:rows]
    found["step_train_nodes"] = found["train_index"].numel()
    if "slots" in vars(batch):
        found["slots"] = {}
    return replace(batch, **found)
