"""What a newcomer meets: importing, the examples (`test_docs.py` has the README)."""

from __future__ import annotations

import functools
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.forks import Forks
from tests.helpers.rank_runs import Ranks

ROOT = Path(__file__).parent.parent


def test_importing_loads_no_torch() -> None:
    heavy = ("torch", "torch_geometric", "numba", "numpy", "ogb")
    code = f"import gnnscale, sys; print([m for m in {heavy} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_found_and_documented() -> None:
    import gnnscale

    for name in gnnscale.__all__:
        assert getattr(gnnscale, name).__doc__, name
    assert set(gnnscale.__all__) <= set(dir(gnnscale))
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        gnnscale.missing  # noqa: B018


@pytest.mark.parametrize("name", ["BenchReport", "baselines", "bench", "k_fold", "majority"])
def test_names_that_have_moved_are_found_where_they_were(name: str) -> None:
    from gnnscale import benchmarking, train

    assert getattr(train, name) is getattr(benchmarking, name)


def test_static_names_are_the_lazy_ones() -> None:
    import gnnscale

    source = Path(gnnscale.__file__).read_text()
    assert sorted(gnnscale.__all__) == sorted([*gnnscale._HOME_OF, *gnnscale._ROOMS])
    static = source.split("if TYPE_CHECKING:")[-1]
    named = {n for n in re.findall(r"\b\w+\b", static) if n in gnnscale.__all__}
    assert named == set(gnnscale.__all__)


def run_here(script: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """In this process: an interpreter for each would only import torch again."""
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "command",
    [
        ("pyg_model",),
        ("custom_layer",),
        ("inductive",),
        ("graphnorm", "synthetic:planted?nodes=600", "1"),
        ("layerwise", "synthetic:planted?nodes=1500"),
        ("out_of_core_layerwise", "0.002"),
    ],
    ids=lambda command: command[0],
)
def test_examples_run(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *arguments = command
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    run_here(ROOT / "examples" / f"{name}.py", tmp_path, monkeypatch, *arguments)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_of_two_processes_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: Forks
) -> None:
    here = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    ended = []

    def forked(command: list[str], check: bool) -> None:
        assert command[0] == sys.executable
        ended.append(forks.start(here, *command[1:]).wait())

    monkeypatch.setattr(subprocess, "run", forked)
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    run_here(ROOT / "examples/resume.py", tmp_path, monkeypatch)
    assert ended == [1]


@pytest.mark.slow
@pytest.mark.parametrize("example", ["data_parallel", "pipeline"])
def test_the_examples_of_several_ranks_run_with_one_and_two(example: str, forks: Forks) -> None:
    run = """
import runpy
import gnnscale as gs
gs.load = lambda name: small_runs.small_graph(240)
runpy.run_path(sys.argv[1], run_name="__main__")
"""
    said = []
    for size in (1, 2):
        ranks = Ranks(forks, run, size, str(ROOT / f"examples/{example}.py"))
        ranks.finish()
        first, *others = [process.output.read_text() for process in ranks.processes]
        assert first.startswith(f"{size} ranks: ") and others == [""] * (size - 1)
        said.append(first.split()[2])
    assert said[0] == said[1]  # the accuracy


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_quickstart_runs_and_leaves_the_baselines_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six of its forty epochs are enough for that, and one of the baseline's ten."""
    from gnnscale.benchmarking import baseline

    short = functools.partial(baseline.perceptron, epochs=1)
    monkeypatch.setattr(baseline, "perceptron", short)
    source = (ROOT / "examples/quickstart.py").read_text()
    assert source.count("epochs=40,") == 1
    script = tmp_path / "quickstart.py"
    script.write_text(source.replace("epochs=40,", "epochs=6,"))
    run_here(script, tmp_path, monkeypatch)
    out = capsys.readouterr().out
    names = ("majority class", "label propagation", "MLP on the features", "GraphSAGE")
    *baselines, accuracy = (float(re.search(rf"{n}.*?(0\.\d+)", out).group(1)) for n in names)
    assert accuracy >= 0.84 > max(baselines)
    for name in ("report.json", "curves.png", "model.safetensors", "checkpoint.safetensors"):
        assert (tmp_path / "runs/quickstart" / name).stat().st_size > 0


def test_quickstart_is_the_preset_of_the_card() -> None:
    from gnnscale.data import find_card

    source = (ROOT / "examples/quickstart.py").read_text()
    preset = dict(find_card("wordnet").preset)
    assert preset.pop("model") == "sage" and "gs.nn.GraphSAGE(" in source
    assert preset.pop("norm_kwargs") == {"mode": "node"} and '{"mode": "node"}' in source
    for name, value in preset.items():
        written = f'"{value}"' if isinstance(value, str) else f"{value}"
        assert f"{name}={written}" in source, name


def test_the_library_does_not_print() -> None:
    for path in (ROOT / "gnnscale").rglob("*.py"):
        assert not re.search(r"^\s*print\(", path.read_text(), re.MULTILINE), path
