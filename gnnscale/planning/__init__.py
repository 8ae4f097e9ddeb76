"""Planning: what fits, how long it takes, and which way to train, before anything runs."""

from gnnscale.planning.asynchrony import Asynchrony
from gnnscale.planning.planned import Plan, plan

__all__ = ["Asynchrony", "Plan", "plan"]
