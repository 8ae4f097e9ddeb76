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

import logging
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.checks import blocks
from gnnscale.graph.reading.found import Found

logger = logging.getLogger(__name__)

TASKS = ("classification", "multilabel", "regression")
_EXACT = 1 << 24  # whole numbers up to here are the same in float32
_MANY = 1024  # class numbers with gaps are asked about from here on: a head is a row for each
_MEANT = (
    "say num_classes= if there are so many classes, or number them through: "
    "numpy.unique(y, return_inverse=True)[1]; for quantities say task='regression'"
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
    found = Found.of(y)
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


def read_again(y: Tensor, was: str, task: str, *, of: str = "node") -> Labels:
    """Labels that were read for one task, read for another.

    Raises:
        InputError: the labels do not allow it.
    """
    if was != "regression" and not y.is_floating_point() and bool((y < 0).any()):
        wide = y.float() if int(y.max()) <= _EXACT else y.double()
        y = wide.masked_fill(y < 0, float("nan"))  # which -1 is not for every task
    return read_labels(y, task, of=of)


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


def _task_of(y: Tensor, found: Found) -> str:
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


def _classes(y: Tensor, found: Found, num_classes: int | None, of: str) -> Labels:
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


def _several(y: Tensor, found: Found, of: str) -> Labels:
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
