"""What users give by mistake: numbers, texts and arrays of the wrong kind, size or content."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

NODES, EDGES, FEATURES, CLASSES = 12, 30, 4, 3

_NUMBERS = [
    *(0, -1, 1, 2, 5, NODES, NODES + 1, 2**40, 2**63, -(2**63), 2**70),
    *(0.0, 1.0, 0.5, -0.5, 2.5, 1e-300, 1e300, math.nan, math.inf, -math.inf),
    *(True, False, np.int64(3), np.float32(0.5), np.bool_(True)),
]
_OTHERS = [None, "", "3", "auto", "none", "a/b\x00c", b"x", [], [1], (2, 3), {}, {"a": 1}, ...]
_TENSORS = [torch.tensor(3), torch.tensor(0.5), torch.tensor([1, 2])]
_SHAPES = [
    *((), (0,), (1,), (NODES,), (NODES - 1,), (NODES, 1), (NODES, FEATURES), (NODES, 0)),
    *((0, FEATURES), (2, 0), (2, EDGES), (EDGES,), (EDGES, 2), (2, EDGES, 1), (1, 0)),
]
_DTYPES = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint64"),
    *("float16", "float32", "float64", "complex64"),
]
_FILLS = ["zeros", "ids", "classes", "negative", "great", "huge", "nan", "inf", "halves"]
_FORMS = ["numpy", "torch", "list", "objects", "text", "bfloat16", "sparse", "gradient", "meta"]


def numbers() -> st.SearchStrategy[Any]:
    """Numbers: most of them out of any range, or of the wrong type."""
    return st.sampled_from(_NUMBERS) | st.integers(-3, 40) | st.floats(width=32)


def scalars() -> st.SearchStrategy[Any]:
    """Anything where one number, name or flag belongs."""
    return numbers() | st.sampled_from(_OTHERS) | st.sampled_from(_TENSORS) | st.text(max_size=6)


def names(*known: str) -> st.SearchStrategy[Any]:
    """A known name, one that is nearly known, or no name at all."""
    nearly = st.sampled_from(known).map(lambda name: name[:-1] + name[-1:].upper())
    return st.sampled_from(known) | nearly | scalars()


@st.composite
def arrays(draw: Any) -> Any:
    """An array, tensor or list of any shape, type and content."""
    shape, dtype = draw(st.sampled_from(_SHAPES)), draw(st.sampled_from(_DTYPES))
    content = _filled(draw(st.sampled_from(_FILLS)), shape, draw(st.integers(0, 99)))
    with np.errstate(all="ignore"):
        array = np.asarray(content.astype(dtype))
    form = draw(st.sampled_from(_FORMS))
    if form == "numpy" or dtype == "complex64":
        return array
    if form in ("list", "objects", "text"):
        return {"list": array.tolist, "objects": lambda: array.astype(object)}.get(
            form, lambda: array.astype(str)
        )()
    tensor = torch.from_numpy(array)
    if form == "bfloat16":
        return tensor.to(torch.bfloat16)
    if form == "sparse" and tensor.dim() == 2 and dtype.startswith("float"):
        return draw(st.sampled_from([tensor.to_sparse, tensor.to_sparse_csr]))()
    if form == "gradient" and dtype.startswith("float"):
        return tensor.requires_grad_()
    return tensor.to("meta") if form == "meta" else tensor


def _filled(kind: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    content = np.asarray(random.integers(0, NODES, shape)).astype(np.float64)
    changes: dict[str, Any] = {
        "zeros": lambda: content * 0,
        "classes": lambda: content % CLASSES,
        "negative": lambda: content - 3,
        "great": lambda: content + NODES - 2,
        "huge": lambda: content * 2.0**58,
        "nan": lambda: np.where(content == 3, np.nan, content),
        "inf": lambda: np.where(content == 3, -np.inf, content),
        "halves": lambda: content / 2,
    }
    return np.asarray(changes.get(kind, lambda: content)())


def anything() -> st.SearchStrategy[Any]:
    """An array or a scalar."""
    return arrays() | scalars()


def changed(good: dict[str, Any], odd: dict[str, st.SearchStrategy[Any]]) -> Any:
    """Good arguments, one or two of them replaced by odd ones."""
    keys = st.lists(st.sampled_from(sorted(odd)), min_size=1, max_size=2, unique=True)
    return keys.flatmap(
        lambda chosen: st.fixed_dictionaries({key: odd[key] for key in chosen})
    ).map(lambda new: {**good, **new})
