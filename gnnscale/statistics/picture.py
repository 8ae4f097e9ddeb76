"""A graph in one picture: degrees, homophily by class, labels and the split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.reading.labels import known_labels
from gnnscale.statistics import sizes
from gnnscale.statistics.called import Called
from gnnscale.statistics.degrees import Degrees
from gnnscale.statistics.homophily import Assortativity, Homophily
from gnnscale.storage.files import atomic_write
from gnnscale.storage.mapped import loaded
from gnnscale.storage.pictures import blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _GREY, _RED, _PALE = "#3b6ea5", "#8c8c8c", "#c8553d", "#dddddd"
_PARTS = {"train": _BLUE, "val": "#e3a857", "test": _RED}
_BARS = 16  # classes that are shown by themselves
_SPLITS = 5
_LONG = 14  # letters of a name


def draw(
    called: Called,
    degrees: Degrees | None,
    homophily: Homophily | Assortativity | None,
    path: str | os.PathLike[str],
) -> None:
    """Draw a graph into a PNG.

    Raises:
        InputError: the path has another ending.
        MissingDependency: matplotlib is not installed.
        StoreError: it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the picture is a PNG; name it {path.with_suffix('.png')}")
    graph = called.graph
    figure = blank_figure(11, 7.2)
    (a, b), (c, d) = figure.subplots(2, 2, gridspec_kw={"hspace": 0.08, "wspace": 0.06})
    for axes in (a, b, c, d):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    _degrees(a, degrees)
    _homophily(b, called, homophily)
    _labels(c, called)
    _splits(d, called)
    figure.suptitle(
        f"{graph.name}: {graph.num_nodes:,} nodes, {graph.num_edges:,} directed edges",
        fontsize=13,
        fontweight="bold",
    )
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130)


def _title(axes: Axes, title: str, about: str = "") -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=20 if about else 6)
    if about:
        axes.text(0, 1.02, about, transform=axes.transAxes, fontsize=8.5, color="#555555")


def _nothing(axes: Axes, title: str, why: str) -> None:
    _title(axes, title)
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color=_GREY)


def _degrees(axes: Axes, degrees: Degrees | None) -> None:
    title = "Degrees"
    if degrees is None or degrees.greatest == 0:
        _nothing(axes, title, "no edges")
        return
    some = degrees.values > 0
    values, counts = degrees.values[some].double(), degrees.counts[some].double()
    total = float(degrees.counts.sum())
    more = counts.flip(0).cumsum(0).flip(0) / total
    axes.loglog(values, more, color=_BLUE, linewidth=1, alpha=0.6)
    axes.loglog(values, more, "o", color=_BLUE, markersize=3.5, alpha=0.8, markeredgewidth=0)
    for value, word, place in (
        (degrees.median, "median", "bottom"),
        (degrees.mean, "mean", "top"),
    ):
        if value > 0:
            axes.axvline(value, color=_GREY, linewidth=0.8, linestyle=":")
            axes.annotate(
                f" {word} {value:.3g}",
                (value, 0.02 if place == "bottom" else 0.12),
                xycoords=("data", "axes fraction"),
                fontsize=8,
                color="#555555",
            )
    axes.annotate(
        f"{degrees.greatest:,}",
        (float(values[-1]), float(more[-1])),
        textcoords="offset points",
        xytext=(7, -3),
        fontsize=8,
        color=_BLUE,
    )
    axes.set_xlim(right=float(values[-1]) * 2.5)
    axes.grid(alpha=0.2, which="major")
    axes.set_xlabel("in-degree k", fontsize=9)
    axes.set_ylabel("share of nodes with k or more", fontsize=9)
    _title(
        axes,
        title,
        f"1 % of the nodes have {degrees.tail:.0%} of the edges; {degrees.isolated:,} isolated",
    )


