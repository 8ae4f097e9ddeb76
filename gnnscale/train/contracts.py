"""What a trainer is put together from: small protocols, of which nothing is inherited.

    source ─▶ step (on what is trained) ─▶ validator ─▶ stop rule

A `Session` has one of each, and is what the `Loop` runs. `Data` and an `Evaluator` are a run's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from gnnscale.graph import Graph
from gnnscale.inference import Metric
from gnnscale.train.run.records import Description, Row, State
from gnnscale.train.steps.updates import Updates


class Source(Protocol):
    """Where batches come from; an iteration gives the rest of the epoch that it stands in.

    Attributes:
        epoch: epochs done.
        step: steps done of the next one, counted before a batch is used.
    """

    epoch: int
    step: int

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""

    @property
    def num_batches(self) -> int:
        """Batches of an epoch, of all ranks."""

    def __iter__(self) -> Iterator[Any]:
        """The batches; None in a step that has none for this rank."""

    def state_dict(self) -> State:
        """Where it stands."""

    def load_state_dict(self, state: State) -> None:
        """Go on from a state: also from its own, where an iteration was broken off."""


class Trained(Protocol):
    """What is trained at one time: a model, or a part of it.

    Attributes:
        module: holds what is optimized.
    """

    module: nn.Module

    def train(self) -> None:
        """Put what is trained into training mode, and nothing else."""

    def ready(self, batch: Any) -> Any:
        """A batch as a step takes it: on the device, counting for itself alone."""

    def __call__(self, batch: Any) -> Tensor:
        """The output for a batch, in training."""

    def weights(self) -> State:
        """Parameters and buffers by name: themselves, no copies."""

    def take(self, weights: State) -> None:
        """Take over what `weights` gave."""

    def state_dict(self) -> State:
        """What is trained besides the model and its task."""

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""


class Signals(NamedTuple):
    """What ranks agree on in a step: whether to leave the run, and whether to end it."""

    interrupted: bool
    stop: bool


class Step(Protocol):
    """What is done with a batch: from it to a summed loss and its normaliser, and to an update.

    Attributes:
        updates: optimizer, schedule, and gradients of an update that has only begun.
    """

    updates: Updates

    def __call__(self, batch: Any, done: int, of: int) -> Signals:
        """Train on a batch, None for a rank that has none.

        Args:
            batch: of the source.
            done: steps of the epoch, this one included.
            of: steps of an epoch.
        """

    @property
    def waiting(self) -> int:
        """Batches drawn that nothing has been learnt from yet."""

    def forget(self) -> None:
        """Drop what waits: it is drawn again."""

    def share(self) -> None:
        """Give every rank all weights, where an update has changed those of others."""

    def state_dict(self) -> State:
        """Where it stands, beside the weights."""

    def own_state(self) -> State:
        """Of the state, what is this rank's own, under the same keys."""

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""


class Validator(Protocol):
    """Who evaluates between epochs."""

    def validate(self) -> dict[str, dict[str, float]]:
        """The metrics of every set that there is, by set; nothing where there are none."""

    def interval(self) -> int:
        """Epochs between evaluations for `evaluate_every="auto"`."""


class Evaluator(Validator, Protocol):
    """Who evaluates and predicts, exactly and in a stream.

    Attributes:
        unit: what there is an output for, in words.
    """

    unit: str

    def sets(self) -> list[str]:
        """Of "train", "val" and "test", those that can be evaluated."""

    def without_labels(self) -> str | None:
        """Why there is nothing that metrics could be of, in words; None where there is."""

    def without_metrics(self) -> str | None:
        """Why no metrics can be computed, in words; None where they can."""

    def evaluate(
        self, sets: Sequence[str], metrics: Callable[[], Sequence[Metric]] | None = None
    ) -> dict[str, dict[str, float]]:
        """The metrics of the present weights by set: those given, or the task's."""

    def predict(self, ids: Any, out: str | Path | None, *, head: bool) -> Tensor:
        """The output for some ids in original order, or without `head` what its head reads."""

    def check_room(self) -> None:
        """Find before training what an evaluation has no room for within `memory`."""


class StopRule(Protocol):
    """After an epoch: go on or stop."""

    @property
    def stopped(self) -> str | None:
        """Why it stopped; None while it goes on."""

    def after(self, row: Row) -> str | None:
        """Why to stop after an epoch, None to go on; it may add figures of its own to the row."""

    def stop(self, why: str) -> None:
        """Take note that it has stopped."""


class Evaluated(Protocol):
    """A graph that a model is run over."""

    @property
    def graph(self) -> Graph:
        """The graph, in the order that is computed in."""

    @property
    def position(self) -> Tensor | None:
        """Where each original node stands in `graph`; None for the original order."""

    @property
    def node_id(self) -> Tensor | None:
        """The original id of each node of `graph`; None for the original order."""

    def segments(self) -> dict[str, Tensor]:
        """What norms run over in `graph`, beside its graphs: see `gnnscale.nn.Context`."""

    def scratch(self) -> Path | None:
        """A folder for layers that do not fit in memory; None for the system's own."""

    def held(self) -> dict[str, object]:
        """Graphs and arrays that stay while it trains, by name; "" for what is trained on."""

    def to_come(self) -> int:
        """Bytes that preparing will add to those."""


class Data(Evaluated, Protocol):
    """What is trained and evaluated on, as a run keeps it and finds it again.

    Its `graph` is what is trained on: the whole graph, or what was known of it.
    """

    @property
    def whole(self) -> Graph:
        """The whole graph, as it was given."""

    @property
    def order(self) -> Tensor | None:
        """Where each original node stands in `whole`; None for the original order."""

    def lay_out(self) -> None:
        """Settle the order of `graph`, where a run has one: sums depend on it. On every rank."""

    def keep(self) -> None:
        """Write into the run folder, new, what preparing made and nothing can bring back.

        On every rank; what writes goes through `comm.from_main`.
        """

    def resume(self) -> None:
        """Prepare, when that is asked for, as the run in the folder did."""

    def identity(self) -> Description:
        """What identifies it."""
