"""Setup: what the parts of a trainer share. Session: what is trained at one time, from where on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gnnscale import comm
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph
from gnnscale.nn import LayeredGNN
from gnnscale.storage.mapped import is_mapped
from gnnscale.train.contracts import Data, Evaluated, Source, Step, StopRule, Trained, Validator
from gnnscale.train.options import TrainerOptions
from gnnscale.train.run.callbacks import Told
from gnnscale.train.run.folder import RunFolder
from gnnscale.train.run.going_on import snapshot
from gnnscale.train.run.process import resident_arrays
from gnnscale.train.run.records import Row, State
from gnnscale.train.run.report import Meter, Report
from gnnscale.train.run.run_job import RunJob
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.task import Task

# Kernels that are loaded, stacks and heaps of threads, Python's own; more for what reads files.
# Measured from outside, on small graphs in a process that has done nothing yet.
_CODE, _READING = 12 << 20, 12 << 20
_STATES = 5  # of the weights: gradients, an optimizer's two moments, the best and the last finite


class Setup:
    """What the parts of a trainer share.

    Args:
        model: the model.
        task: what is learnt.
        config: the trainer's options.

    Attributes:
        callbacks: are told of a run.
        device: where it trains.
        folder: of the run; None where nothing is written.
        group: the ranks that share the batches of a step; None for all.
        stage_group: the ranks that hold the stages of the model; None where each holds all.
        report: of the run so far.
        stop: whether a callback, or the user, wants training to end.
        stands: whether a further `fit` can go on from what is in memory.
        until: epochs that the run has when `fit` ends.
        is_fitting: whether `fit` runs: what it has made then counts in its `memory`.
        interrupted: whether this rank was; ranks have yet to agree on it.
    """

    def __init__(self, model: LayeredGNN, task: Task, config: TrainerOptions) -> None:
        config.check()
        comm.start()
        self.model = model
        self.task = task
        self.config = config
        self.callbacks = list(config.callbacks)
        self.device = choose_device(config.device)
        self.folder = None if config.run_dir is None else RunFolder(config.run_dir)
        self.group: dist.ProcessGroup | None = None
        self.stage_group: dist.ProcessGroup | None = None
        self.report = Report(headline=task.headline)
        self.stop = self.stands = False
        self.until = config.epochs
        self.is_fitting = False
        self.interrupted: Callable[[], bool] = lambda: False
        self._job: RunJob | None = None

    @property
    def learnt(self) -> Learnt:
        """The model, and what its task has besides that is trained or kept."""
        return Learnt(self.model, self.task)

    def job(self, data: Data) -> RunJob:
        """What is planned for: its costs are counted once, for all who ask, while they hold."""
        config: Any = self.config
        held = data.held()
        given: Any = held.get("given", held[""])
        made = held[""] if isinstance(held[""], ClusteredGraph) else None
        if self._job is None or not self._job.is_of(given, self.model, made):
            self._job = RunJob(
                given,
                self.model,
                made,
                split=config.split,
                inductive=getattr(config, "inductive", False),
                optimizer=config.optimizer,
                seed=config.seed,
            )
        return self._job

    def count(self, name: str, seconds: float) -> None:
        """Add to the report's seconds of a phase."""
        self.report.seconds[name] = self.report.seconds.get(name, 0.0) + seconds

    def held_bytes(self, data: Evaluated) -> int:
        """Bytes of `memory` that are taken by code, and what stays beside inference or steps."""
        code = _CODE + (_READING if is_mapped(data.graph.adj.indices) else 0)
        if not self.is_fitting:
            return code
        held = data.held()
        given = {name: value for name, value in held.items() if name == "given"} or held
        made = sum(resident_arrays(held).values()) - sum(resident_arrays(given).values())
        state = self.learnt.state_dict().values()
        learnt = sum(tensor.nbytes for tensor in state if not is_lazy(tensor))
        return code + made + data.to_come() + _STATES * learnt


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes CUDA where there is one.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"device={name!r} is no device: 'auto', 'cpu', 'cuda', 'cuda:1' …"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device={name!r}: there are {torch.cuda.device_count()} CUDA devices; use 'auto'"
        )
    if device.type == "cuda" and device.index is None:
        # By number, as its tensors are: "cuda" and "cuda:0" compare unequal.
        return torch.device("cuda", torch.cuda.current_device())
    return device


