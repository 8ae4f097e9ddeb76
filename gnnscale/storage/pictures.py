"""Pictures: a figure to draw on, and those that a run leaves behind where they can be drawn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gnnscale.errors import MissingDependency
from gnnscale.extras import from_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


def blank_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, to be saved.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    # Figure and canvas by hand: pyplot would pick a window system and keep global state.
    figure = from_extra("plots", "matplotlib.figure").Figure((width, height), layout="constrained")
    from_extra("plots", "matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def plot_where_possible(plot: Callable[[Path], object], path: Path) -> None:
    """Leave a picture behind; without matplotlib a warning: results are not lost for a picture."""
    try:
        plot(path)
    except MissingDependency as error:
        logger.warning("no %s: %s", path.name, error)
