"""`plan`: what fits, how long it takes, and which way to train, before anything runs."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from typing_extensions import override

from gnnscale import comm
from gnnscale.choices import choices_checked, whole_faults
from gnnscale.costs.machine.cached import known, remember
from gnnscale.costs.machine.measured import measure
from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.prediction import Prediction
from gnnscale.costs.predicted.trial import try_steps
from gnnscale.declared import arguments_of
from gnnscale.errors import InputError, StoreError
from gnnscale.planning.asynchrony import Asynchrony, asynchrony
from gnnscale.planning.changes import changes
from gnnscale.planning.picture import draw
from gnnscale.planning.reading import job_of
from gnnscale.planning.search import Asked, Here, Search, kinds
from gnnscale.planning.table import as_text, memory_table, theory_table, ways_table
from gnnscale.planning.words import arguments, settings, way
from gnnscale.storage.memory import available_memory, memory_bytes, scratch_folder
from gnnscale.train.options import OPTIONS
from gnnscale.train.run.folder import RunFolder
from gnnscale.train.session import choose_device
from gnnscale.train.trainers import TRAINERS

_HONEST = (
    "seconds an epoch are not time to accuracy: ways differ in steps an epoch, and layer by "
    "layer another objective is trained"
)
_CLASSES = {
    "cluster": "ClusterTrainer",
    "pipeline": "PipelineTrainer",
    "layerwise": "LayerwiseTrainer",
    "graph": "GraphTrainer",
}


@dataclass(frozen=True, eq=False)
class Plan:
    """What `plan` found; printed, it is its table.

    Attributes:
        model: as it was given.
        job: what is trained.
        asked: within which limits.
        here: where seconds are predicted of, or None.
        predictions: of every configuration that was compared.
        best: the recommended one; None where nothing fits.
        why: in a sentence.
        notes: what else is to be known.
        given: arguments of the trainer that were given to `plan`.
    """

    model: Any
    job: Job
    asked: Asked
    here: Here | None
    predictions: tuple[Prediction, ...]
    best: Prediction | None
    why: str
    notes: tuple[str, ...]
    given: Mapping[str, Any]

    @property
    def rows(self) -> list[Prediction]:
        """The best of every way to train, the thriftiest where none of it fits."""
        ways: dict[str, list[Prediction]] = {}
        for one in self.predictions:
            ways.setdefault(way(one.configuration), []).append(one)
        search = Search(self.job, self.asked, self.here)
        return [
            search.of_way(some) if self.best not in some else self.best for some in ways.values()
        ]

    def table(self) -> str:
        """What each way costs, what is recommended and why, and what would change it."""
        rows, best = self.rows, self.best
        search = Search(self.job, self.asked, self.here)
        fits = [self._fits(row, search.fits(row)) for row in rows]
        graph = self.job.graph
        title = f"{graph.name}: {graph.num_nodes:,} nodes, {graph.num_edges:,} edges"
        tables = [ways_table(rows, best, fits, title), theory_table(rows), memory_table(rows)]
        return as_text(tables, [*self._lines()])

    def _fits(self, row: Prediction, within: bool) -> str:
        if not within:
            return "no"
        if not self.asked.runs(row.configuration):
            return f"on {row.configuration.ranks} ranks"
        return "yes"

    def _lines(self) -> Iterator[tuple[str, str]]:
        work, depth = self.job.costs().symbols
        sizes = self.job.trained
        yield "forward", f"W = {work} and D = {depth}, in the symbols of Besta and Hoefler"
        yield (
            "with",
            f"n = {sizes.nodes:,.0f} nodes, m = {sizes.edges:,.0f} edges, d = {sizes.degree:,} at "
            f"most into a node{self._entries()}; of clusters those edges that are not dropped; D "
            "of an epoch is that of both passes, for every step",
        )
        if self.best is None:
            yield "recommended", "nothing"
        else:
            configuration = self.best.configuration
            yield (
                "recommended",
                f"{_CLASSES[configuration.trainer]}({settings(configuration)}){self._apart()}",
            )
        yield "because", self.why
        yield from zip(("if there were", *[""] * len(self.changes)), self.changes, strict=False)
        words = self.staleness().words()
        yield from zip(("asynchronously", *[""] * len(words)), words, strict=False)
        yield from zip(("note", *[""] * len(self.notes)), self.notes, strict=False)

    def _entries(self) -> str:
        entries = self.job.trained.entries
        return f", z = {entries:,.0f} entries of sparse features" if entries else ""

    def _apart(self) -> str:
        """What of a recommended configuration is no argument of its trainer."""
        assert self.best is not None
        configuration = self.best.configuration
        told = ["clusters in files (store=)"] if configuration.storage == "files" else []
        told += [f"on {configuration.ranks} ranks"] if configuration.ranks > 1 else []
        return f", {', '.join(told)}" if told else ""

    @cached_property
    def changes(self) -> list[str]:
        """What twice the memory, the cores or the ranks would bring, a line each."""
        cores = torch.get_num_threads() if self.here is None else self.here.machine.threads
        return changes(self.job, self.asked, self.here, self.best, cores)

    def staleness(self) -> Asynchrony:
        """What asynchrony would buy, which gnnscale does not do: see `Asynchrony`."""
        pipelines = [one for one in self.predictions if one.configuration.trainer == "pipeline"]
        search = Search(self.job, self.asked, self.here)
        of = search.of_way(pipelines).configuration if pipelines else None
        return asynchrony(self.job, of, self.here, max(2, self.asked.ranks))

    @override
    def __str__(self) -> str:
        """The table."""
        return self.table()

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw seconds against memory, by what bounds them, into a PNG.

        Raises:
            InputError: the path has another ending.
            MissingDependency: matplotlib is not installed.
            StoreError: it cannot be written.
        """
        graph = self.job.graph
        title = f"{graph.name}: {graph.num_nodes:,} nodes, {graph.num_edges:,} edges"
        draw(self.predictions, self.best, self.asked, title, path)

    def trainer(self, chosen: Prediction | None = None, **more: Any) -> Any:
        """The trainer, ready to fit with exactly these settings.

        Args:
            chosen: one of `predictions`; None takes the recommended one.
            more: further arguments of the trainer, such as `epochs`, `lr` or `run_dir`.

        Raises:
            InputError: nothing fits; an argument that the plan has decided is given; or there are
                other ranks than it takes.
        """
        chosen = self.best if chosen is None else chosen
        if chosen is None:
            raise InputError(self.why)
        configuration = chosen.configuration
        decided = {**arguments(configuration), **self._given(configuration.trainer)}
        if twice := sorted({*decided} & {*more}):
            raise InputError(f"plan.trainer: the plan has decided {', '.join(twice)}")
        if (ranks := configuration.ranks) != comm.world_size():
            raise InputError(
                f"the plan is for {ranks} ranks, and there are {comm.world_size()}: start the "
                f"script with torchrun --nproc-per-node {ranks}"
            )
        with ExitStack() as folders:
            if configuration.storage == "files" and configuration.trainer != "layerwise":
                decided |= self._in_files(folders, more)
            make = TRAINERS[configuration.trainer]
            trainer = make(self.model, self.job.data, **decided, **more)
            weakref.finalize(trainer, folders.pop_all().close)
        return trainer

    def _given(self, trainer: str) -> dict[str, Any]:
        """What was given to `plan`, of the arguments that a trainer takes."""
        devices = self.given["devices"]
        said = {**self.given, "device": devices[0]}
        said["memory"] = self.asked.memory if self.asked.bounded else "auto"
        if trainer != "pipeline" or len(devices) == 1:
            del said["devices"]
        taken = arguments_of(OPTIONS[trainer])
        return {name: value for name, value in said.items() if name in taken}

    def _in_files(self, folders: ExitStack, more: Mapping[str, Any]) -> dict[str, Any]:
        """Where clusters are kept in files: with the run, or as long as the trainer is there."""
        if more.get("store") is not None or self.job.clustered is not None:
            return {}
        if (run_dir := more.get("run_dir")) is not None:
            return {"store": RunFolder(run_dir).store}
        scratch = scratch_folder("gnnscale-plan-", self.job.graph.adj.indices)
        return {"store": folders.enter_context(scratch) / "clusters"}


