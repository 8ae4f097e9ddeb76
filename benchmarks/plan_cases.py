"""What plan.py measures: a graph, a model, a trainer with its options, and how many ranks.

Half of the cases are written down, half drawn by a seed that nobody chooses: the commit that
changed the rooms last by which they are predicted.
"""

from __future__ import annotations

import functools
import random
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from typing_extensions import override

import gnnscale as gs
from gnnscale.graph import is_store
from gnnscale.nn import MODELS
from gnnscale.storage.files import cache_root

ROOT = Path(__file__).parents[1]
WRITTEN = DRAWN = 32
CLASSES = 16


@dataclass(frozen=True)
class Case:
    """One configuration.

    Attributes:
        graph: a data set by name, or one of `GRAPHS` with a number of nodes, as "star:100000".
        network: one of `gs.nn.MODELS`, or "own", a user's layer.
        layers: how many.
        width: of the layers within.
        trainer: "cluster", "layerwise", "pipeline" or "graph"; full batch is one cluster.
        options: of the trainer. "files" keeps in files what it keeps in memory otherwise.
        model: further arguments of the model.
        ranks: processes, of one thread each where there are several.
        given: "graph", or "store" for one that lies in clusters on disk before.
    """

    graph: str
    network: str
    layers: int
    width: int
    trainer: str = "cluster"
    options: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    ranks: int = 1
    given: str = "graph"

    @property
    def name(self) -> str:
        """The whole of it in a line."""
        graph = self.graph.removeprefix("synthetic:").replace("?scale=", " x ")
        parts = [graph, f"{self.network} {self.layers}x{self.width}", self.trainer]
        parts += [f"{key}={value}" for key, value in {**self.model, **self.options}.items()]
        parts += [f"{self.ranks} ranks"] * (self.ranks > 1) + ["stored"] * (self.given == "store")
        return ", ".join(parts)

    @property
    def saved(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


AMAZON = "synthetic:amazon2m?scale={}"
_FULL = {"num_parts": 1, "clusters_per_batch": 1}


def _batches(parts: int, drawn: int, **more: Any) -> dict[str, Any]:
    return {"num_parts": parts, "clusters_per_batch": drawn, **more}


def written() -> list[Case]:
    """The cases that are written down."""
    a05, a1, a2, a5 = (AMAZON.format(scale) for scale in (0.05, 0.1, 0.2, 0.5))
    norm = {"norm": "layer_norm", "norm_kwargs": {"mode": "node"}}
    return [
        Case("wordnet", "sage", 3, 128, options=_batches(150, 15)),
        Case("wordnet", "gcn", 2, 16, options=_batches(50, 5)),
        Case("wordnet", "gcn", 3, 64, options=_FULL),
        Case("wordnet", "cluster_gcn", 5, 64, options=_batches(150, 10)),
        Case("wordnet", "sgc", 2, 64, options=_batches(100, 10)),
        Case("wordnet", "sage", 2, 128, "layerwise", {"batch_rows": 2048}),
        Case("wordnet", "gcn", 4, 64, "pipeline", _batches(80, 4, stages=[2], micro_batches=4)),
        Case("wordnet", "sage", 2, 64, options=_batches(100, 10), ranks=2),
        Case("debian", "gcn", 3, 256, options=_batches(60, 6)),
        Case("debian", "gin", 3, 64, options=_batches(60, 6)),
        Case("debian", "sage", 2, 512, options=_batches(100, 5)),
        Case("debian", "gcn", 8, 64, options=_batches(80, 10), model={"residual": True, **norm}),
        Case("debian", "sage", 3, 64, options=_FULL),
        Case("debian", "gcn", 2, 128, "layerwise", {"batch_rows": 1024}),
        Case("debian", "gcn", 2, 64, options=_batches(60, 6), ranks=2),
        Case(a05, "gcn", 3, 400, options=_batches(750, 10)),
        Case(a05, "sage", 2, 128, options=_batches(300, 10, precompute=True)),
        Case(a05, "gat", 2, 16, options=_batches(300, 10)),
        Case(a05, "own", 2, 32, options=_batches(300, 10)),
        Case(a05, "sgc", 2, 128, options=_batches(100, 4)),
        Case(a05, "gcn", 8, 128, options=_batches(300, 10, checkpoint_activations=True)),
        Case(
            a05, "gcn", 6, 128, "pipeline", _batches(300, 5, stages=[3], micro_batches=8), ranks=2
        ),
        Case(a05, "sage", 2, 128, "layerwise", {"batch_rows": 4096, "files": True}),
        Case(a05, "gin", 2, 128, options=_FULL),
        Case(a1, "gcn", 2, 128, options=_batches(1500, 10), given="store"),
        Case(a2, "sage", 2, 64, options=_batches(3000, 20), given="store"),
        Case(a5, "gcn", 2, 16, options=_batches(7500, 20), given="store"),
        Case("star:100000", "gcn", 2, 64, options=_batches(10, 2)),
        Case("path:200000", "sage", 4, 32, options=_batches(100, 10)),
        Case("wide:50000", "gcn", 2, 64, options=_batches(100, 10)),
        Case("blocks:20000", "gcn", 3, 1024, options=_batches(50, 5)),
        Case("graphs:4000", "gin", 4, 64, "graph", {"graphs_per_batch": 128}),
    ]


def to_choose() -> list[Case]:
    """Graphs and models that a plan chooses a way for."""
    graphs = {
        "wordnet": [("sage", 3, 128), ("gcn", 2, 64), ("cluster_gcn", 4, 64)],
        "debian": [("gcn", 3, 128), ("sage", 2, 256)],
        AMAZON.format(0.05): [("gcn", 3, 128), ("sage", 2, 64)],
        "blocks:20000": [("gcn", 3, 256), ("gin", 4, 64)],
        "wide:30000": [("gcn", 2, 64)],
    }
    return [Case(graph, *model) for graph, models in graphs.items() for model in models]


def seed() -> str:
    """The commit that changed last what predicts."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%h", "--", "gnnscale/costs"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


# Nodes and edges, for drawing alone: nothing that is measured takes too long.
_SIZES = {
    "wordnet": (117_659, 367_578),
    "debian": (63_436, 636_654),
    AMAZON.format(0.05): (122_452, 5_400_000),
    AMAZON.format(0.1): (244_903, 10_800_000),
    "star:50000": (50_001, 100_000),
    "path:100000": (100_000, 199_998),
    "wide:30000": (30_000, 300_000),
    "blocks:20000": (20_000, 400_000),
}
_SECONDS = 1.2  # an epoch, by the rough rates below


def drawn(word: str, number: int = DRAWN) -> list[Case]:
    """Cases drawn by a word."""
    draw, found = random.Random(word), dict[str, Case]()
    while len(found) < number:
        # Apart from the rest, or what is cheap would be drawn most.
        graph = draw.choice(list(_SIZES))
        network = draw.choice(["gcn", "sage", "gin", "gat", "cluster_gcn", "sgc", "own"])
        tries = (_draw(draw, graph, network) for _ in range(50))
        case = next((one for one in tries if one is not None), None)
        if case is not None:
            found.setdefault(case.name, case)
    return list(found.values())


def _draw(draw: random.Random, graph: str, network: str) -> Case | None:
    nodes, edges = _SIZES[graph]
    layers = 2 if network == "sgc" else draw.randint(2, 8)
    width = draw.choice([16, 32, 64, 96, 128, 192, 256, 400, 512, 768, 1024])
    trainer = draw.choices(["cluster", "layerwise", "pipeline"], [6, 2, 2])[0]
    ranks = draw.choices([1, 2], [4, 1])[0]
    opaque = network in ("gat", "own")
    rough = 3 * layers * (nodes * width**2 / 4e10 + edges * width * (8 if opaque else 1) / 2e9)
    wide = graph in ("wordnet", "debian") or graph.startswith("wide")
    if rough > _SECONDS or (opaque and (wide or trainer == "layerwise")):
        return None
    if trainer == "layerwise":
        if ranks > 1:
            return None
        options: dict[str, Any] = {"batch_rows": draw.choice([512, 2048, 8192])}
        if draw.random() < 0.3:
            options["files"] = True
        return Case(graph, network, layers, width, trainer, options)
    q = draw.choice([1, 2, 5, 10, 20])
    size = draw.choice([1000, 2000, 4000, 8000])  # nodes a batch
    options = _batches(max(2 * q, q * nodes // size), q)
    if trainer == "pipeline":
        schedule = draw.choice(["1f1b", "gpipe"])
        micro = draw.choice([2, 4, 8])
        options |= {"stages": [(layers + 1) // 2], "schedule": schedule, "micro_batches": micro}
    elif draw.random() < 0.15 and rough < _SECONDS / 2:
        options = dict(_FULL)
    elif draw.random() < 0.2:
        options["checkpoint_activations"] = True
    elif draw.random() < 0.2:
        options["accumulate"] = 2
    elif draw.random() < 0.2:
        options["prefetch"] = 0
    return Case(graph, network, layers, width, trainer, options, ranks=ranks)


# --- graphs -----------------------------------------------------------------------------------


def load(name: str) -> gs.Graph:
    """The graph of that name."""
    kind, _, number = name.partition(":")
    return GRAPHS[kind](int(number)) if kind in GRAPHS else gs.load(name)


def _with_rest(edges: Tensor, nodes: int, x: object = None, features: int = 64) -> gs.Graph:
    drawing = torch.Generator().manual_seed(0)
    where = torch.rand(nodes, generator=drawing)
    return gs.Graph.from_arrays(
        edges,
        torch.randn(nodes, features, generator=drawing) if x is None else x,
        torch.randint(CLASSES, (nodes,), generator=drawing),
        num_nodes=nodes,
        train_mask=where < 0.6,
        val_mask=(where >= 0.6) & (where < 0.8),
        test_mask=where >= 0.8,
    )


def _both_ways(source: Tensor, target: Tensor) -> Tensor:
    return torch.stack([torch.cat([source, target]), torch.cat([target, source])])


def _star(leaves: int) -> gs.Graph:
    ends = torch.arange(1, leaves + 1)
    return _with_rest(_both_ways(torch.zeros_like(ends), ends), leaves + 1)


def _path(nodes: int) -> gs.Graph:
    every = torch.arange(nodes)
    return _with_rest(_both_ways(every[:-1], every[1:]), nodes)


def _near(nodes: int, degree: int) -> Tensor:
    """Random edges, most of them between nodes whose numbers are near: what clusters can keep."""
    drawing = torch.Generator().manual_seed(1)
    source = torch.randint(nodes, (nodes * degree // 2,), generator=drawing)
    step = torch.randint(1, 500, source.shape, generator=drawing)
    far = torch.rand(source.shape, generator=drawing) < 0.1
    step[far] = torch.randint(1, nodes, (int(far.sum()),), generator=drawing)
    return _both_ways(source, (source + step) % nodes)


def _wide(nodes: int, columns: int = 20_000, filled: int = 40) -> gs.Graph:
    draw = np.random.default_rng(0)
    at = draw.integers(columns, size=nodes * filled)
    ends = np.arange(0, nodes * filled + 1, filled)
    x = sparse.csr_matrix((np.ones(len(at), np.float32), at, ends), (nodes, columns))
    x.sum_duplicates()
    return _with_rest(_near(nodes, 10), nodes, x)


def _blocks(nodes: int) -> gs.Graph:
    return _with_rest(_near(nodes, 20), nodes, features=256)


def _graphs(number: int) -> gs.Graph:
    """Rings with chords, of 10 to 40 nodes."""
    draw = torch.Generator().manual_seed(0)
    sizes = torch.randint(10, 41, (number,), generator=draw)
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    first, size = ends[:-1].repeat_interleave(sizes), sizes.repeat_interleave(sizes)
    within = torch.arange(int(ends[-1])) - first
    edges = [first + (within + step) % size for step in (1, 3)]
    source = (first + within).repeat(2)
    where = torch.rand(number, generator=draw)
    names = {"train": where < 0.8, "val": (where >= 0.8) & (where < 0.9), "test": where >= 0.9}
    return gs.Graph.from_arrays(
        _both_ways(source, torch.cat(edges)),
        torch.randn(int(ends[-1]), 32, generator=draw),
        torch.randint(2, (number,), generator=draw),
        node_ptr=ends,
        y_level="graph",
        splits={"default": {n: mask.repeat_interleave(sizes) for n, mask in names.items()}},
    )


GRAPHS = {"star": _star, "path": _path, "wide": _wide, "blocks": _blocks, "graphs": _graphs}


# --- models and trainers ----------------------------------------------------------------------


class Difference(MessagePassing):
    """A layer as users write them: how a node differs from its neighbours."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(aggr="mean")
        self.both = nn.Linear(2 * in_channels, out_channels)

    @override
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x)

    @override
    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return self.both(torch.cat([x_i, x_j - x_i], dim=-1)).relu()


