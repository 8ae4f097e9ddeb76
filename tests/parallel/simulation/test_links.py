"""What a message takes between ranks."""

from __future__ import annotations

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
