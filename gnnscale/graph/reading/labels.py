"""What labels are: classes, several labels a row, or quantities.

Inside, an unlabelled row or entry is -1 in integers and NaN in floats:

==================  ================================================================================
``classification``  int64 `[rows]`. Given also as `[rows, 1]`, whole floats with NaN, booleans, and,
                    where `task` says so, one-hot rows `[rows, classes]`
``multilabel``      0 and 1 `[rows, labels]`, integers with -1 or floats with NaN
``regression``      floats `[rows]` or `[rows, targets]`; -1 is a quantity like others
==================  ================================================================================

Without a `task`, the values decide where they can mean one thing only. What they can not tell, as
whole floats (2.0: a class or a quantity?) or rows with a single 1 each, is asked.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.checks import blocks

if TYPE_CHECKING:
    from gnnscale.graph.graph import Graph

logger = logging.getLogger(__name__)

TASKS = ("classification", "multilabel", "regression")
_EXACT = 1 << 24  # whole numbers up to here are the same in float32
_MANY = 1024  # class numbers with gaps are asked about from here on: a head is a row for each
_MEANT = (
    "say num_classes= if there are so many classes, or number them through: "
    "numpy.unique(y, return_inverse=True)[1]"
)
_USED = 10  # if fewer than one in so many is used
_FEW = 100  # whole floats beside NaN are classes up to here, or where each has ten rows


class Labels(NamedTuple):
    """Labels as they are kept.

    Attributes:
        y: see the module.
        task: of `TASKS`.
        num_classes: classes, labels or targets.
        words: what was decided, in a line; empty where there was nothing to decide.
        beware: what a user may not expect of it, in a line; or empty.
    """

    y: Tensor
    task: str
    num_classes: int
    words: str = ""
    beware: str = ""

    def log(self, name: str) -> None:
        """Say it, of the graph called `name`."""
        if self.words:
            logger.info("%s: %s", name, self.words)
        if self.beware:
            logger.warning("%s: %s", name, self.beware)


def read_labels(
    y: Tensor, task: str | None = None, num_classes: int | None = None, *, of: str = "node"
) -> Labels:
    """Decide what labels are, and bring them into the form of the module.

    What is in that form already stays as it is, in a file too; the others are read in blocks.

    Args:
        y: numbers, `[rows]` or `[rows, columns]`.
        task: of `TASKS`; None where the values are to tell.
        num_classes: where it is known.
        of: what a row belongs to.

    Raises:
        InputError: values that no reading, or not that of `task`, allows; or several readings are
            possible: the words for each are in the message.
    """
    if y.dim() not in (1, 2) or (y.dim() == 2 and y.size(0) and not y.size(1)):
        raise InputError(f"y has shape {tuple(y.shape)}; labels are [{of}s] or [{of}s, columns]")
    found = _Found.of(y)
    chosen = _task_of(y, found) if task is None else task
    if chosen == "classification":
        read = _classes(y, found, num_classes, of)
    elif chosen == "multilabel":
        read = _several(y, found, of)
        if task is not None:  # whoever says it knows
            read = read._replace(beware="")
    else:
        read = _quantities(y)
    if num_classes is not None:
        read = read._replace(num_classes=num_classes)
    if read.y is y and task is not None and num_classes is not None:
        return read
    kind = str(y.dtype).removeprefix("torch.")
    missing = found.nan + found.minus * (chosen != "regression")
    if chosen == "classification" and y.dim() == 2 and y.size(1) > 1:
        missing = sum(int((rows < 0).sum()) for rows in blocks(read.y))
    words = _in_words(read, missing, of)
    return read._replace(words=f"y, {kind} {[*y.shape]}, is read for {words}")


def with_task(graph: Graph, task: str) -> Graph:
    """The graph with its labels read anew for a task; itself where they are for it.

    Raises:
        InputError: the labels do not allow it.
    """
    if graph.task == task:
        return graph
    if graph.y is None or task not in TASKS:
        return dataclasses.replace(graph, task=task, metric=None)
    y = graph.y
    if graph.task != "regression" and not y.is_floating_point() and bool((y < 0).any()):
        wide = y.float() if int(y.max()) <= _EXACT else y.double()
        y = wide.masked_fill(y < 0, float("nan"))  # which -1 is not for every task
    read = read_labels(y, task, of=graph.y_level)
    read.log(graph.name)
    return dataclasses.replace(
        graph, y=read.y, task=task, num_classes=read.num_classes, metric=None
    )


def with_unknown(y: np.ndarray, known: np.ndarray, task: str | None) -> np.ndarray:
    """Labels of which some are not known, for `read_labels`: -1 for these where -1 is no quantity.

    Args:
        y: `[rows]` or `[rows, columns]`; anything where nothing is known.
        known: bool, of that shape.
        task: of `TASKS`, or None where the values are to tell.
    """
    if known.all():
        return y
    given = y[known]
    marks = y.dtype.kind == "b" or ((given >= -1) & (given <= 1)).all()
    classes = y.ndim == 1 and (given >= -1).all()
    if y.dtype.kind == "f" or task == "regression" or not (marks or classes):
        wide = y.astype(y.dtype if y.dtype.kind == "f" else np.float64)
        wide[~known] = np.nan
        return wide
    narrow = y.astype(np.int8 if marks else np.int64)
    narrow[~known] = -1
    return narrow


def labelled(y: Tensor, task: str) -> Tensor:
    """Which rows of labels say something, bool `[rows]`."""
    known = known_labels(y, task)
    return known.any(1) if known.dim() > 1 else known


def known_labels(y: Tensor, task: str) -> Tensor:
    """Which labels are known, bool, of their shape."""
    if y.is_floating_point():
        return ~torch.isnan(y)
    return torch.ones_like(y, dtype=torch.bool) if task == "regression" else y >= 0


@dataclass
class _Found:
    """What labels hold, counted in blocks.

    Attributes:
        nan: how many.
        minus: -1, how many.
        zeros: how many.
        ones: how many.
        low: the least of the others than NaN and -1; `high` the greatest.
        odd_low: the least of what is not NaN, -1, 0 or 1; `odd_high` the greatest.
        part: row and value of the first that is no whole number, or infinite.
        none: rows without a 1 of which something is known.
        single: rows with a single 1 of which all is known.
        several: the first row with more than one 1.
        gaps: rows of which something is known and something is not.
    """

    nan: int = 0
    minus: int = 0
    zeros: int = 0
    ones: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    odd_low: float = float("inf")
    odd_high: float = float("-inf")
    part: tuple[int, float] | None = None
    none: int = 0
    single: int = 0
    several: int | None = None
    gaps: int = 0

    @classmethod
    def of(cls, y: Tensor) -> _Found:
        found, start = cls(), 0
        for rows in blocks(y):
            if rows.numel():
                found._add(rows, start)
            start += len(rows)
        return found

    def _add(self, rows: Tensor, start: int) -> None:
        if rows.size(1) == 1 and not rows.is_floating_point() and rows.dtype != torch.bool:
            least, most = (int(bound) for bound in rows.aminmax())
            if most > 1:  # classes: nothing else is asked of them, and there may be 10⁸
                self.low = min(self.low, 0 if least == -1 else least)
                self.high = max(self.high, most)
                self.odd_low, self.odd_high = min(self.odd_low, most), max(self.odd_high, most)
                self.minus += int((rows == -1).sum()) if least < 0 else 0
                return
        if rows.dtype in (torch.bool, torch.uint8):  # where torch finds 255 equal to -1
            rows = rows.short()
        minus, zero, one = rows == -1, rows == 0, rows == 1
        nan = torch.isnan(rows) if rows.is_floating_point() else torch.zeros_like(minus)
        self.nan += int(nan.sum())
        self.minus += int(minus.sum())
        self.zeros += int(zero.sum())
        self.ones += int(one.sum())
        if self.part is None and rows.is_floating_point():
            odd = ~nan & ((rows != rows.round()) | torch.isinf(rows))
            if bool(odd.any()):
                row, column = (int(i) for i in odd.nonzero()[0])
                self.part = start + row, float(rows[row, column])
        self.low, self.high = _bounds(rows, ~(nan | minus), self.low, self.high)
        odd = ~(nan | minus | zero | one)
        self.odd_low, self.odd_high = _bounds(rows, odd, self.odd_low, self.odd_high)
        if rows.size(1) > 1:
            ones, unknown = one.sum(1), (nan | minus).sum(1)
            whole, empty = unknown == 0, unknown == rows.size(1)
            self.none += int(((ones == 0) & ~empty).sum())
            self.single += int(((ones == 1) & whole).sum())
            self.gaps += int((~whole & ~empty).sum())
            if self.several is None and bool((ones > 1).any()):
                self.several = start + int((ones > 1).long().argmax())

    @property
    def marks(self) -> bool:
        """Whether there are no values but 0, 1, -1 and NaN."""
        return self.odd_low > self.odd_high

    @property
    def signs(self) -> bool:
        """Whether -1 stands beside 1 alone, and may mean "no"."""
        return self.minus > 0 and self.zeros == 0 and self.ones > 0 and self.marks


def _bounds(rows: Tensor, which: Tensor, low: float, high: float) -> tuple[float, float]:
    chosen = rows if bool(which.all()) else rows[which]
    if not chosen.numel():
        return low, high
    least, most = chosen.aminmax()
    return min(low, least.item()), max(high, most.item())


def _task_of(y: Tensor, found: _Found) -> str:
    """The task that the values of labels are for, where they are for one only."""
    columns = 1 if y.dim() == 1 else y.size(1)
    floats = y.is_floating_point()
    if y.numel() == 0:
        return "classification" if columns == 1 and not floats else "regression"
    if found.nan == y.numel():
        raise InputError("y is NaN everywhere: leave it out, or say task= and num_classes=")
    if columns == 1:
        if not floats:
            return "classification"
        if found.part is not None or found.low < -1:
            return "regression"
        known = y.numel() - found.nan
        if found.nan and not found.minus and found.high < max(_FEW, known / _USED):
            return "classification"  # they are floats for NaN, which integers do not have
        low, high = (-1, max(found.high, -1)) if found.minus else (found.low, found.high)
        raise InputError(
            f"y holds whole numbers as floats, from {low:g} to {high:g}: classes, or quantities? "
            "Say task='classification' or task='regression'"
        )
    if not found.marks:
        if found.odd_low == found.odd_high and found.zeros and found.ones and found.part is None:
            raise InputError(
                f"y holds 0, 1 and {found.odd_low:g}: quantities (say task='regression'), or "
                "labels of which some are unknown (give -1 or NaN for these)"
            )
        return "regression"
    if found.single and not found.none and not found.gaps and found.several is None:
        raise InputError(
            "y has a single 1 in every row: classes as one-hot rows, or several labels of which "
            "each row has one? Say task='classification' or task='multilabel'"
        )
    return "multilabel"


def _classes(y: Tensor, found: _Found, num_classes: int | None, of: str) -> Labels:
    columns = 1 if y.dim() == 1 else y.size(1)
    if columns > 1 and y.numel():
        if not found.marks or found.several is not None:
            why = "it holds others" if found.several is None else f"row {found.several} has several"
            raise InputError(
                f"y is {[*y.shape]}; classes are [{of}s], or one-hot rows with a single 1 each: "
                f"{why}. For 0/1 labels say task='multilabel', for quantities task='regression'"
            )
        none = y.size(0) - int(_ones_in_rows(y).sum())
        beware = f"{none:,} rows of y have no 1 and are read as unlabelled" if none else ""
        return Labels(_from_one_hot(y), "classification", columns, beware=beware)
    if found.part is not None:
        row, value = found.part
        raise InputError(
            f"y holds {value:g} in row {row}, which is no class: classes are whole numbers. For "
            "quantities say task='regression'"
        )
    if found.low < -1:
        raise InputError(
            f"labels go down to {found.low:g}; classes start at 0, -1 is unlabelled. For "
            "quantities say task='regression'"
        )
    if found.signs and (num_classes is None or num_classes <= 2) and not found.nan:
        raise InputError(
            "y holds -1 and 1 and no 0: give (y > 0) for two classes; where -1 is unlabelled, give "
            "NaN for it, in floats, and say task='classification'"
        )
    if num_classes is not None and found.high >= max(num_classes, 1):
        raise InputError(
            f"labels go up to {found.high:g}, outside the classes 0..{num_classes - 1}"
        )
    rows = y.size(0)
    if num_classes is None and found.high >= max(_MANY, _USED * rows):
        raise InputError(f"labels go up to {found.high:,g} for {rows:,} rows: {_MEANT}")
    made = _integers(y.reshape(-1) if y.dim() == 2 else y)
    if y.dtype == torch.bool:
        return Labels(made, "classification", 2)
    high = -1 if found.high < 0 else int(found.high)
    if num_classes is not None or high < 0:
        return Labels(made, "classification", high + 1)
    return Labels(made, "classification", high + 1, beware=_unused(y, made, high))


def _unused(y: Tensor, classes: Tensor, high: int) -> str:
    """What to say of class numbers that are not used.

    Raises:
        InputError: they are so many that no one meant it.
    """
    count = high + 1
    seen = torch.zeros(count, dtype=torch.bool)
    for block in blocks(classes):
        if count <= 1 << 16:
            seen |= torch.bincount(block[:, 0] + 1, minlength=count + 1)[1:] > 0
        else:
            seen[block[block >= 0]] = True
    used = int(seen.sum())
    if y.dtype == torch.uint8 and high == 255 and used > 1 and not bool(seen[254]):
        raise InputError(
            "y is uint8 and holds 255: a class, or -1 as uint8 has it? Give int64 with -1, or "
            "num_classes=256"
        )
    if count > _MANY and used * _USED < count:
        raise InputError(f"labels go up to {high:,} and use {used:,} numbers: {_MEANT}")
    if used == 1:
        return f"all labels are of class {high}"
    if used == count:
        return ""
    absent = (~seen).nonzero()[:6, 0].tolist()
    more = ", …" * (count - used > len(absent))
    return (
        f"labels are numbered 0 to {high:,}, and no row is of {count - used:,} of these {count:,} "
        f"classes ({', '.join(map(str, absent))}{more})"
    )


def _several(y: Tensor, found: _Found, of: str) -> Labels:
    if found.part is not None or not found.marks:
        value = found.part[1] if found.part is not None else found.odd_high
        raise InputError(
            f"multilabel wants y of 0 and 1 [{of}s, labels], -1 or NaN where unknown; y holds "
            f"{value:g}"
        )
    if found.signs and not found.nan:
        raise InputError(
            "y holds -1 and 1 and no 0: give (y > 0) where -1 is no; where it is unknown, give NaN "
            "for it, in floats"
        )
    y = y.unsqueeze(1) if y.dim() == 1 else y
    if y.is_floating_point() and found.minus:
        y = y.masked_fill(y == -1, float("nan"))
    beware = ""
    if y.size(1) > 1 and found.single and found.several is None and not found.gaps:
        beware = (
            "no row of y has more than one label; if they are classes as one-hot rows, say "
            "task='classification'"
        )
    return Labels(y, "multilabel", y.size(1), beware=beware)


def _quantities(y: Tensor) -> Labels:
    if not y.is_floating_point():
        bounds = [rows.aminmax() for rows in blocks(y) if rows.numel()]
        exact = all(int(b.min) >= -_EXACT and int(b.max) <= _EXACT for b in bounds)
        y = y.float() if exact else y.double()
    return Labels(y, "regression", y.size(1) if y.dim() == 2 else 1)


def _integers(y: Tensor) -> Tensor:
    """Whole numbers as int64, NaN as -1."""
    if not y.is_floating_point():
        return y.long()
    made = torch.empty(y.shape, dtype=torch.int64)
    start = 0
    for rows in blocks(y):
        made[start : start + len(rows)] = rows[:, 0].nan_to_num(nan=-1.0).long()
        start += len(rows)
    return made


def _ones_in_rows(y: Tensor) -> Tensor:
    return torch.cat([(rows == 1).any(1) for rows in blocks(y)])


def _from_one_hot(y: Tensor) -> Tensor:
    parts = []
    for rows in blocks(y):
        one = rows == 1
        parts.append(one.byte().argmax(1).masked_fill(~one.any(1), -1))
    return torch.cat(parts)


def _in_words(read: Labels, missing: int, of: str) -> str:
    y = read.y
    unknown = ""
    if missing:
        what = f"{of}s" if y.dim() == 1 else "entries"
        unknown = f", {missing:,} of {y.numel():,} {what} without one"
    kind = {"classification": "classes", "multilabel": "labels", "regression": "targets"}
    named = kind.get(read.task, "columns")
    return f"{read.task}, {read.num_classes:,} {named}{unknown}"
