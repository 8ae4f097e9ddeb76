"""Checkpoints: what goes in comes out, and what is damaged never does."""

from __future__ import annotations

import errno
import math
import os
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from gnnscale.errors import StoreError
from gnnscale.storage.files import atomic_write
from gnnscale.train.run.checkpoint import load_tree, save_tree
from gnnscale.train.run.folder import RunFolder
from tests.helpers.small_runs import assert_same, small_trainer, weights_of

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32,
          torch.uint8, torch.bool]  # fmt: skip


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    return (torch.rand(shape) * 3 - 1).to(draw(st.sampled_from(DTYPES)))


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
keys = st.text(max_size=8) | st.integers() | st.sampled_from(["__tensor__", "__items__", "a.b"])
trees = st.recursive(
    plain | tensors(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        bits = (t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@settings(max_examples=60)
@given(trees)
def test_what_goes_in_comes_out(tree):
    with tempfile.TemporaryDirectory() as folder:
        save_tree(f"{folder}/tree", tree)
        assert same(load_tree(f"{folder}/tree"), tree)


def test_aliases_views_and_sparse_strides(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tree = {"a": base, "again": base, "row": base[1], "columns": base.t(), "same": base.view(3, 4)}
    tree |= {"parameter": torch.nn.Parameter(base), 1: (1, math.inf)}
    save_tree(tmp_path / "tree", tree)
    loaded = load_tree(tmp_path / "tree")
    assert loaded.pop(1) == [1, math.inf]
    for name, value in loaded.items():
        assert torch.equal(value, tree[name].detach()), name
    assert (tmp_path / "tree").stat().st_size < 4 * 12 * 8 + 1000


def test_keys_that_differ_in_type_alone(tmp_path):
    tree = {1: torch.ones(1), "1": torch.zeros(1), "a": {"b": torch.ones(2)}, "a.b": torch.zeros(2)}
    save_tree(tmp_path / "tree", tree)
    assert same(load_tree(tmp_path / "tree"), tree)


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: 0, np.zeros(2), {(1, 2): 3}, b"x"])
def test_objects_are_refused(value, tmp_path):
    with pytest.raises(TypeError, match="a checkpoint"):
        save_tree(tmp_path / "tree", {"value": value})
    assert not list(tmp_path.iterdir())


def test_weights_are_stored_under_their_own_names(tmp_path):
    """Anything that reads safetensors can read `model.safetensors`."""
    trainer = small_trainer(tmp_path, epochs=1)
    trainer.fit()
    assert_same(load_file(tmp_path / "model.safetensors"), weights_of(trainer))


# --- damage -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("checkpoint")
    trainer = small_trainer(folder, epochs=1)
    trainer.folder.finish = lambda *_: None
    trainer.fit()
    return (folder / "checkpoint.safetensors").read_bytes()


@settings(max_examples=150)
@given(data=st.data())
def test_a_flipped_bit_is_found(checkpoint, data):
    """Or changes nothing: the header is padded with blanks."""
    at = data.draw(st.integers(0, len(checkpoint) - 1))
    damaged = bytearray(checkpoint)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    _refused_or_same(bytes(damaged), checkpoint)


@settings(max_examples=30)
@given(data=st.data())
def test_a_truncated_or_overlong_file_is_found(checkpoint, data):
    end = data.draw(st.integers(0, len(checkpoint) - 1))
    _refused_or_same(checkpoint[:end])
    _refused_or_same(checkpoint + bytes(end + 1))
    _refused_or_same(checkpoint[:end] + bytes(len(checkpoint) - end), checkpoint)
    _refused_or_same(random.Random(end).randbytes(end))


def _refused_or_same(content: bytes, original: bytes | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        path.write_bytes(content)
        try:
            loaded = load_tree(path)
        except StoreError as error:
            assert str(path) in str(error)
        else:
            path.write_bytes(original or b"")
            assert same(loaded, load_tree(path))


def test_a_damaged_checkpoint_stops_the_run(tmp_path):
    small_trainer(tmp_path, epochs=1).fit()
    path = tmp_path / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 4  # among the weights
    path.write_bytes(content)
    with pytest.raises(StoreError, match="checksum"):
        small_trainer(tmp_path, epochs=1).fit()
    small_trainer(tmp_path, epochs=1).fit(resume=False)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"lr": 0.01', '"lr": 0.91'),
        lambda text: text.replace('"fingerprint"', '"fingerprinu"'),
        lambda text: text.replace('"checksum"', '"checksun"'),
        lambda text: "[]",
        lambda text: "",
    ],
)
def test_a_damaged_description_stops_the_run(damage, tmp_path):
    small_trainer(tmp_path, epochs=1).fit()
    path = tmp_path / "run.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(StoreError):
        small_trainer(tmp_path, epochs=1).fit()
    small_trainer(tmp_path, epochs=1).fit(resume=False)


def test_another_version_says_so(tmp_path):
    small_trainer(tmp_path, epochs=1).fit()
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"version": 3', '"version": 99'))
    with pytest.raises(StoreError, match="format version 99"):
        small_trainer(tmp_path, epochs=1).fit()


# --- folders and disks --------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_found_by_the_constructor(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "file" / "a" / "b"):
        with pytest.raises(StoreError, match="cannot be written"):
            small_trainer(path)
    assert not RunFolder(tmp_path / "new" / "run").path.exists()


def test_a_folder_without_permission_is_found_by_the_constructor(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(StoreError, match="cannot be written"):
        small_trainer(tmp_path)


@pytest.fixture(scope="module")
def whole():
    """The weights of a run that nothing breaks off."""
    trainer = small_trainer(None)
    trainer.fit()
    return weights_of(trainer)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("count", [1, 5, 6, 7, 12])
def test_a_full_disk_leaves_the_last_checkpoint_whole(call, count, whole, tmp_path):
    real, calls = getattr(os, call), []

    def full(*arguments, **options):
        calls.append(1)
        if len(calls) >= count:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StoreError, match="No space left"):
            small_trainer(tmp_path).fit()
    if (tmp_path / "checkpoint.safetensors").exists():
        load_tree(tmp_path / "checkpoint.safetensors")
    assert not list(tmp_path.glob(".*.part"))
    resumed = small_trainer(tmp_path)
    resumed.fit()
    assert_same(weights_of(resumed), whole)


def test_leftovers_are_removed_but_not_what_another_process_is_writing(tmp_path, monkeypatch):
    small_trainer(tmp_path, epochs=1).fit()
    (tmp_path / ".report.json.0badcafe.part").write_text("half")
    with atomic_write(tmp_path / "predictions.npy") as file:
        small_trainer(tmp_path, epochs=1).fit()
        assert [Path(file.name)] == list(tmp_path.glob(".*.part"))
    (tmp_path / ".report.json.0badcafe.part").write_text("half")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: os.unlink(tmp_path / "no" / "permission"))
    small_trainer(tmp_path, epochs=1).fit()  # complete: it may be read where nothing can be removed
