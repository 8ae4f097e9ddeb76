"""Norms against PyG's and against float64, and inference in chunks against the full forward."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv
from torch_geometric.nn import norm as pyg

import gnnscale as gs
from gnnscale.inference.engine import stream
from gnnscale.kernels import CSR, graph_norm
from gnnscale.nn.modules import evaluation_mode
from gnnscale.nn.norms.segments import segment_of_rows, segments_for

CHANNELS = 64
# Rows of every segment, by name.
SEGMENTS = {
    "500 segments": [200] * 500,
    "one segment": [100_000],
    "segments of 0 to 3 and of 5,000 nodes": [1, 0, 2, 5000, 1, 0, 0, 3, 5000, 1],
}
MEANS = (0, 1, 1000)  # over the standard deviation
PARTS = ("output", "of x", "of weight", "of bias", "of mean_scale")


# --- equality ---------------------------------------------------------------------------------


def equality(device: str) -> dict[str, Any]:
    """Differences from PyG in float64, and of both from float64 in float32 and bfloat16."""
    runs = []
    for (name, sizes), mean in ((item, mean) for item in SEGMENTS.items() for mean in MEANS):
        torch.manual_seed(0)
        ptr = torch.tensor([0, *sizes]).cumsum(0).to(device)
        rows = int(ptr[-1])
        x = torch.randn(rows, CHANNELS, dtype=torch.float64, device=device) + mean
        grad = torch.randn(rows, CHANNELS, dtype=torch.float64, device=device)
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            # What the narrow type can hold of x is the input of the wide one too.
            given, incoming = x.to(dtype), grad.to(dtype)
            wide = evaluated(pyg.GraphNorm, given.double(), incoming.double(), ptr)
            theirs = evaluated(pyg.GraphNorm, given, incoming, ptr)
            ours = evaluated(gs.nn.GraphNorm, given, incoming, ptr)
            found = {"segments": name, "mean": mean, "type": str(dtype).removeprefix("torch.")}
            if dtype == torch.float64:
                runs.append({**found, "from_pyg": errors(ours, theirs, greatest)})
                continue
            runs.append(
                {
                    **found,
                    "gnnscale": errors(ours, wide, root_mean_square),
                    "pyg": errors(theirs, wide, root_mean_square),
                }
            )
    return {"channels": CHANNELS, "gradcheck": gradcheck(device), "runs": runs}


def evaluated(cls: type[nn.Module], x: Tensor, grad: Tensor, ptr: Tensor) -> list[Tensor]:
    """Output and gradients of a GraphNorm with parameters of no special value."""
    norm = shaken(cls(CHANNELS)).to(x.device, x.dtype)
    x = x.clone().requires_grad_()
    if cls is pyg.GraphNorm:
        out = norm(x, segment_of_rows(ptr, x.size(0)), ptr.numel() - 1)
    else:
        out = norm(x, ptr=ptr)
    inputs = [x, norm.weight, norm.bias, norm.mean_scale]
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def shaken(norm: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for p in norm.parameters():
        # Steps that every floating type holds, so that all types have the same parameters.
        steps = torch.randint(-8, 9, p.shape, generator=generator)
        p.data += steps.to(p) / 16
    return norm


def errors(found: list[Tensor], wanted: list[Tensor], size: Any) -> dict[str, float]:
    """Differences over the size of what is wanted."""
    pairs = zip(PARTS, found, wanted, strict=True)
    return {
        part: float(size(a.double() - b.double()) / size(b.double()).clamp(min=1e-300))
        for part, a, b in pairs
    }


def greatest(values: Tensor) -> Tensor:
    return values.abs().max()


def root_mean_square(values: Tensor) -> Tensor:
    return values.square().mean().sqrt()


def gradcheck(device: str) -> bool:
    """Gradients against finite differences, with segments of one node and of none."""
    torch.manual_seed(0)
    wide = partial(torch.rand, dtype=torch.float64, device=device, requires_grad=True)
    ptr = torch.tensor([0, 3, 3, 4, 9], device=device)
    arguments = (wide(9, 3), wide(3), wide(3), wide(3))
    return torch.autograd.gradcheck(partial(graph_norm, eps=1e-3, ptr=ptr), arguments)


# --- chunks -----------------------------------------------------------------------------------

GRAPHS = {"amazon_computers": ("batch", "cluster"), "twitch7": ("batch", "cluster", "graph")}
CHUNK_ROWS = 1000
NUM_PARTS = 50


def norms(over: str) -> Iterator[tuple[str, nn.Module, nn.Module | None]]:
    """Name, our norm, and PyG's with the same parameters, where there is one."""
    for name, cls, arguments in (
        ("GraphNorm", "GraphNorm", {}),
        ("InstanceNorm", "InstanceNorm", {"affine": True}),
        ("LayerNorm, graph", "LayerNorm", {"mode": "graph"}),
        ("LayerNorm, node", "LayerNorm", {"mode": "node"}),
        ("PairNorm", "PairNorm", {}),
        ("PairNorm, individually", "PairNorm", {"scale_individually": True}),
        ("MeanSubtractionNorm", "MeanSubtractionNorm", {}),
        ("GraphSizeNorm", "GraphSizeNorm", {}),
    ):
        width = () if cls.startswith(("Pair", "Mean", "GraphSize")) else (CHANNELS,)
        ours = getattr(gs.nn, cls)(*width, **arguments, over=over)
        yield name, shaken(ours), shaken(getattr(pyg, cls)(*width, **arguments))
    if over == "batch":
        for name, cls, arguments in (
            ("BatchNorm", "BatchNorm", {}),
            ("BatchNorm, of the graph", "BatchNorm", {"track_running_stats": False}),
            ("DiffGroupNorm", "DiffGroupNorm", {"groups": 4}),
        ):
            ours = getattr(gs.nn, cls)(CHANNELS, **arguments)
            yield name, shaken(ours), shaken(getattr(pyg, cls)(CHANNELS, **arguments))
        yield "GraphNorm, running", shaken(gs.nn.GraphNorm(CHANNELS, running=True)), None
        yield "MessageNorm", gs.nn.MessageNorm(), None


