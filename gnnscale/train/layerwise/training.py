"""A section in training: its epochs, its temporary classifier, who evaluates it, when it stops."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gnnscale import comm
from gnnscale.costs.sizes import TRAINING, epochs_between
from gnnscale.errors import InputError
from gnnscale.nn import Context
from gnnscale.nn.convs.propagation import densify
from gnnscale.nn.modules import evaluation_mode
from gnnscale.train.controllers.stopping import Decision, LayerProgress, StopController
from gnnscale.train.layerwise.sections import Section
from gnnscale.train.run.records import Row, State
from gnnscale.train.session import Setup
from gnnscale.train.steps.batch_step import training_context

logger = logging.getLogger(__name__)


class TrainingBatches(Protocol):
    """What a layer is trained on.

    Attributes:
        span: batches whose rows are shuffled among each other; what is left of an epoch follows
            from it, so that it stays with a run.
    """

    span: int

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

    def outputs(self, trained: TrainedSection) -> Iterator[tuple[Tensor, Tensor]]:
        """What the section makes of the validation nodes, and their labels, in chunks."""


class Epochs:
    """Training batches as a source: epoch after epoch.

    Args:
        rows: what is trained on.
    """

    def __init__(self, rows: TrainingBatches) -> None:
        self._rows = rows
        self.epoch = self.step = 0

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self._rows)

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, of all ranks."""
        return self._rows.num_batches

    def __iter__(self) -> Iterator[Any]:
        """The rest of the epoch."""
        for batch in self._rows.epoch(self.epoch, self.step):
            self.step += 1  # before it is used: a state taken meanwhile says "next"
            yield batch
        self.epoch, self.step = self.epoch + 1, 0

    def state_dict(self) -> State:
        """See `Source`."""
        return {"epoch": self.epoch, "step": self.step, "span": self._rows.span}

    def load_state_dict(self, state: State) -> None:
        """See `Source`."""
        self.epoch, self.step = state["epoch"], state["step"]
        if "span" in state:
            self._rows.span = state["span"]
        elif self.step and self._rows.span > 1:
            logger.warning(
                "the run was kept by an earlier gnnscale, in the midst of an epoch: what is left "
                "of it may have some rows again, and others not"
            )


