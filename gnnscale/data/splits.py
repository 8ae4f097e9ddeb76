"""Splits: training, validation and test nodes as data sets store them, and random ones.

Stored, they are one of:

* ``train_idx``, ``val_idx``, ``test_idx`` (node numbers) or ``train_mask`` ... (one entry a node,
  booleans or 0 and 1): the set "default"; with a name before it, as in ``public_train_idx``, the
  set of that name. Masks ``[num_nodes, k]`` are k sets, "fold0" to "fold<k-1>". ``valid``,
  ``validation`` and ``dev`` are ``val``;
* ``split_fold_masks`` ``[k, num_nodes]``: 0 training, 1 validation, 2 test, 3 none; "fold0" ...;
* ``fold`` ``[num_graphs]``, for graph labels: graphs of fold k are the test set of "fold<k>", all
  others train; -1 is never tested.

Where "default" leaves labelled nodes unused, as the public splits of citation graphs do, a set
"full" is added, which trains on all labelled nodes outside validation and test (the split of that
name in PyG; on Cora the 1208/500/1000 of L-GCN).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from gnnscale.errors import InputError
from gnnscale.graph.reading.nodes import PART_NAMES, PARTS, read_parts

Split = dict[str, np.ndarray]  # part -> bool [num_nodes]

_KEY = re.compile(rf"(?:(?P<set>\w+)_)?(?P<name>{PART_NAMES}_(?P<kind>idx|mask))")


def is_split_key(key: str) -> bool:
    """Whether an array of this name is a split."""
    return key in ("split_fold_masks", "fold") or _KEY.fullmatch(key) is not None


def read_splits(
    arrays: Mapping[str, np.ndarray], num_nodes: int, labelled: np.ndarray | None
) -> dict[str, Split]:
    """Return all split sets of arrays, "default" or the first fold first.

    Args:
        arrays: arrays by name.
        num_nodes: nodes.
        labelled: bool ``[num_nodes]``, nodes with a label, or None where labels are not the nodes'.

    Raises:
        InputError: a mask of the wrong length, node numbers out of range, an unknown code; all
            faults at once, each with its key.
    """
    faults: list[str] = []
    given: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        match = _KEY.fullmatch(key)
        if match is None:
            continue
        name, part = match["set"] or "default", match["name"]
        if match["kind"] == "mask" and array.ndim == 2 and array.shape[1] != 1:
            for k in range(array.shape[1]):
                fold = f"{name}_fold{k}" if match["set"] else f"fold{k}"
                given.setdefault(fold, {})[part] = array[:, k]
        else:
            given.setdefault(name, {})[part] = array
    found: dict[str, Split] = {}
    for name, parts in given.items():
        try:
            masks = read_parts(parts, num_nodes, "" if name == "default" else f"{name}_")
            found[name] = {part: mask.numpy() for part, mask in masks.items()}
        except InputError as error:
            faults += error.faults
    if "split_fold_masks" in arrays:
        found.update(_from_codes(arrays["split_fold_masks"], num_nodes, faults))
    if "fold" in arrays:
        found.update(_from_folds(arrays["fold"], arrays.get("node_ptr"), num_nodes, faults))
    if faults:
        raise InputError(faults)
    for split in found.values():
        for part in PARTS:
            split.setdefault(part, np.zeros(num_nodes, dtype=bool))
    if "default" in found:
        found = {"default": found.pop("default"), **found}
        if "full" not in found and labelled is not None:
            held_out = found["default"]["val"] | found["default"]["test"]
            full = labelled & ~held_out
            if held_out.any() and (full & ~found["default"]["train"]).any():
                found["full"] = {**found["default"], "train": full}
    return found


def choose_split(
    splits: dict[str, Split], wanted: str, labelled: np.ndarray, seed: int
) -> dict[str, Split]:
    """Return the sets with the one wanted as "default", what was "default" as "stored".

    Args:
        splits: split sets by name.
        wanted: the name of a set, or percentages such as "60/20/20" for a random one.
        labelled: bool ``[num_nodes]``: nodes to draw a random split from.
        seed: of a random split.

    Raises:
        InputError: no set has this name, or the percentages do not add up to at most 100.
    """
    if "/" in wanted:
        chosen = random_split(labelled, wanted, seed)
    elif wanted in splits:
        chosen = splits[wanted]
    else:
        known = ", ".join(splits) or "none stored"
        raise InputError(
            f"split {wanted!r} is not known; there are: {known}; or percentages such as '60/20/20' "
            "for a random one"
        )
    others = {name: split for name, split in splits.items() if name not in ("default", wanted)}
    if "default" in splits and wanted != "default":
        others["stored"] = splits["default"]
    return {"default": chosen, **others}


def random_split(labelled: np.ndarray, percentages: str, seed: int) -> Split:
    """Return a random split of the labelled nodes.

    Args:
        labelled: bool ``[num_nodes]``.
        percentages: of training, validation and test nodes, as in "60/20/20".
        seed: seed of NumPy's default generator.

    Raises:
        InputError: the percentages are malformed or add up to more than 100.
    """
    try:
        shares = [float(text) for text in percentages.split("/")]
    except ValueError:
        shares = []
    if len(shares) != 3 or not all(s >= 0 for s in shares) or not sum(shares) <= 100 + 1e-9:
        raise InputError(
            f"split {percentages!r} is not three percentages that add up to at most 100, such as "
            "'60/20/20'"
        )
    nodes = np.random.default_rng(seed).permutation(np.flatnonzero(labelled))
    # Rounded down but for the last bound, so that 50/25/25 uses every node.
    bounds = [int(nodes.size * sum(shares[:k]) / 100 + 1e-9) for k in range(4)]
    split = {}
    for part, start, stop in zip(PARTS, bounds[:-1], bounds[1:], strict=True):
        split[part] = np.zeros(labelled.size, dtype=bool)
        split[part][nodes[start:stop]] = True
    return split


def to_nodes(values: np.ndarray, node_ptr: np.ndarray) -> np.ndarray:
    """Repeat one value a graph ``[num_graphs]`` for each of its nodes ``[num_nodes]``."""
    return np.repeat(values, np.diff(node_ptr))


def _from_codes(codes: np.ndarray, num_nodes: int, faults: list[str]) -> dict[str, Split]:
    if codes.ndim != 2 or codes.shape[1] != num_nodes:
        faults.append(f"split_fold_masks: shape {[*codes.shape]}, expected [k, {num_nodes}]")
        return {}
    if not np.isin(codes, range(4)).all():
        faults.append("split_fold_masks: codes are 0 training, 1 validation, 2 test, 3 none")
    return {
        f"fold{k}": {part: row == code for code, part in enumerate(PARTS)}
        for k, row in enumerate(codes)
    }


def _from_folds(
    fold: np.ndarray, node_ptr: np.ndarray | None, num_nodes: int, faults: list[str]
) -> dict[str, Split]:
    if node_ptr is None or fold.shape != (node_ptr.size - 1,) or node_ptr[-1] != num_nodes:
        faults.append(f"fold: shape {[*fold.shape]}, expected one entry a graph of node_ptr")
        return {}
    if fold.dtype.kind not in "iu":
        faults.append(f"fold: {fold.dtype}, expected integers, the fold of each graph")
        return {}
    of_node = to_nodes(fold, node_ptr)
    return {
        f"fold{k}": {"train": of_node != k, "test": of_node == k}
        for k in range(int(fold.max(initial=-1)) + 1)
    }
