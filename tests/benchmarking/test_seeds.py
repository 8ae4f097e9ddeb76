"""bench: seeds, aggregation, tables, resuming."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest
import torch

import gnnscale as gs
from gnnscale.benchmarking import BenchReport, SeedResult, Spread
from gnnscale.benchmarking.report import figure_text
from gnnscale.data.recipes import Published
from gnnscale.errors import InputError, RunMismatch, StoreError
from tests.helpers.small_runs import draw_nothing, read_no_memory

SETTINGS: dict[str, Any] = {
    "num_parts": 6,
    "clusters_per_batch": 2,
    "epochs": 3,
    "evaluate_every": 1,
    "device": "cpu",
    "progress": False,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return gs.load("synthetic:planted?nodes=300&features=16&classes=4")


@pytest.fixture(scope="module")
def two(graph: gs.Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete benchmark of two seeds; to be copied where it is written to."""
    out = tmp_path_factory.mktemp("bench") / "two"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNSCALE_CACHE", str(out.parent / "cache"))
        draw_nothing(patch.setattr)
        read_no_memory(patch.setattr)
        gs.bench(graph, small(graph), out, runs=2, **SETTINGS)
    return out


@pytest.fixture
def copied(two: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two, tmp_path / "copied"))


def small(graph: gs.Graph, hidden: int = 8) -> Any:
    return lambda: gs.nn.GCN(graph.num_features, hidden, 2, graph.num_classes, dropout=0.3)


def parts_of(graph: gs.Graph) -> dict[str, torch.Tensor]:
    return {name: graph.split()[name] for name in ("train", "val", "test")}


def report_of(finals: list[tuple[float, float]], **more: Any) -> BenchReport:
    runs = [
        SeedResult(
            seed,
            {"train": 1.0, "val": val, "test": test},
            {},
            3,
            4,
            {"total": 1.0},
            None,
            [{"epoch": 1, "loss": 2.0, "train": 0.9, "val": val, "test": test}],
        )
        for seed, (val, test) in enumerate(finals)
    ]
    about = {"parameters": 206895, "hardware": "one core", "settings": {"lr": 0.1}, "model": None}
    plain = {"title": "SAGE on x", "metric": "accuracy", "higher_is_better": True}
    return BenchReport(**plain, runs=runs, **about, environment={"torch": "2"}, **more)


