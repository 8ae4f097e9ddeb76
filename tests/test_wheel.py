"""The wheel, in an environment with what it asks for and nothing else, away from the source."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow

TRAINED = """
import importlib.util
import gnnscale as gs
import torch

assert "site-packages" in gs.__file__, gs.__file__
for extra in ("matplotlib", "ogb", "pyarrow", "sklearn", "tensorboard"):
    assert importlib.util.find_spec(extra) is None, extra
torch.manual_seed(0)
graph = gs.load("wordnet")
model = gs.nn.GraphSAGE(graph.num_features, 16, 2, graph.num_classes)
trainer = gs.ClusterTrainer(model, graph, num_parts=50, clusters_per_batch=10, epochs=5)
trainer.fit()
assert trainer.evaluate("test")["accuracy"] > 0.3
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both archives as `python -m build` makes them: the wheel out of the source archive."""
    out = tmp_path_factory.mktemp("dist")
    # Not isolated: what it would fetch is installed, and nothing is asked of the network.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {path.suffix: path for path in out.iterdir()}


def asked_for(name: str, extras: frozenset[str], seen: set[tuple[str, str]]) -> Iterator[str]:
    """The names of all that a distribution asks for, where it is installed."""
    for line in metadata.requires(name) or ():
        need = Requirement(line)
        key = re.sub(r"[-_.]+", "-", need.name).lower()
        for extra in extras | {""}:
            wanted = need.marker is None or need.marker.evaluate({"extra": extra})
            if not wanted or (key, extra) in seen:
                continue
            seen.add((key, extra))
            try:
                yield from asked_for(key, frozenset(need.extras), seen)
            except metadata.PackageNotFoundError:
                continue  # of another system or Python, such as CUDA's beside a torch for the CPU
            yield key


@pytest.fixture(scope="module")
def environment(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment: links to what the wheel asks for, and the wheel itself."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "--quiet"]
    wheel = [str(built[".whl"])]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", *wheel], check=True)
    with zipfile.ZipFile(built[".whl"]) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        needs = metadata.PathDistribution(zipfile.Path(archive, f"{Path(about).parent}/")).requires
    for name in {name for need in needs or () for name in with_all_it_asks_for(need)}:
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    return folder / "bin"


def with_all_it_asks_for(line: str) -> Iterator[str]:
    need = Requirement(line)
    if need.marker is None or need.marker.evaluate({"extra": ""}):
        yield need.name
        yield from asked_for(need.name, frozenset(need.extras), set())


def test_the_wheel_holds_the_package_and_the_cards_and_no_tests(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as archive:
        names = set(archive.namelist())
    cards = {path.relative_to(ROOT / "datasets") for path in ROOT.glob("datasets/**/card.toml")}
    assert cards and {f"gnnscale/_datasets/{card}" for card in cards} <= names
    for name in ("wordnet/wordnet.npz", "wordnet/LICENSE", "debian/debian.npz", "debian/LICENSE"):
        assert f"gnnscale/_datasets/{name}" in names
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "gnnscale").rglob("*.py")}
    assert source <= names and "gnnscale/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert len(tops) == 2 and "gnnscale" in tops, tops


def test_it_trains_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GNNSCALE"))}
    clean |= {"GNNSCALE_CACHE": str(tmp_path / "cache"), "PYTHONNOUSERSITE": "1"}
    commands = [
        ["python", "-c", TRAINED],
        ["gnnscale", "--help"],
        ["gnnscale", "info", "wordnet"],
        ["gnnscale", "train", "-d", "synthetic:planted?nodes=500", "--epochs", "1"],
    ]
    for program, *arguments in commands:
        done = subprocess.run(
            [str(environment / program), *arguments],
            cwd=tmp_path,
            env=clean,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (program, arguments[:2], done.stderr)
