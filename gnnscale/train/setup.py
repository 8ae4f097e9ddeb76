"""Setup: what the parts of a trainer share, and where its run stands."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist

from gnnscale import comm
from gnnscale.errors import InputError
from gnnscale.nn import LayeredGNN
from gnnscale.train.contracts import Data
from gnnscale.train.options import TrainerOptions
from gnnscale.train.run.folder import RunFolder
from gnnscale.train.run.memory import resident_arrays
from gnnscale.train.run.report import Report
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.task import Task

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

    @property
    def learnt(self) -> Learnt:
        """The model, and what its task has besides that is trained or kept."""
        return Learnt(self.model, self.task)

    def count(self, name: str, seconds: float) -> None:
        """Add to the report's seconds of a phase."""
        self.report.seconds[name] = self.report.seconds.get(name, 0.0) + seconds

    def held_bytes(self, data: Data) -> int:
        """Bytes of `memory` that are taken by what stays beside an inference or a step."""
        if not self.is_fitting:
            return 0
        held = data.held()
        given = {name: value for name, value in held.items() if name == "given"} or held
        made = sum(resident_arrays(held).values()) - sum(resident_arrays(given).values())
        learnt = sum(tensor.nbytes for tensor in self.learnt.state_dict().values())
        return made + _STATES * learnt


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