class Session:
    """What is trained at one time, with where its batches come from and who evaluates.

    Args:
        source: of batches.
        trained: what is trained.
        step: what is done with a batch.
        meter: of an epoch.
        validator: who evaluates between epochs.
        rule: when to stop.
        before: epochs of the run that came before the first one of this session.
        layer: its number, where layers are trained one by one.
        account: figures of it that the report shows.

    Attributes:
        best_value: the best validation metric so far.
        best: the weights that had it, where they are to be kept.
        longer: what a longer run has in the place of a last epoch that was evaluated for being the
            last; None where there is no such epoch.
    """

    def __init__(
        self,
        source: Source,
        trained: Trained,
        step: Step,
        meter: Meter,
        validator: Validator,
        rule: StopRule,
        *,
        before: int = 0,
        layer: int | None = None,
        account: Row | None = None,
    ) -> None:
        self.source, self.trained, self.step, self.meter = source, trained, step, meter
        self.validator, self.rule = validator, rule
        self.layer = layer
        self._before = before
        self._account = {} if account is None else account
        self._every: int | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.best_value: float | None = None
        self.best: State | None = None
        self.longer: State | None = None
        self._good: State | None = None
        self.meter.reset()
        self.step.forget()

    @property
    def epoch(self) -> int:
        """The number in the run of the epoch that was trained last."""
        return self._before + self.source.epoch

    @property
    def where(self) -> str:
        """That epoch in words."""
        of = "" if self.layer is None else f" of layer {self.layer}"
        return f"epoch {self.source.epoch}{of}"

    def interval(self, wanted: int | Literal["auto"]) -> int:
        """Epochs between evaluations. "auto" chooses once: a layer that a callback freezes in the
        middle of a run moves none of them, in a resumed run as little as in an uninterrupted one.
        """
        if wanted != "auto":
            return wanted
        if self._every is None:
            self._every = self.validator.interval()
        return self._every

    def count(self, row: Row) -> None:
        """Take an epoch into the account."""
        account = self._account
        account["epochs"], account["loss"] = self.source.epoch, row["loss"]
        account["seconds"] = account.get("seconds", 0.0) + row["seconds"]

    # --- weights ----------------------------------------------------------------------------

    def improves(self, value: float, *, higher: bool) -> bool:
        """Whether a validation metric is better than the best."""
        best = self.best_value
        return best is None or (value > best if higher else value < best)

    def keep_best(self, key: str, value: float, *, weights: bool) -> None:
        """Take the present weights for the best, by that figure; remember them if asked to."""
        self.best_value = value
        if weights:
            self.best = snapshot(self.trained.weights())
        self._account |= {"best_epoch": self.source.epoch, key: value}

    def is_finite(self) -> bool:
        """Whether training has left all finite that was; waits for the device.

        Not all was: PyG's RGATConv has a weight that it neither sets nor reads.
        """
        moved = [p for p in self.trained.module.parameters() if p.requires_grad and p.numel()]
        if self._good is None or bool(nn.utils.get_total_norm(moved, torch.inf).isfinite()):
            return True
        now, before = self.trained.weights(), self._good
        return not any(
            isinstance(value, Tensor)
            and not value.isfinite().all()
            and before[name].isfinite().all()
            for name, value in now.items()
        )

    def begin_epoch(self) -> None:
        """Go into training; the first time, remember the weights."""
        if self._good is None:
            self.keep_good()
        self.trained.train()

    def keep_for_longer(self, row: Row, report: Report) -> None:
        """Remember what an evaluation will change that is made for the end of the run alone."""
        if self.layer is None:
            best = {"best": self.best, "best_value": self.best_value}
            self.longer = {"row": dict(row), **best, "best_epoch": report.best_epoch}

    def keep_good(self) -> None:
        """Remember the weights as they are, at the end of an epoch: they are finite."""
        self.step.share()  # rank 0 writes them into checkpoints, for all
        self._good = {
            name: value.detach().clone() if isinstance(value, Tensor) else value
            for name, value in self.trained.weights().items()
        }

    def revert(self) -> None:
        """Go back to the weights that `keep_good` remembers."""
        assert self._good is not None
        self.trained.take(self._good)

    # --- state ------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Where it stands, beside the weights."""
        source = self.source.state_dict()
        return {
            # What waits for an update is drawn again: nothing has been learnt from it.
            "source": {**source, "step": source["step"] - self.step.waiting},
            "trained": self.trained.state_dict(),
            "step": self.step.state_dict(),
            "meter": self.meter.state_dict(),
            "best_value": self.best_value,
            "best": self.best,
            "longer": self.longer,
            # Between epochs it is the model's weights.
            "good": self._good if source["step"] else None,
        }

    def own_state(self) -> State:
        """Of the state, what is this rank's own, under the same keys."""
        return {"step": self.step.own_state(), "meter": self.meter.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state, with the weights of that moment."""
        self.trained.load_state_dict(state["trained"])
        self.step.load_state_dict(state["step"])
        self.source.load_state_dict(state["source"])
        self.meter.load_state_dict(state["meter"])
        self.best_value, self.best = state["best_value"], state["best"]
        self.longer, self._good = state["longer"], state["good"]


class Sessions(Protocol):
    """What is trained one after the other: a session for all layers, or one for each."""

    @property
    def open(self) -> Session | None:
        """The session in training."""

    def prepare(self) -> None:
        """Do what comes before the first step. Done once."""

    def ready(self) -> None:
        """Do what comes before an evaluation or a prediction."""

    def begin(self) -> None:
        """Forget where training stood."""

    def start(self) -> None:
        """Prepare, and make what is new with a run: an optimizer and a schedule."""

    def take_up(self, ended: str | None) -> None:
        """Go on from what the last `fit` left in memory.

        Args:
            ended: why it had stopped, or None.

        Raises:
            GnnscaleError: why that cannot be, and what to do.
        """

    def reopen(self) -> None:
        """Take back what an end has added, before going on with a run that has ended."""

    def __iter__(self) -> Iterator[Session]:
        """The sessions that are left, each opened when it is its turn."""

    def close(self, session: Session) -> bool:
        """Leave a session; whether others may follow, which go on from a checkpoint."""

    def finish(self, trainer: Told) -> None:
        """Do what comes after the last session."""

    def keep(self) -> None:
        """Write into the run folder what must be found there again. On rank 0."""

    def best(self) -> State | None:
        """The best weights of the whole model, where they are known and kept."""

    @property
    def epochs_done(self) -> int:
        """Epochs that have been trained; the next one's number is one more."""

    def epochs_of(self, state: State, report: Report) -> int:
        """Epochs that a state has behind it, the one it stands in included."""

    def fixed_length(self, report: Report) -> str | None:
        """What of a run depends on its number of epochs, with a remedy; None for nothing."""

    def shown(self, session: Session | None) -> tuple[int, int, str]:
        """For the progress bar: what is done, of how much, and where that is in words."""

    def state_dict(self) -> State:
        """Where training stands, beside the model's weights and generators."""

    def own_state(self) -> State:
        """Of the state, what is this rank's own, under the same keys."""

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
