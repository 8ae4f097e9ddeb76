"""What ranks tell each other, and ternary gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale import comm
from gnnscale.comm import watch as watches
from gnnscale.comm.group import timeout
from gnnscale.comm.ternary import pack, ternarised, unpack
from gnnscale.errors import InputError
from tests.helpers.rank_runs import Ranks

TOGETHER = """
me = comm.rank()
comm.start()
comm.start()  # once is enough
me, size = comm.rank(), comm.world_size()
assert (me, size) == (int(os.environ["RANK"]), 2) and comm.is_main() == (me == 0)
assert comm.gather_objects({"rank": me}) == [{"rank": 0}, {"rank": 1}]
assert comm.broadcast_object([me, "words"], src=1) == [1, "words"]
assert comm.sum_numbers(1, me, 0.5) == [2, 1, 1]
assert [comm.any_rank(me == 1), comm.any_rank(False)] == [True, False]
every = comm.gather_tensors(torch.full((2, 3), me))
assert torch.equal(every, torch.arange(2).view(2, 1, 1).expand(2, 2, 3))
assert comm.broadcast_(torch.tensor([me])).item() == 0
assert comm.all_reduce_(torch.tensor([me + 1.0]), op="max").item() == 2
comm.barrier()

# y = Σ_r (r + 1) x_r; every rank's loss is y², so that d/dx_r = (r + 1) Σ 2y.
x = torch.tensor([3.0, 1.0], requires_grad=True)
y = comm.sum_over_ranks((me + 1) * x)
y.square().sum().backward()
assert torch.equal(y, torch.tensor([9.0, 3.0])), y
assert torch.equal(x.grad, (me + 1) * 2 * 2 * y), x.grad

# What rank 0 finds, or fails with, all do; what cannot travel is told in words.
assert comm.from_main(lambda: me) == 0
class Strange(Exception):
    def __init__(self, one, two):
        super().__init__(one)
for error, told in ((gs.errors.InputError(["a", "b"]), None), (Strange("odd", 2), "Strange: odd")):
    def fail():
        raise error
    try:
        comm.from_main(fail)
    except Exception as caught:
        assert str(caught) == (str(error) if me == 0 or told is None else told), caught
        assert me == 0 or told is not None or caught.faults == ["a", "b"]
    else:
        raise AssertionError("it did not fail")

# Ternary sums are the same on all ranks, those of two estimates without bias.
sizes = [400, 1, 600]
gradient = torch.randn(1001, generator=torch.Generator().manual_seed(me))
exact = comm.all_reduce_(gradient.clone())
state, mean = comm.TernaryState(seed=3), torch.zeros(1001)
for _ in range(300):
    found = comm.ternary_sum_(gradient.clone(), sizes, state)
    assert torch.equal(*comm.gather_tensors(found))
    mean += found / 300
assert state.step == 300 and state.bytes_sent == 300 * (251 + 4 * 3)
assert (mean - exact).abs().mean() < 0.15, (mean - exact).abs().mean()
bad = gradient.clone()
bad[5] = float("inf") if me else 0.0
assert not comm.ternary_sum_(bad, sizes, state)[:400].isfinite().all()

# As a hook of torch's own data parallelism.
from torch.nn.parallel import DistributedDataParallel
torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(4, 3))
model.register_comm_hook(comm.TernaryState(seed=1), comm.ternary_hook)
model(torch.randn(5, 4, generator=torch.Generator().manual_seed(me))).square().sum().backward()
of_ranks = comm.gather_tensors(model.module.weight.grad)
assert torch.equal(*of_ranks) and of_ranks.any() and len(of_ranks[0].unique()) <= 9
"""


def test_two_ranks(forks):
    Ranks(forks, TOGETHER, 2).finish()


def test_alone_nothing_is_sent():
    comm.start()
    x = torch.ones(2, requires_grad=True)
    assert (comm.rank(), comm.world_size(), comm.is_main()) == (0, 1, True)
    assert comm.sum_over_ranks(x) is x and comm.all_reduce_(x) is x
    assert comm.gather_objects("a") == ["a"] and comm.broadcast_object("a") == "a"
    assert comm.from_main(lambda: 3) == 3 and comm.sum_numbers(2, 3.5) == [2, 3.5]
    assert comm.gather_tensors(x).shape == (1, 2)
    comm.barrier()


def test_a_rank_that_nobody_joins_says_where_it_waited(forks):
    lonely = Ranks(forks, "comm.start()", 2, timeout=1, present=1)
    assert lonely.wait() == [1]
    (told,) = lonely.errors()
    assert "RankFailure: rank 0 of 2 could not join the others at 127.0.0.1:" in told


def test_ranks_that_do_not_do_the_same_are_told_what_each_does(monkeypatch):
    monkeypatch.setattr(watches, "_PATIENCE", 0)
    monkeypatch.setattr(watches, "_GONE", 10**9)  # threads of a busy machine may be silent
    store = torch.distributed.HashStore()
    one, other = (watches.Watch(store, rank, 2, 60) for rank in range(2))
    one.begin()
    other.begin()

    def told(watch):
        for each in (one, other, one):  # as their threads do in time
            each._tick()
        return str(watch.explain(RuntimeError("late")))

    with one.doing("fit"), other.doing("fit"):
        assert "do not do the same" not in told(one)
        with one.doing("evaluate"):
            said = told(other)
    assert "(rank 0 in evaluate, rank 1 in fit): every rank calls fit" in said
    # What both raise alike is over for both; what one raises is not for the other.
    one.publish(ValueError("alike"))
    other.publish(ValueError("alike"))
    one.check()
    one.publish(ValueError("alone"))
    assert "rank 0 of 2 failed: ValueError: alone" in told(other)
    one.check()
    one.end()
    other.end()


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf"])
def test_a_timeout_is_a_number_of_seconds(monkeypatch, text):
    monkeypatch.setenv("GNNSCALE_TIMEOUT", text)
    with pytest.raises(InputError, match=f"GNNSCALE_TIMEOUT='{text}'"):
        timeout()


@given(st.lists(st.integers(-1, 1), max_size=41))
def test_four_signs_a_byte(signs):
    given_ = torch.tensor(signs, dtype=torch.int8)
    packed = pack(given_)
    assert packed.dtype == torch.uint8 and packed.numel() == -(-len(signs) // 4)
    assert torch.equal(unpack(packed, len(signs)), given_)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_ternary_values_are_signs_of_their_layer(sizes, seed):
    flat = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(seed))
    signs, scales = ternarised(flat, sizes, comm.TernaryState(seed))
    again, _ = ternarised(flat, sizes, comm.TernaryState(seed))
    assert torch.equal(signs, again)
    assert bool(((signs == 0) | (signs == flat.sign())).all())
    for layer, scale, drawn in zip(flat.split(sizes), scales, signs.split(sizes), strict=True):
        assert scale == (layer.abs().max() if layer.numel() else 0)
        largest = layer.abs() == scale
        assert bool((drawn[largest] != 0).all())  # with probability 1
