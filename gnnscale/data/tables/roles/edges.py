"""What the columns of a table of edges are, from their names, types and cells; or asked."""

from __future__ import annotations

import re
from collections.abc import Collection

from gnnscale.data.tables.roles import Role
from gnnscale.data.tables.roles.deciding import Deciding
from gnnscale.data.tables.roles.evidence import NEUTRAL, Look, vocabulary
from gnnscale.data.tables.roles.shared import share_an_id
from gnnscale.data.tables.table import Table
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute

#: Words for the two ends of an edge, the source first.
_ENDS = vocabulary("""
    source-target src-dst src-dest src-tgt src-trg source-dest source-destination source-sink
    origin-destination orig-dest from-to u-v s-t a-b x-y i-j p-q o-d n-m head-tail citing-cited
    follower-followee follower-followed follower-following sender-receiver sender-recipient
    parent-child subject-object caller-callee buyer-seller payer-payee rater-ratee rater-rated
    truster-trustee trustor-trustee ego-alter first-second left-right start-end row-col row-column
    author-coauthor 0-1 1-2
""")
_SOURCES = vocabulary("source src from citing")
_TARGETS = vocabulary("target dst dest tgt to cited")
_WEIGHTS = (["weight"], ["weights"], ["w"], ["edge", "weight"], ["edge", "weights"])
_KINDS = vocabulary("type types kind relation rel predicate class category layer group")


def edge_roles(
    table: Table,
    *,
    source: str | int | None = None,
    target: str | int | None = None,
    weight: str | int | None = None,
    time: str | int | None = None,
    drop: Collection[str] = (),
) -> list[Role]:
    """What each column of a table of edges is, in their order.

    The ends of an edge are the two columns that are named; else those whose names are a pair, as
    source and target or user_1 and user_2; else the first two of a table without header, or the
    only two that may hold ids. A time is a column of dates or times, also as numbers, and never a
    weight. A weight is named so, or the only other column of a table without header, with numbers
    that are not whole. Other numbers are asked about; other columns are left out.

    Raises:
        InputError: there is no such column; or columns may be several things: what, and the words
            that say which.
    """
    deciding = Deciding(table, drop)
    if not deciding.looks:
        return []
    ends = deciding.named(source, "source"), deciding.named(target, "target")
    weighted = _numbers(deciding, deciding.named(weight, "weight"))
    asked = bool(deciding.faults)
    if weighted is not None and not (weighted.is_number or asked) and len(weighted.cells):
        deciding.faults.append(
            f"{table.what}: column {weighted.name}, named as weight, is {weighted.in_words}; "
            "weights are numbers"
        )
    timed = _numbers(deciding, deciding.named(time, "time"))
    for look in deciding.left():
        if look.row_number:
            deciding.give(look, "left out", "row number")
        elif look.empty:
            deciding.give(look, "left out", "no cells")
    _find_ends(deciding, *ends)
    for look in deciding.left():
        deciding.as_numbers(look, _drop(deciding, look), "edge")
    if timed is None:
        _find_time(deciding)
    if weighted is None:
        _find_weight(deciding)
    for look in deciding.left():
        deciding.give(look, "left out", look.in_words)
    return deciding.done()


def _numbers(deciding: Deciding, look: Look | None) -> Look | None:
    """What is said to be numbers, as such where it is text."""
    if look is None:
        return None
    return deciding.as_numbers(look, _drop(deciding, look), "number")


def _drop(deciding: Deciding, look: Look) -> str:
    return f"to leave it out, drop={deciding.written(look)}"


def _find_ends(deciding: Deciding, source: Look | None, target: Look | None) -> None:
    free = deciding.left()
    needed = (source is None) + (target is None)
    if not needed:
        return
    if len(free) < needed:
        there = ", ".join(look.name for look in deciding.looks)
        several = f"columns {there}" if len(deciding.looks) > 1 else f"one column, {there}"
        raise InputError(
            f"{deciding.table.what} has {several}; an edge list has two or three: source, target "
            "and perhaps weight"
        )
    able = [look for look in free if look.may_name_nodes]
    named = _pairs(deciding, able, source, target)
    if not named and (wrong := _pairs(deciding, free, source, target)):
        odd = next(look for look in wrong[0] if not look.may_name_nodes)
        raise InputError(
            f"{deciding.table.what}: {odd.name} is {odd.in_words}; ids are integers or text"
        )
    if len(named) == 1:
        pair = named[0]
        spaces = [re.fullmatch(r".*_ID\((.+)\)", look.name) for look in pair]
        kinds = {match[1] for match in spaces if match}
        numbers = all(look.whole for look in pair)
        if len(kinds) == 2 and numbers and share_an_id(deciding.table, *pair):
            _ask_kinds(deciding, *pair, *sorted(kinds))
        _give_ends(deciding, *pair, "by its name")
        return
    if len(named) > 1:
        _ask_ends(deciding, [look for look in able if any(look in pair for pair in named)])
        return
    if deciding.bare:
        chosen = _first_of(free, able, needed)
    else:
        nodes = [look for look in able if not (look.called_quantity or look.moments)]
        nodes = [look for look in nodes if not _counts_edges(look)]
        rest = nodes if len(nodes) <= needed else [look for look in nodes if not look.marked]
        chosen = next((some for some in (nodes, rest, able) if len(some) == needed), [])
    if not chosen:
        _ask_ends(deciding, able or free)
        return
    if needed == 2:
        first, second = chosen
        backwards = not _SOURCES.isdisjoint(second.words) or not _TARGETS.isdisjoint(first.words)
        chosen = [second, first] if backwards else chosen
    pair = source or chosen[0], target or chosen[-1]
    if not deciding.bare and _of_two_kinds(deciding.table, *pair):
        _ask_kinds(deciding, *pair, *(look.words[0] for look in pair))
    _give_ends(deciding, *pair, "of the first two" if deciding.bare else "of the only two of ids")


