"""What the library costs to carry: sizes, trainers, circles and gaps, read from its source alone.

    python benchmarks/house.py [--commit e2a326b] [--json]
    python benchmarks/house.py --keep after     # with the stories, into results/house.json
    python benchmarks/house.py --table          # before and after, in Markdown

Lines of code are neither blank nor comment; with and without docstrings. A trainer's overrides are
definitions of its classes that replace one of another class of ours; of a concrete method where
that one does something. A circle is a set of modules that import each other, by any import that
runs (those inside functions too), or also by those for type checkers. A module is hidden where its
package gives something else the module's name.
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
    """The library's modules by dotted name, and its classes."""

    def __init__(self, root: Path) -> None:
        self.paths = {
            ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
            for path in sorted((root / "gnnscale").rglob("*.py"))
        }
        self.texts = {name: path.read_text() for name, path in self.paths.items()}
        self.trees = {name: ast.parse(text) for name, text in self.texts.items()}
        bodies = [node for tree in self.trees.values() for node in tree.body]
        self.classes = {node.name: node for node in bodies if isinstance(node, ast.ClassDef)}
        self.imports = {name: self._imports(name) for name in self.paths}

    def _imports(self, name: str) -> list[tuple[str, str, bool]]:
        """Each name that a module imports: of which module, as what, for type checkers alone?"""
        checked = {
            inner
            for node in ast.walk(self.trees[name])
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for statement in node.body
            for inner in ast.walk(statement)
        }
        found = []
        for node in ast.walk(self.trees[name]):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    target = whole if whole in self.paths else str(node.module)
                    found.append((target, alias.asname or alias.name, node in checked))
        return found

    def graph(self, typed: bool) -> nx.DiGraph:
        """Which module imports which; the face of the package itself holds none of the library."""
        return nx.DiGraph(
            (name, target)
            for name in self.paths
            for target, _, only_typed in self.imports[name]
            if target in self.paths and target not in (name, "gnnscale") and typed >= only_typed
        )

    def hidden(self) -> list[str]:
        """Modules that something else of their package stands before."""
        return sorted(
            f"{package}.{name}"
            for package, path in self.paths.items()
            for target, name, _ in self.imports[package]
            if path.name == "__init__.py" and f"{package}.{name}" in self.paths
            if target != f"{package}.{name}" or name in self.defined(target)
        )

    def defined(self, module: str) -> set[str]:
        """The names of a module that are given in it."""
        names = set()
        for node in self.trees[module].body if module in self.trees else ():
            names |= {getattr(t, "id", "") for t in getattr(node, "targets", ())}
            names.add(getattr(node, "name", ""))
        return names

    def undocumented(self) -> list[str]:
        """Public modules, classes, functions and methods without a docstring."""
        return [f for name, tree in self.trees.items() for f in undocumented(tree, name)]

    def lineage(self, name: str) -> list[ast.ClassDef]:
        """The classes of ours that a class is made of, itself first, in Python's order."""
        own = self.classes[name]
        bases = [getattr(base, "value", base) for base in own.bases]  # of Base[...]: Base
        known = [base.id for base in bases if getattr(base, "id", "") in self.classes]
        queues = [*map(self.lineage, known), [self.classes[base] for base in known]]
        found = [own]
        while queues := [queue for queue in queues if queue]:
            first = next(q[0] for q in queues if not any(q[0] in other[1:] for other in queues))
            found.append(first)
            queues = [[item for item in queue if item is not first] for queue in queues]
        return found

    def trainer(self, name: str) -> dict[str, int]:
        """How deep and how wide a trainer is."""
        methods = [
            {node.name: node for node in owner.body if isinstance(node, Definition)}
            for owner in self.lineage(name)
        ]
        replaced = [
            next(below[method] for below in methods[depth + 1 :] if method in below)
            for depth, own in enumerate(methods)
            for method in own
            if any(method in below for below in methods[depth + 1 :])
        ]
        return {
            "classes": len(methods),
            "methods": len(set().union(*methods)),
            "overrides": len(replaced),
            "overrides of concrete methods": sum(map(concrete, replaced)),
        }


def lines(text: str, tree: ast.Module) -> tuple[int, int]:
    """Lines of code without docstrings, and with them."""
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT and token.string:
            code.update(range(token.start[0], token.end[0] + 1))
    documented = [n for n in ast.walk(tree) if isinstance(n, Documented) and ast.get_docstring(n)]
    strings = [range(n.body[0].lineno, (n.body[0].end_lineno or 0) + 1) for n in documented]
    return len(code.difference(*strings)), len(code)