def _homophily(axes: Axes, called: Called, found: Homophily | Assortativity | None) -> None:
    title = "Homophily by class"
    if found is None:
        _nothing(axes, title, "no edge joins two nodes with labels")
        return
    if isinstance(found, Assortativity):
        values = found.by_column.nan_to_num(0)
        kind = "label" if found.task == "multilabel" else "target"
        order = values.abs().argsort(descending=True)[:_BARS]
        _bars(axes, called, order, values[order])
        axes.axhline(0, color="#333333", linewidth=0.8)
        axes.set_ylabel("correlation over edges", fontsize=9)
        _title(axes, f"Homophily by {kind}", f"0 is chance; the mean is {found.mean:.3f}")
        return
    order = found.ends.argsort(descending=True)
    order = order[found.ends[order] > 0][:_BARS]
    places = range(order.numel())
    _bars(axes, called, order, found.within[order])
    axes.plot(
        places,
        found.ends[order],
        linestyle="",
        marker="_",
        markersize=18 if len(places) <= 8 else 11,
        markeredgewidth=2.2,
        color=_RED,
        label="by chance",
    )
    axes.set_ylim(0, 1.0)
    axes.yaxis.set_major_formatter(_percent)
    axes.set_ylabel("edges that stay in the class", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1, 1.1))
    adjusted = "" if found.adjusted is None else f", adjusted {found.adjusted:.3f}"
    told = found.informativeness
    informative = "" if told is None else f", informativeness {told:.3f}"
    _title(axes, title, f"edge {found.edge:.3f}{adjusted}{informative}")


def _labels(axes: Axes, called: Called) -> None:
    graph = called.graph
    if graph.y is None:
        _nothing(axes, "Labels", "no labels")
        return
    y = loaded(graph.y)
    if graph.task == "regression":
        known = y[known_labels(y, graph.task)].double()
        if not known.numel():
            _nothing(axes, "Labels", "no label is known")
            return
        axes.hist(known.numpy(), bins=50, color=_BLUE)
        axes.set_ylabel(f"{graph.y_level}s", fontsize=9)
        _title(axes, "Targets", f"{known.numel():,} values")
        return
    if graph.task == "multilabel":
        known = known_labels(y, graph.task)
        shares = (y == 1).sum(0).double() / known.sum(0).clamp(min=1)
        title, unit, about = "Labels", f"share of {graph.y_level}s", f"{graph.num_classes:,} labels"
    else:
        shares = sizes.class_shares(graph)
        missing = int((y < 0).sum())
        title, unit = "Classes", f"share of labelled {graph.y_level}s"
        about = f"{graph.num_classes:,} classes"
        about += f"; {missing:,} {graph.y_level}s unlabelled" if missing else ""
    order = shares.argsort(descending=True)
    if order.numel() > _BARS:
        about += f"; the {_BARS} largest"
    order = order[:_BARS]
    _bars(axes, called, order, shares[order], figures=True)
    axes.yaxis.set_major_formatter(_percent)
    axes.set_ylabel(unit, fontsize=9)
    _title(axes, title, about)


def _bars(axes: Axes, called: Called, order: Tensor, values: Tensor, figures: bool = False) -> None:
    """A bar for each class in `order`."""
    places = list(range(order.numel()))
    bars = axes.bar(places, values.tolist(), color=_BLUE, width=0.7, zorder=2)
    if figures and len(places) <= 10:
        axes.bar_label(bars, [f"{value:.1%}" for value in values.tolist()], fontsize=8, padding=2)
    names = [_short(called.klass(int(number))) for number in order]
    long = max(map(len, names), default=0) * len(names) > 60
    axes.set_xticks(places, names, rotation=40 if long else 0, ha="right" if long else "center")
    axes.grid(alpha=0.2, axis="y", zorder=0)
    axes.margins(x=0.02)
    if len(places) < 5:
        axes.set_xlim(-1, len(places))


def _percent(value: float, _: object) -> str:
    return f"{value:.3g}%" if (value := round(100 * value, 6)) else "0%"


def _short(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[: _LONG - 1]}…"


def _splits(axes: Axes, called: Called) -> None:
    graph = called.graph
    names = list(graph.splits)[:_SPLITS]
    if not names or not graph.num_nodes:
        _nothing(axes, "Split", "no split")
        return
    for place, name in enumerate(names):
        left = 0.0
        counts = sizes.part_counts(graph, name)
        rest = graph.num_nodes - sum(counts.values())
        for part, count in [*counts.items(), ("none", max(rest, 0))]:
            share = count / graph.num_nodes
            axes.barh(
                place,
                share,
                left=left,
                height=0.62,
                color=_PARTS.get(part, _PALE),
                label=part if place == 0 and count else None,
            )
            if share > 0.08:
                axes.text(
                    left + share / 2,
                    place,
                    f"{count:,}",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if part in ("train", "test") else "#333333",
                )
            left += share
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.invert_yaxis()
    if len(names) < 3:
        axes.set_ylim(len(names) + 0.4, -1.4)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(_percent)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower right", bbox_to_anchor=(1.02, 0.98))
    more = len(graph.splits) - len(names)
    _title(axes, "Split", f"of the nodes{f'; {more} more sets' if more else ''}")
    axes.set_xlabel("share of the nodes", fontsize=9)
