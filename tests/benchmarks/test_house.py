"""What the source of the library has none of, as benchmarks/house.py finds it."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def figures():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import house
    finally:
        sys.path.pop(0)
    return house.measure(ROOT)


@pytest.mark.parametrize(
    "what",
    [
        "import circles",
        "import circles, types too",
        "modules hidden by a name",
        "public names without a docstring",
    ],
)
def test_there_are_none(figures, what):
    assert figures[what] == []


def test_trainers_override_no_method_that_does_something(figures):
    for name in ("ClusterTrainer", "LayerwiseTrainer", "GraphTrainer", "PipelineTrainer"):
        assert figures[name]["overrides of concrete methods"] == 0