def concrete(method: Definition) -> bool:
    """Whether a method does something."""
    if any(ast.unparse(mark).endswith("abstractmethod") for mark in method.decorator_list):
        return False
    nothing = (ast.Pass, ast.Expr, ast.Raise)
    done = [node for node in method.body if not isinstance(node, nothing)]
    calls = [n for n in method.body if isinstance(n, ast.Expr) and not hasattr(n.value, "value")]
    return bool(done or calls)


def undocumented(node: Documented, name: str) -> Iterator[str]:
    """What is public in here and has no docstring."""
    marks = " ".join(map(ast.unparse, getattr(node, "decorator_list", ())))
    if not ast.get_docstring(node) and not re.search(r"override|overload|setter", marks):
        yield name
    for inner in node.body if not isinstance(node, Definition) else ():
        if isinstance(inner, Documented) and not inner.name.startswith("_"):
            yield from undocumented(inner, f"{name}.{inner.name}")


def circles(graph: nx.DiGraph) -> list[list[str]]:
    """Sets of modules that import each other."""
    found = nx.strongly_connected_components(graph)
    return sorted(sorted(modules) for modules in found if len(modules) > 1)


def measure(root: Path) -> dict[str, Any]:
    """All figures of a tree."""
    source = Source(root)
    texts, trees = source.texts.values(), source.trees.values()
    code, with_docstrings = map(sum, zip(*map(lines, texts, trees), strict=True))
    folders = Counter(path.parent for path in source.paths.values())
    readers = Counter(target for _, target in source.graph(typed=True).edges)
    modules = [name for name, path in source.paths.items() if path.name != "__init__.py"]
    names = [node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)]
    beside = [
        path.read_text()
        for path in root.rglob("*")
        if path.suffix in (".py", ".md", ".toml", ".sh") and path.name != Path(__file__).name
        if path.relative_to(root).parts[0] not in ("tests", ".venv", "CHANGELOG.md")
    ]
    return {
        "lines of code": code,
        "lines of code and docstrings": with_docstrings,
        "files": len(source.paths),
        "folders": len(folders),
        "largest folder": max(folders.values()),
        **{name: source.trainer(name) for name in TRAINERS},
        "files of the library that name clip_norm": sum("clip_norm" in text for text in texts),
        "files that name clip_norm, tests apart": sum("clip_norm" in text for text in beside),
        "import circles": circles(source.graph(typed=False)),
        "import circles, types too": circles(source.graph(typed=True)),
        "Any": names.count("Any"),
        "type: ignore": sum(len(re.findall(r"# type: ignore", text)) for text in texts),
        "public names without a docstring": source.undocumented(),
        "modules with one importer": sum(readers[name] == 1 for name in modules),
        "modules hidden by a name": source.hidden(),
    }


def stories(root: Path) -> dict[str, Any]:
    """What this folder's story.py says of a tree."""
    command = [sys.executable, str(Path(__file__).with_name("story.py")), "--json"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    told = json.loads(subprocess.check_output(command, env=environment, cwd=root))
    return {
        f"story {name}, {library}": f"{story['read']} read, {story['entered']} entered"
        for name, libraries in told.items()
        for library, story in libraries.items()
    }


def flat(figures: dict[str, Any]) -> dict[str, Any]:
    """Every figure by its whole name; of a list how long it is."""
    found: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            found |= {f"{name}: {inner}": figure for inner, figure in value.items()}
        else:
            found[name] = len(value) if isinstance(value, list) else value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--commit", help="another state than the files as they are")
    parser.add_argument("--json", action="store_true", help="names too, not how many")
    parser.add_argument("--keep", choices=["before", "after"])
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if given.table:
        before, after = flat(kept["before"]), flat(kept["after"])
        print("| | before | after |\n|---|---|---|")
        for name, value in before.items():
            print(f"| {name} | {value} | {after[name]} |")
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) if given.commit else ROOT
        if given.commit:
            files = subprocess.check_output(["git", "-C", str(ROOT), "archive", given.commit])
            subprocess.run(["tar", "-x", "-C", folder], input=files, check=True)
        figures = measure(root)
        if given.keep:
            kept[given.keep] = figures | {"stories": stories(root)}
            RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in flat(figures).items():
        print(f"{value:8}  {name}")


if __name__ == "__main__":
    main()