@choices_checked
def plan(
    graph: Any,
    model: Any,
    memory: int | str = "auto",
    *,
    trainers: Sequence[str] | None = None,
    ranks: int | None = None,
    devices: str | Sequence[str] = "auto",
    machine: Machine | Literal["auto"] | None = "auto",
    trial: bool = True,
    split: str = "default",
    inductive: bool = False,
    optimizer: Any = "adam",
    task: Any = "auto",
    readout: Any = None,
    seed: int = 0,
) -> Plan:
    """Say what fits, how long it takes and which way to train, before anything runs.

    Some hundred configurations are compared, of sizes that are powers of two: full batch, clusters
    (parts × clusters a batch), layer by layer, pipelines (stages, schedule, micro-batches), each on
    one rank and beside itself on several; of many graphs, graphs a batch. Of each it is known, from
    what the model's phases compute, move and keep (`gnnscale.costs`), what it takes of memory and
    of time.

    Recommended is the fastest epoch among those that run on these ranks, stay within the bound, and
    train about as `ClusterTrainer` does by itself: updates of as many nodes by a factor of 4 at
    most, and about as many of the edges; of 10,000 nodes or fewer the full batch. Where none of
    these fits, the one whose updates are nearest in size; where nothing fits that trains all layers
    together, layer by layer. `trainers` restricts that, and says what comes first.

    Args:
        graph: what a trainer takes: a `Graph`, a `ClusteredGraph`, the path of either, PyG `Data`;
            or many graphs, with a label each.
        model: what a trainer takes. It is left as it is.
        memory: bytes that `fit` may add to the process, as "2GB" or a number; "auto" takes what
            there is.
        trainers: those that may be taken, in the order in which they are preferred: "cluster",
            "pipeline", "layerwise"; "graph" of many graphs. None for all.
        ranks: processes that may train together; None for those that there are. Where there is one,
            what a second would bring is shown, and not recommended.
        devices: "auto", "cpu", "cuda", "cuda:1" …; or several, for a pipeline in this process.
        machine: its rates, as `gnnscale.costs.machine` measures them; "auto" takes those that are
            known of this machine, and measures them once where there are none, for ten seconds;
            None leaves seconds out.
        trial: whether the model is tried on pieces of the graph, for some seconds, which puts the
            predicted ones right: no rates know a layer of the user's own.
        split: the split set.
        inductive: whether training nodes alone are trained on.
        optimizer: a trainer's.
        task: a trainer's.
        readout: of a `GraphTrainer`.
        seed: a trainer's.

    Raises:
        InputError: an argument is at fault, data and model do not go together, or a layer's costs
            cannot be known; it is named.

    Example:
        >>> import gnnscale as gs
        >>> graph = gs.load("synthetic:planted?nodes=2000")
        >>> model = gs.nn.GCN(graph.num_features, 32, 2, graph.num_classes)
        >>> plan = gs.plan(graph, model, memory="500MB", machine=None)
        >>> trainer = plan.trainer(epochs=3)
    """
    named = [devices] if isinstance(devices, str) else list(devices)
    faults = [] if ranks is None else whole_faults("ranks", ranks, 1)
    if not named:
        faults.append("devices=[]: name one at least")
    if faults:
        raise InputError(faults)
    bound = available_memory() if memory == "auto" else memory_bytes(memory)
    place = next(map(choose_device, map(str, named)))
    job = job_of(graph, model, task, split, inductive, readout, optimizer=optimizer, seed=seed)
    there = comm.world_size()
    most = there if ranks is None else ranks
    asked = Asked(
        _trainers(job, trainers), bound, most, memory != "auto", len(named), min(there, most)
    )
    job.costs()  # before the machine is measured: a layer's that cannot be known is refused
    notes = [_HONEST]
    if (chosen := job.graph.split(job.split)) is not None and chosen.cuts is not None:
        notes.append(
            "the split ends training at a cut: what was known by then is less than what is "
            "planned for, the whole graph"
        )
    if machine == "auto":
        machine, said = _machine_of(place)
        notes += said
    here = None if machine is None else _here(job, asked, machine, trial)
    predictions, best, why = Search(job, asked, here).run()
    given = {"devices": named, "split": split, "optimizer": optimizer, "task": task, "seed": seed}
    given |= {"inductive": job.inductive, "readout": readout}
    return Plan(model, job, asked, here, predictions, best, why, tuple(notes), given)


