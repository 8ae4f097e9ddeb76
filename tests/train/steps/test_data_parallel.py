"""Several ranks train what one process does on the same batches, and survive what happens to one.

k ranks are compared with one process that accumulates k batches. The optimizer is SGD: Adam would
make a full step of the rounding of a gradient that is zero.
"""

from __future__ import annotations

import json
import signal

import pytest
import torch

import gnnscale as gs
from gnnscale.errors import RunMismatch
from tests.helpers.own_tasks import task_of
from tests.helpers.rank_runs import Ranks, trainer_of
from tests.helpers.small_runs import assert_same, same_course, small_trainer, weights_of

SGD = {"optimizer": "decayed sgd"}
# Six clusters in batches of two: of three batches, the last step lacks one where two ranks take it.
CASES = {
    "batch norm": {"model": "gcn", "clip_norm": 0.5, "scheduler": "step", **SGD},
    "graph norm": {"model": "sage", "checkpoint_activations": True, **SGD},
    "running": {"model": "averaging", "scheduler": "onecycle", **SGD},
    "opaque": {"model": "gat", "scheduler": "plateau", **SGD},
    "accumulated": {"model": "gcn", "accumulate": 2, "num_parts": 10, "clusters_per_batch": 1}
    | SGD,
    "idle": {"model": "unused", "optimizer": "decayed sgd", "epochs": 2},
    "few training nodes": {"model": "gcn", "num_parts": 16, "clusters_per_batch": 1, **SGD},
    "layer by layer": {"model": "gcn", "batch_rows": 5, "epochs": 3, **SGD},
    "layer by layer, on clusters": {
        "model": "gat",
        "num_parts": 5,
        "clusters_per_batch": 1,
        "epochs": 2,
        **SGD,
    },
    "many graphs": {"model": "sage", "graphs_per_batch": 4, "epochs": 2, **SGD},
    "stopped early": {"model": "gin", "early_stopping": 1, "epochs": 6, **SGD},
}
TRAIN = """
cases, folder = json.loads(sys.argv[1]), sys.argv[2]
found = {}
for name, options in cases.items():
    trainer = rank_runs.trainer_of(name, options)
    report = trainer.fit()
    found[name] = {"weights": small_runs.weights_of(trainer), "report": vars(report)}
torch.save(found, f"{folder}/{comm.rank()}.pt")
"""


def expected(name, options, ranks):
    accumulate = ranks * options.get("accumulate", 1)
    trainer = trainer_of(name, {**options, "accumulate": accumulate})
    return trainer.fit(), weights_of(trainer)


def compare(found, cases, ranks):
    for name, options in cases.items():
        report, weights = expected(name, options, ranks)
        of_ranks = [of_rank[name] for of_rank in found]
        for of_rank in of_ranks:
            assert_same(of_rank["weights"], of_ranks[0]["weights"])
            same_course(*(gs.train.Report(**one["report"]) for one in (of_rank, of_ranks[0])))
        for key, value in weights.items():
            there = of_ranks[0]["weights"][key]
            torch.testing.assert_close(there, value, rtol=1e-6, atol=1e-6, msg=f"{name}: {key}")
        rows = of_ranks[0]["report"]["rows"]
        assert len(rows) == len(report.rows), name
        for row, other in zip(rows, report.rows, strict=True):
            assert row["loss"] == pytest.approx(other["loss"], rel=1e-6)
            assert row["lr"] == pytest.approx(other["lr"])


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_learn_what_one_process_does(forks, tmp_path, ranks):
    cases = CASES if ranks == 2 else {name: CASES[name] for name in ("batch norm", "running")}
    Ranks(forks, TRAIN, ranks, json.dumps(cases), str(tmp_path)).finish()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(ranks)]
    compare(found, cases, ranks)


# Draws from torch's own generator, and stops between the two batches of an update.
LONG = {"model": "noisy", "num_parts": 9, "clusters_per_batch": 1, "accumulate": 2, "epochs": 3}
LONG |= {"clip_norm": 0.5, "optimizer": "momentum", "checkpoint_every": 1}

KILLED = """
from tests.helpers import own_tasks
options, folder, steps = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
trainer = small_runs.small_trainer(folder, task=own_tasks.task_of("head over rows"), **options)
from gnnscale.train.steps.batch_step import BatchStep
step, taken = BatchStep.__call__, []

def counted(self, batch, *rest):
    taken.append(batch)
    if len(taken) == steps and comm.rank() == 1:
        os.kill(os.getpid(), 9)
    return step(self, batch, *rest)

BatchStep.__call__ = counted
torch.manual_seed(int(os.environ["RANK"]))
trainer.fit()
"""

