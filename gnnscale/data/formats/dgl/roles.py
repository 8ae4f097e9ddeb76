"""What the arrays that DGL keeps by name are: features, labels, masks, weights, types.

DGL's users call them as they like. Names that its data sets use are known; where none is there, or
several are, the name is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

from gnnscale.data.splits import is_split_key
from gnnscale.errors import InputError

logger = logging.getLogger(__name__)

_FEATURES = {"feat", "feats", "feature", "features", "x", "attr", "attrs"}
_FEATURES |= {f"{of}_{name}" for of in ("node", "edge") for name in _FEATURES}
_LABELS = {"label", "labels", "y", "target", "targets"}
_LABELS |= {f"{of}_{name}" for of in ("node", "graph") for name in _LABELS} | {"glabel"}
_WEIGHTS = {"weight", "weights", "w", "edge_weight"}
_TYPES = {"_TYPE", "ntype", "etype", "node_type", "edge_type", "rel_type"}
_ORIGINAL = {"_ID"}  # where dgl.to_homogeneous and subgraphs note what was taken

NONE = "none"
"""What is written where none of the arrays is meant."""


@dataclass(frozen=True)
class Roles:
    """Which of the arrays of nodes, edges or graphs is what, by name.

    Attributes:
        features: side by side.
        label: one, or "".
        weight: of edges, or "".
        types: of nodes or edges, or "".
        splits: masks.
        left_out: the others.
    """

    features: tuple[str, ...] = ()
    label: str = ""
    weight: str = ""
    types: str = ""
    splits: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def chosen(self) -> bool:
        """Whether anything is taken but splits and labels."""
        return bool(self.features or self.weight or self.types)

    def without_label(self) -> Roles:
        """The same where labels are taken from elsewhere."""
        return replace(self, label="", left_out=(*self.left_out, self.label))

    def log(self, of: str) -> None:
        """Say it, a line an array."""
        lines = {name: "feature" for name in self.features}
        lines |= {name: "split" for name in self.splits}
        lines |= {self.label: "labels", self.weight: "weights", self.types: "types"}
        for name, what in lines.items():
            if name:
                logger.info("`%s`: %s of %s", name, what, of)
        if self.left_out:
            logger.warning("left out, of %s: %s", of, ", ".join(self.left_out))


def roles_of(
    names: Collection[str], of: str, *, features: str | None = None, labels: str | None = None
) -> Roles:
    """Decide what arrays are by their names.

    Args:
        names: of the arrays.
        of: "nodes", "edges" or "graphs".
        features: the names of features with commas between, or "none"; None where known names tell.
        labels: the name of labels, likewise.

    Raises:
        InputError: there are several readings, or no such array; with the words for each.
    """
    rest = [name for name in names if name not in _ORIGINAL]
    faults: list[str] = []
    option = "edge_features" if of == "edges" else "features"
    splits = [name for name in rest if of != "edges" and is_split_key(name)]
    types = _only(rest, _TYPES) if of != "graphs" else ""
    weight = _only(rest, _WEIGHTS) if of == "edges" else ""
    label = ""
    if of != "edges":
        label = _asked_label(rest, labels, of, faults)
    taken = {*splits, types, weight, label}
    open_names = [name for name in rest if name not in taken]
    if of == "graphs":
        chosen: list[str] = []
    elif features is not None:
        chosen = [] if features == NONE else [name.strip() for name in features.split(",")]
        if missing := [name for name in chosen if name not in names]:
            faults.append(
                f"{option}={features!r}: {of} have no {', '.join(missing)}; there are "
                f"{', '.join(names) or 'none'}"
            )
    else:
        chosen = [name for name in open_names if name.lower() in _FEATURES]
        if len(chosen) > 1 or (not chosen and open_names and of == "nodes"):
            found = chosen or open_names
            every = ",".join(found)
            faults.append(
                f"{of} have {', '.join(f'`{name}`' for name in found)}: which are features? Say "
                f"{option}={found[0]!r}"
                + (f", {option}={every!r} for all of them" if len(found) > 1 else "")
                + f" or {option}={NONE!r}"
            )
    if faults:
        raise InputError(faults)
    if labels is None and label in chosen:
        label = ""
    used = {*taken, *chosen}
    return Roles(
        tuple(chosen),
        label,
        "" if weight in chosen else weight,
        "" if types in chosen else types,
        tuple(name for name in splits if name not in chosen),
        tuple(name for name in rest if name not in used),
    )


def _asked_label(names: list[str], labels: str | None, of: str, faults: list[str]) -> str:
    if labels == NONE or (labels is not None and labels not in names):
        return ""
    if labels is not None:
        return labels
    known = [name for name in names if name.lower() in _LABELS]
    if len(known) > 1:
        faults.append(
            f"{of} have {', '.join(f'`{name}`' for name in known)}: which is the label? Say "
            f"labels={known[0]!r} or labels={NONE!r}"
        )
    return known[0] if known else ""


def _only(names: list[str], known: Collection[str]) -> str:
    found = [name for name in names if name in known or name.lower() in known]
    return found[0] if len(found) == 1 else ""
