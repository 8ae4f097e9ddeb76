"""Trainers' arguments: declared once, in `gnnscale.train.options`, and true everywhere."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest
import torch

import gnnscale as gs
from gnnscale.declared import UnknownArgument, arguments_of
from gnnscale.train.options import FREE_ON_RESUME, LENGTHS, OPTIONS, ClusterOptions, described
from gnnscale.train.trainers import TRAINERS


def test_it_is_read_without_torch():
    script = (
        "import sys; from gnnscale.train.options import OPTIONS; assert len(OPTIONS) == 4\n"
        "print([name for name in ('torch', 'numpy', 'numba', 'ogb') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_trainers_signature_and_documentation_are_its_declaration(name):
    trainer, declared = TRAINERS[name], arguments_of(OPTIONS[name])
    assert [*inspect.signature(trainer).parameters] == [*declared]
    section = inspect.getdoc(trainer).split("Args:\n")[1]
    for argument in declared.values():
        said = argument.said["help"].split()[0]
        assert f"    {argument.name}: {said}" in section, argument.name
        help = argument.said["help"]
        assert help[0].isupper() or not help[0].isalpha(), help
        assert help.endswith((".", "…")), help
    with pytest.raises(UnknownArgument, match="'clip_nrom'; did you mean 'clip_norm'"):
        trainer(None, None, clip_nrom=1.0)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_default_is_allowed(name):
    for argument in arguments_of(OPTIONS[name]).values():
        assert argument.default is inspect.Parameter.empty or not argument.faults(argument.default)


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_saved_is_json_and_names_every_difference(name):
    options = OPTIONS[name](None, None)
    saved = json.loads(json.dumps(options.saved()))
    assert options.differences(saved) == []
    for key in saved:
        free = key in FREE_ON_RESUME | LENGTHS
        assert bool(options.differences({**saved, key: 10**6})) is not free, key


def test_functions_are_saved_by_name_and_numbers_as_pythons():
    options = ClusterOptions(
        None, None, torch.tensor(3), device=torch.device("cpu"), optimizer=torch.optim.RMSprop
    )
    saved = options.saved()
    assert (saved["num_parts"], saved["device"], saved["optimizer"]) == (3, "cpu", "RMSprop()")
    assert described({"lr": 0.1, "method": print}) == {"lr": 0.1, "method": "print()"}
    assert options == ClusterOptions(None, None, 3, device="cpu", optimizer=torch.optim.RMSprop)
    assert options != ClusterOptions(None, None, 4)
    again = ClusterOptions(None, None, 3, device="cpu", optimizer=torch.optim.RMSprop)
    assert {options: "found"}[again] == "found"


def test_what_is_at_fault_is_at_its_default_while_the_rest_is_checked():
    options = ClusterOptions(None, None, 0, epochs=-1, lr=0.5)
    sound = options.sound()
    assert (sound.num_parts, sound.epochs, sound.lr) == (None, 50, 0.5)
    with pytest.raises(gs.InputError, match="2 faults"):
        options.check()
