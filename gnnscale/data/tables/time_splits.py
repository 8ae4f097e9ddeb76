"""Splits by time: what is asked of labels, and where training and validation end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gnnscale.errors import InputError
from gnnscale.graph.times import BY_TIME, cuts_of, parts_by_time

_BOTH = re.compile(rf"(?P<labels>.*?)\s*\b{BY_TIME}(?P<cuts>\S*)\s*", re.DOTALL)


def apart(splits: Any) -> tuple[Any, str | None]:
    """What is asked of labels, None for nothing, and the cuts as text; None where there are none.

    >>> apart("time:60/20/20"), apart("60/20/20 time:2018/2019"), apart(("fold", "time:2018/2019"))
    ((None, '60/20/20'), ('60/20/20', '2018/2019'), ('fold', '2018/2019'))
    """
    if isinstance(splits, tuple) and len(splits) == 2 and _is_by_time(splits[1]):
        return splits[0], splits[1].removeprefix(BY_TIME)
    if isinstance(splits, str) and (both := _BOTH.fullmatch(splits)):
        return both["labels"] or None, both["cuts"]
    return splits, None


def _is_by_time(text: object) -> bool:
    return isinstance(text, str) and text.startswith(BY_TIME)


def with_cuts(
    parts: Mapping[str, Mapping[str, Any]] | None,
    text: str,
    times: np.ndarray | None,
    dates: bool | None,
    of_edges: bool | None,
    labelled: np.ndarray,
    may_be: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Sets of parts with their cuts.

    Args:
        parts: the nodes of each part, by the names of sets; None for those of their times.
        text: the cuts.
        times: of the nodes, or None.
        dates: whether these are seconds since 1970.
        of_edges: likewise of edges; None where they have no times.
        labelled: bool `[num_nodes]`.
        may_be: columns of nodes that may be their times.

    Raises:
        InputError: nothing has times, nodes and edges are not of one clock, or `text` says none.
    """
    named = " or ".join(f"time={name!r}" for name in may_be)
    named = f"as {named}" if named else "time="
    if times is None and of_edges is None:
        raise InputError(f"splits='{BY_TIME}{text}': no column is a time; name it, {named}")
    if times is not None and of_edges is not None and dates != of_edges:
        words = ["numbers of another kind", "dates"]
        raise InputError(
            f"splits='{BY_TIME}{text}': times of nodes are {words[bool(dates)]}, and those of "
            f"edges {words[of_edges]}: write both as dates, or leave one out with drop="
        )
    as_dates = bool(of_edges if times is None else dates)
    if times is None:
        if parts is None:
            raise InputError(
                f"splits='{BY_TIME}{text}': edges have times and nodes have none. Say how nodes "
                f"with labels are split as well, as splits='60/20/20 {BY_TIME}{text}', or which "
                f"column of nodes is their time, {named}"
            )
        cuts = cuts_of(text, None, as_dates)
        return {name: {**own, "cuts": cuts} for name, own in parts.items()}
    known, when = torch.from_numpy(labelled), torch.from_numpy(times)
    cuts = cuts_of(text, when[known], as_dates)
    if parts is not None:
        return {name: {**own, "cuts": cuts} for name, own in parts.items()}
    found = parts_by_time(when, known, cuts)
    return {"default": {**{part: mask.numpy() for part, mask in found.items()}, "cuts": cuts}}
