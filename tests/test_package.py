"""What a newcomer meets: importing, the README, the examples."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_importing_loads_no_torch() -> None:
    heavy = ("torch", "torch_geometric", "numba", "numpy", "ogb")
    code = f"import gnnscale, sys; print([m for m in {heavy} if m in sys.modules])"
    assert run("-c", code).stdout.strip() == "[]"


def test_every_public_name_is_found_and_documented() -> None:
    import gnnscale

    for name in gnnscale.__all__:
        assert getattr(gnnscale, name).__doc__, name
    assert set(gnnscale.__all__) <= set(dir(gnnscale))
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        gnnscale.missing  # noqa: B018


def test_static_names_are_the_lazy_ones() -> None:
    import gnnscale

    source = Path(gnnscale.__file__).read_text()
    assert sorted(gnnscale.__all__) == sorted([*gnnscale._HOME_OF, *gnnscale._ROOMS])
    static = source.split("if TYPE_CHECKING:")[-1]
    named = {n for n in re.findall(r"\b\w+\b", static) if n in gnnscale.__all__}
    assert named == set(gnnscale.__all__)


def test_readme_code_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks))
    done = run("-W", "ignore", str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/example/curves.png").exists()
    assert (tmp_path / "runs/scores.npy").exists()


def test_readme_links_and_files_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["pyg_model", "custom_layer", "inductive", "resume"])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: an interpreter for each would only import torch again."""
    path = str(ROOT / "examples" / f"{name}.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "argv", [path])
    runpy.run_path(path, run_name="__main__")


def test_quickstart_reaches_its_accuracy(tmp_path: Path) -> None:
    """Twelve of its forty epochs are enough for what all of them must reach."""
    source = (ROOT / "examples/quickstart.py").read_text()
    assert source.count("epochs=40,") == 1
    (tmp_path / "quickstart.py").write_text(source.replace("epochs=40,", "epochs=12,"))
    done = run("-W", "ignore", "quickstart.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"GraphSAGE.*?(0\.\d+)", done.stdout).group(1))
    assert accuracy >= 0.87
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
