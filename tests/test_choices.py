"""Every public argument that is True, False or one of a few values refuses others by name."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric import nn as pyg

import gnnscale as gs
from gnnscale.choices import choices_checked

# PyG's own; tuples; and what gnnscale makes, for others to read.
NOT_OURS = (
    *("DiffGroupNorm", "MessageNorm", "Coefficients", "Form"),
    *("BenchReport", "Propagation", "Batch", "Context"),
)
EDGES = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
MASK = torch.tensor([True, True, False, False])


def graph() -> gs.Graph:
    return gs.Graph.from_arrays(
        EDGES, torch.randn(4, 3), torch.tensor([0, 1, 0, 1]), train_mask=MASK
    )


def valid() -> dict[str, Any]:
    """Arguments that others are checked beside, by name."""
    data = graph()
    return {
        "model": gs.nn.GCN(3, 4, 2, 2),
        "graph": data,
        "data": data,
        "graphs": gs.Graph.from_arrays(EDGES, torch.randn(4, 3), [0], y_level="graph"),
        "clustered": gs.cluster(data, gs.partition(data, 2, method="random")),
        "clusters_per_batch": 1,
        "num_parts": 2,
        "in_channels": 3,
        "hidden_channels": 4,
        "num_layers": 2,
        "out_channels": 2,
        "hops": 1,
        "conv": pyg.GCNConv(3, 3),
        "convs": [pyg.GCNConv(3, 3)],
        "blocks": [nn.Linear(3, 3)],
        "cls": pyg.GCNConv,
        "edge_index": EDGES,
        "indptr": torch.zeros(3).long(),
        "indices": torch.zeros(0).long(),
        "path": "nowhere",
        "num_nodes": 4,
        "edges": EDGES,
        "store": gs.cluster(data, gs.partition(data, 2, method="random")),
        "name": "cora",
        "self": data.adj,
    }


def functions() -> list[Any]:
    found = {}
    for module in (gs, gs.nn):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                found[name] = value
            elif inspect.isclass(value) and not issubclass(value, Exception):
                found[name] = value
                methods = {key for key in vars(value) if not key.startswith("_")}
                for key in methods:
                    method = getattr(value, key)
                    if inspect.isfunction(method) or inspect.ismethod(method):
                        found[f"{name}.{key}"] = method
    return [
        (name, value, parameter.name)
        for name, value in found.items()
        if name.split(".")[0] not in NOT_OURS
        for parameter in _parameters(value)
        if any(word in str(parameter.annotation) for word in ("bool", "Literal"))
    ]


def _parameters(value: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(value).parameters.values())
    except ValueError:  # what is written in C has no signature
        return []


CASES = functions()


@pytest.mark.parametrize(
    ("name", "function", "wrong"), CASES, ids=[f"{c[0]}-{c[2]}" for c in CASES]
)
def test_any_other_value_is_refused_by_name(name, function, wrong):
    arguments = valid()
    given = {
        p.name: arguments[p.name]
        for p in _parameters(function)
        if p.default is p.empty and p.name in arguments
    }
    names = any("Sequence" in str(p.annotation) for p in _parameters(function) if p.name == wrong)
    for value in (0.5, {"banana"} if names else ["banana"]):
        with pytest.raises(gs.GnnscaleError, match=rf"{wrong}=.*{re.escape(repr(value))}"):
            function(**{**given, wrong: value})


def test_something_was_looked_at():
    assert len(CASES) > 60


@pytest.mark.parametrize("model", ["GCN", "GAT", "SGC"])
def test_what_goes_on_to_pygs_convolution(model):
    flag = "concat" if model == "GAT" else "add_self_loops"
    with pytest.raises(gs.InputError, match=f"{flag}='banana' must be True"):
        getattr(gs.nn, model)(3, 4, 2, 2, **{flag: "banana"})


def test_places_names_and_types():
    @choices_checked
    def function(first: int, flag: bool = False, *, kind: bool | str | None = None) -> Any:
        return first, flag, kind

    assert function(1, True, kind="any text") == (1, True, "any text")
    assert function(1, flag=np.True_)[1] is True and function(1, np.True_)[1] is True
    with pytest.raises(gs.InputError, match="flag='True' must be True or False"):
        function(1, "True")
    with pytest.raises(gs.InputError, match="2 faults"):
        function(1, flag=1, kind=2)
    assert function.__name__ == "function" and "kind" in inspect.signature(function).parameters
