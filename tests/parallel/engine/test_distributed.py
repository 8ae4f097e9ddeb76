"""Ranks that are the devices of a pipeline learn what one process does.

The optimizer is SGD: Adam would make a full step of the rounding of a gradient that is zero.
"""

from __future__ import annotations

import json

import pytest
import torch

from gnnscale.errors import GnnscaleError
from gnnscale.parallel import Action, make_schedule
from gnnscale.parallel.engine.wire import Packet, as_agreed, links, messages
from tests.helpers.rank_runs import Ranks
from tests.helpers.small_runs import small_graph, small_trainer, weights_of
from tests.parallel.steps import LAYOUTS, NORMS

# Gradients and running statistics of one step; bytes; what is refused.
STEPS = """
import pytest
from tests.parallel import steps
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.parallel import make_schedule
from gnnscale.parallel.engine.distributed import TorchEngine
from gnnscale.parallel.stages import cut

comm.start()
mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("dp", "pp"))
batches, cpu = steps.micro_batches(), torch.device("cpu")
sent = []
isend = dist.isend

def counting(tensor, *arguments, **keywords):
    assert tensor.is_contiguous()
    sent.append(tensor.numel() * tensor.element_size())
    return isend(tensor, *arguments, **keywords)

dist.isend = counting

def engine_of(model, name, cuts=None, number=4):
    devices, usual = steps.LAYOUTS[name]
    cuts = usual if cuts is None else cuts
    whole = make_schedule(name, devices, 4, len(cuts) + 1)
    stages = cut(model, cuts)
    engine = TorchEngine(stages, whole, mesh, cpu, batches[0], steps.computation(), record=True)
    return engine, whole.first(number)

for norm in steps.NORMS:
    for dropout in (0.0, 0.4):
        expected = steps.model(norm, dropout)
        losses = steps.accumulated(expected, batches)
        for name in steps.LAYOUTS:
            mine = steps.model(norm, dropout)
            engine, schedule = engine_of(mine, name)
            sent.clear()
            found = engine.run(schedule, batches, steps.computation())
            assert [float(loss) for loss in found] == (losses if engine.is_last else [])
            own = [key for stage in engine.own for key in stage.state_dict()]
            steps.assert_same_step(mine, expected, own)
            others = [p for key, p in mine.named_parameters() if key not in own]
            assert others and all(p.grad is None for p in others)
            engine.share_weights()
            assert all(torch.equal(mine.get_buffer(k), b) for k, b in expected.named_buffers())
            row = schedule.table[comm.rank()]
            assert [event[1:4] for event in engine.events] == [tuple(action) for action in row]
            # 2·4·F·Σn over the boundaries between devices: no padding.
            total = comm.sum_numbers(sum(sent))[0]
            rows = sum(batch.num_nodes for batch in batches)
            crossing = [s for s in engine.stages[1:]
                        if engine.placement[s.index - 1] != engine.placement[s.index]]
            width = sum(channels for stage in crossing for _, channels in stage.receives)
            assert total == 2 * 4 * width * rows, (name, total)

for number in (1, 3):  # fewer micro-batches, opaque convolutions
    expected = steps.model(dropout=0.5, kind="GAT")
    steps.accumulated(expected, batches[:number])
    for name in steps.LAYOUTS:
        mine = steps.model(dropout=0.5, kind="GAT")
        engine, schedule = engine_of(mine, name, number=number)
        engine.run(schedule, batches[:number], steps.computation())
        own = [key for stage in engine.own for key in stage.state_dict()]
        steps.assert_same_step(mine, expected, own)

# Under autocast half precision travels, and the same is learnt.
half = functools.partial(torch.autocast, "cpu", torch.bfloat16)
expected, mine = steps.model("batch_norm"), steps.model("batch_norm")
with half():
    steps.accumulated(expected, batches)
devices, cuts = steps.LAYOUTS["1f1b"]
whole = make_schedule("1f1b", devices, 4, len(cuts) + 1)
asked = steps.computation(autocast=half)
engine = TorchEngine(cut(mine, cuts), whole, mesh, cpu, batches[0], asked)
engine.run(whole, batches, asked)
own = [key for stage in engine.own for key in stage.state_dict()]
for key in (key for key, _ in mine.named_parameters() if key in own):
    found, wanted = (m.get_parameter(key).grad for m in (mine, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-3)

with pytest.raises(InputError, match="different stages: device 1 has"):
    engine_of(steps.model(), "1f1b", cuts=[1 + comm.rank()])
comm.barrier()
"""