def chunks() -> dict[str, Any]:
    """Mean absolute errors, float64, of a convolution and a norm computed in chunks of rows."""
    runs = []
    for data, overs in GRAPHS.items():
        graph = gs.load(data)
        part = gs.partition(graph, NUM_PARTS, seed=0)
        clustered = gs.cluster(graph, part)
        graph = clustered.graph
        graph.x = (graph.x.to_dense() if isinstance(graph.x, CSR) else graph.x).double()
        torch.manual_seed(0)
        conv = GCNConv(graph.num_features, CHANNELS)
        segments = {"cluster": clustered.offsets}
        if graph.node_ptr is not None:
            segments["graph"] = graph.node_ptr
        for over in overs:
            for name, ours, theirs in norms(over):
                runs.append(
                    {"data": data, "over": over, "norm": name}
                    | compare(graph, conv.double(), ours.double(), theirs, segments)
                )
    return {"chunk_rows": CHUNK_ROWS, "parts": NUM_PARTS, "runs": runs}


def compare(
    graph: gs.Graph, conv: nn.Module, ours: Any, theirs: Any, segments: dict[str, Tensor]
) -> dict[str, float]:
    model = gs.nn.LayeredGNN([gs.nn.Block(conv, norm=ours, act=None)])
    ptr = segments_for(ours, segments)
    with torch.no_grad():
        rows = conv(graph.x, graph.adj.edge_index)
        # In training mode: of the running statistics, where it keeps any.
        model(graph.x, graph.adj, segments=segments)
        with evaluation_mode(model):
            full = model(graph.x, graph.adj, segments=segments)
            parts = list(stream(model, graph, chunk_rows=CHUNK_ROWS, segments=segments))
        found = {
            "error": mean_absolute(torch.cat([out for _, _, out in parts]) - full),
            "size": mean_absolute(full),
        }
        if theirs is None:
            return found
        theirs.double()(rows)
        theirs.eval()
        chunks = [alone(theirs, rows, a, b, ptr) for a, b, _ in parts]
        whole = alone(theirs, rows, 0, len(rows), ptr)
    return {**found, "error_of_pyg": mean_absolute(torch.cat(chunks) - whole)}


def alone(norm: nn.Module, rows: Tensor, start: int, end: int, ptr: Tensor | None) -> Tensor:
    """PyG's norm on some rows as if there were no others."""
    if ptr is None:
        return norm(rows[start:end])
    batch = segment_of_rows(ptr, len(rows))[start:end]
    return norm(rows[start:end], batch - batch[0])


def mean_absolute(values: Tensor) -> float:
    return float(values.abs().mean())
