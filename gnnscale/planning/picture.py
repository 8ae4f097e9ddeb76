"""A plan in one picture: time against memory, the bound, and what is chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gnnscale.costs.predicted.prediction import Prediction
from gnnscale.errors import InputError
from gnnscale.planning.search import Asked
from gnnscale.planning.words import seconds, short, way
from gnnscale.shown import size
from gnnscale.storage.files import atomic_write
from gnnscale.storage.pictures import blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# By what bounds a configuration, and what has no time.
COLOURS = {
    "compute": "#3b6ea5",
    "memory": "#e3a857",
    "disk": "#c8553d",
    "network": "#7b5ea7",
    "overhead": "#4c956c",
}
_GREY = "#8c8c8c"
_MARKERS = {"cluster": "o", "layerwise": "s", "pipeline": "^", "graph": "o"}
_CALLED = {
    "cluster": "clusters",
    "layerwise": "layer by layer",
    "pipeline": "pipeline",
    "graph": "graphs",
}


def draw(
    predictions: Sequence[Prediction],
    best: Prediction | None,
    asked: Asked,
    title: str,
    path: str | os.PathLike[str],
) -> None:
    """Draw predictions into a PNG; what needs more ranks than there are is hollow.

    Raises:
        InputError: the path has another ending.
        MissingDependency: matplotlib is not installed.
        StoreError: it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the picture is a PNG; name it {path.with_suffix('.png')}")
    figure = blank_figure(9, 5.4)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    for one in predictions:
        colour = COLOURS.get(_bound(one), _GREY)
        axes.scatter(
            one.bytes,
            _height(one),
            facecolors=colour if asked.runs(one.configuration) else "none",
            edgecolors=colour,
            marker=_MARKERS[one.configuration.trainer],
            s=34,
            alpha=0.8,
            linewidths=1,
        )
    axes.set(xscale="log", yscale="log")
    if best is not None:
        _choose(axes, best)
    _limit(axes, asked.memory)
    timed = all(one.seconds is not None for one in predictions)
    shown = seconds if timed else size
    axes.set_xlabel("memory that fit adds")
    axes.set_ylabel("seconds an epoch" if timed else "bytes moved an epoch")
    for axis, words in ((axes.xaxis, size), (axes.yaxis, shown)):
        axis.set_major_formatter(partial(_tick, words))
        axis.set_minor_formatter(partial(_few, words))
        axis.set_tick_params(which="both", labelsize=8.5)
    _legend(axes, predictions)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130)


def _choose(axes: Axes, best: Prediction) -> None:
    at = (best.bytes, _height(best))
    axes.scatter(*at, s=170, facecolors="none", edgecolors="#111111", linewidths=1.6, zorder=3)
    taken = "" if best.seconds is None else f"{seconds(best.seconds.epoch)} an epoch, "
    axes.annotate(
        f"{way(best.configuration)}, {short(best.configuration)}\n{taken}{size(best.bytes)}",
        at,
        textcoords="offset points",
        xytext=(-12, 12),
        ha="right",
        fontsize=9,
        fontweight="bold",
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1},
    )


def _limit(axes: Axes, bound: int) -> None:
    """The bound, where anything is near it."""
    least, most = axes.get_xlim()
    axes.set_xlim(least / 1.6, most)  # room for what is said of the chosen one
    if least < bound < most:
        axes.axvspan(bound, most, color="#000000", alpha=0.04, linewidth=0)
        axes.axvline(bound, color="#333333", lw=1, ls="--")
        axes.annotate(
            f"memory = {size(bound)} ",
            (bound, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3, 6),
            textcoords="offset points",
            rotation=90,
            ha="right",
            fontsize=8.5,
            color="#333333",
        )


def _legend(axes: Axes, predictions: Sequence[Prediction]) -> None:
    """What markers and colours stand for."""
    trainers = list(dict.fromkeys(one.configuration.trainer for one in predictions))
    bounds = [name for name in COLOURS if name in set(map(_bound, predictions))]
    for trainer in trainers:
        axes.plot([], [], ls="", marker=_MARKERS[trainer], color=_GREY, label=_CALLED[trainer])
    for name in bounds:
        axes.plot([], [], ls="", marker="D", ms=5, color=COLOURS[name], label=f"bound by {name}")
    axes.legend(frameon=False, fontsize=8.5, loc="upper right", ncols=2 if bounds else 1)


def _bound(one: Prediction) -> str:
    return "" if one.seconds is None else one.seconds.bound_by


def _height(one: Prediction) -> float:
    return one.epoch.moved if one.seconds is None else one.seconds.epoch


def _tick(words: Callable[[float], str], value: float, _: object) -> str:
    return words(value)


def _few(words: Callable[[float], str], value: float, _: object) -> str:
    """Of ticks between powers of ten, those at 2 and 5 have words."""
    return words(value) if f"{value:e}"[0] in "25" else ""
