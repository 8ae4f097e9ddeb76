"""Each format of gnnscale's own files has one version; another is refused with what remakes it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import gnnscale as gs
from gnnscale.benchmarking.report import BenchReport
from gnnscale.benchmarking.results import SeedResult
from gnnscale.costs.machine import cached
from gnnscale.errors import DamagedStore, StoreError
from gnnscale.graph.store.cluster_folder import open_first_hop, write_first_hop
from gnnscale.graph.store.graph_folder import open_stored_graph
from gnnscale.parallel.simulation.profile import Profile, profile
from gnnscale.storage.files import json_checksum
from gnnscale.storage.formats import Format
from gnnscale.train.controllers.policy import StopPolicy
from gnnscale.train.run.checkpoint import load_tree, save_tree
from gnnscale.train.run.folder import RunFolder
from gnnscale.train.run.report import Report
from tests.helpers.machines import made_up


def formats() -> dict[str, Format]:
    """All there are, by name."""
    found: dict[str, Format] = {}
    for module in pkgutil.walk_packages(gs.__path__, "gnnscale."):
        if module.name.endswith((".worker", ".__main__")) or ".cuda" in module.name:
            continue
        try:
            values = vars(importlib.import_module(module.name)).values()
        except ImportError:  # of what only some machines have
            continue
        for value in values:
            if isinstance(value, Format):
                assert found.setdefault(value.name, value) is value
    return found


FORMATS = formats()


def small() -> tuple[gs.Graph, gs.Partition, gs.ClusteredGraph]:
    graph = gs.load("synthetic:planted?nodes=60")
    part = gs.partition(graph, num_parts=3, method="contiguous")
    return graph, part, gs.cluster(graph, part)


def a_run(path: Path) -> None:
    graph, _, clustered = small()
    model = gs.nn.GCN(graph.num_features, 4, 2, graph.num_classes)
    gs.ClusterTrainer(model, clustered, epochs=1, run_dir=path).fit()


def a_profile(path: Path) -> None:
    graph, _, clustered = small()
    model = gs.nn.GCN(graph.num_features, 4, 2, graph.num_classes)
    profile(model, clustered, 1, repeats=1).save(path)


def in_json(path: Path, version: int) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))


def in_report(path: Path, version: int) -> None:
    """A report's own checksum is compared first, where there is one."""
    content = json.loads(path.read_text()) | {"version": version}
    del content["checksum"]
    path.write_text(json.dumps(content))


def in_bench(path: Path, version: int) -> None:
    path = path / "results.json"
    content = json.loads(path.read_text()) | {"version": version}
    del content["checksum"]
    path.write_text(json.dumps({**content, "checksum": json_checksum(content)}))


def a_bench(path: Path) -> None:
    run = SeedResult(0, {"test": 0.5}, {}, 1, 1, {"train": 1.0})
    BenchReport("a bench", "accuracy", True, [run], 1, "a processor", {}, None, {}).save(path)


def in_partition(path: Path, version: int) -> None:
    with np.load(path) as content:
        about = json.loads(str(content["about"])) | {"version": version}
        assignment = content["assignment"]
    np.savez(path, assignment=assignment, about=np.array(json.dumps(about)))


def in_tree(path: Path, version: int) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() | {"version": str(version)}
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata)


def in_controller(path: Path, version: int) -> None:
    save_tree(path, load_tree(path) | {"format": f"gnnscale stop controller {version}"})


Case = tuple[Callable[[Path], Any], Callable[[Path, int], None], Callable[[Path], Any]]


def meta(path: Path, version: int) -> None:
    in_json(path / "meta.json", version)


