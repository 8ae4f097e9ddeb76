"""When nodes and edges became known, and what training and validation may know of them.

A time is a number: seconds since 1970, or whatever a data set counts in. Of NaN it is unknown when:
it is later than every cut. An edge is never known before both of its nodes are.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.adjacency import Adjacency, row_blocks
from gnnscale.graph.checks import tensor
from gnnscale.storage.mapped import read_rows, release

logger = logging.getLogger(__name__)

#: What a split by time is written with, as "time:60/20/20".
BY_TIME = "time:"
_DATES = (315_532_800, 4_102_444_800)  # 1980 to 2100, in seconds since 1970
_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")


class Cuts(NamedTuple):
    """The last moments that are known, in the unit of the times: what is later is not.

    Attributes:
        train: in training.
        val: in validation; in the test, everything is known.
    """

    train: float
    val: float


def read_times(value: object, what: str) -> Tensor:
    """Times `[k]`: int64 of integers, float64 of other numbers, and of dates seconds since 1970."""
    array = value if isinstance(value, Tensor) else np.asarray(value)
    if isinstance(array, np.ndarray) and array.dtype.kind == "M":
        seconds = array.astype("datetime64[ns]").astype(np.int64) / 1e9
        array = np.where(np.isnat(array), np.nan, seconds)
    times = tensor(array, what)
    return times.double() if times.is_floating_point() else times.long()


def time_faults(name: str, times: Tensor, count: int) -> list[str]:
    """Faults of the times of edges or nodes, one each."""
    if times.shape != (count,):
        return [f"{name} has shape {tuple(times.shape)}; it must be [{count}]"]
    if times.dtype not in (torch.int64, torch.float64):
        return [f"{name} has dtype {times.dtype}; times are int64 or float64"]
    return []


def read_cuts(given: Any, what: str) -> Cuts:
    """The cuts of a split out of two numbers, that of training and that of validation.

    Raises:
        InputError: they are none, or validation ends before training.
    """
    try:
        train, val = (one if isinstance(one, int) else float(one) for one in given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}={given!r}: cuts are two numbers, (train, val)") from error
    if not train <= val or not math.isfinite(train) or not math.isfinite(val):
        raise InputError(
            f"{what}={given!r}: validation, the second, ends before training, the first"
        )
    return Cuts(train, val)


def cut_faults(
    name: str, cuts: Cuts, times: Tensor | None, train: Tensor, val: Tensor
) -> list[str]:
    """Faults of a split with cuts: nodes that are trained or validated on before they are known."""
    faults = []
    for what, cut, mask in (("training", cuts.train, train), ("validation", cuts.val, val)):
        late = 0 if times is None else int((mask & ~known_by(times, cut)).sum())
        if late:
            faults.append(
                f"split {name}: {late:,} {what} nodes are later than the cut of {what}, "
                f"{shown_moment(cut)}; leave them out, take a later cut, or split nodes by their "
                f"times, splits='{BY_TIME}…' alone"
            )
    return faults


def known_by(times: Tensor, moment: float) -> Tensor:
    """Which are known by then, bool `[k]`."""
    # Compared with a float, torch makes float32 of integers.
    return times <= (moment if times.is_floating_point() else math.floor(moment))


def shown_moment(moment: float) -> str:
    """A moment as it is written, and the date that it may be."""
    shown = f"{moment:.0f}" if float(moment).is_integer() else repr(float(moment))
    if not _DATES[0] <= moment <= _DATES[1]:
        return shown
    date = datetime.fromtimestamp(math.floor(moment), UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{shown} ({date}, in seconds since 1970)"


# --- splits by time -----------------------------------------------------------------------------


def read_moment(text: str, dates: bool) -> float:
    """A moment out of its text: a number, or a date or time in seconds since 1970.

    A year, a month or a day is known to its end: `2018` is the last moment before 2019.

    Args:
        text: as "2018-12-31", "2018-12-31T12:00" or "17.5".
        dates: whether times are seconds since 1970: "2018" is then a year.

    Raises:
        InputError: it is neither.
    """
    text = text.strip()
    date = _DATE.fullmatch(text)
    if date is not None and (dates or date[2]):
        year, month, day = (None if part is None else int(part) for part in date.groups())
        try:
            begin = datetime(year or 1, month or 1, day or 1, tzinfo=UTC)
            if day:
                end = begin + timedelta(days=1)
            elif month:
                end = begin.replace(year=begin.year + month // 12, month=month % 12 + 1)
            else:
                end = begin.replace(year=begin.year + 1)
        except (ValueError, OverflowError) as error:
            raise InputError(f"{text!r} is no date: {error}") from error
        return math.nextafter(end.timestamp(), -math.inf)
    try:
        moment = float(text)
    except ValueError:
        moment = math.nan
    if math.isfinite(moment):
        return moment
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise InputError(f"{text!r} is no moment; write 2018, 2018-12-31 or a number") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def cuts_of(text: str, times: Tensor | None, dates: bool) -> Cuts:
    """The cuts that `text` says, of "2018/2019" or of shares of the nodes, as "60/20/20".

    Args:
        text: two moments, or three shares of the nodes that sum to 100.
        times: of the nodes that shares are of; None where only moments may be said.
        dates: as for `read_moment`.

    Raises:
        InputError: it is neither, or there are not enough different times.
    """
    words = text.split("/")
    if len(words) == 2:
        return read_cuts([read_moment(word, dates) for word in words], f"{BY_TIME}{text}")
    try:
        shares = [float(word) for word in words]
    except ValueError:
        shares = []
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 100) > 1e-6 or not shares[0]:
        raise InputError(
            f"{BY_TIME}{text} is neither two moments, where training and validation end, as "
            f"{BY_TIME}2018-12-31/2019-12-31, nor three shares that sum to 100, as "
            f"{BY_TIME}60/20/20"
        )
    if times is None:
        raise InputError(
            f"{BY_TIME}{text}: nodes have no times that shares could be of; say where training and "
            f"validation end, as {BY_TIME}2018-12-31/2019-12-31"
        )
    known = times[~torch.isnan(times)] if times.is_floating_point() else times
    different, counts = known.unique(return_counts=True)
    ends, wanted = counts.cumsum(0), [known.numel() * s / 100 for s in (shares[0], sum(shares[:2]))]
    parts = sum(share > 0 for share in shares)
    if different.numel() < parts:
        raise InputError(
            f"{BY_TIME}{text}: the nodes with labels have {different.numel()} different times; "
            f"{parts} parts need as many"
        )
    # Nodes of one time belong together: the nearest cut that leaves something to each part.
    least = torch.arange(different.numel())
    last = different.numel() - 1
    allowed = least <= last - (shares[1] > 0) - (shares[2] > 0)
    first = int(torch.where(allowed, (ends - wanted[0]).abs(), torch.inf).argmin())
    allowed = (least >= first + (shares[1] > 0)) & (least <= last - (shares[2] > 0))
    second = int(torch.where(allowed, (ends - wanted[1]).abs(), torch.inf).argmin())
    return Cuts(different[first].item(), different[second].item())


def parts_by_time(times: Tensor, labelled: Tensor, cuts: Cuts) -> dict[str, Tensor]:
    """The nodes of each part, bool `[num_nodes]`: those with labels, by their times.

    Raises:
        InputError: no node is known by the first cut.
    """
    train, val = (labelled & known_by(times, cut) for cut in cuts)
    if not bool(train.any()):
        some = times[labelled & (times == times)]
        span = (
            ""
            if not some.numel()
            else (
                f"; their times go from {shown_moment(some.min().item())} to "
                f"{shown_moment(some.max().item())}"
            )
        )
        raise InputError(
            f"no node with a label is known by {shown_moment(cuts.train)}, where training "
            f"ends{span}"
        )
    test = labelled & ~known_by(times, cuts.val)
    if times.is_floating_point() and (unknown := int((test & times.isnan()).sum())):
        logger.warning(
            "%s labelled nodes have no time: they are tested on, and known to no cut",
            f"{unknown:,}",
        )
    return {"train": train, "val": val & ~train, "test": test}


# --- what is known by then ----------------------------------------------------------------------


class KnownEdges(NamedTuple):
    """Edges of some rows that are known by a moment.

    Attributes:
        counts: int64 `[rows that are known]`, edges of each.
        indices: their sources, by the new numbers.
        positions: int64, where each stands among the edges of the graph.
    """

    counts: Tensor
    indices: Tensor
    positions: Tensor


def known_edges(
    adj: Adjacency, nodes: Tensor | None, edge_time: Tensor | None, moment: float
) -> Iterator[KnownEdges]:
    """The edges that are known by a moment, some millions at a time, in the order of the graph.

    Args:
        adj: of the graph.
        nodes: which nodes are known, bool `[num_nodes]`, and numbered anew; None for all.
        edge_time: when each edge became known; None for always.
        moment: the last that is known.
    """
    adj.prove()
    numbers = None if nodes is None else (nodes.cumsum(0) - 1).to(adj.indices.dtype)
    for start, stop, rows in row_blocks(adj):
        first = int(adj.indptr[start])
        row, col = rows.row_index, rows.indices
        kept = torch.ones(rows.nnz, dtype=torch.bool)
        if edge_time is not None:
            kept &= known_by(read_rows(edge_time, first, first + rows.nnz), moment)
            release(edge_time)
        if nodes is not None:
            kept &= nodes[start + row] & nodes[col.long()]
        counts = torch.bincount(row[kept], minlength=stop - start)
        col = col[kept]
        if nodes is not None and numbers is not None:
            counts, col = counts[nodes[start:stop]], numbers[col.long()]
        yield KnownEdges(counts, col, kept.nonzero().squeeze(1) + first)