class TrainedSection:
    """What is trained of a model while a section is.

    Args:
        section: the section.
        number: its place among the sections that are trained.
        rows: what it is trained on.
        setup: of the trainer.
        num_outputs: of the model.

    Attributes:
        classifier: from the section's output to the model's outputs; dropped when it is done.
        module: the section's parameters, the classifier, and what the task has to train.
    """

    def __init__(
        self,
        section: Section,
        number: int,
        rows: TrainingBatches,
        setup: Setup,
        num_outputs: int,
    ) -> None:
        self.section = section
        self._rows = rows
        self._seed = setup.config.seed
        self.classifier: nn.Module = nn.Identity()
        if not section.last:
            # Drawn on the CPU: the same whatever the device.
            with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluation_mode(setup.model):
                torch.default_generator.manual_seed(hash((self._seed, number)))
                out = self.evaluated(rows.sample())
                made = nn.Linear(out.shape[1], num_outputs, dtype=out.dtype)
                self.classifier = made.to(setup.device)
        self.module = nn.Module()
        # Names of parameters hold no dots.
        self.module.section = nn.ParameterDict(
            {name.replace(".", "/"): p for name, p in section.parameters.items()}
        )
        self.module.classifier = self.classifier
        self._of_task = self.module.task = setup.learnt.task

    def train(self) -> None:
        """See `Trained`."""
        self.section.train()
        self._of_task.train()

    def ready(self, batch: Any) -> Any:
        """A batch as it is: it was made where it is needed."""
        return batch

    def __call__(self, batch: Any) -> Tensor:
        """The classifier's output for a batch, in training."""
        return self.classifier(self._run(batch, training_context(batch, self._seed)))

    def evaluated(self, batch: Any) -> Tensor:
        """What the section makes of a batch in evaluation; its modules are in that mode."""
        return self._run(batch, Context.of(batch, training=False))

    def _run(self, batch: Any, context: Context) -> Tensor:
        x = batch.rows
        norm = getattr(batch, "norm", None)
        for phase in self.section.trained_phases:
            x = norm(x) if norm is not None and phase is norm.phase else phase(x, context)
        return densify(x)

    def norms_over_batches(self) -> nn.ModuleList:
        """The modules that see a batch, but for a norm that has the statistics of all rows."""
        known = getattr(self._rows, "norm", None)
        whole = set() if known is None else set(known.phase.norm.modules())
        running = (*self.section.modules, *self._of_task.modules())
        return nn.ModuleList(part for part in running if part not in whole)

    def weights(self) -> State:
        """See `Trained`."""
        buffers = {
            f"buffer {i}.{name}": buffer
            for i, module in enumerate(self.section.modules)
            for name, buffer in module._buffers.items()
            if buffer is not None
        }
        of_classifier = {f"classifier {k}": v for k, v in self.classifier.named_parameters()}
        held = (*self._of_task.named_parameters(), *self._of_task.named_buffers())
        of_task = {f"task {name}": value for name, value in held}
        return {**self.section.parameters, **buffers, **of_classifier, **of_task}

    @torch.no_grad()
    def take(self, weights: State) -> None:
        """See `Trained`."""
        for name, value in self.weights().items():
            value.copy_(weights[name])

    def state_dict(self) -> State:
        """See `Trained`."""
        return {"classifier": self.classifier.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """See `Trained`."""
        self.classifier.load_state_dict(state["classifier"])


class SectionValidator:
    """Evaluates section and classifier on the validation nodes.

    Args:
        setup: of the trainer.
        trained: what is trained.
        rows: what it is trained on.
        validation: what it is evaluated on, or None.
        always: evaluate after every epoch, where the trainer is to choose.
    """

    def __init__(
        self,
        setup: Setup,
        trained: TrainedSection,
        rows: TrainingBatches,
        validation: ValidationRows | None,
        *,
        always: bool,
    ) -> None:
        self._setup, self._trained, self._rows = setup, trained, rows
        self._validation, self._always = validation, always

    def interval(self) -> int:
        """See `Validator`."""
        if self._always or self._validation is None:
            return 1
        return epochs_between(self._validation.num_rows, TRAINING * self._rows.num_rows)

    def validate(self) -> dict[str, dict[str, float]]:
        """See `Validator`."""
        if (validation := self._validation) is None:
            return {}
        started = time.monotonic()
        found = comm.from_main(lambda: self._metrics(validation))
        self._setup.count("evaluate", time.monotonic() - started)
        return {"val": found}

    def _metrics(self, validation: ValidationRows) -> dict[str, float]:
        metrics = self._setup.task.metrics()
        with torch.no_grad(), evaluation_mode(self._setup.learnt):
            for rows, y in validation.outputs(self._trained):
                out = self._trained.classifier(rows)
                for metric in metrics:
                    metric.update(out, y)
        return {metric.name: metric.compute() for metric in metrics}


class ByController:
    """Stops a layer where its stop controller says so, or after `epochs`.

    Args:
        setup: of the trainer.
        controller: says after every epoch whether the layer stops.
        source: of its batches.
        layer: its number, from 0 on.
        layers: how many are trained.
        account: of the layer, in the report.
    """

    def __init__(
        self,
        setup: Setup,
        controller: StopController,
        source: Epochs,
        layer: int,
        layers: int,
        account: Row,
    ) -> None:
        self._setup, self._controller, self._source = setup, controller, source
        self._place = layer, layers
        self._account = account

    @property
    def stopped(self) -> str | None:
        """See `StopRule`."""
        return self._account.get("stopped")

    def after(self, row: Row) -> str | None:
        """See `StopRule`."""
        task, epoch = self._setup.task, self._source.epoch
        metrics, value = task.metrics(), row.get(f"val_{task.headline}")
        higher = not metrics or metrics[0].higher_is_better
        progress = LayerProgress(*self._place, epoch, row["loss"], value, higher)
        decision = self._controller.decide(progress)
        if not isinstance(decision, Decision):
            kind = type(self._controller).__name__
            raise InputError(f"{kind}.decide returned {decision!r}; it returns a Decision")
        decision = comm.broadcast_object(decision)
        if decision.p_stop is not None:
            row["p_stop"] = decision.p_stop
        if decision.stop:
            return decision.why
        return "epochs" if epoch >= self._setup.until else None

    def stop(self, why: str) -> None:
        """See `StopRule`."""
        self._account["stopped"] = why
