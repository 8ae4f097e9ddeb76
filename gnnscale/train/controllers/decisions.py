"""A stop controller's decisions as a picture: p(stop) beside the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnnscale.train.run.report import Report

_LOSS, _P_STOP, _END, _WORDS = "#444444", "#d62728", "#bbbbbb", "#777777"


def draw_loss_of_layers(report: Report, axes: Any) -> None:
    """Draw the loss of every layer, where and why it stopped, and p(stop) where it was decided.

    Args:
        report: of a run layer by layer.
        axes: matplotlib's, to draw on.
    """
    for layer in report.layers:
        own = [row for row in report.rows if row["layer"] == layer["layer"]]
        axes.plot([row["epoch"] for row in own], [row["loss"] for row in own], color=_LOSS)
        if own and layer.get("stopped"):
            first, last = own[0]["epoch"], own[-1]["epoch"]
            axes.axvline(last, color=_END, lw=1, ls="--")
            name = layer["layer"] if isinstance(layer["layer"], str) else f"layer {layer['layer']}"
            axes.annotate(
                f"{name}: {layer['stopped']}",
                ((first + last) / 2, 0.98),
                xycoords=("data", "axes fraction"),
                rotation=90,
                ha="center",
                va="top",
                fontsize=8,
                color=_WORDS,
            )
    decided = [(r["epoch"], r["p_stop"]) for r in report.rows if r.get("p_stop") is not None]
    if decided:
        beside = axes.twinx()
        beside.plot(*zip(*decided, strict=True), color=_P_STOP, marker="o", ms=3, ls=":", lw=1)
        beside.set(ylim=(0, 1))
        beside.set_ylabel("p(stop)", color=_P_STOP)
        beside.spines[["top"]].set_visible(False)
