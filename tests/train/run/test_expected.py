"""What a run is expected to take: a line, a warning, and what the report keeps of it."""

import logging

import pytest

import gnnscale as gs
from gnnscale.costs.machine import cached
from gnnscale.costs.predicted import memory
from gnnscale.shown import duration
from gnnscale.train import Report
from gnnscale.train.run import expected
from tests.helpers.machines import made_up
from tests.helpers.small_runs import CLASSES, IN, small_graph

EPOCHS = 4
TAKES = {"epoch", "evaluation", "memory"}


@pytest.fixture
def said(caplog):
    """Levels and texts of the lines so far."""
    caplog.set_level(logging.INFO, logger=expected.__name__)
    return lambda: [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == expected.__name__
    ]


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(cached, "known", made_up)


@pytest.fixture(autouse=True)
def unknown(monkeypatch):
    """Whatever the cache of whoever runs the tests has."""
    monkeypatch.setattr(cached, "known", lambda: None)


def clusters(**options):
    model = gs.nn.GCN(IN, 6, 2, CLASSES)
    options = {"num_parts": 4, "clusters_per_batch": 2, "epochs": EPOCHS, **options}
    return gs.ClusterTrainer(model, small_graph(), progress=False, **options)


def layers():
    model, controller = gs.nn.GCN(IN, 6, 2, CLASSES), gs.FixedEpochs(EPOCHS)
    return gs.LayerwiseTrainer(model, small_graph(), controller, progress=False)


def stages():
    model, options = gs.nn.GCN(IN, 6, 2, CLASSES), {"stages": [1], "micro_batches": 2}
    options |= {"num_parts": 4, "clusters_per_batch": 1, "epochs": EPOCHS}
    return gs.PipelineTrainer(model, small_graph(), progress=False, **options)


def attention():
    model, options = gs.nn.GAT(IN, 6, 2, CLASSES), {"num_parts": 1, "epochs": EPOCHS}
    return gs.ClusterTrainer(model, small_graph(), inductive=True, progress=False, **options)


WAYS = {
    clusters: "clusters 2 of 4",
    layers: "1,024 rows a step",
    stages: "clusters 1 of 4",
    attention: "full batch",
}


@pytest.mark.parametrize("make", WAYS)
def test_a_line_comes_after_the_second_epoch_by_the_runs_own_steps(make, said):
    report = make().fit()
    ((level, line),) = said()
    assert level == "INFO" and line.startswith("about ")
    assert line.endswith(f"(predicted by the first steps; {WAYS[make]})")
    assert report.predicted["by"] == "first steps"
    assert report.measured.keys() == TAKES <= report.predicted.keys()
    assert sum(report.predicted["parts"].values()) == pytest.approx(
        report.predicted["memory"], rel=0.01, abs=100
    )


@pytest.mark.parametrize("make", WAYS)
def test_a_line_comes_before_the_first_step_where_the_machine_is_known(make, said, known):
    lines = []

    class First(gs.Callback):
        def on_epoch_end(self, trainer, row):
            lines.append(said())

    trainer = make()
    trainer.callbacks.append(First())
    report = trainer.fit()
    epochs = "4 epochs of each layer" if make is layers else "4 epochs"
    ((_, line),) = lines[0]
    assert f" for {epochs} (predicted; {WAYS[make]})" in line
    assert lines[-1] == lines[0] and report.predicted["by"] == "profile"


def test_a_run_that_goes_on_is_told_what_is_left_and_keeps_what_was_said(tmp_path, said, known):
    first = clusters(run_dir=tmp_path).fit()
    second = clusters(run_dir=tmp_path, epochs=EPOCHS + 3).fit()
    assert [line.split(" for ")[1][:8] for _, line in said()] == ["4 epochs", "3 epochs"]
    assert second.predicted == first.predicted
    assert second.measured.keys() == TAKES
    loaded = Report.load(tmp_path / "report.json")
    assert (loaded.predicted, loaded.measured) == (second.predicted, second.measured)


def test_a_report_of_an_older_version_has_neither(tmp_path):
    report = clusters().fit()
    report.save(tmp_path / "report.json")
    from gnnscale.storage.files import read_json, write_json

    content = read_json(tmp_path / "report.json")
    for name in ("predicted", "measured", "checksum"):
        del content[name]
    write_json(tmp_path / "old.json", content)
    old = Report.load(tmp_path / "old.json")
    assert old.predicted == old.measured == {}
    assert "predicted" not in old.table() and "predicted: " in report.table()


@pytest.mark.parametrize("is_known", [False, True])
def test_what_cannot_be_predicted_fails_no_run(is_known, said, monkeypatch, request):
    if is_known:
        request.getfixturevalue("known")

    def fails(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(memory, "run_memory", fails)
    report = clusters().fit()
    assert len(report.rows) == EPOCHS and said() == [] and report.predicted == {}
    assert report.measured.keys() == TAKES


def test_who_has_no_room_is_warned_before_the_first_step(said, monkeypatch):
    monkeypatch.setattr(expected, "available_memory", lambda: 1000)
    report = clusters().fit()
    (level, warning), (_, line) = said()
    assert level == "WARNING" and "1.0 kB are there: memory='1kB'" in warning
    assert line.startswith("about ") and report.predicted["by"] == "first steps"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00042, "0.42 ms"), (0.25, "250 ms"), (1.5, "1.5 s"), (42, "42 s"), (200, "3 min 20 s"),
     (7320, "2 h 2 min"), (59.7, "60 s")],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: clusters(epochs=1), "for the evaluation at its end"),
        (lambda: clusters(epochs=2), "for the evaluation at its end"),
        (lambda: clusters(epochs=3), "for 1 epoch"),
        (layers, "for 6 epochs"),  # two of four of the first of two layers are behind it
    ],
)
def test_what_is_left_does_not_count_the_epoch_that_has_ended(make, words, said):
    make().fit()
    ((_, line),) = said()
    assert f" {words} (" in line


def test_ranks_of_a_host_share_its_memory(said, monkeypatch):
    monkeypatch.setattr(expected, "available_memory", lambda: 2000)
    monkeypatch.setattr(expected.comm, "ranks_here", lambda: 2)
    clusters().fit()
    assert "a rank, and 1.0 kB are there for each of 2: memory='1kB'" in said()[0][1]


def test_memory_that_was_measured_is_the_most_of_all_calls(tmp_path):
    first = clusters(run_dir=tmp_path).fit().measured["memory"]
    assert clusters(run_dir=tmp_path, epochs=EPOCHS + 1).fit().measured["memory"] >= first
