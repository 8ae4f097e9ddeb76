"""Files that are cut or changed: a graph, or an error of ours; never a signal."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.data import load
from gnnscale.errors import GnnscaleError, InputError, StoreError
from tests.data.formats.test_which_format import SAMPLES
from tests.helpers.pyg_layout import write_planetoid

PIECES = (b"-1", b"nan", b"99999999999999999999", b"\n", b"\t", b",", b"\x00", b"1e400", b"#", b'"')


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Sound files of every kind, by name."""
    folder = tmp_path_factory.mktemp("whole")
    matrix = scipy.sparse.random(9, 9, 0.4, "csr", random_state=0)
    scipy.sparse.save_npz(folder / "scipy.npz", matrix)
    pair = torch.tensor([[0, 1], [1, 2]])
    np.savez(folder / "h.npz", node_features=np.eye(4), node_labels=np.arange(4), edges=pair.T)
    np.savez(folder / "arrays.npz", edge_index=pair.numpy(), x=np.eye(4))
    torch.save({"x": torch.eye(4), "edge_index": pair}, folder / "a.pt")
    for name, text in SAMPLES.items():
        (folder / name).write_text(text)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@settings(max_examples=100)
@given(data=st.data())
def test_changed_files(tmp_path_factory, whole, data):
    name = data.draw(st.sampled_from(sorted(whole)))
    content = whole[name]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        until = data.draw(st.integers(at, min(len(content), at + 20)))
        piece = data.draw(st.sampled_from((b"", *PIECES, content[at:until] * 2)))
        content = content[:at] + piece + content[until:]
        content = content[:at] if data.draw(st.integers(0, 5)) == 0 else content
    file = tmp_path_factory.mktemp("faulty") / name
    file.write_bytes(content)
    try:
        load(file)
    except GnnscaleError as error:
        assert str(error)


def test_pickles_that_lead_beyond_memory(tmp_path):
    write_planetoid(tmp_path / "cora")
    file = tmp_path / "cora" / "ind.cora.allx"
    sound = file.read_bytes()
    beyond = scipy.sparse.csr_matrix(np.eye(520, 40, dtype=np.float32))
    beyond.indices[3] = 1 << 30
    file.write_bytes(pickle.dumps(beyond))
    with pytest.raises(StoreError, match="allx is damaged, or no pickle of numbers"):
        load(tmp_path / "cora")
    file.write_bytes(pickle.dumps({1: 2}, 2)[:2] + b"}r\xff\xff\xff\x7f.")
    with pytest.raises(StoreError, match="numbers more entries than it has bytes"):
        load(tmp_path / "cora")
    file.write_bytes(sound)
    assert load(tmp_path / "cora").num_nodes == 1520


def test_a_zip_that_is_packed_in_another_way(tmp_path):
    np.savez(tmp_path / "a.npz", edge_index=np.ones((2, 1), int))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        start = archive.start_dir
    content[8:10] = content[start + 10 : start + 12] = b"\x63\x00"
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.npz: key 'edge_index' is damaged or truncated"):
        load(tmp_path / "a.npz")


def test_headers_that_say_what_cannot_be(tmp_path):
    file = tmp_path / "out.a"
    file.write_text("% asym unweighted\n% 1 1000000000000 1000000000000\n1 2\n")
    with pytest.raises(GnnscaleError):
        load(file)
    file.write_text("% asym unweighted\n1\n2\n")
    with pytest.raises(InputError, match="has one number a line; an edge has two"):
        load(file)
    (tmp_path / "a.net").write_text("*Vertices ²\n*Edges\n1 2\n")
    with pytest.raises(InputError, match="does not begin with"):
        load(tmp_path / "a.net")
