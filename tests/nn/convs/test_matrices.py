"""Matrices by which graphs are propagated: a class of one's own says what they are."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from typing_extensions import override

import gnnscale as gs
from gnnscale.graph import Adjacency
from gnnscale.nn.convs.matrices import Coefficients, Mean, RowNormalisation, Sum, Unweighted
from gnnscale.nn.convs.matrices import coefficients as coefficients_of
from tests.helpers.small_runs import small_graph

MATRICES = {
    "GCN": gs.nn.SymmetricNormalisation,
    "mean": Mean,
    "rows": RowNormalisation,
    "sum": Sum,
}


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("plain", [False, True])
def test_what_a_class_says_its_coefficients_are_counts(kind, plain):
    parent = MATRICES[kind]

    @dataclass(frozen=True)
    class Own(parent):
        """Half of every sum."""

        @override
        def coefficients(self, adj: Adjacency) -> Coefficients:
            half = torch.full((adj.num_nodes,), 0.5, dtype=torch.float64)
            return Coefficients(half, None, None, weighted=False)

    adj = small_graph().adj
    matrix = Unweighted(Own()) if plain else Own()
    found = coefficients_of(matrix, adj, torch.float32)
    assert isinstance(found.left, Tensor) and bool((found.left == 0.5).all())
    assert found.right is None and found.diag is None
    assert torch.equal(found.left.double(), matrix.coefficients(adj).left)
