"""Layer: a stage in training, with its rows, its temporary classifier and its best weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gnnscale.nn import Context, LayeredGNN
from gnnscale.nn.convs.propagation import densify
from gnnscale.nn.modules import evaluation_mode
from gnnscale.train.layerwise.stages import Stage
from gnnscale.train.steps.contexts import training_context
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.task import Task

# Time of a forward pass over that of a step, of as many rows (as in sizes.evaluation_interval).
_FORWARD = 1 / 3
_SHARE = 0.1  # of training's work that evaluation may take


class TrainingBatches(Protocol):
    """What a layer is trained on."""

    def __len__(self) -> int:
        """Steps an epoch."""

    @property
    def num_batches(self) -> int:
        """Batches an epoch, of all ranks."""

    @property
    def num_rows(self) -> int:
        """Rows that an epoch computes: the training nodes, if no others are needed for them."""

    def epoch(self, number: int, step: int = 0) -> Iterator[Any]:
        """The batches of an epoch, from a step on; None for a step that has none for this rank."""

    def sample(self) -> Any:
        """A batch of a few rows."""


class ValidationRows(Protocol):
    """What a layer is evaluated on."""

    @property
    def num_rows(self) -> int:
        """Rows that an evaluation computes: the validation nodes, if no others are needed."""

    def outputs(self, layer: Layer) -> Iterator[tuple[Tensor, Tensor]]:
        """What the layer's stage makes of the validation nodes, and their labels, in chunks."""


class Layer:
    """What is trained of a model while a stage is.

    Args:
        stage: the stage.
        number: its place among the stages that are trained.
        rows: what it is trained on.
        validation: what it is evaluated on, or None.
        model: the whole model.
        task: what is learnt.
        seed: of dropout and of the classifier.
        num_outputs: of the model.
        device: of the model.

    Attributes:
        classifier: from the stage's output to the model's outputs; dropped when the layer is done.
        trained: the stage's parameters, the classifier, and what the task has to train.
        epoch: epochs done.
        step: steps done of the next one.
        best: the best validation metric so far.
    """

    def __init__(
        self,
        stage: Stage,
        number: int,
        rows: TrainingBatches,
        validation: ValidationRows | None,
        model: LayeredGNN,
        task: Task,
        seed: int,
        num_outputs: int,
        device: torch.device,
    ) -> None:
        self.stage = stage
        self.rows = rows
        self.validation = validation
        self.epoch = self.step = 0
        self.best: float | None = None
        self._model = model
        self._task = task
        self._seed = seed
        self._best_state: dict[str, Tensor] | None = None
        self._good: dict[str, Tensor] | None = None
        self.classifier: nn.Module = nn.Identity()
        if not stage.last:
            # Drawn on the CPU: the same whatever the device.
            with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluation_mode(model):
                torch.default_generator.manual_seed(hash((seed, number)))
                out = self.evaluated(rows.sample())
                self.classifier = nn.Linear(out.shape[1], num_outputs, dtype=out.dtype).to(device)
        self.trained = nn.Module()
        # Names of parameters hold no dots.
        self.trained.stage = nn.ParameterDict(
            {name.replace(".", "/"): p for name, p in stage.parameters.items()}
        )
        self.trained.classifier = self.classifier
        self._learnt = Learnt(model, task)
        self._of_task = self.trained.task = self._learnt.task

    def __call__(self, batch: Any) -> Tensor:
        """The classifier's output for a batch, in training."""
        return self.classifier(self._run(batch, training_context(batch, self._seed)))

    def evaluated(self, batch: Any) -> Tensor:
        """What the stage makes of a batch in evaluation; its modules are in that mode."""
        return self._run(batch, Context.of(batch, training=False))

    def _run(self, batch: Any, context: Context) -> Tensor:
        x = batch.rows
        norm = getattr(batch, "norm", None)
        for phase in self.stage.trained_phases:
            x = norm(x) if norm is not None and phase is norm.phase else phase(x, context)
        return densify(x)

    def train(self) -> None:
        """Put what is trained into training mode, and no other part of the model."""
        self.stage.train()
        self._of_task.train()

    def norms_over_batches(self) -> list[nn.Module]:
        """The modules that see a batch, but for a norm that has the statistics of all rows."""
        known = getattr(self.rows, "norm", None)
        whole = set() if known is None else set(known.phase.norm.modules())
        running = (*self.stage.modules, *self._of_task.modules())
        return [part for part in running if part not in whole]

    def batches(self) -> Iterator[Any]:
        """The rest of the epoch."""
        return self.rows.epoch(self.epoch, self.step)

    def validate(self) -> dict[str, float]:
        """The metrics of stage and classifier on the validation nodes."""
        assert self.validation is not None
        metrics = self._task.metrics()
        with torch.no_grad(), evaluation_mode(self._learnt):
            for rows, y in self.validation.outputs(self):
                out = self.classifier(rows)
                for metric in metrics:
                    metric.update(out, y)
        return {metric.name: metric.compute() for metric in metrics}

    def evaluation_interval(self) -> int:
        """Epochs between evaluations that keep their work under a tenth of training's."""
        assert self.validation is not None
        work = _FORWARD * self.validation.num_rows / max(1, self.rows.num_rows)
        return max(1, math.ceil(work / _SHARE))

    # --- weights ----------------------------------------------------------------------------

    def keep_good(self) -> None:
        """Remember the weights as they are."""
        self._good = self._weights()

    def is_finite(self) -> bool:
        """Whether all that is trained is finite; waits for the device."""
        return bool(torch.stack([p.isfinite().all() for p in self.trained.parameters()]).all())

    def revert(self) -> None:
        """Go back to the weights that `keep_good` remembers."""
        assert self._good is not None
        self._set(self._good)

    def keep_best(self, value: float) -> None:
        """Remember the weights as the best, with their metric."""
        self.best, self._best_state = value, self._weights()

    def take_best(self) -> None:
        """Take the best weights, where there are any."""
        if self._best_state is not None:
            self._set(self._best_state)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, beside the model's weights."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "best_weights": self._best_state,
            "good_weights": self._good,
            "classifier": self.classifier.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        self._best_state, self._good = state["best_weights"], state["good_weights"]
        self.classifier.load_state_dict(state["classifier"])

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._named().items()}

    def _set(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._named().items():
                value.copy_(weights[name])

    def _named(self) -> dict[str, Tensor]:
        """Parameters and buffers of the stage, the classifier's and the task's."""
        buffers = {
            f"buffer {i}.{name}": buffer
            for i, module in enumerate(self.stage.modules)
            for name, buffer in module._buffers.items()
            if buffer is not None
        }
        of_classifier = {f"classifier {k}": v for k, v in self.classifier.named_parameters()}
        held = (*self._of_task.named_parameters(), *self._of_task.named_buffers())
        of_task = {f"task {name}": value for name, value in held}
        return {**self.stage.parameters, **buffers, **of_classifier, **of_task}