SGD = {"optimizer": "decayed sgd", "clip_norm": 0.3, "micro_batches": 3, "num_parts": 14}
SGD |= {"clusters_per_batch": 2, "schedule": "1f1b", "stages": [1]}
FITS = {
    "batch norm": {"model": "gcn", "scheduler": "onecycle", **SGD},
    "running": {"model": "averaging", "precompute": False, **SGD},
    "opaque": {"model": "gat", "schedule": "gpipe", "scheduler": "plateau", **SGD},
}
FIT = """
cases, folder = json.loads(sys.argv[1]), sys.argv[2]
small_runs.ClusterTrainer = gs.PipelineTrainer
found, known = {}, None
for name, options in cases.items():
    trainer = small_runs.small_trainer(None, graph=small_runs.small_graph(56), **options)
    report = trainer.fit()
    predictions = trainer.predict()
    found[name] = {"weights": small_runs.weights_of(trainer), "report": vars(report)}
    found[name]["predictions"] = predictions
    # Nothing waits for half an hour, and groups are made once.
    pipeline, setup = trainer._pipeline, trainer._setup
    links = [setup.group, setup.stage_group, *pipeline._engine.links.values()]
    known = known or links
    assert len(known) == len(links) and all(a is b for a, b in zip(known, links))
    limits = [link._get_backend(torch.device("cpu")).options._timeout for link in links]
    assert {limit.total_seconds() for limit in limits} == {60}
    # Features are read where the first stage is, labels where the last is.
    first, last = comm.rank(setup.stage_group) == 0, comm.rank(setup.stage_group) == 1
    read = trainer.loader.clustered.graph
    assert (read.x is not None, read.y is not None) == (first, last)
    # A rank has optimizer state of its own stages alone.
    own = {id(p) for p in trainer._pipeline.parameters()}
    assert {id(p) for p in trainer.optimizer.state} <= own

together = gs.nn.BatchNorm(6, synchronised=True)
model = gs.nn.LayeredGNN([gs.nn.Block(torch.nn.Linear(5, 6), norm=together)]
                         + [gs.nn.Block(torch.nn.Linear(6, 3))])
try:
    gs.PipelineTrainer(model, small_runs.small_graph(56), stages=[1])
    raise AssertionError("synchronised norms were taken")
except gs.UnsupportedModel as error:
    assert "blocks.0.norm" in str(error)
torch.save(found, f"{folder}/{comm.rank()}.pt")
"""


def test_ranks_learn_what_accumulation_does(forks):
    assert set(LAYOUTS) == {"gpipe", "1f1b", "interleaved", "zbv"} and len(NORMS) == 3
    Ranks(forks, "import functools\n" + STEPS, 2).finish()


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_pipelines_train_as_one_process(forks, tmp_path, ranks):
    """Four ranks are two pipelines: an update takes two batches where one takes one."""
    cases = FITS if ranks == 2 else {name: FITS[name] for name in ("batch norm", "running")}
    Ranks(forks, FIT, ranks, json.dumps(cases), str(tmp_path)).finish()
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(ranks)]
    for name, options in cases.items():
        known = {k: v for k, v in options.items() if k not in ("schedule", "stages")}
        several = known.pop("micro_batches") * ranks // 2
        one = small_trainer(None, graph=small_graph(56), accumulate=several, **known)
        report = one.fit()
        for of_rank in found:
            for key, value in weights_of(one).items():
                there = of_rank[name]["weights"][key]
                torch.testing.assert_close(there, value, rtol=1e-5, atol=1e-6, msg=f"{name} {key}")
            assert of_rank[name]["report"]["final"] == report.final
            rows = of_rank[name]["report"]["rows"]
            for row, other in zip(rows, report.rows, strict=True):
                assert row["loss"] == pytest.approx(other["loss"], rel=1e-6)
                assert row["lr"] == other["lr"]
            torch.testing.assert_close(
                of_rank[name]["predictions"], one.predict(), rtol=1e-4, atol=1e-5
            )


# The second message is there before the first one's computation has ended.
AHEAD = """
import time
from tests.parallel import steps
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from gnnscale.parallel import make_schedule
from gnnscale.parallel.engine.distributed import TorchEngine
from gnnscale.parallel.stages import cut

comm.start()
mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("dp", "pp"))
batches, cpu, asked = steps.micro_batches(), torch.device("cpu"), []
irecv = dist.irecv

def noting(tensor, *arguments):
    asked.append(tensor.fill_(float("nan")))
    return irecv(tensor, *arguments)

def observe(stage, micro_batch):
    if comm.rank() == 1 and micro_batch < 3:
        of_message = len(engine.crossing[0])
        assert len(asked) == (micro_batch + 2) * of_message  # one is held, no more
        ends = time.monotonic() + 60
        while any(tensor.isnan().any() for tensor in asked[-of_message:]):
            assert time.monotonic() < ends

devices, cuts = steps.LAYOUTS["gpipe"]
stages, whole = cut(steps.model(), cuts), make_schedule("gpipe", devices, 4)
engine = TorchEngine(stages, whole, mesh, cpu, batches[0], steps.computation())
dist.irecv = noting
engine.run(whole, batches, steps.computation(observe=observe))
comm.barrier()
"""


def test_messages_arrive_while_their_receiver_computes(forks):
    Ranks(forks, AHEAD, 2).finish()


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_result_that_another_device_needs_is_one_message(name):
    devices, cuts = LAYOUTS[name]
    schedule = make_schedule(name, devices, 4, len(cuts) + 1)
    sent = [a for pair in links(schedule) for a in messages(schedule, *pair)]
    needed = [
        source
        for device, row in enumerate(schedule.table)
        for action in row
        if (source := schedule.source_of(action)) is not None
        and schedule.placement[source.stage] != device
    ]
    assert len(sent) == len(set(sent)) and set(sent) == set(needed)


def test_a_message_that_is_not_what_the_other_end_expects_is_not_sent():
    """It would be accepted, and the rest of its buffer is memory nobody wrote."""
    action = Action("forward", 0, 1)
    expected = (Packet("x", 3, torch.float32, True),)
    assert as_agreed(action, {"x": torch.ones(3, 4).t()}, expected, 4)[0].is_contiguous()
    for wrong in (torch.ones(3, 3), torch.ones(4, 2), torch.ones(4, 3).double()):
        with pytest.raises(GnnscaleError, match="0F1 makes 'x'"):
            as_agreed(action, {"x": wrong}, expected, 4)
