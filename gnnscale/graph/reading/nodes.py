"""Which nodes are meant, and which part of a split: masks, ids and names.

A mask has one entry a node: booleans, or 0 and 1 in any type of numbers. Everything else is ids. An
array called a mask (`train_mask`) is one, or refused; so is one called ids (`train_idx`). Without a
name to go by, an array of 0 and 1 with one entry a node is a mask, unless it could be ids as well,
as [0, 1] of two nodes: then it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.checks import blocks, bounds, tensor
from gnnscale.graph.times import Cuts

#: From what nodes are called `[k]` to their numbers; the text says in errors what they are.
Find = Callable[[np.ndarray, str], np.ndarray]

PARTS = ("train", "val", "test")
#: What others call the validation part: OGB "valid", Hugging Face "validation".
_VALIDATION = ("val", "valid", "validation", "dev")
PART_NAMES = rf"(?P<part>train|test|{'|'.join(_VALIDATION)})"
_PART = re.compile(rf"{PART_NAMES}(?:_(?P<kind>mask|idx))?")


@dataclass(frozen=True)
class Split:
    """Training, validation and test nodes: boolean masks `[num_nodes]`.

    Attributes:
        train: which are trained on.
        val: which are validated on.
        test: which are tested on.
        cuts: the last moments that training and validation know of; None where they know all.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    cuts: Cuts | None = field(default=None, kw_only=True)

    def __getitem__(self, name: str) -> Tensor:
        if name not in PARTS:
            raise InputError(f"no part {name!r} in a split; there are train, val and test")
        return getattr(self, name)

    def each(self, change: Callable[[Tensor], Tensor]) -> Split:
        """The split of what becomes of every mask."""
        return Split(*(change(self[part]) for part in PARTS), cuts=self.cuts)


def part_of(name: str) -> tuple[str | None, str | None]:
    """The part that a name stands for, and whether it says "mask" or "idx"; None where it is none.

    >>> part_of("valid_idx"), part_of("train"), part_of("held_out")
    (('val', 'idx'), ('train', None), (None, None))
    """
    match = _PART.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None, None
    part = match["part"]
    return "val" if part in _VALIDATION else part, match["kind"]


def read_parts(
    parts: Mapping[str, object],
    num_rows: int,
    prefix: str = "",
    *,
    of: str = "node",
    find: Find | None = None,
) -> dict[str, Tensor]:
    """The parts of one split, whatever they are called, as masks.

    Args:
        parts: masks or ids by name: train, val (also valid, validation, dev) and test, each also
            with "_mask" or "_idx" behind it, which says what it is.
        num_rows: nodes, or whatever else is split.
        prefix: of the names, in errors.
        of: what is split.
        find: see `read_nodes`.

    Returns:
        bool `[num_rows]` by "train", "val" and "test", each of which is there.

    Raises:
        InputError: listing every fault: a name is of no part, a part is given twice, or it is none.
    """
    masks: dict[str, Tensor] = {}
    given: dict[str, str] = {}
    faults = []
    for name, chosen in parts.items():
        part, kind = part_of(name)
        if part is None:
            faults.append(
                f"there is {prefix}{name}; the parts are called train, val and test (val also "
                "valid, validation and dev), and may end in _mask or _idx"
            )
        elif chosen is not None:
            try:
                mask = read_mask(chosen, num_rows, f"{prefix}{name}", kind=kind, of=of, find=find)
            except InputError as error:
                faults += error.faults
                continue
            if part in masks and not torch.equal(mask, masks[part]):
                faults.append(
                    f"{prefix}{given[part]} and {prefix}{name} are the same part and differ; "
                    "leave one out"
                )
            masks[part], given[part] = mask, name
    if faults:
        raise InputError(faults)
    nothing = [part for part in PARTS if part not in masks]
    return masks | {part: torch.zeros(num_rows, dtype=torch.bool) for part in nothing}


def read_mask(
    chosen: object,
    num_rows: int,
    what: str,
    *,
    kind: str | None = None,
    of: str = "node",
    find: Find | None = None,
) -> Tensor:
    """A set of nodes as a mask, bool `[num_rows]`; see `read_nodes`.

    Raises:
        InputError: as `read_nodes`; also where it has one entry a node and repeats ids, which a set
            does not.
    """
    read = read_nodes(chosen, num_rows, what, kind=kind, of=of, find=find)
    if read.dtype == torch.bool:
        return read
    mask = torch.zeros(num_rows, dtype=torch.bool)
    mask[read] = True
    if read.numel() == num_rows and not bool(mask.all()):
        raise InputError(
            f"{what} has one entry a {of}, from {int(read.min())} to {int(read.max())}, some of "
            "them repeated: a mask holds 0 and 1, and ids are given once each"
        )
    return mask


def read_ids(chosen: object, num_rows: int, what: str, *, of: str = "node") -> Tensor:
    """Nodes in the order given, int64 `[k]`; see `read_nodes`."""
    read = read_nodes(chosen, num_rows, what, of=of)
    return read.nonzero().squeeze(1) if read.dtype == torch.bool else read


