"""Files from somewhere: code in them is not run, and what they unpack to is bounded."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.pyg.reading import check_pickle, check_tensors
from tests.helpers.pyg_layout import write_planetoid

SPARSE = [scipy.sparse.random(7, 5, 0.4, kind, random_state=0) for kind in ("csr", "csc", "coo")]
LISTS = collections.defaultdict(list, {0: [1, 2], 2: []})
SOUND = [*SPARSE, np.eye(3, dtype=np.int32), np.float64(2.5), np.arange(3)[0], LISTS, {1: [2]}]


class AsPython2(pickle._Pickler):
    """Writes bytes as Python 2 wrote text, and modules by the names that they had."""

    def save_bytes(self, data):
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(data)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_bytes}  # noqa: RUF012 - as in pickle


def as_python2(content):
    file = io.BytesIO()
    AsPython2(file, 2).dump(content)
    old = file.getvalue()
    for new, before in ((b"scipy.sparse._", b"scipy.sparse."), (b"numpy._core", b"numpy.core")):
        old = old.replace(new, before)
    return old


@pytest.mark.parametrize("content", SOUND, ids=lambda c: type(c).__name__)
def test_numbers_pass(content, tmp_path):
    forms = [pickle.dumps(content, protocol) for protocol in (4, 5)] + [as_python2(content)]
    for form in forms:
        (tmp_path / "ind.x").write_bytes(form)
        check_pickle(tmp_path / "ind.x")


class Reduces:
    """Pickled as the call of a function."""

    def __init__(self, *how):
        self.how = how

    def __reduce__(self):
        return self.how


class Inherited(scipy.sparse.csr_matrix):
    pass


def global_(module, name):
    return f"c{module}\n{name}\n".encode()


def evil(marker):
    """Pickles that would make the file `marker`, or change what others rely on."""
    touch = f"open({str(marker)!r}, 'w').close()"
    command = (f"touch {marker}",)
    text = f"V{touch}\n".encode()
    calls = {
        "system": Reduces(os.system, command),
        "getoutput": Reduces(subprocess.getoutput, command),
        "eval": Reduces(eval, (touch,)),
        "exec": Reduces(exec, (touch,)),
        "in an object array": np.array([Reduces(eval, (touch,))], object),
        "as a key": {1: Reduces(eval, (touch,))},
        "as a scalar": (np.dtype("f8"), Reduces(eval, (touch,))),
        "getattr": Reduces(getattr, (np.ndarray, "tofile")),
        "import": Reduces(__import__, ("antigravity",)),
        "numpy.load": Reduces(np.load, (str(marker), None, True)),
        "factory": Reduces(collections.defaultdict, (os.getcwd,)),
        "subclass": Inherited(np.eye(2)),
        "lil": scipy.sparse.lil_matrix(np.eye(2)),
        "Path": Path("x"),
        "bytearray": bytearray(b"x"),
    }
    texts = {
        "GLOBAL": b"\x80\x02" + global_("builtins", "eval") + text + b"\x85R.",
        "py2 name": b"\x80\x02" + global_("__builtin__", "eval") + text + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93" + text + b"\x85R.",
        "INST": b"(" + text + b"ibuiltins\neval\n.",
        "OBJ": b"(" + global_("builtins", "eval") + text + b"o.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x10f2py.os.system..\x93.",
        "dotted ndarray": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__class__\x93.",
        "getattr chain": b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93.",
        "f2py": b"\x80\x02" + global_("numpy.f2py.crackfortran", "myeval") + text + b"\x85R.",
        "numpy's own": b"\x80\x02" + global_("numpy.testing", "rundocs") + b".",
        "extension": b"\x80\x02\x82\xf0" + text + b"\x85R.",
        "persistent": b"\x80\x02" + text + b"Q.",
        "a class is changed": b"\x80\x02"
        + global_("scipy.sparse", "csr_matrix")
        + b"N}Vtodense\n"
        + global_("builtins", "list")
        + b"s\x86b.",
    }
    return {**{k: pickle.dumps(v) for k, v in calls.items()}, **texts}


@pytest.mark.parametrize("kind", evil("x"))
def test_nothing_is_run(kind, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "ind.x"
    path.write_bytes(evil(marker)[kind])
    modules, dense = set(sys.modules), scipy.sparse.csr_matrix.todense
    copyreg.add_extension("builtins", "eval", 0xF0)
    try:
        pickle.loads(pickle.dumps(eval, 2))  # another part of the process has used it
        with pytest.raises(gs.StoreError, match="runs no code out of files"):
            check_pickle(path)
    finally:
        copyreg.remove_extension("builtins", "eval", 0xF0)
    assert not marker.exists()
    assert scipy.sparse.csr_matrix.todense is dense
    found = set(sys.modules) - modules
    assert all(name.startswith("encodings.") for name in found), found  # Python's, for text


@given(st.sampled_from(SOUND), st.data())
def test_a_damaged_pickle_is_an_error_by_name_or_numbers(tmp_path_factory, content, data):
    form = bytearray(pickle.dumps(content))
    for _ in range(data.draw(st.integers(1, 3))):
        form[data.draw(st.integers(0, len(form) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("p") / "ind.x"
    path.write_bytes(form)
    with contextlib.suppress(gs.StoreError, MemoryError):
        check_pickle(path)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return subprocess.getoutput, (f"touch {self.marker}",)


@pytest.mark.parametrize("where", ["data.pt", "pre_transform.pt", "pre_filter.pt", "raw"])
def test_a_folder_of_pygs(where, tmp_path):
    """As PyG has left it, and with code in one file of it."""
    folder, marker = tmp_path / "Planetoid/Cora", tmp_path / "marker"
    write_planetoid(folder / "raw")
    with pytest.raises(gs.InputError, match="num_nodes"):  # the card's own count: all is read
        gs.load("planetoid/cora", root=tmp_path)
    assert {p.name for p in (folder / "processed").iterdir()} > {"data.pt", "pre_filter.pt"}
    if where == "raw":
        for path in (folder / "processed").iterdir():
            path.unlink()
        (folder / "raw/ind.cora.graph").write_bytes(pickle.dumps(Evil(marker)))
    else:
        torch.save(Evil(marker), folder / "processed" / where)
    refused = where in ("raw", "data.pt")  # the others are not read
    with pytest.raises(gs.StoreError if refused else gs.InputError):
        gs.load("planetoid/cora", root=tmp_path)
    assert not marker.exists()


def test_tensors_pass_and_objects_do_not(tmp_path):
    from torch_geometric.data import Data

    path = tmp_path / "data.pt"
    for sound in (torch.eye(2), (Data(x=torch.eye(2)).to_dict(), {"x": torch.arange(2)}, Data)):
        torch.save(sound, path)
        check_tensors(path)
    torch.save(torch.eye(2), path, _use_new_zipfile_serialization=False)
    check_tensors(path)
    torch.save(Evil(tmp_path / "marker"), path, _use_new_zipfile_serialization=False)
    with pytest.raises(gs.StoreError, match=r"remove .*: it is made anew"):
        check_tensors(path)
    assert not (tmp_path / "marker").exists()
