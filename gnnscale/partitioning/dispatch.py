"""`partition`: from a graph and a number to a Partition, by the method asked for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import math
import operator
import time
import warnings
from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError, MissingDependency, PartitionError
from gnnscale.graph.graph import Graph
from gnnscale.graph.partition import Partition
from gnnscale.partitioning.cache import cache_folder, entry_path, read_entry, write_entry
from gnnscale.partitioning.inductive import partition_training_nodes
from gnnscale.partitioning.methods import RUNNERS, Job, balance_faults, node_weights, share_parts
from gnnscale.partitioning.native.launch import estimated_peak, fitting_preset
from gnnscale.partitioning.native.libraries import KAMINPAR_PRESETS, available_threads
from gnnscale.partitioning.native.structure import as_structure
from gnnscale.partitioning.repairs import checked_assignment, repair
from gnnscale.storage.memory import available_memory, memory_bytes

logger = logging.getLogger(__name__)

#: The methods by name, apart from "auto", which takes the first of these that is installed.
METHODS = ("kaminpar", "metis", "streaming", "random", "contiguous")
_MODULES = {"kaminpar": "kaminpar", "metis": "pymetis"}

Method = str | Callable[[Any, int, int], Any]


@choices_checked
def partition(
    graph: Any,
    num_parts: int,
    method: Method = "auto",
    seed: int = 0,
    *,
    balance: str | float = "nodes",
    imbalance: float = 0.03,
    deterministic: bool = False,
    preset: str = "auto",
    memory: int | str | None = None,
    threads: int | None = None,
    cache: bool | str | PathLike[str] = True,
    view: str = "all",
    split: str = "default",
) -> Partition:
    """Cut the nodes of a graph into parts with few edges between them.

    No part is empty. Where the graph is several graphs (`node_ptr`), parts are shared out over
    them in proportion to their nodes and none spans two. A directed graph is cut as if undirected.

    With `view="train"` the subgraph of the training nodes is cut into `num_parts`, as the inductive
    protocol demands. Every other node is then attached to the part in which it has most neighbours
    (of either direction), in rounds outwards from the training nodes; a tie goes to the part with
    the fewest nodes before the round, then to the lowest id; nodes that no path joins to a training
    node fill up the smallest parts. A graph of a multi-graph data set without training nodes
    becomes one part more, beyond `num_parts`.

    Args:
        graph: a `Graph`.
        num_parts: how many parts, at most the number of nodes.
        method: "kaminpar", "metis", "streaming" (no native package needed), "random",
            "contiguous" (ranges in node order); "auto" takes the first of the first three that is
            installed and that `memory` suffices for, and the next one where it crashes or is
            killed, with a warning (RuntimeWarning); or a callable
            `(graph, num_parts, seed) -> [num_nodes]` of part ids.
        seed: repeats the result, except with KaMinPar on several threads.
        balance: "nodes", or "edges": a node then weighs its degree + 1; or how many edges cost as
            much as a node (such as a pipeline profile's `node_cost`): its degree + that number.
        imbalance: how far the heaviest part may exceed the mean, rounded up to whole nodes or
            edges. By nodes it holds always; by edges as far as single nodes fit into other parts.
            A callable's parts are not evened out.
        deterministic: give KaMinPar one thread, so that the seed repeats the result.
        preset: KaMinPar's settings by name, "fast" or "terapart-largek" for example; "auto" takes
            "default", for parts of less than 256 nodes "fast", which then cuts about the same, and
            "terapart-largek" where `memory` suffices for neither.
        memory: what a native partitioner's own process may take, as "2GB" or a number of bytes,
            which both "auto"s go by; None: what the machine and this process's limits leave.
        threads: KaMinPar's threads; None takes every core this process may use.
        cache: keep the result in `$GNNSCALE_CACHE/partitions` (`~/.cache/gnnscale/partitions`
            where the variable is unset), or in the folder given; False: not at all. "random",
            "contiguous" and callables are never kept.
        view: what is cut: "all" nodes, or the subgraph of the "train" nodes, as in
            `ClusteredGraph.view`. A callable is given that subgraph.
        split: the split set of `view="train"`.

    Returns:
        The partition: `assignment` int32 `[num_nodes]`, `seconds` of wall time, 0 from the cache.

    Raises:
        InputError: `num_parts` or another argument cannot be met; every fault is listed.
        MissingDependency: the method asked for is not installed.
        PartitionError: the worker crashed (with its signal), or a callable returned something that
            is not a partition.
    """
    adj = getattr(graph, "adj", graph)
    num_nodes = adj.num_nodes
    num_parts, seed, threads = _checked_arguments(
        num_parts, num_nodes, method, seed, balance, imbalance, preset, memory, threads, view
    )
    if isinstance(graph, Graph):
        graph.split(split)  # refuses what has no such name
    if view == "train":
        cut = partial(
            partition,
            num_parts=num_parts,
            method=method,
            seed=seed,
            balance=balance,
            imbalance=imbalance,
            deterministic=deterministic,
            preset=preset,
            memory=memory,
            threads=threads,
            cache=cache,
        )
        return partition_training_nodes(graph, split, num_parts, cut, whole=callable(method))
    starts = _graph_starts(graph, num_nodes)
    shares = share_parts(np.diff(starts), num_parts)
    if deterministic:
        threads = 1
    candidates = _candidates(method)

    if num_parts in (1, num_nodes):
        whole = np.arange(num_nodes) if num_parts == num_nodes else np.zeros(num_nodes)
        name = candidates[0] if isinstance(candidates[0], str) else _name(candidates[0])
        return Partition(torch.from_numpy(whole.astype(np.int32)), num_parts, name, seed)

    began = time.perf_counter()
    structure = as_structure(*adj.to("cpu").arrays())
    room = available_memory() if memory is None else memory_bytes(memory)
    if preset == "auto":
        preset = fitting_preset(num_nodes, len(structure.indices), num_parts, room)
    balance = balance if isinstance(balance, str) else float(balance)
    job = Job(structure, starts, shares, seed, balance, imbalance, preset, threads)
    if not isinstance(method, str):
        return _by_callable(method, graph, job, num_parts, began)
    folder = cache_folder(cache)
    for position, name in enumerate(candidates):
        parameters = _parameters(name, job)
        entry = _entry(folder, graph, name, num_parts, parameters, job)
        if entry is not None and (kept := read_entry(entry, num_nodes, num_parts)) is not None:
            return kept
        try:
            if method == "auto":
                _check_room(name, job, room)
            assignment = RUNNERS[name](job)
        except PartitionError as error:
            if position + 1 == len(candidates):
                raise
            warnings.warn(
                f"{error}. Going on with {candidates[position + 1]!r}.",
                RuntimeWarning,
                stacklevel=2,
            )
            continue
        seconds = time.perf_counter() - began
        logger.info("%d parts of %d nodes by %s in %.1f s", num_parts, num_nodes, name, seconds)
        made = Partition(torch.from_numpy(assignment), num_parts, name, seed, seconds, parameters)
        if entry is not None:
            write_entry(entry, made)
        return made
    raise AssertionError("the last candidate returns or raises")


def _checked_arguments(
    num_parts: Any,
    num_nodes: int,
    method: Any,
    seed: object,
    balance: object,
    imbalance: Any,
    preset: Any,
    memory: Any,
    threads: Any,
    view: Any,
) -> tuple[int, int, int]:
    """Return num_parts, seed and threads as integers; all faults are raised at once."""
    faults = []
    parts = _integer(num_parts)
    if parts is None:
        faults.append(f"num_parts must be an integer, got {num_parts!r}")
    elif not 1 <= parts <= num_nodes:
        faults.append(
            f"num_parts is {parts}, the graph has {num_nodes} nodes: no part may be empty, so "
            f"choose between 1 and {num_nodes}"
            if num_nodes
            else f"num_parts is {parts}, but the graph has no nodes"
        )
    number = _integer(seed)
    if number is None or number < 0:
        faults.append(f"seed must be an integer of at least 0, got {seed!r}")
    cores = available_threads() if threads is None else _integer(threads)
    if cores is None or cores < 1:
        faults.append(f"threads must be an integer of at least 1 or None, got {threads!r}")
    if not callable(method) and method not in ("auto", *METHODS):
        faults.append(
            f"unknown method {method!r}; choose 'auto', {', '.join(map(repr, METHODS))} or a "
            "callable(graph, num_parts, seed)"
        )
    faults += balance_faults(balance)
    if not (isinstance(imbalance, int | float) and math.isfinite(imbalance) and imbalance >= 0):
        faults.append(f"imbalance must be a number of at least 0 (0.03 is 3 %), got {imbalance!r}")
    if preset not in ("auto", *KAMINPAR_PRESETS):
        faults.append(
            f"unknown preset {preset!r}; choose 'auto' or one that KaMinPar knows: "
            f"{', '.join(KAMINPAR_PRESETS)}"
        )
    if memory is not None:
        try:
            memory_bytes(memory)
        except InputError as error:
            faults += error.faults
    if view not in ("all", "train"):
        faults.append(f'no view {view!r}; there are "all" and "train"')
    if faults:
        raise InputError(faults)
    assert parts is not None and number is not None and cores is not None
    return parts, number, cores


def _integer(value: Any) -> int | None:
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _graph_starts(graph: object, num_nodes: int) -> NDArray[np.int64]:
    node_ptr = getattr(graph, "node_ptr", None)
    if node_ptr is None:
        return np.array([0, num_nodes], np.int64)
    starts = np.asarray(node_ptr.cpu(), np.int64)
    if starts[0] != 0 or starts[-1] != num_nodes or bool((np.diff(starts) < 0).any()):
        raise InputError(f"node_ptr must rise from 0 to the number of nodes {num_nodes}")
    return starts


def _candidates(method: Method) -> list[Any]:
    """Return the methods to try in order; native packages are looked for, never imported."""
    if method == "auto":
        return [name for name in METHODS[:3] if _installed(name)]
    if isinstance(method, str) and not _installed(method):
        raise MissingDependency(
            f"method={method!r} needs the package {_MODULES[method]!r}: pip install "
            f"{_MODULES[method]}. Where it has no wheel, method='streaming' needs no package"
        )
    return [method]


def native_settings(
    method: Method, num_nodes: int, num_edges: int, num_parts: int, room: int
) -> str | None:
    """The settings, for `estimated_peak`, of the native partitioner that `partition` comes to.

    Args:
        method: that was asked for.
        num_nodes: of what is cut.
        num_edges: of its directed edges.
        num_parts: how many parts.
        room: bytes that the partitioner's own process may take.

    Returns:
        None where it runs in this process.
    """
    preset = fitting_preset(num_nodes, num_edges, num_parts, room)
    for name in _candidates(method):
        if name not in _MODULES:
            return None
        settings = _settings(name, preset)
        if method != "auto" or estimated_peak(settings, num_nodes, num_edges) <= room:
            return settings
    return None


def _settings(name: str, preset: str) -> str:
    return preset if name == "kaminpar" else name


def _installed(name: str) -> bool:
    return name not in _MODULES or importlib.util.find_spec(_MODULES[name]) is not None


def _check_room(name: str, job: Job, room: int) -> None:
    """Refuse a native partitioner that would take the memory which other processes have."""
    if name not in _MODULES:
        return
    settings = _settings(name, job.preset)
    needs = estimated_peak(settings, job.structure.num_nodes, len(job.structure.indices))
    if needs > room:
        raise PartitionError(
            f"{name} is estimated to need {needs / 1e9:.2f} GB of memory and has {room / 1e9:.2f} "
            f"GB; method={name!r} would try nevertheless"
        )


def _parameters(name: str, job: Job) -> dict[str, Any]:
    """Return what, apart from seed and number of parts, the result depends on."""
    parameters: dict[str, Any] = {"balance": job.balance}
    if name in ("kaminpar", "metis", "streaming"):
        parameters["imbalance"] = float(job.imbalance)
    if name == "kaminpar":
        # More threads change the result as another run does, so their number is not kept.
        parameters |= {"preset": job.preset, "deterministic": job.threads == 1}
    if name in _MODULES:
        try:
            parameters["version"] = importlib.metadata.version(_MODULES[name])
        except importlib.metadata.PackageNotFoundError:
            parameters["version"] = "unknown"
    return parameters


def _entry(
    folder: Any, graph: object, name: str, num_parts: int, parameters: dict[str, Any], job: Job
) -> Any:
    fingerprint = getattr(graph, "structure_fingerprint", None)
    if folder is None or fingerprint is None or name in ("random", "contiguous"):
        return None
    return entry_path(
        folder,
        method=name,
        num_parts=num_parts,
        seed=job.seed,
        parameters=parameters,
        structure=fingerprint(),
        node_ptr=job.starts.tolist(),
    )


def _by_callable(
    method: Callable[[Any, int, int], Any], graph: object, job: Job, num_parts: int, began: float
) -> Partition:
    """Run a user's partitioner, check what it returned and repair it."""
    name, n = _name(method), job.structure.num_nodes
    try:
        part = checked_assignment(method(graph, num_parts, job.seed), n, num_parts)
    except PartitionError as error:
        raise PartitionError(f"the partitioner {name!r}: {error}") from error
    of_graph = np.repeat(np.arange(len(job.shares)), np.diff(job.starts))
    owner = np.zeros(num_parts, np.int64)
    owner[part] = of_graph  # the last one written; every node of the part must agree
    torn = np.flatnonzero(owner[part] != of_graph)
    if len(torn):
        raise PartitionError(
            f"the partitioner {name!r} put nodes of several graphs into part {part[torn[0]]}; a "
            "part must stay within one graph of a multi-graph data set (see graph.node_ptr)"
        )
    weight = node_weights(job.balance, job.structure.degree())
    part = repair(part, num_parts, job.structure, weight)
    seconds = time.perf_counter() - began
    return Partition(torch.from_numpy(part), num_parts, name, job.seed, seconds)


def _name(method: object) -> str:
    return str(getattr(method, "__name__", type(method).__name__))
