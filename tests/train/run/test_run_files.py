"""The files of a run name each other: what is damaged, missing or another run's is found.

Every file of a finished and of a stopped run is taken away, cut, changed in a byte, or replaced by
that of another run; then the run is opened and gone on with. Both give the bits that they gave
before, or an error of gnnscale that names the file.
"""

from __future__ import annotations

import random
import shutil
from typing import NamedTuple

import pytest
import torch

import gnnscale as gs
from tests.helpers.small_runs import MODELS, small_graph, small_trainer, weights_of


class Stop(gs.Callback):
    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt


class Kept(NamedTuple):
    """A run, another one of the same shapes, and what the first gives."""

    folder: object
    other: object
    opened: dict
    finished: dict


def trained(folder, make, stopped, **options):
    trainer = make(folder, **options)
    if stopped:
        trainer.callbacks.append(Stop())
        with pytest.raises(KeyboardInterrupt):
            trainer.fit()
    else:
        trainer.fit()


def cluster_run(folder, **options):
    return small_trainer(folder, **{"epochs": 3, **options})


def layerwise_trainer(folder, **options):
    torch.manual_seed(7)
    given = {"controller": gs.FixedEpochs(3), "batch_rows": 16, "progress": False, **options}
    return gs.LayerwiseTrainer(MODELS["gcn"](), small_graph(), run_dir=folder, **given)


KINDS = {
    "finished": (cluster_run, False, {"lr": 0.05}),
    "stopped": (cluster_run, True, {}),  # of the other run the id alone differs
    "layer by layer": (layerwise_trainer, False, {"lr": 0.05}),
}
LONG = ("stopped", "layer by layer")


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=[pytest.mark.slow] * (kind in LONG)) for kind in KINDS],
)
def kept(request, tmp_path_factory):
    make, stopped, others = KINDS[request.param]
    root = tmp_path_factory.mktemp("runs")
    trained(root / "run", make, stopped)
    trained(root / "other", make, stopped, **others)
    shutil.copytree(root / "run", root / "copy")
    opened = weights_of(gs.load_run(root / "copy").trainer)
    trainer = make(root / "copy")
    trainer.fit()
    return make, Kept(root / "run", root / "other", opened, weights_of(trainer))


def damages(kept):
    """What is done to a file, and its new content; None where it is taken away."""
    chance = random.Random(0)
    for file in sorted(kept.folder.rglob("*")):
        if not file.is_file() or file.name in (".lock", "curves.png"):
            continue
        name, whole = file.relative_to(kept.folder), file.read_bytes()
        yield name, "missing", None
        yield name, "cut", whole[: len(whole) // 2]
        flipped = bytearray(whole)  # more of them: benchmarks/faults/foreign.py
        flipped[place := chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        yield name, f"byte {place} of {len(whole)}", bytes(flipped)
        if (kept.other / name).exists():
            yield name, "of the other run", (kept.other / name).read_bytes()


def same(weights, expected):
    return all(torch.equal(value, expected[name]) for name, value in weights.items())


def test_nothing_else_is_given_in_silence(kept, tmp_path):
    make, run = kept
    wrong, refused = [], 0
    for name, what, content in damages(run):
        folder = tmp_path / "run"
        shutil.copytree(run.folder, folder)
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        for verb, expected in (("load_run", run.opened), ("resume", run.finished)):
            try:
                if verb == "load_run":
                    trainer = gs.load_run(folder).trainer
                else:
                    trainer = make(folder)
                    trainer.fit()
                found = weights_of(trainer)
            except gs.GnnscaleError as error:
                refused += 1
                if name.name not in str(error) and str(folder) not in str(error):
                    wrong.append(f"{name}, {what}: {verb} says {error}")
                continue
            if not same(found, expected):
                wrong.append(f"{name}, {what}: {verb} gives other weights")
        shutil.rmtree(folder)
    assert not wrong, "\n".join(wrong)
    assert refused > 12


def test_a_process_killed_while_it_begins_anew_leaves_no_half_of_the_old_run(tmp_path, monkeypatch):
    whole = small_trainer(None, epochs=2)
    whole.fit()
    small_trainer(tmp_path, epochs=2, lr=0.05).fit()

    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", die)  # when checkpoint and report are gone
    with pytest.raises(KeyboardInterrupt):
        small_trainer(tmp_path, epochs=2).fit(resume=False)
    monkeypatch.undo()
    trainer = small_trainer(tmp_path, epochs=2)
    trainer.fit()
    assert same(weights_of(trainer), weights_of(whole))


def test_a_fine_tuning_is_of_the_run_around_it(tmp_path):
    options = {"fine_tune": {"epochs": 2, "num_parts": 6, "clusters_per_batch": 2}}
    for name in ("run", "other"):
        trained(tmp_path / name, layerwise_trainer, False, **options)
    shutil.rmtree(tmp_path / "run/fine_tune")
    shutil.copytree(tmp_path / "other/fine_tune", tmp_path / "run/fine_tune")
    with pytest.raises(gs.RunMismatch, match="another run"):
        gs.load_run(tmp_path / "run/fine_tune")
