"""A run on a GPU takes the course of a run on the CPU: training, inference, going on."""

from __future__ import annotations

import pytest
import torch

import gnnscale as gs
from gnnscale.loader import cluster_loader
from gnnscale.loader.device_assembler import DeviceAssembler
from tests.helpers.small_runs import (
    assert_same,
    same_course,
    small_graph,
    small_trainer,
    weights_of,
)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def without_own_dropout(module):
    """A GAT's attention drops out by the device's own generator."""
    if isinstance(getattr(module, "dropout", None), float):
        module.dropout = 0.0


@pytest.mark.parametrize("model", ["gcn", "sage", "gin", "gat"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_run_takes_the_course_of_one_on_the_cpu(device, model):
    expected = small_trainer(None, model, device="cpu")
    trainer = small_trainer(None, model, device=device)
    for each in (expected, trainer):
        each.model.apply(without_own_dropout)
    rows = [each.fit().rows for each in (expected, trainer)]
    for one, other in zip(*rows, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
    trainer.model.load_state_dict(expected.model.state_dict())
    torch.testing.assert_close(trainer.predict(), expected.predict(), rtol=1e-4, atol=1e-5)
    assert trainer.evaluate("test") == pytest.approx(expected.evaluate("test"))


@pytest.mark.parametrize(
    "options", [{}, {"inductive": True}, {"precompute": True}, {"accumulate": 2}], ids=str
)
def test_assembled_on_the_device_weights_are_the_same(options, monkeypatch):
    """On the CPU to the last bit, whoever puts the batches together."""
    graph = small_graph(weighted=True)
    expected = small_trainer(None, "sage", graph, device="cpu", **options)
    expected.fit()
    monkeypatch.setattr(
        cluster_loader,
        "make_assembler",
        lambda clustered, hop, device: DeviceAssembler(clustered, device, hop),
    )
    trainer = small_trainer(None, "sage", graph, device="cpu", **options)
    trainer.fit()
    assert trainer.loader._on_device is not None
    assert_same(weights_of(trainer), weights_of(expected))


class BrokenOff(gs.Callback):
    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_run_broken_off_goes_on(device, precision, tmp_path):
    options = {"device": device, "precision": precision, "epochs": 4}
    whole = small_trainer(tmp_path / "whole", **options)
    expected = whole.fit()
    with pytest.raises(KeyboardInterrupt):
        small_trainer(tmp_path / "run", callbacks=[BrokenOff()], **options).fit()
    resumed = small_trainer(tmp_path / "run", **options)
    report = resumed.fit()
    if device == "cpu":
        same_course(report, expected)
        assert_same(weights_of(resumed), weights_of(whole))
    for one, other in zip(report.rows, expected.rows, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-2)