def _trainers(job: Job, trainers: Sequence[str] | None) -> tuple[str, ...]:
    """The trainers that may be taken.

    Raises:
        InputError: one is not there, or not for such data.
    """
    fit = ("graph",) if job.of_graphs else ("cluster", "pipeline", "layerwise")
    if trainers is None:
        return fit
    names = (trainers,) if isinstance(trainers, str) else tuple(trainers)
    faults = [
        f"trainers: there is no {name!r}; there are {', '.join(TRAINERS)}"
        for name in names
        if name not in TRAINERS
    ]
    what = "many graphs, with a label each" if job.of_graphs else "one graph, with labels of nodes"
    faults += [
        f"trainers: {name!r} is not for {what}; {', '.join(fit)}"
        for name in names
        if name in TRAINERS and name not in fit
    ]
    if not names:
        faults.append(f"trainers=[]: name one at least of {', '.join(fit)}")
    if faults:
        raise InputError(faults)
    return names


def _machine_of(device: torch.device) -> tuple[Machine | None, list[str]]:
    """The rates of this machine, measured where they are not known, and what is said of it."""
    if device.type != "cpu":
        return None, [f"seconds are not predicted on {device.type}: rates are those of processors"]
    if (there := known()) is not None:
        return there, []
    found = measure()
    with contextlib.suppress(StoreError):  # the next plan measures again
        remember(found)
    return found, [f"the machine was measured, once, in {found.measured_in:.1f} s"]


def _here(job: Job, asked: Asked, machine: Machine, trial: bool) -> Here:
    """A machine, and how the model does on it."""
    if not trial:
        return Here(machine)
    together = kinds(asked.trainers)[0] == "together"
    whole = try_steps(job.model, job.graph, clustered=False)
    return Here(machine, whole, try_steps(job.model, job.graph, clustered=True) if together else ())
