"""What plan.py has found, as tables and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

Found = dict[str, Any]
MOST_TIME, LEAST_MEMORY = 0.30, -0.03  # the aims: of the worst, of what is under the truth


def measured(found: Found, what: str) -> list[float]:
    """All repeats of "epoch" or "evaluation" in seconds, or of "memory" in bytes."""
    if what == "memory":
        return [one["added"] for one in found.get("memory", [])]
    return [one[what] for one in found.get("time", []) if one.get(what)]


def predicted(found: Found, what: str) -> float | None:
    """What was predicted."""
    return found.get("predicted", {}).get(what)


def error(found: Found, what: str) -> float | None:
    """Predicted over measured, the median of the repeats, less one."""
    values, said = measured(found, what), predicted(found, what)
    return None if not values or said is None else said / statistics.median(values) - 1


def spread(found: Found, what: str) -> float:
    """From the least to the greatest of the repeats, of their median."""
    values = measured(found, what)
    return (max(values) - min(values)) / statistics.median(values) if values else 0.0


def in_short(part: str, found: Found) -> str:
    """What a run has added."""
    if part == "predict":
        return ", ".join(
            f"{k} {_figure(k, v)}" for k, v in found["predicted"].items() if k in _TOLD
        )
    if part == "time":
        last = found["time"][-1]
        told = f"epoch {_figure('epoch', last['epoch'])} (of {last['epochs']})"
        return f"{told}, evaluation {_figure('evaluation', last['evaluation'])}"
    if part == "memory":
        return _figure("memory", found["memory"][-1]["added"])
    return f"done: {found[part]}"[:300]


_TOLD = ("epoch", "evaluation", "memory")


def _figure(what: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:,.0f} MB" if what == "memory" else f"{1000 * value:,.0f} ms"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f} %"


def all_of(known: Sequence[Found]) -> Iterator[RenderableType]:
    """The table of cases, and what it comes to."""
    table = Table("case")
    for head in ("epoch", "predicted", "off", "± of 3", "exact evaluation", "off"):
        table.add_column(head, justify="right")
    for head in ("memory", "predicted", "off", "± of 3"):
        table.add_column(head, justify="right")
    for found in known:
        row = []
        for what in _TOLD:
            values = measured(found, what)
            middle = statistics.median(values) if values else None
            row += [_figure(what, middle)]
            if what != "evaluation":
                row += [_figure(what, predicted(found, what))]
            row += [_percent(error(found, what))]
            if what != "evaluation":
                row += [f"{100 * spread(found, what):.0f} %" if len(values) > 1 else ""]
        table.add_row(_name(found), *row)
    if any(found.keys() & {"predicted", "time", "memory"} for found in known):
        yield table
    yield from summaries(known)
    yield from choices(known)
    yield from bounds(known)
    for found in known:
        for part, why in found.get("failed", {}).items():
            yield f"failed: {_name(found)}: {part}: {why}"


def summaries(known: Sequence[Found]) -> Iterator[str]:
    """Medians and worst, beside the aims."""
    for what, aim in (("epoch", 0.07), ("evaluation", 0.07), ("memory", 0.05)):
        errors = {_name(one): off for one in known if (off := error(one, what)) is not None}
        if not errors:
            continue
        middle = statistics.median(map(abs, errors.values()))
        worst = max(errors, key=lambda name: abs(errors[name]))
        told = f"{what}: {len(errors)} cases, median error {100 * middle:.1f} % (aim {aim:.0%})"
        told += f", worst {_percent(errors[worst])} ({worst})"
        if what == "memory":
            under = [name for name, off in errors.items() if off < LEAST_MEMORY]
            told += f", {len(under)} under the truth by more than {-LEAST_MEMORY:.0%}"
        else:
            beyond = [
                _name(one)
                for one in known
                if abs(error(one, what) or 0) > max(MOST_TIME, spread(one, what))
            ]
            told += f", {len(beyond)} beyond {MOST_TIME:.0%} and the spread of the repeats"
        spreads = [spread(one, what) for one in known if len(measured(one, what)) > 1]
        if spreads:
            told += f"; repeats differ by {100 * statistics.median(spreads):.1f} % in the median"
        late = [one for one in known if _is_late(one, what)]
        if late:
            told += f"; {len(late)} were predicted after they were measured"
        yield told


def choices(known: Sequence[Found]) -> Iterator[RenderableType]:
    """What plans recommend, beside the fastest of their grids."""
    table = Table("graph and model")
    for head in ("bound", "recommended", "its epoch", "the fastest's", "slower by", "± of 2"):
        table.add_column(head, justify="right")
    good = every = 0
    for found in known:
        for one in found.get("choice", []):
            ran = [own for own in one["grid"] if all(own["measured"])]
            if not ran or ran[0] is not one["grid"][0]:
                continue
            middle = [statistics.mean(own["measured"]) for own in ran]
            off = middle[0] / min(middle) - 1
            two = (ran[0], ran[middle.index(min(middle))])
            wide = max(max(own["measured"]) / min(own["measured"]) - 1 for own in two)
            every, good = every + 1, good + (off <= max(0.1, wide))
            best = one["grid"][0]["options"]
            told = ", ".join(f"{k}={v}" for k, v in best.items() if v is not False)
            bound = "-" if one["bound"] is None else _figure("memory", one["bound"])
            seconds = [_figure("epoch", value) for value in (middle[0], min(middle))]
            row = [bound, told, *seconds, _percent(off), f"{100 * wide:.0f} %"]
            table.add_row(_name(found), *row)
    if every:
        yield table
        told = f"choice: {good} of {every} within 10 % of the fastest of the grid, or the spread"
        yield f"{told} of its repeats (aim 95 %)"


def bounds(known: Sequence[Found]) -> Iterator[RenderableType]:
    """Whether `memory=` held, and how near to what is needed the bounds are that are named."""
    held = runs = 0
    needs = dict[str, float]()
    broken = []
    for found in known:
        for one in found.get("bound", []):
            tried = [one] if "still refused" not in one else []
            tried += [one["wider"]] if "wider" in one else []
            for own in tried:
                runs += 1
                held += own["added"] <= own["bound"]
                if own["added"] > own["bound"]:
                    broken.append(f"{_name(found)}: {own['added'] / own['bound'] - 1:+.1%}")
            if "still refused" not in one:
                needs[_name(found)] = one["bound"] / one["added"] - 1
    if runs:
        near = sum(abs(off) <= 0.1 for off in needs.values())
        yield f"memory=: held in {held} of {runs} runs{': ' * bool(broken)}{'; '.join(broken)}"
        middle = statistics.median(needs.values()) if needs else 0.0
        told = f"the smallest bound named: {near} of {len(needs)} within 10 % of what was taken"
        most = _percent(max(needs.values(), default=0.0))
        yield f"{told} with it, {_percent(middle)} in the median, {most} at most"


def _is_late(found: Found, what: str) -> bool:
    runs = found.get("memory" if what == "memory" else "time", [])
    said = found.get("predicted")
    return bool(runs and said and said["at"] > runs[0]["at"])


def _name(found: Found) -> str:
    from plan_cases import Case

    return Case(**found["case"]).name


def draw(known: Sequence[Found], path: Path) -> None:
    """Predicted against measured, of time and memory, to a PNG."""
    panels = [("epoch", 1.0, "seconds an epoch", MOST_TIME), ("memory", 1e6, "memory, MB", 0.1)]
    if not any(error(one, what) is not None for one in known for what, *_ in panels):
        return
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(10, 4.8))
    for axes, (what, unit, title, band) in zip(both, panels, strict=True):
        by_trainer: dict[str, list[tuple[float, float]]] = {}
        for one in known:
            said, values = predicted(one, what), measured(one, what)
            if said is not None and values:
                label = _kind(one["case"])
                by_trainer.setdefault(label, []).append(
                    (statistics.median(values) / unit, said / unit)
                )
        points = [value for pairs in by_trainer.values() for pair in pairs for value in pair]
        if not points:
            continue
        ends = [0.8 * min(points), 1.25 * max(points)]
        axes.plot(ends, ends, color="#777777", lw=1)
        low, high = ([end * (1 + side) for end in ends] for side in (-band, band))
        axes.fill_between(ends, low, high, color="#dddddd", lw=0, label=f"± {band:.0%}")
        for label, pairs in sorted(by_trainer.items()):
            axes.plot(*zip(*pairs, strict=True), "o", ms=4, label=label)
        axes.set(xscale="log", yscale="log", xlabel=f"measured: {title}", ylabel="predicted")
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _kind(case: dict[str, Any]) -> str:
    whole = case["trainer"] == "cluster" and case["options"].get("num_parts") == 1
    name = "full batch" if whole else case["trainer"]
    return f"{name}, {case['ranks']} ranks" if case["ranks"] > 1 else name
