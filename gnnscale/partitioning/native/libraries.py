"""KaMinPar and METIS, each run in the worker on files.

KaMinPar: Gottesbüren et al., "Deep Multilevel Graph Partitioning", ESA 2021. METIS: Karypis and
Kumar, "A Fast and High Quality Multilevel Scheme for Partitioning Irregular Graphs", 1998.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gnnscale.errors import InputError, PartitionError
from gnnscale.partitioning.native import launch
from gnnscale.partitioning.native.launch import estimated_peak
from gnnscale.partitioning.native.structure import (
    IntArray,
    Structure,
    check_request,
    check_undirected,
)
from gnnscale.partitioning.rows import entry_blocks, let_go

#: KaMinPar's settings by name, apart from two that want a power of two of parts.
KAMINPAR_PRESETS = (
    "default", "fast", "eco", "strong", "largek", "largek-fast", "largek-eco", "largek-strong",
    "terapart", "terapart-eco", "terapart-largek", "jet", "4xjet", "noref", "fm", "vcycle",
    "restricted-vcycle", "esa21-smallk", "esa21-largek", "esa21-largek-fast", "esa21-strong",
)  # fmt: skip


class Piece(NamedTuple):
    """One graph to be cut: undirected, with int64 node weights `[n]` or None (all one)."""

    structure: Structure
    num_parts: int
    node_weight: NDArray[np.int64] | None = None


def run_kaminpar(
    indptr: IntArray,
    indices: IntArray,
    num_parts: int,
    *,
    seed: int = 0,
    imbalance: float = 0.03,
    node_weight: IntArray | None = None,
    preset: str = "default",
    compress: bool = True,
    threads: int | None = None,
) -> NDArray[np.int32]:
    """Partition with KaMinPar; parts may come back empty (see `repair`).

    Args:
        indptr: `[n + 1]`, rows of a simple undirected structure.
        indices: `[m]`, sorted in every row.
        num_parts: how many parts.
        seed: repeats with one thread only; two threads differ from run to run.
        imbalance: how far the heaviest part may exceed the mean.
        node_weight: positive integers `[n]`, or None (all one).
        preset: one of `KAMINPAR_PRESETS`.
        compress: hold the graph compressed in the worker: less memory, the same cut.
        threads: None takes every core this process may use.

    Returns:
        int32 `[n]`.

    Raises:
        InputError: the structure is not simple, undirected, sorted and in range, or a setting is
            wrong.
        PartitionError: the worker crashed.
    """
    piece = _checked_piece(indptr, indices, num_parts, node_weight)
    return kaminpar_pieces(
        [piece], seed=seed, imbalance=imbalance, preset=preset, compress=compress, threads=threads
    )[0]


def run_metis(
    indptr: IntArray,
    indices: IntArray,
    num_parts: int,
    *,
    seed: int = 0,
    imbalance: float = 0.03,
    node_weight: IntArray | None = None,
    recursive: bool | None = None,
) -> NDArray[np.int32]:
    """Partition with METIS; parts may come back empty (see `repair`).

    Args are those of `run_kaminpar`; `recursive` chooses recursive bisection over k-way, None
    takes it for few parts and for small ones.

    Returns:
        int32 `[n]`.

    Raises:
        InputError: the structure is not simple, undirected, sorted and in range.
        PartitionError: the worker crashed.
    """
    piece = _checked_piece(indptr, indices, num_parts, node_weight)
    return metis_pieces([piece], seed=seed, imbalance=imbalance, recursive=recursive)[0]


def kaminpar_pieces(
    pieces: Sequence[Piece],
    *,
    seed: int,
    imbalance: float,
    preset: str = "default",
    compress: bool = True,
    threads: int | None = None,
) -> list[NDArray[np.int32]]:
    """Partition several graphs in one worker, each on its own. The pieces are not checked."""
    if preset not in KAMINPAR_PRESETS:
        raise InputError(f"unknown KaMinPar preset {preset!r}; it knows {sorted(KAMINPAR_PRESETS)}")

    def describe(piece: Piece, stem: Path) -> dict[str, Any]:
        path = stem.with_suffix(".parhip")
        write_parhip(path, piece.structure, piece.node_weight)
        return {"graph": str(path)}

    job = {
        "method": "kaminpar",
        "seed": seed % 2**31,
        "imbalance": max(imbalance, 1e-6),  # KaMinPar takes 0 for "not set"
        "preset": preset,
        "compress": compress,
        "threads": available_threads() if threads is None else threads,
    }
    return _run(pieces, job, describe)


def metis_pieces(
    pieces: Sequence[Piece], *, seed: int, imbalance: float, recursive: bool | None = None
) -> list[NDArray[np.int32]]:
    """Partition several graphs in one worker, each on its own. The pieces are not checked."""

    def describe(piece: Piece, stem: Path) -> dict[str, Any]:
        n, k = piece.structure.num_nodes, piece.num_parts
        # k-way loses parts when they are small: 996 of 1000 on 5000 nodes, where recursive has all.
        bisect = (k <= 8 or n < 16 * k) if recursive is None else recursive
        # The imbalance of a bisection is multiplied over the levels.
        levels = math.ceil(math.log2(k)) if bisect and k > 2 else 1
        allowed = (1 + imbalance) ** (1 / levels) - 1
        task: dict[str, object] = {
            "recursive": bisect,
            "ufactor": max(1, round(1000 * allowed)),
            "weight": None,
        }
        arrays: dict[str, Any] = {
            "indptr": piece.structure.indptr,
            "indices": piece.structure.indices,
        }
        if piece.node_weight is not None:
            arrays["weight"] = piece.node_weight
        for name, array in arrays.items():
            path = stem.with_suffix(f".{name}.npy")
            _write_npy(path, array)
            task[name] = str(path)
        return task

    # METIS calls srand, to which 0 and 1 are one seed.
    return _run(pieces, {"method": "metis", "seed": seed % (2**31 - 2) + 1}, describe)


def available_threads() -> int:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_parhip(
    path: Path, structure: Structure, node_weight: NDArray[np.int64] | None = None
) -> None:
    """Write KaMinPar's binary format in blocks, without a copy of the graph in memory.

    u64 version, n, m; n + 1 u64 byte offsets; u32 neighbours; i64 node weights. The bits of the
    version are set where something is absent or narrow: 1 no edge weights, 2 no node weights,
    8 32-bit node ids; the bits of 64-bit offsets (4) and 64-bit weights (16) stay clear. A version
    that does not fit the data is misread without a word.
    """
    indptr, indices = structure
    version = 11 if node_weight is None else 9
    base = 8 * (3 + len(indptr))
    with path.open("wb") as file:
        np.array([version, len(indptr) - 1, len(indices)], dtype="<u8").tofile(file)
        for starts in entry_blocks(indptr):
            (base + 4 * starts).astype("<u8").tofile(file)
        for block in entry_blocks(indices):
            block.astype("<u4", copy=False).tofile(file)
        if node_weight is not None:
            node_weight.astype("<i8", copy=False).tofile(file)


def _write_npy(path: Path, array: IntArray) -> None:
    """Write what `np.save` writes, in blocks."""
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        for block in entry_blocks(array):
            block.tofile(file)


def _checked_piece(
    indptr: IntArray, indices: IntArray, num_parts: int, node_weight: IntArray | None
) -> Piece:
    structure = check_undirected(indptr, indices)
    weight = check_request(structure.num_nodes, num_parts, node_weight)
    return Piece(structure, num_parts, weight)


def _run(
    pieces: Sequence[Piece], job: dict[str, Any], describe: Callable[[Piece, Path], dict[str, Any]]
) -> list[NDArray[np.int32]]:
    """Write each piece, run the worker once, read the assignments."""
    with launch.work_folder(*(piece.structure.indices for piece in pieces)) as folder:
        tasks, shapes, estimate = [], [], 0
        results: list[NDArray[np.int32]] = []
        for number, piece in enumerate(pieces):
            n, k = piece.structure.num_nodes, piece.num_parts
            if k == 1 or len(piece.structure.indices) == 0:  # nothing that could be cut
                results.append((np.arange(n) * k // max(n, 1)).astype(np.int32))
                continue
            stem = folder / str(number)
            out = f"{stem}.out.npy"
            tasks.append({**describe(piece, stem), "num_parts": k, "out": out})
            let_go(*piece.structure)  # not to be resident while the worker runs
            shapes.append((len(results), n, k))
            needs = estimated_peak(
                job.get("preset", job["method"]), n, len(piece.structure.indices)
            )
            estimate = max(estimate, needs)
            results.append(np.empty(0, np.int32))  # until the worker has run
        if tasks:
            launch.run_worker({**job, "tasks": tasks}, folder, estimate)
        for task, (position, n, k) in zip(tasks, shapes, strict=True):
            results[position] = _read(Path(task["out"]), n, k, job["method"])
    return results


def _read(path: Path, num_nodes: int, num_parts: int, method: str) -> NDArray[np.int32]:
    try:
        part = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise PartitionError(f"the {method} worker left no readable result: {error}") from error
    if part.shape != (num_nodes,) or part.min() < 0 or part.max() >= num_parts:
        raise PartitionError(
            f"the {method} worker returned {list(part.shape)} ids in [{part.min()}, {part.max()}] "
            f"for {num_nodes} nodes and {num_parts} parts; try another method"
        )
    return part
