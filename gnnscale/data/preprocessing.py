"""Preprocessing of features: the steps a card names, applied when the data set is loaded.

* ``tf-idf``: counts times ``ln((1 + n) / (1 + df)) + 1``, then rows of Euclidean length one. The
  document frequency df is counted over all n nodes: it uses no label. Logarithmic counts gained
  nothing on WordNet (logistic regression 0.677 against 0.679), so counts stay plain.
* ``row-normalise``: each row divided by the sum of its absolute values (PyG's NormalizeFeatures).
* ``standardise``: columns of mean 0 and deviation 1 over the training nodes; dense features only.
* ``scale``: columns divided by their deviation over the training nodes, without centring: zeros
  stay zeros, and sparse features sparse.

The training nodes are those of the split that is chosen when the data set is loaded: no statistic
of another node enters. tf-idf reads the features of all nodes: where others must stay unseen, as in
the inductive protocol, use another step. Rows and columns that are all zero stay zero; columns that
are constant over the training nodes are not divided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gnnscale.data.cards import PREPROCESSING
from gnnscale.errors import InputError
from gnnscale.kernels.csr import CSR

Features = Tensor | CSR


def preprocess(x: Features, steps: Sequence[str], train_mask: Tensor | None = None) -> Features:
    """Apply steps to features, in order; ``x`` itself is left as it is.

    Args:
        x: floating-point features ``[num_nodes, num_features]``, dense or CSR.
        steps: of "tf-idf", "row-normalise", "standardise" and "scale".
        train_mask: bool ``[num_nodes]``, the nodes that the last two take their statistics from.

    Raises:
        InputError: an unknown step, or one that these features do not allow.
    """
    unknown = [step for step in steps if step not in _STEPS]
    if unknown:
        raise InputError(
            f"unknown preprocessing {', '.join(map(repr, unknown))}; there are "
            f"{', '.join(PREPROCESSING)}, or 'none'"
        )
    for step in steps:
        x = _STEPS[step](x, train_mask)
    return x


def tf_idf(x: Features, train_mask: Tensor | None = None) -> Features:
    """Weigh counts by inverse document frequency; rows get Euclidean length one."""
    num_nodes, num_features = x.shape
    if isinstance(x, CSR):
        df = torch.bincount(x.indices[_values(x) != 0], minlength=num_features)
    else:
        df = (x != 0).sum(dim=0)
    idf = ((1 + num_nodes) / (1 + df.double())).log().add(1).float()
    if not isinstance(x, CSR):
        return torch.nn.functional.normalize(x * idf, dim=1)
    weighed = _values(x) * idf[x.indices]
    return _divide_rows(x, weighed, _row_sums(x, weighed.square()).sqrt())


def row_normalise(x: Features, train_mask: Tensor | None = None) -> Features:
    """Divide each row by the sum of its absolute values."""
    if isinstance(x, CSR):
        values = _values(x)
        return _divide_rows(x, values, _row_sums(x, values.abs()))
    total = x.abs().sum(dim=1, keepdim=True)
    return x / total.masked_fill(total == 0, 1)


def standardise(x: Features, train_mask: Tensor | None = None) -> Features:
    """Give each column mean 0 and deviation 1 over the training nodes.

    Raises:
        InputError: the features are sparse, or there are no training nodes.
    """
    if isinstance(x, CSR):
        raise InputError(
            "preprocessing 'standardise' would make sparse features dense; use 'scale', which does "
            "not centre, or give x dense"
        )
    mean, deviation = _statistics(x, train_mask, "standardise")
    return (x - mean.to(x.dtype)) / deviation.to(x.dtype)


def scale(x: Features, train_mask: Tensor | None = None) -> Features:
    """Divide each column by its deviation over the training nodes, without centring.

    Raises:
        InputError: there are no training nodes.
    """
    _, deviation = _statistics(x, train_mask, "scale")
    if not isinstance(x, CSR):
        return x / deviation.to(x.dtype)
    values = _values(x)
    return CSR(x.indptr, x.indices, values / deviation.to(values.dtype)[x.indices], x.shape)


_STEPS: dict[str, Callable[[Features, Tensor | None], Features]] = {
    "tf-idf": tf_idf,
    "row-normalise": row_normalise,
    "standardise": standardise,
    "scale": scale,
}


def _statistics(x: Features, train_mask: Tensor | None, step: str) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each column over the training nodes; 1 where it is constant."""
    if train_mask is None or not bool(train_mask.any()):
        raise InputError(
            f"preprocessing {step!r} takes its statistics from the training nodes, and there "
            "are none; give a split, such as split='60/20/20'"
        )
    if isinstance(x, CSR):
        known = train_mask[x.row_index]
        columns, values = x.indices[known], _values(x)[known].double()
        num_rows, width = int(train_mask.sum()), x.shape[1]
        mean = torch.bincount(columns, values, width) / num_rows
        squares = torch.bincount(columns, (values - mean[columns]).square(), width)
        zeros = num_rows - torch.bincount(columns, minlength=width)
        deviation = ((squares + zeros * mean.square()) / num_rows).sqrt()
    else:
        rows = x[train_mask].double()
        mean, deviation = rows.mean(dim=0), rows.std(dim=0, correction=0)
    # The mean of equal numbers is off by a rounding: what is left is no deviation.
    constant = deviation <= torch.finfo(torch.float32).eps * mean.abs()
    return mean, deviation.masked_fill(constant, 1)


def _values(x: CSR) -> Tensor:
    return torch.ones(x.nnz) if x.values is None else x.values


def _row_sums(x: CSR, values: Tensor) -> Tensor:
    sums = torch.zeros(x.shape[0], dtype=torch.float64)
    return sums.index_add_(0, x.row_index, values.double())


def _divide_rows(x: CSR, values: Tensor, by: Tensor) -> CSR:
    by = by.masked_fill(by == 0, 1)
    return CSR(x.indptr, x.indices, (values / by[x.row_index]).to(values.dtype), x.shape)
