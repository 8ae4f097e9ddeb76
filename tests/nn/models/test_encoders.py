"""Encoders of categories: the sum of one vector a column, as OGB's atom and bond encoders."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.nn.models.encoders import CategoricalEncoder, atom_encoder, bond_encoder


def rows_of(sizes: list[int], rows: int) -> torch.Tensor:
    return torch.stack([torch.randint(0, size, (rows,)) for size in sizes], dim=1)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), rows=st.integers(0, 6))
def test_it_is_one_hot_rows_times_the_tables(sizes: list[int], rows: int) -> None:
    encoder = CategoricalEncoder(sizes, 3)
    x = rows_of(sizes, rows)
    one_hot = [torch.nn.functional.one_hot(x[:, c], n).float() for c, n in enumerate(sizes)]
    tables = torch.cat([table.weight for table in encoder.embeddings])
    assert torch.allclose(encoder(x), torch.cat(one_hot, 1) @ tables, atol=1e-6)


def test_it_equals_ogbs_encoders_and_loads_their_state() -> None:
    mol_encoder = pytest.importorskip("ogb.graphproppred.mol_encoder")
    pairs = [
        (atom_encoder(6), mol_encoder.AtomEncoder(6)),
        (bond_encoder(6), mol_encoder.BondEncoder(6)),
    ]
    for ours, theirs in pairs:
        torch.nn.Sequential(ours).load_state_dict(
            {f"0.{key}": value for key, value in theirs.state_dict().items()}
        )
        x = rows_of(ours.sizes, 20)
        assert torch.equal(ours(x), theirs(x))
        ours.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float32, torch.float16])
def test_categories_may_be_of_any_type(dtype: torch.dtype) -> None:
    encoder = atom_encoder(4)
    x = rows_of(encoder.sizes, 10)
    assert torch.equal(encoder(x.to(dtype)), encoder(x))


def test_it_heads_a_layered_model_and_learns() -> None:
    encoder = CategoricalEncoder([4, 3], 5)
    conv = gs.nn.GCN(5, 5, 2, 2).blocks[0].conv
    model = gs.nn.LayeredGNN([gs.nn.Block(encoder, act=None), conv])
    assert model.in_channels == 2
    assert [type(phase).__name__ for phase in model.phases[0]] == ["Rows"]
    edge_index = torch.tensor([[0, 1, 2], [1, 2, 0]])
    out = model(rows_of([4, 3], 3).float(), edge_index)
    out.sum().backward()
    assert all(table.weight.grad is not None for table in encoder.embeddings)


def test_what_is_out_of_range_is_named_with_the_limit() -> None:
    encoder = CategoricalEncoder([4, 3], 5)
    with pytest.raises(InputError, match=r"column 1 of x holds 0 to 3; its 3 categories are 0 to"):
        encoder(torch.tensor([[0.0, 0.0], [3.0, 3.0]]))
    with pytest.raises(InputError, match=r"column 0 of x holds -1"):
        encoder(torch.tensor([[-1, 0]]))
    with pytest.raises(InputError, match=r"\[1, 3\]; the encoder takes \[rows, 2\]"):
        encoder(torch.zeros(1, 3))


@pytest.mark.parametrize(("sizes", "channels"), [([], 4), ([3, 0], 4), ([3], 0), ([2.5], 4)])
def test_sizes_that_are_none(sizes: list, channels: int) -> None:
    with pytest.raises(InputError, match="whole numbers of at least 1"):
        CategoricalEncoder(sizes, channels)
