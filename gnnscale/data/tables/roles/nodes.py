"""What the columns of a table of nodes are: whose row it is, labels, splits, features; or asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from gnnscale.data.tables.roles import Role
from gnnscale.data.tables.roles.deciding import Deciding
from gnnscale.data.tables.roles.evidence import Look, as_ids, vocabulary
from gnnscale.data.tables.table import Table
from gnnscale.errors import InputError
from gnnscale.graph.reading.nodes import part_of
from gnnscale.storage.arrow import compute, pyarrow

#: Whether a column is said to be "number" or "text", and its decimal sign; or "".
Meant = tuple[Literal["number", "text", ""], str]
#: Of columns, by name, how much of what they should hold they hold: see `node_roles`.
Shares = Callable[[Sequence[Look]], Mapping[str, float]]

_LABELS = vocabulary("label labels")
_MAY_BE_LABELS = vocabulary("y class target category")
_SPLITS = vocabulary("split splits subset partition")
_CALLED_ID = vocabulary("id ids node_id nodeid node nodes vertex vertex_id")


def node_roles(
    table: Table,
    shares: Shares,
    *,
    id: str | int | None = None,
    labels: Sequence[str | int] = (),
    split: str | int | None = None,
    time: str | int | None = None,
    drop: Collection[str] = (),
    features: Collection[str] = (),
    labels_apart: bool = False,
    rest: Literal["feature", "label", "split"] = "feature",
    meant: Callable[[str], Meant] = lambda _: ("", ""),
    no_order: Callable[[], str] = str,
) -> list[Role]:
    """What each column of a table of nodes is, in their order; without an id, rows are in order.

    The id is the column that is named; else the only one without repeated or empty cells that
    holds what it should. That the edges' ids are in a column counts, and not its name alone: where
    one called id and another hold them, or one called id does not, it is asked.

    Args:
        table: the nodes, or their labels.
        shares: of columns, how much of what they should hold they hold, from 0 to 1: of nodes the
            edges' ids, of labels ids of nodes.
        id: the column that says whose a row is, where the caller says it.
        labels: the columns of labels, likewise.
        split: the column of the parts of a split, likewise.
        time: the column of times, likewise.
        drop: the names of columns to leave out.
        features: the names of columns that are said to be features.
        labels_apart: whether labels are given elsewhere: columns called so are then left out.
        rest: what other columns are.
        meant: of a feature's name, whether it is said to be "number" or "text", and what stands
            before its decimals; empty where nothing says it.
        no_order: why rows cannot be in the order of nodes, in words; empty where they can.

    Raises:
        InputError: there is no such column; or columns may be several things: what, and the words
            that say which.
    """
    deciding = Deciding(table, drop)
    named = deciding.named(id, "id")
    for label in labels:
        deciding.named(label, "label")
    deciding.named(split, "split")
    deciding.named(time, "time")
    for look in deciding.left():
        if look.name in features:
            deciding.give(look, "feature", "named")
    numbers = [look for look in deciding.left() if look.row_number]
    for look in numbers:
        deciding.give(look, "left out", "row number")
    if not labels and rest == "feature":
        _find_labels(deciding, labels_apart)
    if split is None:
        _find_splits(deciding)
    if named is None:
        _find_id(deciding, shares, numbers, no_order)
    elif (twice := _repeated(table, named)) is not None:
        raise InputError(
            f"{table.what}: column {named.name}, named as id, has {twice}; give each node one row"
        )
    _find_numbers(deciding, rest, meant)
    for look in deciding.left():
        if look.empty:
            deciding.give(look, "left out", "no cells")
        elif rest == "feature" and look.called_number and look.counts_rows:
            deciding.give(look, "left out", "it counts the rows")
        elif rest == "feature" and look.names_rows:
            deciding.give(look, "left out", "a name of each row, and no feature of it")
        else:
            deciding.give(look, rest, "")
    return deciding.done()


def _find_numbers(
    deciding: Deciding, rest: Literal["feature", "label", "split"], meant: Callable[[str], Meant]
) -> None:
    """Read labels, times and features that are numbers in text as such."""
    of_labels = {look.column.number for look in deciding.those("label")}
    values = [*deciding.those("feature"), *deciding.those("time")]
    values += deciding.left() if rest != "split" else []
    numbers = [*of_labels, *(look.column.number for look in values)]
    looks = [deciding.looks[number] for number in numbers]
    if not (deciding.table.typed or all(look.complete for look in looks)):
        known = deciding.table.settled(numbers)
        looks = [replace(k, column=column) for k, column in zip(looks, known, strict=True)]
    for look in looks:
        if look.column.kind != "text":
            continue
        own = deciding.written(look)
        labels = look.column.number in of_labels or rest == "label"
        said, decimal = ("", "") if labels else meant(look.name)
        if said == "text":
            continue
        text = f"for text, recipe={{{own}: 'one-hot'}}"
        of: Literal["label", "feature"] = "label" if labels else "feature"
        deciding.as_numbers(
            look, f"or drop={own}" if labels else text, "number" if said else of, decimal
        )
        marks = deciding.table.marks.get(look.name)
        if labels and marks is not None and marks.missing:
            word = marks.missing[0]
            deciding.faults.append(
                f"{deciding.table.what}: {look.name} holds {word!r}: a class, or no label? "
                "Leave the cell empty where there is none, and write a class otherwise, as "
                f"'class {word}'"
            )


def _find_labels(deciding: Deciding, apart: bool) -> None:
    left = deciding.left()
    names = {look.name.lower() for look in left}
    for look in left:
        called = {*look.words} - {"node"}
        if called and called <= _LABELS and apart:
            deciding.give(look, "left out", "called as the labels that are given elsewhere")
        elif called and called <= _LABELS:
            deciding.give(look, "label", "by its name")
    if apart:
        return
    known = deciding.those("label")
    for look in deciding.left():
        name = look.name.lower()
        if name in _MAY_BE_LABELS and not (name == "y" and "x" in names):
            if known and not _are_the_same(known[0], look):
                continue  # a feature beside labels
            own = deciding.written(look)
            beside = f", and tells {deciding.written(known[0])}" if known else ""
            deciding.faults.append(
                f"{deciding.table.what}: column {own} ({look.in_words}) may be labels or a feature"
                f"{beside}: say labels={own}, drop={own}, or for a feature recipe={{{own}: …}}"
            )
            deciding.give(look, "left out", "")


def _are_the_same(labels: Look, other: Look) -> bool:
    """Whether a column only calls the labels otherwise, one for one."""
    if not {labels.column.kind, other.column.kind}.isdisjoint(("list", "other")):
        return False
    first, second = (as_ids(look.cells) for look in (labels, other))
    there = compute.and_(first.is_valid(), second.is_valid())
    pairs = {*zip(first.filter(there).to_pylist(), second.filter(there).to_pylist(), strict=True)}
    return len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs) > 1


def _find_splits(deciding: Deciding) -> None:
    for look in deciding.left():
        part, kind = part_of(look.name.lower())
        if part is not None and kind == "mask":
            deciding.give(look, "split", "by its name")
        elif not _SPLITS.isdisjoint(look.words) and look.column.kind == "text":
            values = look.cells.unique().drop_null().to_pylist()
            if values and all(part_of(str(v).strip().lower())[0] or v == "" for v in values):
                deciding.give(look, "split", "names of parts")


def _find_id(
    deciding: Deciding, shares: Shares, numbers: list[Look], no_order: Callable[[], str]
) -> None:
    table, left = deciding.table, deciding.left()
    able = [k for k in left if k.may_name_nodes and (k.called_id or _once(as_ids(k.cells)))]
    # Numbers with a point are ids where nothing else can be: some were missing in between.
    points = [look for look in able if look.column.kind == "float" and not look.called_id]
    if points and not no_order():
        able = [look for look in able if look not in points]
    held = dict.fromkeys((look.name for look in left), 0.0) | dict(shares(able))
    once = [look for look in able if held[look.name] > 0 and _repeated(table, look) is None]
    whole = [look for look in once if held[look.name] == 1]
    called = [look for look in left if look.name.lower() in _CALLED_ID]
    sure = [look for look in whole if look in called]
    sure = sure if len(sure) == 1 else [look for look in whole if look.called_id] or whole
    # What is called id and holds none stands against what holds them and is called otherwise.
    named = any(look.called_id for look in sure)
    candidates = sure if named else [*sure, *(look for look in called if look not in sure)]
    if len(candidates) == 1 and held[candidates[0].name] > 0:
        if candidates[0].called_quantity and not (named or no_order()):
            _ask_quantity(deciding, candidates[0])
        else:
            deciding.give(candidates[0], "id", _why(candidates[0]))
    elif len(candidates) > 1:
        _ask_id(deciding, candidates, held)
    elif called:
        _refuse_id(deciding, called[0], no_order())
    elif index := [look for look in numbers if _is_better(table, look, shares, no_order)]:
        if no_order():
            deciding.give(index[0], "id", "the index, which holds ids of nodes")
        else:
            deciding.ask(
                index, "is an index that does not count the rows, and may be ids", "id", "drop"
            )
    elif reason := no_order():
        if partly := [look for look in once if held[look.name] >= 0.5]:
            _ask_id(deciding, partly, held)
        else:
            raise InputError(
                f"{table.what}: no column holds the ids of nodes once each, and {reason}; say "
                "which one does: id="
            )


def _why(look: Look) -> str:
    kind = "text" if look.column.kind == "text" else "integers"
    return f"unique {kind}"


def _ask_id(deciding: Deciding, looks: list[Look], held: dict[str, float]) -> None:
    shown = ", ".join(f"{look.name} ({held[look.name]:.0%} of them)" for look in looks)
    words = " or ".join(f"id={deciding.written(look)}" for look in looks)
    deciding.faults.append(
        f"{deciding.table.what}: which column says whose a row is? Ids of nodes are in {shown}: "
        f"say {words}"
    )
    for look in looks:
        deciding.give(look, "left out", "")


def _ask_quantity(deciding: Deciding, look: Look) -> None:
    own = deciding.written(look)
    deciding.faults.append(
        f"{deciding.table.what}: column {own} holds the edges' ids, once each, and is called as a "
        f"quantity is. Where it says whose a row is, say id={own}; where rows are in the order of "
        f"nodes, recipe={{{own}: 'as is'}} or drop={own}"
    )
    deciding.give(look, "left out", "")


def _refuse_id(deciding: Deciding, look: Look, ordered: str) -> None:
    written = None if deciding.table.typed else {look.name: pyarrow.large_string()}
    first = next(deciding.table.batches([look.name], written), None)
    cells = look.cells if first is None else first[0]
    examples = ", ".join(repr(cell.as_py()) for cell in cells[:3])
    remedy = f", or where rows are in the order of nodes, drop={look.name!r}"
    raise InputError(
        f"{deciding.table.what}: column {look.name} ({examples}, …) holds no id of a node that the "
        f"edges name{f': {ordered}' if ordered else ''}. Say which column does, id=…"
        + ("" if ordered else remedy)
    )


def _is_better(table: Table, look: Look, shares: Shares, no_order: Callable[[], str]) -> bool:
    """Whether an index says more than the order of rows does."""
    counts = look.counts_rows and bool(look.numbers.size) and look.numbers[0] == 0
    if counts and not no_order():
        return False
    return shares([look])[look.name] == 1 and _repeated(table, look) is None


def _repeated(table: Table, look: Look) -> str | None:
    """What keeps a column from saying whose a row is, in words: repeated or empty cells."""
    cells = as_ids(look.cells)
    if not look.complete and _once(cells):
        batches = table.batches([look.name])
        cells = pyarrow.chunked_array([as_ids(batch[0]) for batch in batches], cells.type)
    if _once(cells):
        return None
    repeated = len(cells) - cells.null_count - len(cells.drop_null().unique())
    return f"{cells.null_count:,} empty cells and {repeated:,} ids that are there before"


def _once(cells: pyarrow.Array | pyarrow.ChunkedArray) -> bool:
    return cells.null_count == 0 and len(cells.unique()) == len(cells)
