"""The gallery: examples are run, and what they print and draw is kept beside them.

`make gallery` runs those whose code has changed since; `python docs/extension/gallery.py NAME …`
those that are named. `make docs` fails where a page is of other code than the example has.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent.parent
PAGES = ROOT / "docs/gallery"
WIDTH = "100"


class Example(NamedTuple):
    """How a page of the gallery is made.

    Attributes:
        title: of the page.
        labels: of several runs that one picture compares; none for the curves of the last run.
        ranks: processes, by torchrun.
        environment: variables that it is run with.
    """

    title: str
    labels: tuple[str, ...] = ()
    ranks: int = 0
    environment: tuple[tuple[str, str], ...] = ()


EXAMPLES = {
    "quickstart": Example("WordNet in half a minute"),
    "pyg_model": Example("A PyG model and PyG data"),
    "custom_layer": Example(
        "A layer of your own", ("Difference (opaque)", "MeanConv (registered)")
    ),
    "graphnorm": Example(
        "Norms: which rows are a graph",
        ("none", "BatchNorm", "GraphNorm, batch", "GraphNorm, cluster", "GraphNorm, running"),
    ),
    "deep_cluster_gcn": Example(
        "Cluster-GCN, six layers deep", ("eq. 10", "eq. 11, λ = 1", "authors' code")
    ),
    "inductive": Example("Train on some graphs, test on others"),
    "layerwise": Example("Layer by layer", ("layer by layer", "clusters")),
    "out_of_core_layerwise": Example("Everything on disk"),
    "resume": Example("A run that is killed and goes on"),
    "data_parallel": Example("Two processes, one model", ranks=2),
    "pipeline": Example("A model cut into stages", ranks=2),
    "wandb_callback": Example(
        "A callback of your own", environment=(("WANDB_MODE", "offline"), ("WANDB_SILENT", "true"))
    ),
}


def code_of(name: str) -> str:
    """A digest of an example's code: comments and layout may change, the output stays."""
    tree = ast.parse((ROOT / f"examples/{name}.py").read_text())
    return hashlib.blake2b(ast.unparse(tree).encode(), digest_size=8).hexdigest()


def stale(name: str) -> bool:
    """Whether the page is of other code than the example has now."""
    page = PAGES / f"{name}.md"
    return not page.exists() or f"<!-- code {code_of(name)} -->" not in page.read_text()


def make(name: str) -> None:
    """Run an example and write its page."""
    example, page = EXAMPLES[name], PAGES / f"{name}.md"
    picture = PAGES / f"pictures/{name}.png"
    with tempfile.TemporaryDirectory() as folder:
        output = run(name, example, folder, picture)
    script = ROOT / f"examples/{name}.py"
    about = ast.get_docstring(ast.parse(script.read_text())) or ""
    first = about.partition("\n\n")[0].replace("\n", " ")
    command = f"python examples/{name}.py"
    if example.ranks:
        command = f"torchrun --standalone --nproc-per-node {example.ranks} examples/{name}.py"
    printed = f"It prints:\n\n```text\n{output}\n```" if output else "It prints nothing."
    page.write_text(
        f"""# {example.title}

<!-- code {code_of(name)} -->

{first}

<!-- not run: it has been, see below -->
```sh
{command}
```

```{{literalinclude}} ../../examples/{name}.py
:language: python
```

{printed}

![What it trained](pictures/{name}.png)
"""
    )


def run(name: str, example: Example, folder: str, picture: Path) -> str:
    """Run an example as its page says; what it prints."""
    words = [str(ROOT / "docs/extension/drawing.py"), str(picture), json.dumps(example.labels)]
    words.append(str(ROOT / f"examples/{name}.py"))
    launcher = [sys.executable]
    if example.ranks:
        launcher += ["-m", "torch.distributed.run", "--standalone"]
        launcher += ["--nproc-per-node", str(example.ranks)]
    environment: dict[str, Any] = {
        **os.environ,
        **dict(example.environment),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": WIDTH,
        "OMP_WAIT_POLICY": "passive",
    }
    if example.ranks:
        environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [*launcher, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return re.sub(r"/tmp/\w+", "/tmp/…", "\n".join(lines).strip())


def overview() -> str:
    """The gallery's first page: a picture and a line an example."""
    rows = ["| | |", "|---|---|"]
    for name, example in EXAMPLES.items():
        about = ast.get_docstring(ast.parse((ROOT / f"examples/{name}.py").read_text())) or ""
        line = about.partition("\n\n")[0].replace("\n", " ")
        link = f"**[{example.title}]({name}.md)**"
        rows.append(f"| [![](pictures/{name}.png)]({name}.md) | {link}<br>{line} |")
    return "\n".join(
        [
            "# Gallery\n",
            "Every script of `examples/`, with what it printed and drew when it was last run.",
            "Seconds are those of two CPU cores that other work shared:",
            "[figures](../about/figures.md) are not taken from here.\n",
            *rows,
            "\n```{toctree}\n:hidden:\n",
            *EXAMPLES,
            "```\n",
        ]
    )


def check(app: Any) -> None:
    """Warn of examples without a page, and of pages that are behind."""
    from sphinx.util import logging

    logger = logging.getLogger(__name__)
    for path in sorted((ROOT / "examples").glob("*.py")):
        if path.stem not in EXAMPLES:
            logger.warning("examples/%s is not in the gallery", path.name)
        elif stale(path.stem):
            logger.warning("docs/gallery/%s.md is of other code: make gallery", path.stem)
    if (PAGES / "index.md").read_text() != overview():
        logger.warning("docs/gallery/index.md has other examples: make gallery")


def main(names: list[str]) -> None:
    """Make the pages that are named, or those that are behind."""
    for name in names or [name for name in EXAMPLES if stale(name)]:
        make(name)
    (PAGES / "index.md").write_text(overview())


if __name__ == "__main__":
    main(sys.argv[1:])