def build(case: Case, graph: gs.Graph, width: int | None = None) -> Any:
    """The model of a case for a graph."""
    torch.manual_seed(0)
    width = case.width if width is None else width
    classes = 2 if case.trainer == "graph" else graph.num_classes
    assert classes is not None
    if case.network == "own":
        widths = [graph.num_features, *[width] * (case.layers - 1)]
        blocks = [
            gs.nn.Block(Difference(a, b), act=None, dropout=0.2)
            for a, b in zip(widths, [*widths[1:], width], strict=True)
        ]
        return gs.nn.LayeredGNN(blocks, head=nn.Linear(width, classes))
    make = MODELS[case.network]
    more = dict(case.model)
    if case.network == "sgc":
        more |= {"K": 2}
    else:
        more |= {"dropout": 0.2}
    return make(graph.num_features, width, case.layers, classes, **more)


def stored(case: Case) -> Path:
    """Where the graph of a case lies in clusters."""
    parts = case.options["num_parts"]
    folder = cache_root() / "plan" / f"{case.graph.replace(':', '-').replace('?', '-')}-{parts}"
    if not is_store(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        graph = load(case.graph)
        gs.cluster(graph, gs.partition(graph, parts, seed=0), path=folder)
    return folder


@functools.cache
def given(case_graph: str, folder: Path | None) -> Any:
    """What a trainer is given."""
    return load(case_graph) if folder is None else gs.open_graph(folder)


def prepare(case: Case) -> None:
    """Draw what is drawn, and store what lies in clusters."""
    if case.given == "store":
        stored(case)
    else:
        load(case.graph)


def job_of(case: Case, data: Any, model: Any) -> tuple[Any, Any]:
    """What is planned for, and the configuration of a case."""
    from gnnscale.costs.predicted.configuration import Configuration
    from gnnscale.costs.predicted.job import Job

    options = case.options
    if case.trainer == "graph":
        model = gs.nn.GraphModel(model, readout="mean")
    configuration = Configuration(
        trainer=case.trainer,  # type: ignore[arg-type]
        parts=options.get("num_parts", 1),
        clusters=options.get("clusters_per_batch", 1),
        batch_rows=options.get("batch_rows", 1024),
        graphs=options.get("graphs_per_batch", 128),
        ranks=case.ranks,
        stages=tuple(options.get("stages", ())),
        schedule=options.get("schedule", "1f1b"),
        micro_batches=options.get("micro_batches", 1),
        accumulate=options.get("accumulate", 1),
        checkpoint=options.get("checkpoint_activations", False),
        precompute=options.get("precompute", False),
        storage="files" if options.get("files") or case.given == "store" else "memory",
        prefetch=options.get("prefetch", 2),
    )
    return Job(data, model, seed=0), configuration
