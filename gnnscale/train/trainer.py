"""Trainer: what can be done with every trainer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self, SupportsIndex, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from gnnscale import comm
from gnnscale.errors import InputError
from gnnscale.graph import Graph, NodeNames
from gnnscale.inference import Metric
from gnnscale.inference.evaluation import wanted_rows
from gnnscale.inference.metrics import ByClass
from gnnscale.storage.allocator import buffers_within
from gnnscale.storage.files import check_writable, checked_path
from gnnscale.train.contracts import Data, Evaluator
from gnnscale.train.evaluators.full_graph import SETS
from gnnscale.train.options import TrainerOptions
from gnnscale.train.predictions import is_table, numbers_of, write_table
from gnnscale.train.run.callbacks import Callback
from gnnscale.train.run.folder import RunFolder
from gnnscale.train.run.records import Description
from gnnscale.train.run.report import Report
from gnnscale.train.run.training_run import TrainingRun
from gnnscale.train.session import Sessions, Setup
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.task import NodeTask, Task


class Trainer:
    """The verbs of every trainer. Each puts its parts together, and changes none of the verbs."""

    def _put_together(
        self, setup: Setup, data: Data, evaluator: Evaluator, sessions: Sessions
    ) -> None:
        """Be made of parts; the last thing that a constructor does.

        Args:
            setup: what the parts share.
            data: what is trained and evaluated on.
            evaluator: evaluates and predicts.
            sessions: what is trained.
        """
        self._setup, self._data = setup, data
        self._evaluator, self._sessions = evaluator, sessions
        self._run = TrainingRun(type(self).__name__, setup, data, evaluator, sessions)

    # --- copies -----------------------------------------------------------------------------

    @override
    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be pickled, by name.

        Raises:
            InputError: always, with what to pickle instead.
        """
        folder = "give it a run_dir" if self.folder is None else f"open {str(self.folder)!r}"
        raise InputError(
            f"a {type(self).__name__} is not pickled: functions of yours, threads and open files "
            "belong to it. Pickle trainer.learnt.state_dict() and the arguments that make it, or "
            f"{folder}, with gs.load_run in the other process; copy.deepcopy copies it in this one"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A trainer of its own, that stands where this one does."""
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin

    # --- training ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Do what comes before the first step (partition, check on one batch). Done once."""
        self._sessions.prepare()

    def fit(self, resume: str | bool = "auto", epochs: int | None = None) -> Report:
        """Train.

        A further call goes on as one longer run would: from the weights of the last epoch, with its
        optimizer and schedule, and with the next epoch's number, by which batches and dropout are
        drawn. Where the weights have been changed in between (a mean over clients, say), it goes on
        from those, with a report of its own. `start()` before it makes optimizer and schedule anew.

        Args:
            resume: "auto" goes on with the run in `run_dir` if there is one, or without a `run_dir`
                where the last call ended; True insists on that; False begins anew, with the present
                weights and the first epoch.
            epochs: how many the run has when this call ends, those of earlier calls included; None
                for the trainer's `epochs`, which without a `run_dir` are so many more. More of them
                also continue a run that a callback has stopped; one that stopped early needs a
                larger `early_stopping`. Layers that are trained one by one go on where they were
                interrupted, and not after their end.

        Returns:
            The report. The model then has the weights that `keep` asks for.

        Raises:
            RunMismatch: the run in `run_dir` has another configuration, graph, model or number of
                ranks; ranks have been given different ones; or it cannot have so many epochs.
            RankFailure: another rank has failed.
            InputError: data and model do not fit together.
            RunInUse: another trainer is writing into the run folder.
            StoreError: the run folder cannot be written, or its checkpoint is damaged.
            GnnscaleError: loss or weights are no longer finite; the model then has those from
                before that epoch.
        """
        return self._run.fit(self, resume, epochs)

    def start(self) -> None:
        """Prepare, and make a new optimizer and schedule: what comes before the first `step`.

        Between two calls of `fit` it leaves epochs going on counting.
        """
        self._sessions.start()

    def step(self, batch: Any) -> None:
        """Train on one batch of `loader`: what `fit` does with each, for loops of one's own.

        It comes after `start`, in training mode (`learnt.train()`). Of several ranks every one
        takes the step, one that has no batch (None) as well.

        Raises:
            InputError: nothing has been started that takes steps.
        """
        session = self._sessions.open
        if session is None:
            raise InputError(
                f"{type(self).__name__}.step: call start() first, which makes the optimizer (a "
                "LayerwiseTrainer opens its layers in fit() alone)"
            )
        done = session.source.step if batch is None else batch.step + 1
        session.step(batch, done, len(session.source))

    def adopt(self, weights: dict[str, Tensor], report: Report, same_data: bool = True) -> None:
        """Take over the weights and the report of a run, without going on with it.

        Args:
            weights: by the names of the parameters.
            report: of the run.
            same_data: whether data and run folder are those of the run, whose clusters are used.

        Raises:
            RunMismatch: the weights are of another model.
        """
        self._run.adopt(weights, report, same_data)

    # --- what has been learnt ---------------------------------------------------------------

    @overload
    def evaluate(self, where: str = "test") -> dict[str, float]: ...
    @overload
    def evaluate(self, where: list[str] | tuple[str, ...]) -> dict[str, dict[str, float]]: ...
    def evaluate(self, where: str | Sequence[str] = "test") -> dict[str, Any]:
        """The exact metrics of the present weights, from one pass over the whole graph.

        Args:
            where: "train", "val" or "test" nodes (of a `GraphTrainer` graphs), or several of them.

        Returns:
            `{"accuracy": …}`; for several, `{"val": {"accuracy": …}, "test": …}`.

        Raises:
            InputError: there is no such set, or it is empty.
        """
        found = self._evaluated(where, None)
        return found[where] if isinstance(where, str) else found

    def evaluate_classes(self, where: str = "test") -> dict[str, dict[str, float]]:
        """Precision, recall and F1 of every class, or of every label, from one pass.

        Args:
            where: as for `evaluate`.

        Returns:
            By the name of the class, or its number where it has none: `{"cat": {"precision": …,
            "recall": …, "f1": …, "rows": …}}`, the last being how many of this set have it. What
            is never predicted has no precision: NaN.

        Raises:
            InputError: there is no such set, it is empty, or the labels are no classes.
        """
        graph = self.graph
        if not isinstance(self.task, NodeTask) or self.task.name == "regression":
            raise InputError(f"evaluate_classes: the task {self.task.name!r} has no classes")
        figures: Any = self._evaluated(where, lambda: [ByClass()])[where]["by class"]
        names = graph.class_names or tuple(map(str, range(len(figures))))
        return dict(zip(names, figures, strict=True))

    def _evaluated(
        self, where: str | Sequence[str], metrics: Callable[[], Sequence[Metric]] | None
    ) -> dict[str, dict[str, float]]:
        names: list[Any] = list(where) if isinstance(where, list | tuple) else [where]
        if not names or not all(isinstance(name, str) and name in SETS for name in names):
            raise InputError(f"evaluate({where!r}): there are 'train', 'val' and 'test'")
        if empty := [name for name in names if name not in self.sets]:
            split = f"the split has no {' and no '.join(empty)} {self._evaluator.unit}"
            raise InputError(f"there is nothing to evaluate: {self.without_metrics or split}")
        with comm.doing("evaluate"), buffers_within(self.config.memory):
            self._sessions.ready()
            return self._evaluator.evaluate(names, metrics)

    def predict(self, nodes: Any = None, out: str | Path | None = None) -> Tensor:
        """The model's exact output in the graph's original order.

        Args:
            nodes: original ids, or a mask, of the nodes (of a `GraphTrainer` the graphs) wanted, or
                names that are text; all when None.
            out: a file to write to. A `.parquet` or `.csv` is a table: a row a node, with what it
                is called, what is predicted for it, and probabilities (see
                `gnnscale.train.predictions`); any other name is a `.npy` that is streamed to. The
                result is then memory-mapped.

        Returns:
            `[num_nodes or k, out_channels]` on the CPU.

        Raises:
            InputError: no node is called so, or an id is out of range.
            StoreError: the file cannot be written.
        """
        return self._outputs(nodes, out, head=True)

    def embed(self, nodes: Any = None, out: str | Path | None = None) -> Tensor:
        """As `predict`, for what the model's last layer reads: `[num_nodes or k, channels]`."""
        return self._outputs(nodes, out, head=False)

    def _outputs(self, nodes: Any, out: str | Path | None, *, head: bool) -> Tensor:
        with comm.doing("predict" if head else "embed"), buffers_within(self.config.memory):
            if out is not None:
                comm.from_main(lambda: check_writable(out, f"out={str(out)!r}"))
            self._sessions.ready()
            nodes = numbers_of(nodes, lambda: self.names)
            if out is None or not is_table(out):
                return self._evaluator.predict(nodes, out, head=head)
            return self._to_table(nodes, checked_path(out), head)

    def _to_table(self, nodes: Any, out: Path, head: bool) -> Tensor:
        """Outputs, in a file without a name once the table is written."""
        rows_file = out.with_name(f".{out.name}.rows.npy")
        try:
            rows = self._evaluator.predict(nodes, rows_file, head=head)
            of_nodes = self._evaluator.unit == "nodes"
            count = self.graph.num_nodes if of_nodes else self.graph.num_graphs
            wanted = wanted_rows(nodes, count, "node" if of_nodes else "graph")
            ids = torch.arange(len(rows)) if wanted is None else wanted
            task = self.task.name if isinstance(self.task, NodeTask) else None
            about = (self.names, task if head else "embedding", self.graph.class_names)
            comm.from_main(lambda: write_table(out, rows, ids, *about))
        finally:
            if comm.is_main():
                rows_file.unlink(missing_ok=True)
        return rows

    # --- what it has ------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The model in training: a `LayeredGNN`, or a `GraphModel`."""
        return self._setup.model

    @property
    def graph(self) -> Graph:
        """The whole graph, as it was given: its nodes keep their order."""
        return self._data.whole

    @property
    def position(self) -> Tensor | None:
        """Where each original node stands in `graph`; None for the original order."""
        return self._data.order

    @property
    def names(self) -> NodeNames | None:
        """What nodes are called, in their original order; None for their numbers."""
        names = self.graph.names if self._evaluator.unit == "nodes" else None
        if names is None or self.position is None:
            return names
        return names.take(self.position)

    @property
    def task(self) -> Task:
        """What is learnt."""
        return self._setup.task

    @property
    def learnt(self) -> Learnt:
        """The model, and what its task has besides that is trained or kept."""
        return self._setup.learnt

    @property
    def config(self) -> TrainerOptions:
        """Its arguments, as they are saved with a run."""
        return self._setup.config

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return self._setup.device

    @property
    def folder(self) -> RunFolder | None:
        """Of the run; None where nothing is written."""
        return self._setup.folder

    @property
    def report(self) -> Report:
        """Of the run so far."""
        return self._setup.report

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, once there is one: of a `LayerwiseTrainer` the layer's in training.

        Raises:
            InputError: there is none.
        """
        if self._sessions.open is None:
            raise InputError("there is no optimizer yet: start() makes it, and so does fit()")
        return self._sessions.open.step.updates.optimizer

    @property
    def callbacks(self) -> list[Callback]:
        """Are told of a run while it happens; others may be added, or take their place."""
        return self._setup.callbacks

    @callbacks.setter
    def callbacks(self, callbacks: Sequence[Callback]) -> None:
        self._setup.callbacks = list(callbacks)

    @property
    def stop(self) -> bool:
        """Whether training is to end: set it to True, in a callback, say."""
        return self._setup.stop

    @stop.setter
    def stop(self, wanted: bool) -> None:
        self._setup.stop = wanted

    @property
    def epochs_done(self) -> int:
        """Epochs that have been trained; the next one's number is one more."""
        return self._sessions.epochs_done

    @property
    def sets(self) -> list[str]:
        """Of "train", "val" and "test", those that can be evaluated."""
        return self._evaluator.sets()

    @property
    def without_metrics(self) -> str | None:
        """Why no metrics can be computed, in words; None where they can."""
        return self._evaluator.without_metrics()

    @property
    def identity(self) -> Description:
        """What makes a run of it the same run: trainer, data, model and task."""
        return self._run.identity()

    @override
    def __repr__(self) -> str:
        """A line or two: what it trains, on what, how far it has come."""
        folder = "" if self.folder is None else f", run_dir={str(self.folder)!r}"
        # Of a run that was loaded, the report knows; layers trained one by one have epochs each.
        done = max(self.epochs_done, len(self.report.rows))
        name = (self.model.spec or {}).get("model", type(self.model).__name__)
        return (
            f"{type(self).__name__}({name}, {self._data.graph.name}: "
            f"{self._data.graph.num_nodes:,} nodes, {self._data.graph.num_edges:,} edges, "
            f"{done} epochs trained, {self.device}{folder})"
        )
