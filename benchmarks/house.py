"""What the library costs to carry: sizes, trainers, circles and gaps, read from its source alone.

    python benchmarks/house.py [--commit e2a326b] [--json]
    python benchmarks/house.py --keep after     # with the stories, into results/house.json
    python benchmarks/house.py --table          # before and after, in Markdown

Lines of code are neither blank nor comment; with and without docstrings. A trainer's overrides are
definitions of its classes that replace one of another class of ours; of a concrete method where
that one does something. A circle is a set of modules that import each other, by any import that
runs (those inside functions too); those through `TYPE_CHECKING` stand apart. A module is hidden
where its package gives a function or class the module's name.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "house.json"
TRAINERS = ("ClusterTrainer", "LayerwiseTrainer", "GraphTrainer", "PipelineTrainer")
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
Definition = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """The library's modules, by dotted name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = {
            ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
            for path in sorted((root / "gnnscale").rglob("*.py"))
        }
        self.texts = {name: path.read_text() for name, path in self.paths.items()}
        self.trees = {name: ast.parse(text) for name, text in self.texts.items()}
        self.classes = {
            node.name: node
            for tree in self.trees.values()
            for node in tree.body
            if isinstance(node, ast.ClassDef)
        }

    def nodes(self) -> Iterator[ast.AST]:
        """Every node of every module."""
        for tree in self.trees.values():
            yield from ast.walk(tree)

    def imports(self, name: str) -> Iterator[tuple[str, bool]]:
        """The modules that a module imports, and whether for type checkers alone."""
        typed = {
            inner
            for node in ast.walk(self.trees[name])
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(self.trees[name]):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in self.paths else node.module, node in typed
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node in typed

    def graph(self, typed: bool) -> nx.DiGraph:
        """Which module imports which; the face of the package itself holds none of the library."""
        return nx.DiGraph(
            (name, target)
            for name in self.paths
            for target, only_typed in self.imports(name)
            if target in self.paths and target not in (name, "gnnscale") and typed >= only_typed
        )


def lines(text: str, tree: ast.Module) -> tuple[int, int]:
    """Lines of code with docstrings, and without."""
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT and token.string:
            code.update(range(token.start[0], token.end[0] + 1))
    whole = len(code)
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node) is not None:
            code.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return whole, len(code)


def lineage(source: Source, name: str) -> list[ast.ClassDef]:
    """The classes of ours that a class is made of, itself first, in Python's order."""
    own = source.classes[name]
    bases = [getattr(base, "value", base) for base in own.bases]  # of Base[...]: Base
    known = [base.id for base in bases if isinstance(base, ast.Name) and base.id in source.classes]
    queues = [*(lineage(source, base) for base in known), [source.classes[base] for base in known]]
    found = [own]
    while queues := [queue for queue in queues if queue]:
        first = next(q[0] for q in queues if not any(q[0] in other[1:] for other in queues))
        found.append(first)
        queues = [[item for item in queue if item is not first] for queue in queues]
    return found


def concrete(method: Definition) -> bool:
    """Whether a method does something."""
    said = [ast.unparse(node) for node in method.decorator_list]
    if any(name.endswith("abstractmethod") for name in said):
        return False
    body = method.body[ast.get_docstring(method) is not None :]
    return not all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(node))
        for node in body
    )


def trainer(source: Source, name: str) -> dict[str, int]:
    """How deep and how wide a trainer is."""
    classes = lineage(source, name)
    methods = [
        {node.name: node for node in owner.body if isinstance(node, Definition)}
        for owner in classes
    ]
    replaced = [
        next(below[name] for below in methods[depth + 1 :] if name in below)
        for depth, own in enumerate(methods)
        for name in own
        if any(name in below for below in methods[depth + 1 :])
    ]
    return {
        "classes": len(classes),
        "methods": len(set().union(*methods)),
        "definitions": sum(map(len, methods)),
        "overrides": len(replaced),
        "overrides of concrete methods": sum(map(concrete, replaced)),
    }


