from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.data import load, preprocess
from gnnscale.errors import InputError
from gnnscale.kernels.csr import CSR
from tests.data.small_data_sets import write_npz


@given(
    step=st.sampled_from(["tf-idf", "row-normalise"]),
    rows=st.integers(0, 8),
    cols=st.integers(1, 6),
    seed=st.integers(0, 2**40),
)
def test_sparse_is_as_dense_and_input_stays(step, rows, cols, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, (rows, cols), generator=generator).float()
    sparse = CSR.from_dense(x)
    made = preprocess(sparse, [step])
    assert torch.allclose(made.to_dense(), preprocess(x, [step]), atol=1e-6)
    assert torch.equal(sparse.to_dense(), x)
    power = 2 if step == "tf-idf" else 1
    length = made.to_dense().abs().pow(power).sum(1)
    assert torch.allclose(length, (x.sum(1) > 0).float(), atol=1e-5)


def test_values_of_none_are_ones():
    sparse = CSR(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1], dtype=torch.int32), None, (2, 2))
    assert preprocess(sparse, ["row-normalise"]).to_dense().tolist() == [[0.5, 0.5], [0, 1]]
    idf = torch.tensor([3 / 2, 1.0]).log() + 1
    expected = idf / idf.norm()
    assert torch.allclose(preprocess(sparse, ["tf-idf"]).to_dense()[0], expected)


def test_standardise_knows_training_nodes_only():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    x[:, 3] = 2
    mask = torch.arange(50) < 20
    made = preprocess(x, ["standardise"], mask)
    other = x.clone()
    other[~mask] = 1e6
    assert torch.equal(preprocess(other, ["standardise"], mask)[mask], made[mask])
    assert torch.allclose(made[mask].mean(0), torch.zeros(4), atol=1e-6)
    assert torch.allclose(made[mask].std(0, correction=0), torch.tensor([1.0, 1, 1, 0]), atol=1e-5)


@given(rows=st.integers(2, 9), cols=st.integers(1, 5), seed=st.integers(0, 2**40))
def test_scale_is_standardise_without_the_mean(rows, cols, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 3, (rows, cols), generator=generator) * torch.tensor(0.1)
    mask = torch.arange(rows) < torch.randint(1, rows + 1, (), generator=generator)
    made = preprocess(x, ["scale"], mask)
    centred = preprocess(x, ["standardise"], mask)
    assert torch.allclose(made - made[mask].mean(0), centred, atol=1e-5)
    sparse = preprocess(CSR.from_dense(x), ["scale"], mask)
    assert isinstance(sparse, CSR)
    assert torch.allclose(sparse.to_dense(), made, atol=1e-6)


def test_a_column_constant_in_training_is_not_blown_up():
    """The mean of equal numbers is off by a rounding, which is no deviation to divide by."""
    x = torch.full((1001, 2), 0.1)
    x[-1] = 0.2
    x[:, 1] = -x[:, 1]
    mask = torch.arange(1001) < 1000
    assert torch.equal(preprocess(CSR.from_dense(x), ["scale"], mask).to_dense(), x)
    assert torch.allclose(preprocess(x, ["standardise"], mask)[-1], torch.tensor([0.1, -0.1]))


@pytest.mark.parametrize("step", ["standardise", "scale"])
def test_statistics_are_those_of_the_split_chosen_at_load(tmp_path, step):
    codes = np.array([[0, 0, 1, 2], [2, 1, 0, 0]], dtype=np.uint8)
    two = {"node_ptr": np.array([0, 2, 4]), "edge_index": np.array([[0, 2], [1, 3]])}
    bare = {"train_idx": None, "val_idx": None, "test_idx": None}
    file = write_npz(tmp_path / "a.npz", split_fold_masks=codes, **two, **bare)
    plain = load(file).x
    for split, rows in (("fold0", [0, 1]), ("fold1", [2, 3])):
        mask = torch.isin(torch.arange(4), torch.tensor(rows))
        graph = load(file, preprocessing=step, split=split)
        assert torch.equal(graph.x, preprocess(plain, [step], mask))
    drawn = load(file, preprocessing=step, split="50/25/25", seed=1)
    assert torch.equal(drawn.x, preprocess(plain, [step], drawn.train_mask))


def test_what_cannot_be_done_is_refused():
    x = torch.ones(3, 2)
    with pytest.raises(InputError, match="are none; give a split"):
        preprocess(x, ["standardise"], None)
    with pytest.raises(InputError, match="would make sparse features dense; use 'scale'"):
        preprocess(CSR.from_dense(x), ["standardise"], torch.ones(3, dtype=torch.bool))
    with pytest.raises(InputError, match="unknown preprocessing 'polish'; there are tf-idf"):
        preprocess(x, ["polish"])
