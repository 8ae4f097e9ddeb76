"""Planning: what fits, how long it takes, and which way to train, before anything runs."""

from gnnscale.planning.planned import Plan, plan
from gnnscale.planning.staleness import Staleness

__all__ = ["Plan", "Staleness", "plan"]