def undocumented(source: Source) -> list[str]:
    """Public modules, classes, functions and methods without a docstring."""
    missing = []

    def visit(node: Documented, name: str) -> None:
        said = {ast.unparse(mark) for mark in getattr(node, "decorator_list", ())}
        taken_over = any(re.search(r"override|overload|setter", mark) for mark in said)
        if ast.get_docstring(node) is None and not taken_over:
            missing.append(name)
        for inner in node.body if not isinstance(node, Definition) else ():
            if isinstance(inner, Documented) and not inner.name.startswith("_"):
                visit(inner, f"{name}.{inner.name}")

    for name, tree in source.trees.items():
        visit(tree, name)
    return missing


def hidden(source: Source) -> list[str]:
    """Modules that a function or class of their package stands before."""
    return sorted(
        f"{package}.{alias.asname or alias.name}"
        for package, tree in source.trees.items()
        if source.paths[package].name == "__init__.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{package}.{alias.asname or alias.name}" in source.paths
        and f"{node.module}.{alias.name}" not in source.paths
    )


def circles(graph: nx.DiGraph) -> list[list[str]]:
    """Sets of modules that import each other."""
    return sorted(
        sorted(found) for found in nx.strongly_connected_components(graph) if len(found) > 1
    )


def measure(root: Path) -> dict[str, Any]:
    """All figures of a tree."""
    source = Source(root)
    with_docs, code = map(
        sum, zip(*(lines(source.texts[n], source.trees[n]) for n in source.paths), strict=True)
    )
    folders = Counter(path.parent.relative_to(root) for path in source.paths.values())
    graph = source.graph(typed=False)
    outside = [
        path
        for path in root.rglob("*")
        if path.suffix in (".py", ".md", ".toml", ".sh", ".pyi")
        and path.relative_to(root).parts[0] not in ("tests", ".venv", "CHANGELOG.md")
        and path.name != "house.py"
    ]
    readers = Counter(target for _, target in set(source.graph(typed=True).edges))
    return {
        "lines of code": code,
        "lines with docstrings": with_docs,
        "files": len(source.paths),
        "folders": len(folders),
        "largest folder": max(folders.values()),
        "trainers": {name: trainer(source, name) for name in TRAINERS},
        "files that name clip_norm, library": sum("clip_norm" in t for t in source.texts.values()),
        "files that name clip_norm, without tests": sum(
            "clip_norm" in path.read_text() for path in outside
        ),
        "import circles": circles(graph),
        "import circles, types too": circles(source.graph(typed=True)),
        "Any": sum(isinstance(node, ast.Name) and node.id == "Any" for node in source.nodes()),
        "type: ignore": sum(len(re.findall(r"# type: ignore", t)) for t in source.texts.values()),
        "public names without a docstring": undocumented(source),
        "modules with one importer": sum(
            readers[name] == 1 for name, path in source.paths.items() if path.stem[0] != "_"
        ),
        "modules hidden by a name": hidden(source),
    }


def stories(root: Path) -> dict[str, Any]:
    """What this folder's story.py says of a tree."""
    command = [sys.executable, str(Path(__file__).with_name("story.py")), "--json"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    told = json.loads(subprocess.check_output(command, env=environment, cwd=root))
    for libraries in told.values():
        for story in libraries.values():
            del story["files"]
    return told


def table() -> str:
    """Before and after, in Markdown."""
    kept = [flat(json.loads(RESULT.read_text())[when]) for when in ("before", "after")]
    rows = [f"| {name} | {before} | {kept[1].get(name, '-')} |" for name, before in kept[0].items()]
    return "\n".join(["| | before | after |", "|---|---|---|", *rows])


def flat(figures: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Every figure by its whole name; of a list how long it is."""
    found: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            found |= flat(value, f"{above}{name}: ")
        else:
            found[above + name] = len(value) if isinstance(value, list) else value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--commit", help="another state than the files as they are")
    parser.add_argument("--json", action="store_true", help="names too, not how many")
    parser.add_argument("--keep", choices=["before", "after"])
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        return print(table())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) if given.commit else ROOT
        if given.commit:
            files = subprocess.check_output(["git", "-C", str(ROOT), "archive", given.commit])
            subprocess.run(["tar", "-x", "-C", folder], input=files, check=True)
        figures = measure(root)
        if given.keep:
            kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
            kept[given.keep] = figures | {"stories": stories(root)}
            RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    if given.json:
        return print(json.dumps(figures, indent=1))
    for name, value in flat(figures).items():
        print(f"{value:8}  {name}")


if __name__ == "__main__":
    main()
