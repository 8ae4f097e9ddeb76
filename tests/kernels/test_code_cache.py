"""Kernels on disk: no signature is given another's code, whoever writes, whatever is cut."""

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.caching import IndexDataCacheFile

from gnnscale.kernels import code_cache


def files_in(folder: Path, stamp: str = "a source") -> IndexDataCacheFile:
    return IndexDataCacheFile(str(folder), "kernel", stamp)


WRITES = """
import sys, time
from pathlib import Path
from numba.core.caching import IndexDataCacheFile
from gnnscale.kernels import code_cache
folder, *keys = sys.argv[1:]
while not Path(folder, "go").exists():
    time.sleep(0.001)
for key in keys:
    files = IndexDataCacheFile(folder, "kernel", "a source")
    code_cache.save(files, key, f"code of {key}")
"""


def test_processes_that_write_at_once_keep_every_signature_under_its_own_code(tmp_path, forks):
    keys = [str(key) for key in range(60)]
    writers = [forks.start(WRITES, str(tmp_path), *keys[i::3]) for i in range(3)]
    (tmp_path / "go").touch()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    files = files_in(tmp_path)
    assert [code_cache.load(files, key) for key in keys] == [f"code of {key}" for key in keys]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 4))))
def test_a_process_killed_at_any_write_leaves_no_other_code(tmp_path_factory, events):
    """Two versions of a source write in turn, each cut off before its k-th write."""
    folder = tmp_path_factory.mktemp("cache")
    for source, key, cut in events:
        files = files_in(folder, source)
        left = [cut]

        def dying(write, files=files, left=left):
            def until(*arguments):
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
                return write(*arguments)

            return until

        files._save_data, files._save_index = dying(files._save_data), dying(files._save_index)
        with contextlib.suppress(KeyboardInterrupt):
            code_cache.save(files, key, f"{source}{key}")
        for other in range(4):
            assert code_cache.load(files_in(folder, source), other) in (None, f"{source}{other}")


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_what_was_cut_is_compiled_anew(tmp_path, suffix):
    files = files_in(tmp_path)
    code_cache.save(files, "key", "code" * 20)
    [file] = tmp_path.glob(f"*.{suffix}")
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        assert code_cache.load(files, "key") is None
    code_cache.save(files, "key", "code" * 20)
    assert code_cache.load(files, "key") == "code" * 20


def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_nothing(tmp_path, monkeypatch):
    files = files_in(tmp_path)
    monkeypatch.setattr(os, "open", lambda *a, **k: (_ for _ in ()).throw(OSError("full")))
    code_cache.save(files, "key", "code")
    monkeypatch.undo()
    assert code_cache.load(files, "key") is None


def test_who_is_stopped_while_it_writes_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(code_cache, "PATIENCE", 0.01)
    files = files_in(tmp_path)
    code_cache.save(files, "key", "code")
    with code_cache._locked(files, shared=False):
        code_cache.save(files, "other", "code")
        assert code_cache.load(files, "key") == "code"
    assert code_cache.load(files, "other") is None


def test_a_lock_ends_though_a_fork_has_its_descriptor(tmp_path, monkeypatch):
    files, opened, kept = files_in(tmp_path), os.open, []

    def shared(*arguments):
        descriptor = opened(*arguments)
        kept.append(os.dup(descriptor))  # of the same open file, as a fork's is
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", shared)
        with code_cache._locked(files, shared=False):
            pass
    monkeypatch.setattr(code_cache, "PATIENCE", 0.01)
    code_cache.save(files, "key", "code")
    assert code_cache.load(files, "key") == "code" and len(kept) == 1
    os.close(kept[0])


def test_functions_that_numba_does_not_compile_stay_as_they_are():
    code_cache.keep(print)  # what njit gives under NUMBA_DISABLE_JIT


def test_kernels_are_kept_so():
    from gnnscale.kernels.rows import cpu

    compiled = next(v for v in vars(cpu).values() if hasattr(v, "_cache"))
    assert compiled._cache._cache_file.save.func is code_cache.save
    assert compiled._cache._cache_file.load.func is code_cache.load
