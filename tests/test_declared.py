"""Arguments that are declared once: what callers, type checkers and editors see, and the checks."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest
import torch

from gnnscale.declared import (
    UnknownArgument,
    about,
    arguments_of,
    faults_of,
    plain_numbers,
    takes,
)
from gnnscale.errors import InputError

if TYPE_CHECKING:
    from somewhere import Special


@dataclass(frozen=True)
class Common:
    model: Annotated[Any, about("What is trained.")]
    _: KW_ONLY
    epochs: Annotated[int, about("Passes.", "They are of all data.", least=1)] = 50
    lr: Annotated[float, about("Learning rate.", above=0)] = 0.1
    patience: Annotated[int | None, about("Epochs.", least=1, resume="longer")] = None
    every: Annotated[int | Literal["auto"], about("Epochs between.", least=1)] = "auto"
    keep: Annotated[Literal["best", "last"], about("Weights.")] = "best"
    optimizer: Annotated[Literal["adam", "sgd"] | Callable, about("Optimizer.")] = "adam"
    fused: Annotated[bool, about("Whether to fuse.")] = False
    special: Annotated[Special | None, about("Anything.")] = None
    folder: Annotated[str | Path | None, about("A folder.")] = None

    def __post_init__(self) -> None:
        plain_numbers(self)


@dataclass(frozen=True)
class Own(Common):
    graph: Annotated[Any, about("What it is trained on.")]
    parts: Annotated[int, about("Parts.", least=1)] = 4
    fused: bool = field(default=False, init=False)


class Trainer:
    """Trains.

    More of it.

    Raises:
        InputError: always.
    """

    @takes(Own)
    def __init__(self, options: Own) -> None:
        self.options = options


def test_what_a_caller_sees():
    signature = inspect.signature(Trainer)
    names = ["model", "graph", "parts", "epochs", "lr", "patience", "every", "keep"]
    assert [*signature.parameters] == [*names, "optimizer", "special", "folder"]
    epochs, special = signature.parameters["epochs"], signature.parameters["special"]
    assert (epochs.annotation, epochs.default) == ("int", 50)
    assert special.annotation == "Special | None"
    assert "fused" not in arguments_of(Own)
    assert Trainer(1, 2, 3, epochs=4).options == Own(1, 2, 3, epochs=4)
    assert not Trainer(1, 2).options.fused
    doc = Trainer.__doc__
    assert doc.index("More of it") < doc.index("Args:\n    model: What") < doc.index("Raises:")
    assert "    epochs: Passes. They are of all data.\n" in doc


def test_names_that_there_are_not():
    with pytest.raises(
        UnknownArgument, match=r"Trainer: .* 'epoch'; did you mean 'epochs'"
    ) as caught:
        Trainer(1, 2, epoch=3, fused=True)
    assert len(caught.value.faults) == 2
    for given, named in (((), "model"), ((1,), "graph"), ((1, 2, 3, 4), "too many")):
        with pytest.raises(TypeError, match=named):
            Trainer(*given)


WRONG = {
    "epochs": ([0, 2.5, True, "3", 2**63, None], "a whole number from 1 on"),
    "lr": ([0, -1, float("nan"), float("inf"), "0.1", True], "a number above 0"),
    "patience": ([0, "none"], "a whole number from 1 on or None"),
    "every": ([0, "always", None], "'auto' or a whole number from 1 on"),
    "keep": (["all", 1], "'best' or 'last'"),
    "optimizer": (["adamm", 3], "'adam', 'sgd' or a function"),
    "folder": ([3], "text, a path or None"),
}
RIGHT = {
    "epochs": [1, np.int64(3), torch.tensor(2)],
    "lr": [1, 0.5, np.float32(0.5)],
    "patience": [1, None],
    "every": [3, "auto"],
    "keep": ["last"],
    "optimizer": ["sgd", print],
    "special": [object(), 3],
    "folder": ["a", Path("a"), None],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_of_no_type_or_out_of_range(name):
    values, words = WRONG[name]
    for value in values:
        assert faults_of(Own(1, 2, **{name: value})) == [f"{name}={value!r} must be {words}"]
    (fault,) = faults_of(Own(1, 2, **{name: np.arange(2)}))
    assert fault.startswith(f"{name} is one value, not an array")


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right(name):
    for value in RIGHT[name]:
        assert not faults_of(Own(1, 2, **{name: value}))


def test_all_faults_at_once():
    wrong = {name: values[0] for name, (values, _) in WRONG.items()}
    assert len(faults_of(Own(1, 2, **wrong))) == len(wrong)


def test_a_declaration_is_an_ordinary_dataclass():
    assert dataclasses.replace(Own(1, 2), epochs=3).epochs == 3
    assert arguments_of(Own)["patience"].said["resume"] == "longer"
    assert issubclass(UnknownArgument, InputError)


CALLS = """
import gnnscale as gs
reveal_type(gs.ClusterTrainer.__init__)
gs.ClusterTrainer("model", "graph", 3, 2, epochs=4, keep="last", optimizer=print)
gs.LayerwiseTrainer("model", "graph", gs.FixedEpochs(3), fine_tune={"epochs": 3})
gs.GraphTrainer("model", "graphs", "sum", split={"train": [0]})
gs.PipelineTrainer("model", "graph", stages=[2, 4])
gs.ClusterTrainer("model", "graph", epoch=4)
gs.ClusterTrainer("model", "graph", epochs="4")
gs.ClusterTrainer("model")
gs.ClusterTrainer("model", "graph", keep="all")
gs.PipelineTrainer("model", "graph", compile=True)
"""
ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_what_type_checkers_see(tmp_path, checker):
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    script = tmp_path / "calls.py"
    script.write_text(CALLS)
    done = subprocess.run(
        [sys.executable, "-m", checker, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)},
        cwd=ROOT if checker == "mypy" else tmp_path,  # where the cache of `make lint` is
    )
    told = [line for line in done.stdout.splitlines() if "calls.py:" in line]
    for part in ("graph: Any", "num_parts: int | None", "epochs: int", "clip_norm: float | None"):
        assert part in done.stdout, done
    assert [int(line.split(":")[1]) for line in told if " error: " in line] == [8, 9, 10, 11, 12]