def read_nodes(
    chosen: object,
    num_rows: int,
    what: str,
    *,
    kind: str | None = None,
    of: str = "node",
    find: Find | None = None,
) -> Tensor:
    """A mask of nodes, bool `[num_rows]`, or their ids, int64 `[k]`.

    Args:
        chosen: a mask or ids, as an array, a tensor, a column, a list or a range (which is ids).
        num_rows: nodes, or whatever else is chosen from.
        what: what it is called, in errors.
        kind: "mask" or "idx", where its name says which; else its values do.
        of: what is chosen from.
        find: the numbers of ids that are called otherwise, as by text.

    Raises:
        InputError: a mask of another length or of other values, an id out of range; or both
            readings are possible.
    """
    if isinstance(chosen, range):
        chosen, kind = torch.arange(chosen.start, chosen.stop, chosen.step), "idx"
    if find is not None and kind != "mask" and _is_text(chosen):
        return torch.from_numpy(find(np.asarray(chosen, dtype=object), f"{what}: id"))
    array = tensor(chosen, what)
    if array.dim() == 0 or (array.dim() == 2 and array.size(1) == 1):
        array = array.reshape(-1)
    if array.dim() != 1:
        raise InputError(
            f"{'mask ' * (kind == 'mask')}{what} has shape {tuple(array.shape)}; it must be "
            f"[{num_rows}], one per {of}" + ", or ids" * (kind != "mask")
        )
    if kind is None:
        kind = nodes_kind(array, num_rows, what, of=of)
    elif kind == "idx" and array.numel() == num_rows > 2 and is_marks(array):
        raise InputError(
            f"{what} is called ids and has one entry a {of}, each 0 or 1: call a mask "
            f"{what.rpartition('/')[2].removesuffix('_idx')}_mask"
        )
    if kind == "mask":
        return _mask(array, num_rows, what, of)
    return _ids(array, num_rows, what, of, find)


def nodes_kind(array: Tensor, num_rows: int, what: str, *, of: str = "node") -> str:
    """Whether the values of an array `[k]` say that it is a "mask" or "idx".

    Raises:
        InputError: they say both, or it is a mask of another length.
    """
    if array.dtype == torch.bool:
        return "mask"
    if not array.numel() or not is_marks(array):
        return "idx"
    once = array.numel() <= 2 and array.unique().numel() == array.numel()
    as_mask = array.numel() == num_rows
    as_ids = once and int(array.max()) < num_rows and not array.is_floating_point()
    if as_mask and as_ids:
        shown = [*map(int, array)]
        raise InputError(
            f"{what}={shown} may be a mask of {num_rows} {of}s or ids; for the mask give "
            f"{[*map(bool, shown)]}, for the ids {[i in shown for i in range(num_rows)]}"
        )
    if not as_mask and not once:
        raise InputError(
            f"{what} has {array.numel():,} entries, all of them 0 or 1: a mask has {num_rows:,}, "
            f"one per {of}, and ids are given once each"
        )
    return "mask" if as_mask else "idx"


def _mask(array: Tensor, num_rows: int, what: str, of: str) -> Tensor:
    if array.numel() != num_rows:
        raise InputError(
            f"mask {what} has shape {tuple(array.shape)}; it must be [{num_rows}], one per {of}"
            + _for_ids(what)
        )
    if array.dtype == torch.bool:
        return array
    mask = torch.empty(num_rows, dtype=torch.bool)
    start = 0
    for rows in blocks(array):
        wrong = (rows != 0) & (rows != 1)
        if bool(wrong.any()):
            raise InputError(
                f"mask {what} holds {rows[wrong][0].item():g}; a mask holds booleans or 0 and 1"
                + _for_ids(what)
            )
        mask[start : start + len(rows)] = rows[:, 0] == 1
        start += len(rows)
    return mask


def _ids(array: Tensor, num_rows: int, what: str, of: str, find: Find | None) -> Tensor:
    if array.dtype == torch.bool or (array.is_floating_point() and array.numel()):
        hint = " (for a mask give 0 and 1)" if array.is_floating_point() else ""
        raise InputError(f"{what} is {array.dtype}; ids of {of}s are integers{hint}")
    if not array.numel():
        return array.long()
    if find is not None:
        return torch.from_numpy(find(array.numpy(), f"{what}: id"))
    low, high = bounds(array)
    if low < 0 or high >= num_rows:
        raise InputError(
            f"{what} holds ids in [{low}, {high}]; allowed is [0, {num_rows - 1}]"
            + f", or a mask of 0 and 1 with {num_rows:,} entries" * (array.numel() == num_rows)
        )
    return array.long()


def _is_text(chosen: object) -> bool:
    if isinstance(chosen, Tensor):
        return False
    names = np.asarray(chosen)
    kind = names.dtype.kind
    return kind in "STU" or (kind == "O" and names.size > 0 and isinstance(names.flat[0], str))


def _for_ids(what: str) -> str:
    """Where ids go that were given under the name of a mask."""
    if not what.endswith("_mask"):
        return ""
    name = what.removesuffix("_mask")
    return f". Ids are given as {name}_idx, or as splits={{'default': {{'{name}': ids}}}}"


def is_marks(array: Tensor) -> bool:
    """Whether an array holds nothing but 0 and 1."""
    return all(bool(((rows == 0) | (rows == 1)).all()) for rows in blocks(array))


def pointers_among(node_ptr: Tensor | None, nodes: Tensor) -> Tensor | None:
    """`node_ptr` of the graph that some nodes induce, bool `[num_nodes]`; None for a single one."""
    if node_ptr is None:
        return None
    before = torch.cat([node_ptr.new_zeros(1), nodes.long().cumsum(0)])
    return before[node_ptr]
