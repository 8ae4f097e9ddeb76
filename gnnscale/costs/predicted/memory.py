"""What `fit` adds to the process, by part and by moment.

Within a bound (`memory=`) buffers go back as they are freed, and what there is in the sum is what
the process has. Without one the C library keeps them, and aligned blocks do not fit where an equal
one was: what the heap has beside what is in use is its own part, "allocator", of a measured share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.epochs import pipeline
from gnnscale.costs.counted.memory import rows_of, structure_of
from gnnscale.costs.counted.model import ModelCosts
from gnnscale.costs.predicted.arrays import copied, labels_of, laid_out, partitioning, storing
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.inferred import inference
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.sections import sections

Bytes = dict[str, float]

_LIBRARIES = 6e6  # threads' stacks and heaps, code and objects of a run: measured on 300 nodes
# What the heap grows to, of what is in use: a median of runs, which differ much; steps on one batch
# of always the same sizes leave fewer holes.
_HEAP, _HEAP_ALIKE, _HEAP_INFERENCE = 2.1, 1.75, 1.4


@dataclass(frozen=True)
class RunMemory:
    """Bytes that `fit` adds to this process and its children, of the rank that has most.

    Attributes:
        moments: what there is at each moment, by part: at "partition", "store", "step" and
            "evaluation", those that there are. Parts are "parameters" (the weights that are
            remembered), "gradients", "optimizer", "kept", "workspace", "features", "adjacency",
            "loading" (batches that are prepared ahead), "nodes" (arrays of the whole graph),
            "inference" (layers of all nodes), "worker" (the partitioner's process), "libraries",
            and "allocator" (what is free and kept).
    """

    moments: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def moment(self) -> str:
        """The moment at which there is most."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def parts(self) -> Mapping[str, float]:
        """What there is at that moment."""
        return self.moments[self.moment]

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.parts.values())


def run_memory(job: Job, configuration: Configuration) -> RunMemory:
    """What `fit` adds, under a configuration.

    Raises:
        InputError: the graph has no features, or a parameter is lazy.
    """
    bounded = configuration.memory is not None
    moments: dict[str, Bytes] = {}
    held = _held(job, configuration)
    if job.lays_out(configuration) and job.clustered is None:
        own = {"libraries": _LIBRARIES}
        if 1 < configuration.parts < job.graph.num_nodes:
            taken = sum(held.values()) - held["nodes"]
            about = job.method, configuration.memory, taken
            cut = partitioning(job.graph, job.seen, configuration.parts, *about)
            moments["partition"] = own | cut
        moments["store"] = own | storing(job.graph, files=configuration.storage == "files")
    if configuration.trainer == "layerwise":
        for number, (step, beside) in enumerate(sections(job, configuration)):
            moments[f"layer {number + 1}"] = _kept(held | step, bounded, _HEAP, beside)
    else:
        step = _step(job, configuration)
        alike = job.batches(configuration).number == 1
        moments["step"] = _kept(held | step, bounded, _HEAP_ALIKE if alike else _HEAP)
    found = dict(held)
    found["parameters"] *= 1.5  # at the end, the last ones are remembered beside the best
    found["inference"] = inference(job, configuration, sum(found.values()))
    found["nodes"] += job.bytes_of_nodes
    moments["evaluation"] = _kept(found, bounded, _HEAP_INFERENCE)
    return RunMemory(moments)


def _kept(parts: Bytes, bounded: bool, factor: float, apart: float = 0.0) -> Bytes:
    """With what the allocator keeps beside what comes and goes, but for what stays all along."""
    if bounded:
        return parts
    stays = ("nodes", "libraries", "optimizer", "parameters")
    comes = sum(size for name, size in parts.items() if name not in stays) - apart
    return parts | {"allocator": (factor - 1) * comes}


def _held(job: Job, configuration: Configuration) -> Bytes:
    """What stays all along."""
    costs = job.costs(computed=configuration.computed)
    learnt = float(costs.element * sum(costs.parameters))
    if configuration.trainer == "pipeline" and configuration.ranks > 1:
        learnt *= 0.5 + 0.5 / configuration.ranks
    exchanged = learnt if configuration.ranks > 1 and configuration.trainer != "pipeline" else 0.0
    parts = {
        "libraries": _LIBRARIES,
        "parameters": 2 * learnt,  # those of the last epoch, and the best
        "gradients": learnt + exchanged,
        "optimizer": job.optimizer_states * learnt,
        "nodes": 0.0,
    }
    if job.lays_out(configuration):
        parts["nodes"] = laid_out(job.graph, job.clustered, configuration.storage == "files")
        if configuration.precompute:
            parts["nodes"] += costs.element * costs.ahead * job.trained.nodes
    return parts


def _step(job: Job, configuration: Configuration) -> Bytes:
    """What a step has beside that."""
    batches, costs = job.batches(configuration), job.costs(computed=configuration.computed)
    largest = batches.largest
    loaded = _loaded(costs, batches.mean)
    waiting = min(configuration.prefetch, max(0, batches.number - 1)) * loaded
    parts = {
        "features": rows_of(costs, largest),
        "adjacency": structure_of(costs, largest) + labels_of(job.graph, largest.nodes),
        "loading": waiting,
    }
    if configuration.trainer == "pipeline":
        return parts | _under_way(job, configuration, costs, largest, loaded)
    kept = costs.keeps.of(largest)
    peak = costs.peak(largest)
    if configuration.checkpoint:
        kept = sum(crossing.forward * largest.nodes for crossing in costs.crossings)
        blocks = (costs.of_blocks(at, at + 1) for at in range(len(costs.blocks)))
        peak = kept + max(block.peak(largest) for block in blocks)
    loss = 3 * costs.element * costs.values[-1].width * largest.nodes
    return parts | {"kept": kept, "workspace": max(peak - kept, loss)}


def _under_way(
    job: Job, configuration: Configuration, costs: ModelCosts, batch: Sizes, loaded: float
) -> Bytes:
    """Of a pipeline: all stages in one process, or the stage that has most."""
    micro = max(1, min(configuration.micro_batches, job.batches(configuration).number))
    cuts = configuration.stages or (len(costs.blocks) // 2,)
    gpipe = configuration.schedule == "gpipe"
    stages = pipeline(costs, [batch] * micro, cuts, schedule="gpipe" if gpipe else "1f1b")
    if configuration.ranks > 1:
        worst = max(stages.memory, key=lambda stage: stage.kept + stage.workspace)
        kept, workspace = worst.kept, worst.workspace
        # Of every link to a stage the next message is asked for ahead.
        largest = max((costs.crossings[cut - 1].forward for cut in cuts), default=0)
        workspace += min(2, len(cuts)) * largest * batch.nodes
    else:
        kept = sum(stage.kept for stage in stages.memory)
        workspace = max(stage.workspace for stage in stages.memory)
    return {"kept": kept, "workspace": workspace, "loading": (micro - 1) * loaded}


def _loaded(costs: ModelCosts, sizes: Sizes) -> float:
    """A batch that is prepared: its rows, its structure, ids and masks; no edges in PyG's form."""
    listed = 24 * sizes.edges if any(own.facts.lists_edges for own in costs.placed) else 0.0
    return rows_of(costs, sizes) + structure_of(costs, sizes) - listed + copied(sizes.nodes)
