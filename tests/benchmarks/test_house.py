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
def source(house):
    return house.Source(ROOT)


@pytest.mark.parametrize("typed", [False, True])
def test_no_imports_go_in_a_circle(house, source, typed):
    assert house.circles(source.graph(typed)) == []


def test_no_module_is_hidden_by_a_name_of_its_package(source):
    assert source.hidden() == []


def test_what_is_public_has_a_docstring(source):
    assert source.undocumented() == []


def test_trainers_override_no_method_that_does_something(house, source):
    for name in house.TRAINERS:
        assert source.trainer(name)["overrides of concrete methods"] == 0


def test_no_folder_is_a_row_of_files(source):
    for paths in (source.paths.values(), (ROOT / "tests").rglob("*.py")):
        ((folder, files),) = Counter(path.parent for path in paths).most_common(1)
        assert files <= 17, folder


def test_an_argument_is_named_where_it_is_declared_and_where_it_acts(source):
    assert sum("clip_norm" in text for text in source.texts.values()) <= 2


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
