"""PyG's basic models: six kinds, every norm, every jumping knowledge, activations in turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle, product
from typing import Any

import torch
from torch import nn
from torch_geometric.nn import models as pyg

from oracle.subjects import OUT, WIDTH, Subject

DEGREES = torch.tensor([3, 8, 12, 9, 5, 2, 1])
PNA_ARGUMENTS = {
    "aggregators": ["mean", "max", "std"],
    "scalers": ["identity", "amplification"],
    "deg": DEGREES,
}
KINDS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "GCN": (pyg.GCN, {}),
    "GraphSAGE": (pyg.GraphSAGE, {}),
    "GIN": (pyg.GIN, {}),
    "GAT": (pyg.GAT, {"heads": 2}),
    "GAT v2": (pyg.GAT, {"v2": True}),
    "PNA": (pyg.PNA, PNA_ARGUMENTS),
    "EdgeCNN": (pyg.EdgeCNN, {}),
}
# Of the others, PyG's own resolver cannot build graph_size_norm and mean_subtraction_norm.
NORMS: dict[str | None, dict[str, Any]] = {
    None: {},
    "batch_norm": {},
    "layer_norm": {},
    "graph_norm": {},
    "instance_norm": {},
    "pair_norm": {},
    "diff_group_norm": {"norm_kwargs": {"groups": 2}},
}
JUMPS = (None, "last", "cat", "max", "lstm")
ACTIVATIONS = ("relu", "elu", "gelu", "tanh", None, "leaky_relu", "silu")


def _make(cls: Callable[..., nn.Module], arguments: dict[str, Any]) -> list[nn.Module]:
    return [cls(WIDTH, WIDTH, num_layers=2, out_channels=OUT, **arguments)]


def _subjects() -> list[Subject]:
    found = []
    acts, first = cycle(ACTIVATIONS), cycle((False, True, False))
    for kind, norm, jk in product(KINDS, NORMS, JUMPS):
        cls, own = KINDS[kind]
        act, act_first = next(acts), next(first)
        arguments = {
            **own,
            **NORMS[norm],
            "norm": norm,
            "jk": jk,
            "act": act,
            "act_first": act_first,
        }
        name = f"{kind}, norm={norm}, jk={jk}, act={act}" + (", act_first" if act_first else "")
        found.append(Subject(name, partial(_make, cls, arguments)))
    for kind, jk in product(("GAT", "GAT v2", "PNA"), (None, "max")):
        cls, own = KINDS[kind]
        arguments = {**own, "jk": jk, "edge_dim": 3}
        found.append(
            Subject(
                f"{kind}, edge_dim, jk={jk}",
                partial(_make, cls, arguments),
                frozenset({"edge_attr"}),
            )
        )
    return found


SUBJECTS = _subjects()
GRAPHS = ("directed", "weighted", "duplicates", "one node")