def _ask_kinds(deciding: Deciding, source: Look, target: Look, kind: str, other: str) -> None:
    ends = deciding.written(source), deciding.written(target)
    deciding.faults.append(
        f"{deciding.table.what}: columns {ends[0]} and {ends[1]} hold the same numbers. If these "
        f"are the same nodes, say source={ends[0]}, target={ends[1]}; if nodes of two kinds, give "
        f"them ids that differ, as '{kind} 1' and '{other} 1'"
    )


def _pairs(
    deciding: Deciding, looks: list[Look], source: Look | None, target: Look | None
) -> list[tuple[Look, Look]]:
    """The pairs of columns that are called as the ends of an edge are."""
    return [
        (a, b)
        for a in ([source] if source else looks)
        for b in ([target] if target else looks)
        if _are_pair(a, b) and not deciding.bare
    ]


def _first_of(free: list[Look], able: list[Look], needed: int) -> list[Look]:
    """The first columns of a table without header, if only they can be the ends."""
    first = free[:needed]
    others = [look for look in free[needed:] if look in able and not look.moments]
    texts = [look for look in others if look.column.kind == "text" and not look.constant]
    texts = [look for look in texts if not look.marked]
    moments = any(look.moments for look in first) and not all(look.moments for look in first)
    sure = all(look in able for look in first) and not (texts or (moments and others))
    return first if sure else []


def _give_ends(deciding: Deciding, source: Look, target: Look, why: str) -> None:
    left = deciding.left()
    if source in left:
        deciding.give(source, "source", why)
    if target in left:
        deciding.give(target, "target", why)


def _ask_ends(deciding: Deciding, looks: list[Look]) -> None:
    shown = ", ".join(f"{deciding.written(look)} ({look.in_words})" for look in looks)
    first, last = deciding.written(looks[0]), deciding.written(looks[-1])
    deciding.faults.append(
        f"{deciding.table.what}: which of the columns are the ends of an edge, of {shown}? Say "
        f"source= and target=, as source={first}, target={last}"
    )
    for look in looks:
        deciding.give(look, "left out", "")  # asked about


def _find_time(deciding: Deciding) -> None:
    times = [
        look
        for look in deciding.left()
        if look.words not in _WEIGHTS and (look.moments or look.called_time)
    ]
    for look in times:
        if len(times) == 1:
            deciding.give(look, "time", look.moments or "by its name")
        else:
            deciding.give(look, "left out", f"one of {len(times)} times, none named by time=")


def _find_weight(deciding: Deciding) -> None:
    named = [look for look in deciding.left() if look.words in _WEIGHTS]
    if len(named) == 1 and named[0].is_number:
        deciding.give(named[0], "weight", "by its name")
        return
    if named and not all(look.is_number for look in named):
        deciding.ask(named, "is called as weights are, which are numbers", "drop")
        for look in named:
            deciding.give(look, "left out", "")
        return
    numbers = named or [
        look
        for look in deciding.left()
        if look.is_number
        and not look.called_number
        and _KINDS.isdisjoint(look.words)
        and not _always_one(deciding.table, look)
    ]
    if deciding.bare and len(numbers) == 1 and not numbers[0].whole:
        deciding.give(numbers[0], "weight", "numbers that are not whole")
    elif numbers:
        deciding.ask(numbers, "may be weights of the edges", "weight", "time", "drop")
        for look in numbers:
            deciding.give(look, "left out", "")
    for look in deciding.left():
        if look.column.kind == "text" and not look.constant and _is_dictionary(look):
            deciding.ask(
                [look],
                "holds NetworkX's attributes: write the edges anew with "
                "write_edgelist(data=['weight'])",
                "drop",
            )


def _are_pair(source: Look, target: Look) -> bool:
    """Whether two names are those of the ends of an edge, as user_1 and user_2."""
    first, second = (
        [word for word in look.words if word not in NEUTRAL] for look in (source, target)
    )
    differ = [pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]]
    return len(first) == len(second) and len(differ) == 1 and "-".join(differ[0]) in _ENDS


def _counts_edges(look: Look) -> bool:
    return look.counts_rows and look.called_number


def _of_two_kinds(table: Table, source: Look, target: Look) -> bool:
    """Whether names say that two columns are of two kinds, whose numbers are the same."""
    first, second = ({*look.words} - NEUTRAL for look in (source, target))
    short = [re.fullmatch(r"([a-z])id", look.name.lower()) for look in (source, target)]
    if short[0] and short[1] and "-".join(match[1] for match in short if match) not in _ENDS:
        return share_an_id(table, source, target)  # "uid" and "iid"
    if not (source.whole and target.whole and first and second and first.isdisjoint(second)):
        return False
    if not (first | second).isdisjoint(_SOURCES | _TARGETS):
        return False
    return len(max(first | second, key=len)) > 2 and share_an_id(table, source, target)


def _always_one(table: Table, look: Look) -> bool:
    """Whether a column is 1 in all rows, not the first alone: as a weight, it says nothing."""
    if not look.constant or not (look.numbers == 1).all() or not look.numbers.size:
        return False
    value = look.cells[0]
    batches = table.batches([look.name], {look.name: look.column.type})
    return all(compute.all(compute.equal(batch[0], value)).as_py() for batch in batches)


def _is_dictionary(look: Look) -> bool:
    return str(look.cells.drop_null()[0].as_py()).startswith("{")
