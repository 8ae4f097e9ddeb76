"""The ways: how gnnscale computes a thing, each beside what PyG gives for the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import gnnscale as gs
from oracle.graphs import Case, make_case
from oracle.subjects import Subject, redraw, without_dropout

CHUNK_ROWS = 7
PARTS, PARTS_A_BATCH = 4, 2
Figures = dict[str, Tensor | None]
Pair = tuple[Figures, Callable[[], Figures]]  # ours, and what gives the oracle's


def full(subject: Subject, case: Case) -> Pair:
    """`as_layered(stack)(x, edge_index, …)` in evaluation mode."""
    stack, own = _twice(subject)
    model = subject.model(stack).eval()
    with torch.no_grad():
        ours = model(case.x, case.edge_index, **case.values)
    return {"output": ours}, lambda: _outputs(subject, own, case)


def chunks(subject: Subject, case: Case) -> Pair:
    """`ClusterTrainer.predict` a few rows at a time."""
    stack, own = _twice(subject)
    ours = _trainer(subject, stack, case, 2).predict()
    return {"output": ours}, lambda: _outputs(subject, own, case)


def clusters(subject: Subject, case: Case) -> Pair:
    """An epoch of training, whose loss is finite, and a step on a batch of half the clusters."""
    _trainer(subject, without_dropout(new_stack(subject)), case, PARTS).fit()
    return _step(subject, case, PARTS)


def gradient(subject: Subject, case: Case) -> Pair:
    """A step on the whole graph."""
    return _step(subject, case, 1)


WAYS: dict[str, Callable[[Subject, Case], Pair]] = {
    "full": full,
    "chunks": chunks,
    "clusters": clusters,
    "gradient": gradient,
}


def new_stack(subject: Subject) -> list[nn.Module]:
    """Modules with parameters at random, the same every time."""
    torch.manual_seed(0)
    return redraw(subject.stack())


def _twice(subject: Subject) -> tuple[list[nn.Module], list[nn.Module]]:
    """A stack for us and one for the oracle: the same one where it takes shape when it is run."""
    stack = without_dropout(new_stack(subject))
    return stack, stack if subject.lazy else copy.deepcopy(stack)


def _standing_still(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0)


def _trainer(subject: Subject, stack: list[nn.Module], case: Case, parts: int) -> Any:
    return gs.ClusterTrainer(
        subject.model(stack),
        case.graph(),
        num_parts=min(parts, len(case.y)),
        clusters_per_batch=min(PARTS_A_BATCH, parts, len(case.y)),
        epochs=1,
        optimizer=_standing_still,
        method="random",
        chunk_rows=CHUNK_ROWS,
        prefetch=0,
        progress=False,
    )


def _step(subject: Subject, case: Case, parts: int) -> Pair:
    stack, own = _twice(subject)
    trainer = _trainer(subject, stack, case, parts)
    trainer.start()
    trainer.model.train()
    outputs: list[Tensor] = []
    gradients: dict[int, Tensor | None] = {}

    def keep(optimizer: torch.optim.Optimizer, *given: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                gradients[id(p)] = None if p.grad is None else p.grad.clone()

    trainer.optimizer.register_step_pre_hook(keep)
    with trainer.model.register_forward_hook(lambda m, given, out: outputs.append(out.detach())):
        batch = next(iter(trainer.loader))
        trainer.step(batch)
    names = _names(stack)
    ours: Figures = {"output": outputs[0]}
    ours |= {f"of {name}": gradients.get(id(p)) for name, p in names.items()}

    def theirs() -> Figures:
        copied = copy.deepcopy(own)
        for module in copied:
            module.train()
        induced = case.induced(batch.node_id)
        if subject.by_target:
            induced = induced.by_target()
        out = subject.oracle(copied, induced.x, induced.edge_index, induced.values)
        loss = functional.cross_entropy(out, induced.y)
        of = _names(copied)
        found = torch.autograd.grad(loss, list(of.values()), allow_unused=True)
        named = {f"of {name}": g for name, g in zip(of, found, strict=True)}
        return {"output": out.detach(), **named}

    return ours, theirs


def _names(stack: list[nn.Module]) -> dict[str, nn.Parameter]:
    return {
        f"{i}.{name}": p
        for i, module in enumerate(stack)
        for name, p in module.named_parameters()
        if p.requires_grad
    }


def _outputs(subject: Subject, stack: list[nn.Module], case: Case) -> Figures:
    copied = copy.deepcopy(stack)
    for module in copied:
        module.eval()
    with torch.no_grad():
        return {"output": subject.oracle(copied, case.x, case.edge_index, case.values)}


def pyg_runs(subject: Subject, kind: str, way: str) -> bool:
    """Whether PyG takes the whole graph, in the mode of a way, and gives numbers."""
    stack = new_stack(subject)
    for module in stack:
        module.train(way in ("clusters", "gradient"))
    case = make_case(kind, subject)
    try:
        out = subject.oracle(stack, case.x, case.edge_index, case.values)
        return bool(out.isfinite().all())
    except Exception:
        return False


def difference(ours: Figures, theirs: Figures) -> float:
    """The greatest difference, over the greatest figure of its kind; infinite where shapes differ.

    No gradient and one of zeros are alike. Where PyG gives no number, neither may we.
    """
    greatest = 0.0
    scale = max(
        (
            float(t.abs().max())
            for n, t in theirs.items()
            if n != "output" and t is not None and t.numel()
        ),
        default=0.0,
    )
    for name in theirs:
        a, b = ours.get(name), theirs[name]
        if a is None or b is None:
            there = a if b is None else b
            error = 0.0 if there is None or not there.any() else float("inf")
        elif a.shape != b.shape or not torch.equal(a.isfinite(), b.isfinite()):
            error = float("inf")
        else:
            a, b = (v.detach().double().nan_to_num(0, 0, 0) for v in (a, b))
            size = float(b.abs().max()) if b.numel() else 0.0
            size = size if name == "output" else scale
            apart = float((a - b).abs().max()) if b.numel() else 0.0
            error = apart / size if size > 1e-12 else apart
        greatest = max(greatest, error)
    return greatest