def test_the_deviation_is_the_one_that_oggs_examples_print():
    values = torch.rand(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = Spread.of(values.tolist())
    assert spread.mean == pytest.approx(float(values.mean()))
    assert spread.sd == pytest.approx(float(values.std()))  # torch's is unbiased
    assert Spread.of([0.5]) == (0.5, None, 1)
    assert Spread.of([]) is None


def test_figures_as_leaderboards_write_them():
    assert figure_text(0.78971, 0.00334) == "78.97 ± 0.33"
    assert figure_text(0.5) == "50.00"
    assert figure_text(1.23456, 0.1, share=False) == "1.2346 ± 0.1000"
    report = report_of([(0.92, 0.789), (0.93, 0.791)])
    assert report.text().splitlines() == [
        "All runs:",
        "Highest Train: 90.00 ± 0.00",
        "Highest Valid: 92.50 ± 0.71",
        "  Final Train: 100.00 ± 0.00",
        "   Final Test: 79.00 ± 0.14",
    ]


def test_the_published_row_stands_beside_and_differences_are_told():
    row = Published("ClusterGCN", 0.7897, "OGB", 0.0033, 0.9212, 0.0009, 206895, "RTX 2080")
    text = report_of([(0.92, 0.789)], published=row, unlike=("epochs 3, not 50",)).markdown()
    lines = text.splitlines()
    assert "| method | test accuracy, % | validation, % | parameters | hardware |" in lines
    published = "| ClusterGCN, published | 78.97 ± 0.33 | 92.12 ± 0.09 | 206,895 | RTX 2080 |"
    assert lines[lines.index(published) + 1] == "| SAGE on x | 78.90 | 92.00 | 206,895 | one core |"
    assert "Not the published settings: epochs 3, not 50." in text
    assert "| 0 | 78.90 | 92.00 | 100.00 | 3 | 4 | 1.0 |" in lines


def test_a_report_is_read_as_it_was_written(tmp_path, drawn):
    row = Published("ClusterGCN", 0.7897, "OGB")
    report = report_of([(0.92, 0.789), (0.93, 0.791)], published=row)
    report.save(tmp_path)
    assert BenchReport.load(tmp_path / "results.json") == report
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    first = report.plot(tmp_path / "curves.svg").read_bytes()
    xml.etree.ElementTree.fromstring(first)
    assert report.plot(tmp_path / "curves.svg").read_bytes() == first
    text = (tmp_path / "results.json").read_text()
    (tmp_path / "results.json").write_text(text.replace("0.791", "0.999"))
    with pytest.raises(StoreError, match="checksum"):
        BenchReport.load(tmp_path / "results.json")


def test_every_seed_is_what_a_trainer_does_alone_and_the_partition_is_shared(
    graph, two, monkeypatch
):
    monkeypatch.setenv("GNNSCALE_CACHE", str(two.parent / "cache"))  # KaMinPar's, once
    report = BenchReport.load(two / "results.json")
    assert [run.seed for run in report.runs] == [0, 1]
    parts = [gs.Partition.load(two / f"seed-{n}/partition.npz").assignment for n in (0, 1)]
    assert torch.equal(*parts)
    torch.manual_seed(1)
    alone = gs.ClusterTrainer(small(graph)(), graph, seed=1, partition_seed=0, **SETTINGS)
    metrics = alone.fit().final
    assert report.runs[1].final == {where: found["accuracy"] for where, found in metrics.items()}
    assert report.runs[0].final != report.runs[1].final
    values = [run.final["test"] for run in report.runs]
    assert report.spread("test").mean == pytest.approx(sum(values) / 2)
    # OGB's logger: the test figure of the epoch with the highest validation figure.
    best = max(report.runs[1].curve, key=lambda row: row["val"])
    assert report.runs[1].final["test"] == pytest.approx(best["test"])
    assert gs.load_run(two / "seed-1").trainer.evaluate("test")["accuracy"] == values[1]


class Stop(gs.Callback):
    def __init__(self, after: int) -> None:
        self.left = after

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


class Count(gs.Callback):
    seen = 0

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        self.seen += 1


def test_an_interrupted_benchmark_goes_on_in_the_middle_of_a_run(graph, two, tmp_path, monkeypatch):
    monkeypatch.setenv("GNNSCALE_CACHE", str(two.parent / "cache"))
    out = tmp_path / "b"
    stop = {"callbacks": [Stop(5)], "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):  # in the second epoch of the second seed
        gs.bench(graph, small(graph), out, runs=2, **stop, **SETTINGS)
    assert not (out / "results.json").exists()
    first = (out / "seed-0/checkpoint.safetensors").stat().st_mtime_ns
    counted = Count()
    report = gs.bench(graph, small(graph), out, runs=2, callbacks=[counted], **SETTINGS)
    assert counted.seen == SETTINGS["epochs"] - 1  # the run of the first seed is not repeated
    assert (out / "seed-0/checkpoint.safetensors").stat().st_mtime_ns == first
    whole = BenchReport.load(two / "results.json")
    assert [run.final for run in report.runs] == [run.final for run in whole.runs]


def test_more_runs_train_what_is_missing_and_fewer_report_the_first(graph, copied):
    two = BenchReport.load(copied / "results.json")
    counted = Count()
    three = gs.bench(graph, small(graph), copied, runs=3, callbacks=[counted], **SETTINGS)
    assert counted.seen == SETTINGS["epochs"]
    assert three.runs[:2] == two.runs
    assert gs.bench(graph, small(graph), copied, runs=2, **SETTINGS).runs == two.runs
    assert BenchReport.load(copied / "results.json").runs == two.runs


def test_other_settings_in_the_folder_are_refused_and_named(graph, two):
    before = (two / "results.json").read_bytes()
    with pytest.raises(RunMismatch, match=r"weight_decay: 0.0 in the run, 0.1 now"):
        gs.bench(graph, small(graph), two, runs=1, weight_decay=0.1, **SETTINGS)
    with pytest.raises(RunMismatch, match=r"convs\.0\.bias: \[\[8\]"):
        # Of another seed, too: all runs in a folder are of one benchmark.
        gs.bench(graph, small(graph, 16), two, runs=1, seed=5, **SETTINGS)
    assert (two / "results.json").read_bytes() == before


def test_the_official_evaluator_counts_and_is_asked_once(graph, copied, caplog):
    asked = []

    def official(out: torch.Tensor, y: torch.Tensor) -> float:
        asked.append(len(y))
        return float((out.argmax(1) == y).double().mean())

    for _ in range(2):  # the figures are kept
        report = gs.bench(graph, small(graph), copied, runs=1, official=official, **SETTINGS)
        assert asked == [int(graph.split()[name].sum()) for name in ("val", "test")]
    run = report.runs[0]
    assert run.official == {w: pytest.approx(run.final[w], abs=1e-12) for w in ("val", "test")}
    assert report.disagreement < 1e-12
    (copied / "seed-0/official.json").unlink()
    other = gs.bench(graph, small(graph), copied, runs=1, official=lambda out, y: 0.25, **SETTINGS)
    assert other.spread("test").mean == 0.25
    assert "official evaluator and our accuracy differ" in caplog.text


def test_arguments_that_cannot_be_are_refused_together(graph, tmp_path):
    with pytest.raises(InputError) as caught:
        gs.bench(graph, small(graph), tmp_path, runs=0, seed=-1, trainer="layers", keep="last")
    assert len(caught.value.faults) == 4
    assert any("cluster" in fault for fault in caught.value.faults)
    none = torch.zeros(graph.num_nodes, dtype=torch.bool)
    split = {"default": {**parts_of(graph), "test": none}}
    blind = gs.Graph.from_arrays(graph.edge_index, graph.x, graph.y, splits=split)
    with pytest.raises(InputError, match="no test nodes"):
        gs.bench(blind, small(graph), tmp_path, runs=1, **SETTINGS)


def test_a_graph_in_files_is_clustered_once_for_all_runs(graph, tmp_path, monkeypatch):
    split = {"default": parts_of(graph)}
    stored = gs.build_graph(
        tmp_path / "g", graph.num_nodes, graph.edge_index, x=[graph.x], y=graph.y, splits=split
    )
    made = []

    def counted(*args: Any, **kwargs: Any) -> gs.ClusteredGraph:
        made.append(args)
        return gs.cluster(*args, **kwargs)

    monkeypatch.setattr("gnnscale.train.run.identity.cluster", counted)
    report = gs.bench(stored, small(graph), tmp_path / "b", runs=3, **SETTINGS)
    assert len(made) == 1
    assert [path.parent for path in (tmp_path / "b").rglob("store")] == [tmp_path / "b"]
    torch.manual_seed(2)
    alone = gs.ClusterTrainer(small(graph)(), stored, seed=2, partition_seed=0, **SETTINGS)
    assert alone.fit().final["test"]["accuracy"] == report.runs[2].final["test"]
    for seed in (0, 2):
        found = gs.load_run(tmp_path / f"b/seed-{seed}").trainer.evaluate("test")
        assert found["accuracy"] == report.runs[seed].final["test"]