GONE_ON = """
import contextlib, shutil, signal
from tests.helpers import own_tasks
from pathlib import Path
options, folder = json.loads(sys.argv[1]), Path(sys.argv[2])

def run(name, **others):
    task = own_tasks.task_of("head over rows")
    return small_runs.small_trainer(name and folder / name, task=task, **{**options, **others})

def kept(trainer):
    weights = own_tasks.learnt(trainer)
    del weights["task:calls"]  # the best ones are rank 0's, and each has called its own
    return weights

def same(trainer, report):
    small_runs.assert_same(kept(trainer), kept(whole))
    small_runs.same_course(report, expected)

# As the runs to come, which had the same generators at their start.
torch.manual_seed(int(os.environ["RANK"]))
state = torch.get_rng_state()
whole = run(None)
torch.set_rng_state(state)
expected = whole.fit()

# What was killed goes on.
again = run("killed")
report = again.fit(resume=True)
same(again, report)

# One rank is interrupted: both stop after the same step, save it once and go on to the same.
broken = run("stopped")
taken = []

class Interrupting(gs.Callback):
    def on_step_end(self, trainer, step):
        taken.append(step)
        if len(taken) == 6 and comm.rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM if "term" in folder.name else signal.SIGINT)

broken.callbacks.append(Interrupting())
torch.set_rng_state(state)
with contextlib.suppress(KeyboardInterrupt):
    broken.fit()
    raise AssertionError("it was not interrupted")
assert len(taken) == 7, len(taken)
if comm.is_main():
    shutil.copytree(folder / "stopped", folder / "unfinished")
torch.manual_seed(99)
later = run("stopped")
same(later, later.fit(resume=True))

# Norms over the batches of all ranks, and gradients in two bits: the same weights everywhere.
for others in ({"model": "together", "num_parts": 8}, {"gradient_compression": "ternary"}):
    trainer = run(None, **others)
    trainer.fit()
    every = comm.gather_objects(kept(trainer))
    small_runs.assert_same(*every)
try:
    run(None, model="together").fit()
except gs.errors.InputError as error:
    assert "has 9 for 2 of them" in str(error), error
else:
    raise AssertionError("a rank without a batch")

# Ranks that were not given the same say so, all of them, and can go on.
for name, told, others in (
    (None, "lr", {"lr": 0.1 * (1 + comm.rank())}),
    ("only one's" if comm.is_main() else None, "a run_dir", {}),
    (None, "checkpoint_every", {"checkpoint_every": 1 + comm.rank()}),
):
    try:
        run(name, **others).fit()
    except gs.errors.RunMismatch as error:
        assert "rank 1 of 2" in str(error) and f"({told})" in str(error), error
    else:
        raise AssertionError(f"another {told}")

# What only rank 0 can know fails on all of them.
try:
    run("stopped", lr=0.5).fit()
except gs.errors.RunMismatch as error:
    assert "lr: 0.01 in the run" in str(error), error

# A callback of one rank stops all.
class Stop(gs.train.Callback):
    def on_epoch_end(self, trainer, row):
        trainer.stop = comm.rank() == 1

assert run(None, callbacks=[Stop()]).fit().stopped == "callback"

class Raise(gs.train.Callback):
    def on_epoch_end(self, trainer, row):
        if comm.rank() == 1:
            raise ValueError("no space left")

run(None, callbacks=[Raise()]).fit()
"""


def test_a_rank_that_fails_ends_all_and_the_run_goes_on(forks, tmp_path):
    options = json.dumps(LONG)
    killed = Ranks(forks, KILLED, 2, options, str(tmp_path / "killed"), "7")
    assert killed.wait() == [1, -signal.SIGKILL], killed.errors()
    assert "RankFailure: rank 1 of 2 is gone" in killed.errors()[0]
    # As torchrun --max-restarts does it: with the same store.
    restarted = Ranks(forks, GONE_ON, 2, options, str(tmp_path), store=killed.store)
    assert restarted.wait() == [1, 1], restarted.errors()
    survivor, culprit = restarted.errors()
    assert "ValueError: no space left" in culprit
    assert "RankFailure: rank 1 of 2 failed: ValueError: no space left" in survivor
    with pytest.raises(RunMismatch, match="begun by 2 ranks, and now there is 1"):
        small_trainer(tmp_path / "unfinished", task=task_of("head over rows"), **LONG).fit()
