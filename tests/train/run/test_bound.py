"""What a trainer adds to its process keeps to `memory=`, measured by another process.

A bound that is refused names one that would do: given that, the run goes through and keeps to it.
"""

from __future__ import annotations

from typing import Any

import pytest

from gnnscale.storage.memory import memory_bytes
from tests.helpers.bounded import Added, added
from tests.helpers.memory import linux

pytestmark = linux

STAR = {"kind": "star", "nodes": 60_000, "width": 16}
FEW = {"kind": "few", "nodes": 200_000, "width": 16}  # edges
RANDOM = {"kind": "random", "nodes": 40_000, "each": 16, "width": 32}
SPARSE = {"kind": "sparse", "nodes": 30_000, "width": 1000}
LAYERWISE = {"trainer": "LayerwiseTrainer"}
STREAMED = {"method": "streaming", "num_parts": 50}

QUICK = {
    "clusters of a graph in memory": {"graph": RANDOM, "arguments": STREAMED},
    "layers of a graph in files": {"graph": FEW, "store": 0, **LAYERWISE},
}
MORE = {
    "full batch": {"graph": RANDOM, "arguments": {"num_parts": 1}},
    "a store": {"graph": RANDOM, "store": 50, "model": {"name": "GraphSAGE"}},
    "attention": {"graph": RANDOM, "store": 50, "model": {"name": "GAT"}},
    "a hub": {"graph": STAR, "store": 50, "model": {"name": "GIN"}},
    "attention to a hub": {"graph": STAR, "store": 50, "model": {"name": "GAT"}},
    "an own layer": {"graph": RANDOM, "clustered": 50, "model": {"name": "own"}},
    "many graphs": {"graph": {"count": 1000}, "trainer": "GraphTrainer"},
    "stages": {"graph": RANDOM, "clustered": 50, "trainer": "PipelineTrainer"},
    "layers in memory": {"graph": FEW, **LAYERWISE},
    "layers with roots": {"graph": RANDOM, "store": 0, "model": {"name": "GraphSAGE"}, **LAYERWISE},
    "wide sparse features": {"graph": SPARSE, "clustered": 50},
}


def settled(case: dict[str, Any], folder: Any, bound: str) -> tuple[str, Added]:
    """From a bound on, by what refusals name: the first that is not refused, and what was added."""
    for _ in range(4):
        found = added({"folder": str(folder), **case, "memory": bound})
        if found.refused is None:
            return bound, found
        assert found.suggested is not None, found.refused
        assert memory_bytes(found.suggested) > memory_bytes(bound), found.refused
        bound = found.suggested
    raise AssertionError(f"refused again and again: {found.refused}")


@pytest.mark.parametrize("case", QUICK.values(), ids=QUICK)
def test_a_bound_that_is_named_holds(case, tmp_path):
    bound, found = settled(case, tmp_path, "1MB")
    assert found.most <= memory_bytes(bound), (bound, found)


@pytest.mark.slow
@pytest.mark.parametrize("more", [1.0, 1.7])
@pytest.mark.parametrize("case", MORE.values(), ids=MORE)
def test_bounds_hold(case, more, tmp_path):
    least, found = settled(case, tmp_path, "1MB")
    if more > 1:
        least, found = settled(case, tmp_path, f"{int(more * memory_bytes(least))}B")
    assert found.most <= memory_bytes(least), (least, found)
