"""The tables of guide/planner.md: work and depth of the theory, and as they are counted here.

python docs/extension/theory.py prints them; a test holds the page to them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch_geometric.nn import EdgeConv

import gnnscale as gs
from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.epochs import averaged, clusters, full_batch, layerwise, pipeline
from gnnscale.costs.counted.reading import costs_of

LAYERS, WIDTH, HOPS = 3, 64, 3
SIZES = Sizes(100_000, 1_000_000, 256, leaving=256)
PARTS, DRAWN, CUT = 80, 10, 0.3


def _edge_conv() -> list[Any]:
    return [EdgeConv(nn.Linear(2 * WIDTH, WIDTH)) for _ in range(LAYERS)]


# The paper's work and depth of a whole forward pass; a model of ours.
MODELS: dict[str, tuple[str, str, Any]] = {
    "GCN": (
        "Lmk + Lnk²",
        "L log d + L log k",
        lambda: gs.nn.GCN(WIDTH, WIDTH, LAYERS, WIDTH),
    ),
    "SAGE, mean": (
        "Lmk + Lnk²",
        "L log d + L log k",
        lambda: gs.nn.GraphSAGE(WIDTH, WIDTH, LAYERS, WIDTH),
    ),
    "GIN, K = 2": (
        "Lmk + LKnk²",
        "L log d + LK log k",
        lambda: gs.nn.GIN(WIDTH, WIDTH, LAYERS, WIDTH),
    ),
    "GAT": (
        "Lmk + Lnk²",
        "L log d + L log k",
        lambda: gs.nn.GAT(WIDTH, WIDTH, LAYERS, WIDTH),
    ),
    "EdgeConv": ("Lmk² + Lnk²", "L log d + L log k", _edge_conv),
    "SGC, s = 3": (
        "mn log s + nk²",
        "log k + log s log d",
        lambda: gs.nn.SGC(WIDTH, WIDTH, 1, WIDTH, K=HOPS),
    ),
}


def _count(value: float) -> str:
    return f"{value / 1e9:.3f} · 10⁹"


def models() -> list[str]:
    """Work and depth of models, a row each."""
    rows = ["| model | W | D | here, W | here, D | counted W | counted D |", "|" + "---|" * 7]
    for name, (work, depth, make) in MODELS.items():
        torch.manual_seed(0)
        costs = costs_of(gs.nn.as_layered(make()), torch.zeros(1, WIDTH))
        symbols = costs.symbols
        counted = (_count(costs.forward.of(SIZES)), f"{costs.depth(SIZES)}")
        rows.append("| " + " | ".join((name, work, depth, *symbols, *counted)) + " |")
    return rows


def schemes() -> list[str]:
    """Work, depth and messages of ways to train a GCN, a row each."""
    model = gs.nn.GCN(WIDTH, WIDTH, LAYERS, WIDTH)
    x = torch.zeros(1, WIDTH)
    costs, alone = costs_of(model, x), costs_of(model, x, computed="each")
    batch = SIZES.share(DRAWN / PARTS)
    size = costs.element * sum(costs.parameters)
    layers = layerwise(alone, SIZES, SIZES.nodes, 1024)
    stages = pipeline(costs, [batch] * (PARTS // DRAWN), [2])
    whole = full_batch(costs, SIZES)
    by_clusters = clusters(costs, SIZES, PARTS, DRAWN, CUT)
    beside = clusters(costs, SIZES, PARTS, DRAWN, CUT, ranks=2)
    same = "Lmk + Lnk²"
    found = {
        "full batch": (same, "L(log k + log d)", whole),
        "clusters": (f"W_pre + {same}", "D_pre + L(log k + log d)", by_clusters),
        "clusters on 2 ranks": ("", "", beside),
        "pipeline of 2 stages": ("", "", stages.epoch),
    }
    rows = [
        "| way | W | D | steps | counted W | counted D | W/D | MB sent | rounds |",
        "|" + "---|" * 9,
    ]
    for name, (work, depth, epoch) in found.items():
        rows.append(_row(name, work, depth, epoch))
    steps = sum(layer.epoch.steps for layer in layers)
    done = sum(layer.epoch.work for layer in layers)
    chained = sum(layer.epoch.depth for layer in layers)
    once = sum(layer.ahead.work for layer in layers)
    rows.append(
        f"| layer by layer | | | {steps} | {_count(done)}, and {_count(once)} once | {chained:,} | "
        f"{done / chained / 1e6:.1f} · 10⁶ | 0 | 0 |"
    )
    assert averaged(size, 2)[0] * beside.steps == beside.sent
    return rows


def _row(name: str, work: str, depth: str, epoch: Any) -> str:
    cells = (
        name, work, depth, f"{epoch.steps}", _count(epoch.work), f"{epoch.depth:,}",
        f"{epoch.parallelism / 1e6:.1f} · 10⁶", f"{epoch.sent / 1e6:.3g}", f"{epoch.rounds}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("\n".join([*models(), "", *schemes()]))
