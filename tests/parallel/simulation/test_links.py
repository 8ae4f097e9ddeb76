"""What a message takes between ranks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from gnnscale.parallel.simulation import links
from gnnscale.parallel.simulation.links import Link
from tests.helpers.rank_runs import Ranks

MEASURE = """
from gnnscale.parallel.simulation.links import Link, measure_link
assert measure_link(torch.device("cpu")) == Link()
comm.start()
found = measure_link(torch.device("cpu"))
assert min(found) >= 0 and 0 < found.throughput < float("inf")
assert comm.gather_objects(found) == [found] * 3
"""


def test_ranks_agree_on_the_slowest_pair(forks):
    Ranks(forks, MEASURE, 3).finish()


def test_a_long_message_is_copied_and_moved():
    assert Link().throughput == float("inf")
    assert Link(bandwidth=4.0).throughput == 4.0
    assert Link(bandwidth=4.0, copying=0.25).throughput == 2.0


@pytest.mark.parametrize("measured", ["_to_and_fro", "_both_ways"])
def test_where_messages_move_one_by_one_no_end_waits_for_the_other(measured, monkeypatch):
    """As NCCL moves them: what one end sends the other takes at the same place in its order."""
    orders = []
    for begins in (True, False):
        order: list[str] = []

        def moved(what, order=order):
            def move(*_):
                order.append(what)
                return SimpleNamespace(wait=lambda: None)

            return move

        monkeypatch.setattr(
            links, "distributed", SimpleNamespace(isend=moved("send"), irecv=moved("take"))
        )
        made = torch.zeros(1, device="meta")  # no CPU: messages are not asked for ahead
        if measured == "_to_and_fro":
            links._to_and_fro(made, 1, begins)
        else:
            links._both_ways(made, 1, begins, lambda _: None)
        orders.append(order)
    assert orders[0] == [{"send": "take", "take": "send"}[what] for what in orders[1]]
    assert orders[0].count("send") == orders[0].count("take")
