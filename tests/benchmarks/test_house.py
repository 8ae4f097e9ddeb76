"""What the source of the library has none of, as benchmarks/house.py finds it."""

import ast
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def house():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import house
    finally:
        sys.path.pop(0)
    return house


@pytest.fixture(scope="module")
def figures(house):
    return house.measure(ROOT)


@pytest.fixture(scope="module")
def source(house):
    return house.Source(ROOT)


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


def test_no_folder_is_a_row_of_files(figures):
    tests = Counter(path.parent for path in (ROOT / "tests").rglob("*.py"))
    assert figures["largest folder"] <= 17
    assert max(tests.values()) <= 17


def test_an_argument_is_named_where_it_is_declared_and_where_it_acts(figures):
    assert figures["files of the library that name clip_norm"] <= 2


def test_what_runs_trainers_reaches_for_public_names_only(source):
    """A named tuple's `_asdict` and `_replace` are public."""
    reached = [
        f"{name}:{node.lineno}: {ast.unparse(node)}"
        for name, tree in source.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and re.match(r"_(?!_|asdict$|replace$)", node.attr)
        if name.startswith(("gnnscale.benchmarking", "gnnscale.cli"))
        or ("trainer" in ast.unparse(node.value) and not name.startswith("gnnscale.train."))
        if ast.unparse(node.value) not in ("self", "cls")
    ]
    assert reached == []


def test_a_word_of_the_glossary_is_one_class(source):
    words = re.findall(r"^- \*\*(.+?)\*\*", (ROOT / "docs/reference/glossary.md").read_text(), re.M)
    assert len(words) > 30
    nodes = [node for tree in source.trees.values() for node in ast.walk(tree)]
    named = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    twice = [word for word in words if named[word.title().replace(" ", "")] > 1]
    assert twice == []
