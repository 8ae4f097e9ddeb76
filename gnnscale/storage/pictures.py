"""Pictures: a figure to draw on, and those that a run leaves behind where they can be drawn."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gnnscale.errors import MissingDependency
from gnnscale.extras import from_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

CURVES = {"loss": "#444444", "train": "#888888", "val": "#1f77b4", "test": "#d62728"}  # colours


def blank_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, to be saved.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    # Figure and canvas by hand: pyplot would pick a window system and keep global state.
    figure = from_extra("plots", "matplotlib.figure").Figure((width, height), layout="constrained")
    from_extra("plots", "matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    return figure


@contextlib.contextmanager
def curves(
    file: IO[bytes], title: str, metric: str, kind: str = "png"
) -> Iterator[tuple[Axes, Axes]]:
    """Axes for the training loss and for a metric over epochs, to draw on; then they are written.

    Args:
        file: what is written to.
        title: of the picture.
        metric: its name.
        kind: "png" or "svg".
    """
    figure = blank_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=metric.replace("_", " "))
    yield left, right
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    # One report, one file, byte for byte: no random ids, no date.
    with from_extra("plots", "matplotlib").rc_context({"svg.hashsalt": "gnnscale"}):
        figure.savefig(file, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else {})


def plot_where_possible(plot: Callable[[Path], object], path: Path) -> None:
    """Leave a picture behind; without matplotlib a warning: results are not lost for a picture."""
    try:
        plot(path)
    except MissingDependency as error:
        logger.warning("no %s: %s", path.name, error)
