"""Statistics: what is worth knowing of a graph before anything is trained on it."""

from gnnscale.statistics.degrees import Degrees
from gnnscale.statistics.description import Cut, Description, describe
from gnnscale.statistics.distances import Distances
from gnnscale.statistics.homophily import Assortativity, Homophily, Pair
from gnnscale.statistics.leaks import Leak
from gnnscale.statistics.signal import Signal

__all__ = [
    "Assortativity",
    "Cut",
    "Degrees",
    "Description",
    "Distances",
    "Homophily",
    "Leak",
    "Pair",
    "Signal",
    "describe",
]
