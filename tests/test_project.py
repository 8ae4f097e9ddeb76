"""What is written twice in the project's own files says the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import gnnscale
from gnnscale.extras import FEATURES

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
CLAIMED = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))


def test_one_version_in_package_citation_and_changelog() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    newest = re.search(r"^## (\S+) - ", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert cited and newest
    assert cited[1] == newest[1] == gnnscale.__version__


def test_one_licence_and_one_author() -> None:
    assert (ROOT / "LICENSE").read_text().startswith(f"{PROJECT['license']} License")
    (author,) = PROJECT["authors"]
    for name in ("LICENSE", "CITATION.cff"):
        assert author["name"] in (ROOT / name).read_text()


def test_hooks_take_the_pinned_ruff() -> None:
    used = re.findall(r"ruff==([\d.]+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert set(used) == {PINNED["ruff"]}


def test_hosted_ci_runs_every_python_that_is_claimed() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    matrix = re.search(r"python: \[(.*)\]", workflow)
    assert matrix and re.findall(r"3\.\d+", matrix[1]) == CLAIMED
    assert PROJECT["requires-python"] == f">={CLAIMED[0]}"


def test_hosted_ci_runs_what_the_projects_own_script_runs() -> None:
    targets = [
        set(re.findall(r"make (\w+)", (ROOT / name).read_text()))
        for name in (".ci/run", ".github/workflows/ci.yml")
    ]
    assert targets[0] == targets[1] == {"lint", "test", "check"}


def test_the_readme_tells_the_tested_versions() -> None:
    table = re.search(r"^\| \| tested \|\n(?:\|.*\n)+", (ROOT / "README.md").read_text(), re.M)
    assert table
    told = dict(re.findall(r"^\| ([\w-]+) \| (\S+)", table[0], re.M))
    assert {told.pop("Python")} <= set(CLAIMED)
    assert told == {name: PINNED[name] for name in told}
    extras = PROJECT["optional-dependencies"]
    needed = [*PROJECT["dependencies"], *(p for extra in FEATURES for p in extras[extra])]
    names = {re.split(r"[>=\[;]", need)[0] for need in needed} - {"gnnscale"}
    assert set(told) <= names


def test_the_readme_tells_the_extras() -> None:
    table = re.search(r"^\| extra \|.*\n(?:\|.*\n)+", (ROOT / "README.md").read_text(), re.M)
    assert table
    assert set(re.findall(r"^\| `(\w+)` \|", table[0], re.M)) == {*FEATURES, "all"}


def test_files_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`([a-z.][\w.-]*/[\w./-]+)`", text)
    assert len(named) > 5
    for path in set(named) - {"datasets/NAME/card.toml", "planetoid/cora"}:
        assert (ROOT / path).exists(), path
