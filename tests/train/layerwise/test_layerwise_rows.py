"""The batches of a layer's training rows: every row once an epoch, wherever rows are kept."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnscale.inference.activations import ActivationStore
from gnnscale.kernels import CSR
from gnnscale.train.layerwise import rows as rows_module
from gnnscale.train.layerwise.rows import RowBatch, TrainingRows
from gnnscale.train.layerwise.streams import AGGREGATED, SectionInput
from gnnscale.train.layerwise.training import Epochs

WIDTH = 3


def kept(values: Tensor, place: str, folder: str) -> object:
    """Values as a part of `Rows`, in memory, in a file, or sparse."""
    if place == "sparse":
        return CSR.from_dense(values)
    room = ActivationStore(
        values.size(0), 2, torch.device("cpu"), Path(folder) if place == "file" else None, 1 << 20
    )
    layer = room.new(values.size(1), values.dtype, whole_rows=True)
    layer.put(0, values)
    return layer


def training_rows(count: int, batch_rows: int, place: str, folder: str, seed: int = 0, layer=0):
    """Row i holds i + 1, beside it −i − 1; its label is i and its id 10 i."""
    numbers = torch.arange(count)
    x = (numbers + 1.0).unsqueeze(1).expand(count, WIDTH).contiguous()
    parts = {AGGREGATED: kept(x, place, folder), "beside": kept(-x, place, folder)}
    device = torch.device("cpu")
    rows = SectionInput(numbers, parts)  # type: ignore[arg-type]
    return TrainingRows(rows, numbers, 10 * numbers, batch_rows, seed, layer, device)


def dense(x: Tensor | CSR) -> Tensor:
    return x.to_dense() if isinstance(x, CSR) else x


def assert_belongs_together(batch: RowBatch) -> None:
    x, y = dense(batch.rows), batch.y
    assert y is not None
    assert torch.equal(x, (y + 1.0).unsqueeze(1).expand(-1, WIDTH))
    assert torch.equal(dense(batch.slots["beside"]), -x)
    assert torch.equal(batch.node_id, 10 * y)
    assert batch.train_mask.all() and batch.train_mask.shape == y.shape
    assert torch.equal(batch.train_index, torch.arange(len(y)))
    assert batch.num_nodes == batch.step_train_nodes == len(y)


@pytest.fixture(params=["one span", "some blocks", "one block"])
def shuffled(request, monkeypatch):
    """How many rows are shuffled among each other."""
    bound = {"one span": 1 << 28, "some blocks": 900, "one block": 1}[request.param]
    monkeypatch.setattr(rows_module, "SHUFFLED_BYTES", bound)


PLACES = ["memory", "file", "sparse"]


@pytest.mark.usefixtures("shuffled")
@pytest.mark.parametrize("place", PLACES)
def test_every_row_once_an_epoch(place):
    @settings(max_examples=12)
    @given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 9), st.integers(0, 3))
    def once(count, batch_rows, seed, number):
        with tempfile.TemporaryDirectory() as folder:
            rows = training_rows(count, batch_rows, place, folder, seed)
            batches = list(rows.epoch(number))
            assert len(batches) == len(rows) == -(-count // batch_rows)
            assert [batch.step for batch in batches] == list(range(len(rows)))
            assert {batch.epoch for batch in batches} == {number}
            for batch in batches:
                assert_belongs_together(batch)
            seen = torch.cat([batch.y for batch in batches])
            assert torch.equal(seen.sort().values, torch.arange(count))
            sizes = [batch.num_nodes for batch in batches]
            assert max(sizes) <= batch_rows and max(sizes) - min(sizes) <= 1
            for batch in rows.in_order(batch_rows):
                assert_belongs_together(batch)
            ordered = torch.cat([batch.y for batch in rows.in_order(batch_rows)])
            assert torch.equal(ordered, torch.arange(count))

    once()


@pytest.mark.usefixtures("shuffled")
@settings(max_examples=12)
@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_the_order_is_that_of_seed_layer_and_epoch_alone(count, batch_rows, data):
    """Not of where rows are kept, of epochs before, or of the step that a run goes on at."""

    def order(rows, number, step=0):
        return [(batch.step, batch.y.tolist()) for batch in rows.epoch(number, step)]

    with tempfile.TemporaryDirectory() as folder:
        here = training_rows(count, batch_rows, "memory", folder)
        there = training_rows(count, batch_rows, "file", folder)
        order(there, 1)
        whole = order(here, 2)
        step = data.draw(st.integers(0, len(here)))
        assert order(there, 2, step) == whole[step:]
        assert order(here, 2, step) == whole[step:]


def test_epochs_layers_and_seeds_have_orders_of_their_own(tmp_path):
    def order(seed, layer, number):
        rows = training_rows(64, 8, "memory", str(tmp_path), seed, layer)
        return tuple(torch.cat([batch.y for batch in rows.epoch(number)]).tolist())

    which = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
    assert len({order(*one) for one in which}) == len(which)


def test_a_batch_mixes_rows_that_lie_apart(tmp_path):
    batch = next(training_rows(512, 32, "memory", str(tmp_path)).epoch(0))
    assert (batch.y.sort().values.diff() > 4).sum() > 8


def test_half_rows_are_computed_with_as_float32(tmp_path):
    device = torch.device("cpu")
    for dtype in (torch.float16, torch.bfloat16):
        for place in ("memory", "file"):
            part = kept(torch.full((4, 2), 1.5, dtype=dtype), place, str(tmp_path))
            rows = TrainingRows(
                SectionInput(torch.arange(4), {AGGREGATED: part}),  # type: ignore[dict-item]
                None, torch.arange(4), 2, 0, 0, device,
            )  # fmt: skip
            for batch in (*rows.epoch(0), *rows.in_order(3)):
                assert batch.rows.dtype == torch.float32 and bool((batch.rows == 1.5).all())
                assert batch.y is None


def test_an_epoch_left_early_leaves_no_thread_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "SHUFFLED_BYTES", 1)
    rows = training_rows(40, 4, "file", str(tmp_path))
    before = threading.active_count()  # files have writers of their own
    epoch = rows.epoch(0)
    next(epoch)
    epoch.close()
    assert threading.active_count() == before


def test_what_is_left_of_an_epoch_is_that_of_the_run_it_was_begun_in(tmp_path, monkeypatch, caplog):
    """Whatever is shuffled at a time now: of an earlier gnnscale it was more."""
    monkeypatch.setattr(rows_module, "SHUFFLED_BYTES", 2000)
    begun = Epochs(training_rows(60, 4, "memory", str(tmp_path)))
    kept_at, seen = {}, []
    for batch in begun:
        kept_at[begun.step] = begun.state_dict()
        seen.append(batch.y.tolist())
    monkeypatch.setattr(rows_module, "SHUFFLED_BYTES", 900)
    for step, state in kept_at.items():
        again = Epochs(training_rows(60, 4, "memory", str(tmp_path)))
        again.load_state_dict(state)
        assert [batch.y.tolist() for batch in again] == seen[step:]
    del state["span"]
    Epochs(training_rows(60, 4, "memory", str(tmp_path))).load_state_dict(state)
    assert "some rows again" in caplog.text
