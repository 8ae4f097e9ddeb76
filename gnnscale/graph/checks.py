"""Checks of input: what holds numbers as a plain tensor, and lists of all faults of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import read_rows, release

_AT_ONCE = 1 << 22  # numbers: arrays are checked in blocks, with no mask of the whole


def edge_index_faults(edge_index: Tensor, num_nodes: int | None) -> list[str]:
    """Faults of an `edge_index` `[2, num_edges]` for a graph of `num_nodes` nodes."""
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        return [f"edge_index has shape {tuple(edge_index.shape)}; it must be [2, num_edges]"]
    if edge_index.is_floating_point() or edge_index.dtype == torch.bool:
        return [f"edge_index has dtype {edge_index.dtype}; it must hold integers"]
    if edge_index.numel() == 0:
        return []
    low, high = (int(bound) for bound in edge_index.aminmax())
    faults = []
    if low < 0:
        count = int((edge_index < 0).sum())
        faults.append(f"edge_index holds {count} negative ids (least {low}); ids start at 0")
    if num_nodes is not None and high >= num_nodes:
        count = int((edge_index >= num_nodes).sum())
        faults.append(
            f"edge_index holds {count} ids out of range (greatest {high}); with {num_nodes} nodes "
            f"the greatest allowed is {num_nodes - 1}. Pass num_nodes={high + 1} if that is too few"
        )
    return faults


def feature_faults(x: Tensor | CSR, num_nodes: int) -> list[str]:
    """Faults of node features `[num_nodes, num_features]`, dense or sparse."""
    if isinstance(x, CSR):
        faults = csr_faults(x, "x")
        if x.shape[0] != num_nodes:
            faults.append(f"x has {x.shape[0]} rows for {num_nodes} nodes")
        if x.values is not None and not x.values.is_floating_point():
            faults.append(f"x has dtype {x.values.dtype}; features are floating point")
        if not faults and x.values is not None and bad_rows(x.values):
            faults.append("x holds NaN or infinite values; clean or impute them first")
        return faults
    if x.dim() != 2:
        return [f"x has shape {tuple(x.shape)}; it must be [num_nodes, num_features]"]
    faults = []
    if x.size(0) != num_nodes:
        faults.append(f"x has {x.size(0)} rows for {num_nodes} nodes")
    if not x.is_floating_point():
        faults.append(f"x has dtype {x.dtype}; features are floating point (x.float())")
    elif bad := bad_rows(x):
        faults.append(
            f"x holds NaN or infinite values in {bad} of {x.size(0)} rows; clean or impute them"
        )
    return faults


def edge_attr_faults(edge_attr: Tensor, num_edges: int) -> list[str]:
    """Faults of edge attributes `[num_edges, channels]`."""
    if edge_attr.dim() != 2:
        return [f"edge_attr has shape {tuple(edge_attr.shape)}; it must be [num_edges, channels]"]
    if edge_attr.size(0) != num_edges:
        return [f"edge_attr has {edge_attr.size(0)} rows for {num_edges} edges"]
    if edge_attr.is_floating_point() and bad_rows(edge_attr):
        return ["edge_attr holds NaN or infinite values"]
    return []


def type_faults(name: str, types: Tensor, count: int) -> list[str]:
    """Faults of the types of edges or nodes, one each."""
    if types.shape != (count,):
        return [f"{name} has shape {tuple(types.shape)}; it must be [{count}]"]
    if types.is_floating_point() or types.dtype == torch.bool:
        return [f"{name} has dtype {types.dtype}; it must hold integers"]
    if types.numel() and (low := bounds(types)[0]) < 0:
        return [f"{name} goes down to {low}; types start at 0"]
    return []


def bounds(values: Tensor) -> tuple[int, int]:
    """The least and the greatest of whole numbers `[rows]`, of which there is one at least."""
    found = [block.aminmax() for block in blocks(values)]
    return min(int(b.min) for b in found), max(int(b.max) for b in found)


def bad_rows(x: Tensor) -> int:
    """How many rows of `[rows, ...]` hold NaN or infinity."""
    return sum(int((~torch.isfinite(rows)).flatten(1).any(1).sum()) for rows in blocks(x))


def blocks(x: Tensor) -> Iterator[Tensor]:
    """The rows of an array of at least two dimensions, or of a vector as `[rows, 1]`."""
    rows_at_once = max(1, _AT_ONCE // max(1, x[:1].numel()))
    for start in range(0, x.size(0), rows_at_once):
        rows = read_rows(x, start, min(start + rows_at_once, x.size(0)))
        yield rows if rows.dim() > 1 else rows.unsqueeze(1)


def csr_faults(csr: CSR, name: str) -> list[str]:
    """Faults of the structure of a CSR matrix: pointers, lengths, range of the columns."""
    rows, cols = csr.shape
    pointers = csr.indptr
    if pointers.numel() != rows + 1:
        return [
            f"{name}: indptr has {pointers.numel()} entries for {rows} rows; it needs {rows + 1}"
        ]
    if int(pointers[0]) != 0 or int(pointers[-1]) != csr.indices.numel():
        return [
            f"{name}: indptr runs from {int(pointers[0])} to {int(pointers[-1])}; it must run from "
            f"0 to the number of entries, {csr.indices.numel()}"
        ]
    if rows and int(pointers.diff().min()) < 0:
        return [f"{name}: indptr decreases"]
    if csr.indices.numel():
        low, high = bounds(csr.indices)
        if low < 0 or high >= cols:
            return [f"{name}: column indices span [{low}, {high}]; allowed is [0, {cols - 1}]"]
    if csr.values is not None and csr.values.numel() != csr.indices.numel():
        return [f"{name}: {csr.values.numel()} values for {csr.indices.numel()} entries"]
    return []


def label_faults(y: Tensor, task: str, num_classes: int, expected: int, level: str) -> list[str]:
    """Faults of labels: their number and, for classes, their range (-1 is unlabelled)."""
    faults = []
    if y.dim() == 0:
        return [f"y is a single number; it must have one row for each of {expected} {level}s"]
    if y.size(0) != expected:
        faults.append(f"y has {y.size(0)} rows for {expected} {level}s")
    if y.numel() == 0:
        return faults
    if task == "classification":
        if y.dim() != 1 or y.is_floating_point():
            faults.append(
                f"classification wants integer labels [{level}s]; y is {y.dtype} {tuple(y.shape)}"
            )
        else:
            low, high = bounds(y)
            if low < -1:
                faults.append(f"labels go down to {low}; classes start at 0, -1 is unlabelled")
            if high >= num_classes:
                faults.append(f"labels go up to {high}, outside the classes 0..{num_classes - 1}")
    elif task == "multilabel":
        if y.dim() != 2 or not all(_marks(rows) for rows in blocks(y)):
            faults.append(
                f"multilabel wants y of 0 and 1 [{level}s, labels], -1 (or NaN, in floats) where "
                f"unknown; y is {y.dtype} {tuple(y.shape)}"
            )
        elif y.size(1) != num_classes:
            faults.append(f"y has {y.size(1)} columns for {num_classes} labels")
    elif y.is_floating_point() and any(bool(torch.isinf(rows).any()) for rows in blocks(y)):
        faults.append("y holds infinite values")
    return faults


def _marks(y: Tensor) -> bool:
    unknown = torch.isnan(y) if y.is_floating_point() else (y < 0) & (y == -1)  # uint8: 255 == -1
    return bool((unknown | (y == 0) | (y == 1)).all())


def mask_faults(name: str, mask: Tensor, num_nodes: int) -> list[str]:
    """Faults of a boolean mask over the nodes."""
    if mask.dtype != torch.bool:
        return [f"mask {name} has dtype {mask.dtype}; it must be bool"]
    if mask.dim() != 1 or mask.numel() != num_nodes:
        return [
            f"mask {name} has shape {tuple(mask.shape)}; it must be [{num_nodes}], one per node"
        ]
    return []


def overlaps(train: Tensor, val: Tensor, test: Tensor) -> list[str]:
    """What to say of nodes that are in several parts of a split; masks as `mask_faults` wants."""
    trained = evaluated = 0
    for a, b, c in zip(blocks(train), blocks(val), blocks(test), strict=True):
        trained += int((a & (b | c)).sum())
        evaluated += int((b & c).sum())
    words = {
        "training nodes are also validation or test nodes": trained,
        "validation nodes are also test nodes": evaluated,
    }
    return [f"{count:,} {what}" for what, count in words.items() if count]


def training_faults(
    y: Tensor | None, train_mask: Tensor | None, may_be_labels: Sequence[str] = ()
) -> list[str]:
    """Faults that stand in the way of supervised training on these labels and this mask.

    Args:
        y: the labels.
        train_mask: of the nodes to learn from.
        may_be_labels: the columns of the graph's tables that may be labels.
    """
    if y is None and may_be_labels:
        named = " or ".join(f"labels={name!r}" for name in may_be_labels)
        return [f"the graph has no labels y; a column of its table of nodes may be: say {named}"]
    if y is None:
        return ["the graph has no labels y; give y, or train with a task that needs none"]
    if train_mask is None:
        return [
            "the graph has no training nodes: give train_mask, or splits={'default': {'train': …}}"
        ]
    if y.size(0) != train_mask.numel():
        return [f"y has {y.size(0)} rows for {train_mask.numel()} nodes: the labels are not nodes'"]
    some = bool(train_mask.any())
    release(train_mask)
    if not some:
        return ["the training set is empty: train_mask selects no node"]
    count = missing = 0
    rows_at_once = max(1, _AT_ONCE // max(1, y[:1].numel()))
    for start in range(0, y.size(0), rows_at_once):
        stop = min(start + rows_at_once, y.size(0))
        known = read_rows(y, start, stop)[read_rows(train_mask, start, stop)]
        absent = torch.isnan(known) if known.is_floating_point() else known < 0
        count += known.size(0)
        missing += int((absent.flatten(1).all(1) if absent.dim() > 1 else absent).sum())
    if missing:
        return [f"{missing} of {count} training nodes have no label; leave them out of the mask"]
    return []


def tensor(value: Any, what: str = "an array") -> Tensor:
    """A plain CPU tensor over `value`, which is copied only where it must be.

    Raises:
        InputError: it holds something else than real numbers; `what` says what it is.
    """
    if isinstance(value, Tensor) and (value.is_meta or value.is_complex()):
        where = "on the meta device, without data" if value.is_meta else f"of {value.dtype}"
        raise InputError(f"{what} is a tensor {where}; give real numbers")
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise InputError(f"{what} is sparse; give it dense: .to_dense()")
        value = value.detach().cpu()
        if value.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch hardly computes them
            return tensor(value.numpy(), what)
        return value if type(value) is Tensor else value.as_subclass(Tensor)  # an EdgeIndex
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        count = np.ma.count_masked(value)
        raise InputError(
            f"{what} is a masked array, and {count:,} entries are masked: fill them, as "
            ".filled(-1) or .astype(float).filled(numpy.nan)"
        )
    try:
        array = np.ascontiguousarray(value).reshape(np.shape(value))
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{what} cannot be made an array: {error}") from error
    if array.dtype.kind not in "biuf":
        hint = ""
        if what == "y" and (array.dtype.kind in "SU" or isinstance(next(array.flat, None), str)):
            hint = ", as numpy.unique(y, return_inverse=True)[1] makes of names"
        elif array.dtype.kind == "O":
            hint = " in an array: .astype(float) makes NaN of None, .toarray() an array of a matrix"
        raise InputError(f"{what} is {array.dtype}; give numbers{hint}")
    if array.dtype.kind == "u" and array.itemsize > 1:
        if array.itemsize == 8 and array.size and int(array.max()) > _LARGEST:
            raise InputError(f"{what} holds {array.max()}; whole numbers go up to {_LARGEST}")
        array = array.astype(np.int64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.name not in _KNOWN:  # float128
        array = array.astype(np.float64)
    # torch warns of, and writes through, read-only memory; one reversed entry counts as contiguous.
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(array)


_LARGEST = 2**63 - 1
_KNOWN = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}
