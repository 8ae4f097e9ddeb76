"""Ranks: the processes that train together, what they tell each other, and what if one fails.

Stands on `torch.distributed`. `start` joins the group that torchrun's environment describes;
without one this is rank 0 of 1, and nothing here communicates.

A rank that fails says so to all others, which raise `RankFailure` with its number and its error
the next time they communicate; one that is killed is missed and named (see `watch`).
"""

from gnnscale.comm.collectives import (
    all_reduce_,
    any_rank,
    barrier,
    broadcast_,
    broadcast_object,
    from_main,
    gather_objects,
    gather_tensors,
    sum_numbers,
    sum_over_ranks,
    together,
)
from gnnscale.comm.group import (
    doing,
    group_of,
    is_main,
    mesh_of,
    rank,
    ranks_here,
    start,
    telling_the_others,
    world_size,
)
from gnnscale.comm.ternary import TernaryState, ternary_hook, ternary_sum_

__all__ = [
    "TernaryState",
    "all_reduce_",
    "any_rank",
    "barrier",
    "broadcast_",
    "broadcast_object",
    "doing",
    "from_main",
    "gather_objects",
    "gather_tensors",
    "group_of",
    "is_main",
    "mesh_of",
    "rank",
    "ranks_here",
    "start",
    "sum_numbers",
    "sum_over_ranks",
    "telling_the_others",
    "ternary_hook",
    "ternary_sum_",
    "together",
    "world_size",
]