CASES: dict[str, Case] = {
    "gnnscale-graph": (
        lambda path: gs.build_graph(path, 3, [np.array([[0, 1], [1, 2]])]),
        meta,
        open_stored_graph,
    ),
    "gnnscale-clustered-graph": (
        lambda path: gs.cluster(*small()[:2], path=path),
        meta,
        gs.open_graph,
    ),
    "gnnscale-first-hop": (
        lambda path: write_first_hop(path, iter([torch.ones(4, 2)]), 4, {"view": "all"}),
        meta,
        open_first_hop,
    ),
    "gnnscale-partition": (lambda path: small()[1].save(path), in_partition, gs.Partition.load),
    "gnnscale-run": (
        a_run,
        lambda path, version: in_json(path / "run.json", version),
        lambda path: RunFolder(path).describe(),
    ),
    "gnnscale-tree": (lambda path: save_tree(path, {"a": torch.ones(2)}), in_tree, load_tree),
    "gnnscale-report": (
        lambda path: Report(headline="accuracy", rows=[]).save(path),
        in_report,
        Report.load,
    ),
    "gnnscale-bench": (a_bench, in_bench, lambda path: BenchReport.load(path / "results.json")),
    "gnnscale-machine": (lambda path: cached.save(made_up(), path), in_json, cached.load),
    "gnnscale-profile": (a_profile, in_json, Profile.load),
    "gnnscale stop controller": (
        lambda path: gs.LearnedController(StopPolicy(2, 4, 8), [], {}).save(path),
        in_controller,
        gs.LearnedController.load,
    ),
}


def test_every_format_is_tried() -> None:
    assert set(CASES) == set(FORMATS)


def test_the_docs_list_them() -> None:
    page = (Path(gs.__file__).parents[1] / "docs/reference/format.md").read_text()
    told = re.findall(r'^\| .* \| `"(.*)"` \| (\d+) \|$', page, re.M)
    assert {name: int(version) for name, version in told} == {
        name: form.version for name, form in FORMATS.items()
    }


def test_files_from_before_there_were_stamps_are_of_version_one(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text('{"headline": "accuracy", "rows": []}')
    assert Report.load(report).headline == "accuracy"
    assert FORMATS["gnnscale-partition"].unstamped({"seed": 0}, report) == {"seed": 0}
    with pytest.raises(DamagedStore, match="is not a partition"):
        FORMATS["gnnscale-partition"].unstamped({"format": "gnnscale-report"}, report)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", [-1, 1])
def test_another_version_is_refused_with_what_makes_it_anew(
    name: str, step: int, tmp_path: Path
) -> None:
    form, (write, restamp, read) = FORMATS[name], CASES[name]
    path = tmp_path / "file.npz"
    write(path)
    read(path)
    restamp(path, form.version + step)
    with pytest.raises(StoreError) as refused:
        read(path)
    assert not isinstance(refused.value, DamagedStore)  # it may be sound, and is never removed
    said = str(refused.value)
    assert f"format version {form.version + step}; this gnnscale reads {form.version}" in said
    assert str(path) in said and form.again in said


# What says no version: part of a run, whose `run.json` does; or made again where it does not fit.
UNSTAMPED = {
    "benchmarking/seeds.py": "official.json of a run: of other weights it is computed again",
    "cli/train.py": "trained again unless it answers what is asked",
    "data/download.py": "which version of a file a part of a download is of",
    "data/ogb/loading.py": "a note beside a download that is removed",
    "parallel/simulation/timeline.py": "a trace for other programs, which is not read",
    "parallel/pipeline.py": "stages.json of a run",
    "storage/array_folder.py": "write_arrays itself: it is given the stamp",
    "storage/files.py": "write_json itself",
}


def test_whatever_is_written_says_its_format_or_has_a_reason_not_to() -> None:
    package = Path(gs.__file__).parent
    written = {
        path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")
    }
    bare = {
        name
        for name, text in written.items()
        if re.search(r"(?<!numpy\.)\b(write_json|save_tree|savez)\(", text)
        and not re.search(r"FORMAT\.(stamp|version)", text)
    }
    assert bare == UNSTAMPED.keys()
